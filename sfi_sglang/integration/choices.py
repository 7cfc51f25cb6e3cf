"""What the rows of `exact` requests choose, where that is not just the likeliest token: grammars, biases, draws.

SGLang's sampler knows one row a request, and a grammar as far as it is committed. So these rows choose here, a draft
and what verifies it by the same rules, in place of what the sampler takes for them.
"""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from sglang.srt.layers.logprob_processor import LogprobResult, OutputLogprobProcessor
from sglang.srt.layers.sampler import SGLANG_RETURN_ORIGINAL_LOGPROB
from torch import Tensor

from sfi_sglang.attention.transfer import to_device
from sfi_sglang.integration.draft_tokens import DraftTokens
from sfi_sglang.integration.drawing import Drawing
from sfi_sglang.scheduling.row_plan import RowPlan, repairs_of
from sfi_sglang.scheduling.step_planner import abort

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A row of a pass that chooses here. row: its index, requests' own rows first. request: index. position: of the
    token that it chooses. drafts: how many come before that token."""

    row: int
    request: int
    position: int
    drafts: int


def follows_rules(req: Any) -> bool:
    params = req.sampling_params
    return req.grammar is not None or params.top_k != 1 or params.logit_bias is not None or req.return_logprob


def noise_seed(req: Any) -> int:
    """Admission has given it one (api/exact.py). Of several replies to one request each draws by itself."""
    params = req.sampling_params
    seed: int = params.sampling_seed
    return seed if params.n == 1 else random.Random(f"{seed} {req.rid}").getrandbits(62)


def places_of(reqs: Sequence[Any], rows: Sequence[RowPlan]) -> list[Place]:
    """reqs: SGLang's Req, of a batch planned as `rows`. Those of added rows come last."""
    of = [i for i, row in enumerate(rows) if row.state and row.state.options.exact and follows_rules(reqs[i])]
    places = [Place(i, i, rows[i].length, rows[i].unsettled) for i in of]
    row = len(rows)
    for i, _, repair in repairs_of(rows):
        if i in of:
            places += [Place(row + n, i, position + 1, n) for n, position in enumerate(repair.positions)]
        row += len(repair.tokens)
    return places


@dataclass
class Choices:
    """Of one pass. grammars, drafted: of the requests that have a grammar, and their drafts before it. chosen: int64,
    of the places, once the pass has run."""

    reqs: Sequence[Any]
    rows: Sequence[RowPlan]
    places: list[Place]
    grammars: dict[int, Any]
    drafted: dict[int, list[int]] = field(default_factory=dict)
    chosen: Tensor | None = None
    logprobs: LogprobResult | None = None

    @classmethod
    def of(cls, reqs: Sequence[Any], rows: Sequence[RowPlan]) -> "Choices | None":
        places = places_of(reqs, rows)
        grammars = {p.request: reqs[p.request].grammar for p in places if reqs[p.request].grammar is not None}
        return cls(reqs, rows, places, grammars) if places else None

    def read(self, drafts: DraftTokens, lines: Tensor) -> None:
        """Wait for the drafts that grammars have to follow. lines: of the requests."""
        requests = [i for i in self.grammars if self.rows[i].unsettled]
        spans = [range(self.rows[i].settled, self.rows[i].length) for i in requests]
        self.drafted = dict(zip(requests, drafts.on_host(lines[requests], spans), strict=True))

    def choose(self, logits: Tensor, info: Any, widened: bool) -> None:
        """logits: [rows of the pass, vocabulary], which stay as they are. info: SGLang's SamplingBatchInfo. widened:
        has the pass its added rows? An error here, say of a grammar, ends the requests of the places."""
        if not widened:
            self.places = [place for place in self.places if place.row < len(self.rows)]
        try:
            self._choose(logits, info)
        except Exception as error:
            logger.exception("choosing tokens of `exact` requests failed")
            for request in {place.request for place in self.places}:
                abort(self.reqs[request], f"sfi.exact: choosing a token failed: {error!r}")
            self.places, self.logprobs = [], None

    def _choose(self, logits: Tensor, info: Any) -> None:
        places, device = self.places, logits.device
        mine = logits[to_device([place.row for place in places], device)]
        if self.grammars:
            self._forbid(mine, info)
        if info.logit_bias is not None:
            mine += info.logit_bias[to_device([place.request for place in places], device)]
        params = [self.reqs[place.request].sampling_params for place in places]
        self.chosen = mine.argmax(-1)
        if any(p.top_k != 1 for p in params):
            seeds = [noise_seed(self.reqs[place.request]) for place in places]
            drawing = Drawing.of(params, seeds, [place.position for place in places], device)
            self.chosen = torch.where(drawing.top_ks == 1, self.chosen, drawing.draw(mine))
            if not SGLANG_RETURN_ORIGINAL_LOGPROB:
                mine = mine.float() / drawing.temperatures[:, None]
        if any(self.reqs[place.request].return_logprob for place in places):
            self.logprobs = self._logprobs(torch.log_softmax(mine.float(), -1))

    def _forbid(self, logits: Tensor, info: Any) -> None:
        """What each grammar forbids after the drafts before each place. The grammars stay where they are."""
        some = next(iter(self.grammars.values()))
        mask = some.allocate_vocab_mask(vocab_size=info.vocab_size, batch_size=len(self.places), device=logits.device)
        for request, grammar in self.grammars.items():
            at = {place.drafts: n for n, place in enumerate(self.places) if place.request == request}
            walk(grammar, self.drafted.get(request, ()), at, mask)
        some.apply_vocab_mask(logits=logits, vocab_mask=some.move_vocab_mask(mask, logits.device))

    def _logprobs(self, logprobs: Tensor) -> LogprobResult:
        assert self.chosen is not None
        asked = [self.reqs[place.request].logprob for place in self.places]
        nums, ids = [one.top_logprobs_num for one in asked], [one.token_ids_logprob for one in asked]
        return OutputLogprobProcessor().compute_logprobs(logprobs, nums, ids, self.chosen)

    def own(self, tokens: Tensor) -> Tensor:
        """tokens: [requests] of SGLang's sampler. Returns them with those of the requests that choose here."""
        return self._put(tokens, 0, [n for n, place in enumerate(self.places) if place.row < len(self.rows)])

    def added(self, tokens: Tensor) -> Tensor:
        """tokens: [added rows], the likeliest."""
        rows = len(self.rows)
        return self._put(tokens, rows, [n for n, place in enumerate(self.places) if place.row >= rows])

    def _put(self, tokens: Tensor, first: int, which: list[int]) -> Tensor:
        if not which:
            return tokens
        assert self.chosen is not None
        rows, mine = to_device(torch.tensor([[self.places[n].row - first for n in which], which]), tokens.device)
        return tokens.index_copy(0, rows, self.chosen[mine].to(tokens.dtype))


def walk(grammar: Any, drafts: Sequence[int], at: dict[int, int], mask: Tensor) -> None:
    """Fill the rows `at` of a mask: of each number of drafts, what SGLang's grammar object (srt/constrained) allows
    after them. A grammar that has ended, or forbids a draft, leaves the rows after that as they are: no draft passes
    there that does not pass before, and SGLang cuts a reply where its grammar ends."""
    taken = 0
    try:
        for count in range(max(at) + 1):
            if grammar.is_terminated():
                break
            if count in at:
                grammar.fill_vocab_mask(mask, at[count])
            if count < max(at):
                grammar.accept_token(drafts[count])
                taken += 1
    except ValueError:
        pass
    finally:
        if taken:
            grammar.rollback(taken)
