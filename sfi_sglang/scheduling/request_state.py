"""What the scheduler process knows of one SFI request. It lives on SGLang's `Req`, so it ends with the request."""

from dataclasses import dataclass, field
from typing import Any

import torch
from sglang.srt.runtime_context import get_parallel
from torch import Tensor

from sfi_sglang.api.exact import chance
from sfi_sglang.api.options import SFIOptions, parse_sfi
from sfi_sglang.scheduling.drafting import Drafting
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.selection.snapshot_store import Inherited, SnapshotStore, block_hashes, namespace
from sfi_sglang.selection.table import Selection

DRIFT = 0.02  # SmolLM2: at most .01 along the middle of a span, .03 to .06 near its end


@dataclass(frozen=True)
class Refresh:
    """What the pass that performs a refresh needs to know of it. The Selector keeps `keep` of the `candidates` tokens
    from position `first` on.

    old_count, old_recent_start: of the selection that is replaced; 0, 0 where there is none.
    observed: earlier refreshes whose coverage is known.
    """

    first: int
    candidates: int
    keep: int
    old_count: int = 0
    old_recent_start: int = 0
    observed: int = 0

    @property
    def candidate_range(self) -> range:
        return range(self.first, self.first + self.candidates)


@dataclass
class RequestState:
    """Options, segment, selection and counts of one request.

    count, recent_start: selected tokens per KV head and first recent position, as the last launched pass leaves them;
        0, 0 without a selection.
    observed: context length at each refresh that had an old selection, and so has a coverage.
    exact: leading tokens of the context whose K and V are what a dense pass gives. A fast step's are approximate from
        the second layer on, and so is whatever later reads them. Not kept where `exact` is asked for: there whatever is
        committed is exact.
    drafting: where `exact` is asked for.
    cached: tokens of the prompt that its first pass found in the prefix cache; None: no pass yet.
    sparse_tokens: prompt tokens that saw a part of their prefix (`extend: sparse`).
    query_tail: layer -> last prompt queries [<= W, heads, D].
    steps: one per launched decode step, 1 slow, 0 fast.
    coverage: sums of coverage and recall [layers, KV heads, 2] and their number, of selections that are gone.
    checked: of each repair, the context length, the tokens that it checked, and how many of them dense attention would
        have chosen (a number still on the device).
    agreed: of checked tokens whose request has left its row: chosen alike, and all.
    drift: policy `drift`, by context length, of each layer (attention/controls.py).
    blocks: rolling hashes of the tokens so far.
    """

    options: SFIOptions
    prompt_tokens: int
    tracker: SegmentTracker
    selection: Selection | None = None
    count: int = 0
    recent_start: int = 0
    observed: list[int] = field(default_factory=list)
    exact: int = 0
    drafting: Drafting = field(default_factory=Drafting)
    cached: int | None = None
    sparse_tokens: int = 0
    query_tail: dict[int, Tensor] = field(default_factory=dict)
    steps: bytearray = field(default_factory=bytearray)
    coverage: tuple[Tensor | None, int] = (None, 0)
    checked: list[tuple[int, int, Tensor]] = field(default_factory=list)
    agreed: tuple[int, int] = (0, 0)
    drift: dict[int, list[float]] = field(default_factory=dict)
    blocks: tuple[bytes, ...] = ()
    inherited: Inherited | None = None
    inherited_tokens: int = 0
    reported: bool = False
    failure: str | None = None  # why the request cannot go on

    def begin_refresh(self, length: int) -> Refresh:
        """The pass about to run selects anew from a context of `length` tokens: the one place where a selection moves
        on. Called once by the backend that runs the pass, before later passes are prepared."""
        first, candidates = self.options.sink, self.options.candidates(length)
        keep = min(self.options.selected, candidates)
        refresh = Refresh(first, candidates, keep, self.count, self.recent_start, len(self.observed))
        if self.recent_start:
            self.observed.append(length)
        self.count, self.recent_start = keep, first + candidates
        return refresh

    def repaired(self, length: int, end: int, agreed: Tensor) -> None:
        """The pass just launched, at a context of `length` tokens, made K and V exact up to position `end`; `agreed` of
        the tokens that it checked are what dense attention would have chosen."""
        self.checked.append((length, end - self.exact, agreed))
        self.exact = length if end == length - 1 else end

    def drifted(self, length: int) -> bool:
        """Had the step two before the one at hand drifted? The last one may still be under way."""
        found = self.drift.get(length - 2)
        return found is not None and sum(found) / len(found) > DRIFT

    def visible_ends(self, length: int) -> tuple[int, int, int]:
        """Sink tokens, selected tokens and first recent position of a fast step whose context is `length` tokens.
        Without a selection (policy `never`) it is a sliding window: nothing refreshes it, so its recent tokens would
        grow without bound."""
        recent = self.recent_start if self.selection is not None else self.options.recent_start(length)
        return self.options.sink, self.count, recent

    def visible_tokens(self, length: int) -> int:
        """Tokens that a fast step sees, per KV head."""
        sink, count, recent = self.visible_ends(length)
        return sink + count + length - recent

    def release(self, tokens: int) -> None:
        """Drop the tensors when the request leaves its KV row with a context of `tokens` tokens: finished, aborted or
        retracted. Overlap scheduling may have launched one step more, whose coverage does not count."""
        if self.selection is not None:
            known = sum(length < tokens for length in self.observed)
            if known:
                before, number = self.coverage
                found = self.selection.coverage(known)
                self.coverage = (found if before is None else before + found, number + known)
            alike, checked = self.agreed
            for length, count, agreed in self.checked:
                if length < tokens:
                    alike, checked = alike + self.selection.read(agreed), checked + count
            self.agreed = alike, checked
            self.selection.release()
        self.selection = self.inherited = None
        self.count = self.recent_start = 0
        self.drafting.restart()
        self.cached = None
        self.observed.clear()
        self.checked.clear()
        self.query_tail.clear()

    def keep_tail(self, layer: int, queries: Tensor) -> Tensor:
        """Remember a layer's last W prompt queries [tokens, heads, D]: the final chunk of a prompt may be shorter."""
        tail = self.query_tail.get(layer)
        joined = queries if tail is None else torch.cat([tail, queries])
        self.query_tail[layer] = joined[-self.options.queries :].clone()
        return self.query_tail[layer]

    def inherit(self, req: Any, store: SnapshotStore) -> None:
        """Look for the selection of the longest prefix that an earlier request left. Embeddings have no ids to tell
        them apart by."""
        if req.input_embeds is not None:
            return
        self.blocks = block_hashes(req.origin_input_ids + req.output_ids, namespace(req), self.blocks)
        self.inherited = store.lookup(self.blocks)
        self.inherited_tokens = self.inherited.tokens if self.inherited else 0

    def publish(self, req: Any, store: SnapshotStore) -> None:
        """Leave the selection to requests that share a prefix, on a server where somebody inherits: hashing the tokens
        of a long prompt takes milliseconds."""
        if (
            self.selection is not None
            and req.input_embeds is None
            and (self.options.carry != "fresh" or store.stats.lookups)
        ):
            self.blocks = block_hashes(req.origin_input_ids + req.output_ids, namespace(req), self.blocks)
            store.publish(self.selection.snapshot(self.count, self.options.sink, self.recent_start, self.blocks))

    def summary(self, outputs: int) -> dict[str, Any]:
        """The response's `meta_info["sfi"]`. The first of `outputs` tokens comes from the prefill, and overlap
        scheduling may have launched one step more than was used; `exact` has steps that give no token."""
        used = self.steps if self.options.exact else self.steps[: max(outputs - 1, 0)]
        slow = sum(used)
        total, observed = self.coverage
        by_head = None if total is None else total / observed
        coverage, recall = (None, None) if by_head is None else (round(x, 4) for x in by_head.mean((0, 1)).tolist())
        alike, checked = self.agreed
        summary = {
            "slow_steps": slow,
            "fast_steps": len(used) - slow,
            "budget": self.options.budget,
            "selector": self.options.selector.name(),
            "prompt_tokens": self.prompt_tokens,
            "inherited_tokens": self.inherited_tokens,
            "sparse_extend_tokens": self.sparse_tokens,
            "coverage": coverage,
            "recall": recall,
            "agreement": round(alike / checked, 4) if checked else None,
            "checked_tokens": checked,
            "agreed_tokens": alike,
        }
        if self.options.exact:
            summary |= {"drafted_tokens": self.drafting.drafted, "accepted_tokens": self.drafting.accepted}
            summary |= {"copied_tokens": self.drafting.copied}
            summary |= {} if chance() is None else {"accepted_by_chance": chance()}
        if self.options.detail:
            summary["refreshes"] = [0, *(step + 1 for step, slow in enumerate(used) if slow)]
            heads = [] if by_head is None else by_head[..., 0].tolist()
            summary["coverage_by_head"] = [[round(share, 4) for share in layer] for layer in heads] or None
        return summary


def requested(req: Any) -> dict[str, Any] | None:
    """The validated `sfi` object that admission left in the request's custom_params, None for a dense request."""
    params = req.sampling_params.custom_params
    return params.get("sfi") if isinstance(params, dict) else None


def without_exclusion(options: SFIOptions) -> SFIOptions:
    """Under tensor parallelism a rank sees only its own KV heads, and exclusion compares all of them: it is left out,
    and the response's `selector` says so."""
    return options.model_copy(update={"selector": options.selector.model_copy(update={"exclusion": False})})


def state_of(req: Any, vocabulary: Vocabulary) -> RequestState | None:
    """The request's state, made on first use; None for a dense request."""
    state: RequestState | None = getattr(req, "sfi", None)
    if state is None and (value := requested(req)):
        options = parse_sfi(value)
        assert options is not None
        if get_parallel().attn_tp_size > 1:
            options = without_exclusion(options)
        prompt_tokens = len(req.origin_input_ids)
        tracker = SegmentTracker(options, vocabulary, seed=prompt_tokens)
        state = req.sfi = RequestState(options, prompt_tokens, tracker)
    return state
