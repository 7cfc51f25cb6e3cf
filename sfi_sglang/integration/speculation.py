"""SFI as a speculative algorithm of SGLang's, `--speculative-algorithm SFI`: its scheduler then takes any number of
tokens from a pass, none too, which is what `exact` needs. The model's own passes stay plain decode passes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from sglang.srt.plugins.hook_registry import HookRegistry, HookType
from sglang.srt.speculative.spec_info import SpecInput, SpecInputType, SpeculativeAlgorithm
from sglang.srt.speculative.spec_registry import CustomSpecAlgo
from torch import Tensor

from sfi_sglang import sglang_symbols as symbols
from sfi_sglang.api.admission import BACKEND
from sfi_sglang.api.exact import ALGORITHM as NAME
from sfi_sglang.api.exact import CHANCE_ENV, chance
from sfi_sglang.integration import draft_slots
from sfi_sglang.integration.unread import Unread
from sfi_sglang.scheduling.drafting import MOST_DRAFTS


class SFISpec(CustomSpecAlgo):
    """`is_none` is False, so the scheduler speaks of accepted tokens; `is_speculative` is False too, so that the runner
    keeps its decode graphs, one token a row."""

    unread: Unread  # of this process

    def create_future_map(self, *args: Any, **kwargs: Any) -> Any:
        futures = SpeculativeAlgorithm.create_future_map(self, *args, **kwargs)
        futures.resolve_seq_lens_cpu = partial(self.unread.resolve, futures, futures.resolve_seq_lens_cpu)
        return futures

    def is_speculative(self) -> bool:
        return False

    def need_topk(self) -> bool:
        return False

    def carries_draft_hidden_states(self) -> bool:
        return False

    def has_draft_kv(self) -> bool:
        return False

    def handle_server_args(self, server_args: Any) -> None:
        """
        Raises:
            ValueError: the server would run in a way that `exact` does not know as yet.
        """
        if server_args.radix_cache_backend != BACKEND:
            raise ValueError(f"--speculative-algorithm {NAME} needs --enable-sfi")
        for size in ("pp_size", "page_size"):
            if (getattr(server_args, size) or 1) > 1:
                flag = size.replace("_", "-")
                raise ValueError(f"--speculative-algorithm {NAME} does not work with --{flag} above 1 as yet")
        if chance() is not None and server_args.tp_size > 1:
            raise ValueError(f"{CHANCE_ENV}: the ranks of --tp-size {server_args.tp_size} would draw other lots each")
        if server_args.disaggregation_mode != "null":
            raise ValueError(f"--speculative-algorithm {NAME} does not work with --disaggregation-mode")
        server_args.speculative_num_draft_tokens = MOST_DRAFTS + 1


def install(passes: Any) -> None:
    """passes: of this process."""

    def worker(server_args: Any) -> Any:
        from sfi_sglang.integration.exact_worker import ExactWorker

        return partial(ExactWorker, passes)

    SFISpec.unread = passes.unread
    SpeculativeAlgorithm.register(NAME, supports_overlap=True, spec_class=SFISpec)(worker)
    for target, function in {
        symbols.SPEC_PREPARE: draft_slots.prepare,
        symbols.SPEC_NEEDED: draft_slots.needed,
        symbols.KV_MOVES: draft_slots.leave_out_moves,
        symbols.FINISH_STATE: update_finish_state,
        symbols.STREAM_ACCEPT: stream,
    }.items():
        HookRegistry.register(target, function, HookType.AROUND)


def update_finish_state(original: Callable[..., None], req: Any, new_accepted_len: int = 1) -> None:
    """AROUND Req.update_finish_state, which would take none for all outputs."""
    if new_accepted_len or req.to_finish:
        original(req, new_accepted_len)


def stream(original: Callable[..., None], accumulator: Any, *, req: Any) -> None:
    """AROUND _GenerationStreamAccumulator.accept, which would send a chunk for every pass, with nothing in it too."""
    if req.finished() or len(req.output_ids) > req.send_token_offset:
        original(accumulator, req=req)


@dataclass
class LastTokens(SpecInput):
    """What a batch carries from one pass to the next: of each request, the token that comes next into the model.

    new_seq_lens: committed tokens, those before it. future_indices: under overlap scheduling, lines of SGLang's
    FutureMap, where both are kept.
    """

    bonus_tokens: Tensor
    new_seq_lens: Tensor
    future_indices: Tensor | None = None

    topk_p = topk_index = hidden_states = None  # of other algorithms

    def __post_init__(self) -> None:
        super().__init__(SpecInputType.UNO_STATE)
        self.num_tokens_per_req = self.num_tokens_for_logprob_per_req = 1

    def filter_batch(self, new_indices: Tensor, new_indices_cpu: list[int] | None = None) -> None:
        if self.future_indices is not None:
            self.future_indices = self.future_indices[new_indices]
            return
        self.bonus_tokens, self.new_seq_lens = self.bonus_tokens[new_indices], self.new_seq_lens[new_indices]

    def merge_batch(self, other: "LastTokens") -> None:
        if self.future_indices is not None:
            assert other.future_indices is not None
            self.future_indices = torch.cat([self.future_indices, other.future_indices])
            return
        self.bonus_tokens = torch.cat([self.bonus_tokens, other.bonus_tokens])
        self.new_seq_lens = torch.cat([self.new_seq_lens, other.new_seq_lens])
