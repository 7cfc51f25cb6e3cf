"""What the scheduler process knows of one SFI request. It lives on SGLang's `Req`, so it ends with the request."""

from dataclasses import dataclass, field
from typing import Any

import torch
from sglang.srt.runtime_context import get_parallel
from torch import Tensor

from sfi_sglang.options import PROMPT_QUERIES, SFIOptions, parse_sfi
from sfi_sglang.store import Inherited, MemoryStore, Snapshot, block_hashes, namespace
from sfi_sglang.trigger import SegmentTracker, Vocabulary


@dataclass(frozen=True)
class SparseMemory:
    """The selected memory: token positions, never KV slots, because SGLang rewrites the slots of a running request when
    a published prefix is deduplicated.

    positions: int64 [layers, KV heads, n], ascending, all in [sink, recent_start).
    recent_start: r0; every position from here on is visible too.
    observed: of each slow step that had an old memory, the tokens of the context and the old memory's coverage.
    """

    positions: Tensor
    recent_start: int
    observed: tuple[tuple[int, float], ...] = ()

    def coverage(self, tokens: int) -> tuple[float, int]:
        """Sum and number of the coverages of the slow steps that made a context of `tokens` tokens."""
        known = [coverage for length, coverage in self.observed if length < tokens]
        return sum(known), len(known)

    def snapshot(self) -> Tensor:
        """For the store: int32 [layers, KV heads, n], never written again."""
        return self.positions.int()

    def release(self) -> None:
        """The request has left; nothing to give back."""


@dataclass
class RequestState:
    """Options, segment, memory and counts of one request."""

    options: SFIOptions
    prompt_tokens: int
    tracker: SegmentTracker
    memory: Any = None  # SparseMemory, or TableMemory on CUDA (device_memory.py)
    query_tail: dict[int, Tensor] = field(default_factory=dict)  # layer -> last prompt queries [<= W, heads, D]
    steps: bytearray = field(default_factory=bytearray)  # one per launched decode step: 1 slow, 0 fast
    coverage: tuple[float, int] = (0.0, 0)  # sum and number, of memories that are gone
    blocks: tuple[bytes, ...] = ()  # rolling hashes of the tokens so far
    inherited: Inherited | None = None
    inherited_tokens: int = 0
    reported: bool = False

    def release(self, tokens: int) -> None:
        """Drop the tensors when the request leaves its KV row with a context of `tokens` tokens: finished, aborted or
        retracted. Overlap scheduling may have launched one step more."""
        if self.memory is not None:
            total, known = self.memory.coverage(tokens)
            self.coverage = (self.coverage[0] + total, self.coverage[1] + known)
            self.memory.release()
        self.memory = self.inherited = None
        self.query_tail.clear()

    def keep_tail(self, layer: int, queries: Tensor) -> Tensor:
        """Remember a layer's last W prompt queries [tokens, heads, D]: the final chunk of a prompt may be shorter."""
        tail = self.query_tail.get(layer)
        joined = queries if tail is None else torch.cat([tail, queries])
        self.query_tail[layer] = joined[-PROMPT_QUERIES:].clone()
        return self.query_tail[layer]

    def inherit(self, req, store: MemoryStore) -> None:
        """Look for the memory of the longest prefix that an earlier request left."""
        self.blocks = block_hashes(req.origin_input_ids + req.output_ids, namespace(req), self.blocks)
        self.inherited = store.lookup(self.blocks)
        self.inherited_tokens = self.inherited.tokens if self.inherited else 0

    def publish(self, req, store: MemoryStore) -> None:
        """Leave the memory to requests that share a prefix."""
        if self.memory is not None:
            self.blocks = block_hashes(req.origin_input_ids + req.output_ids, namespace(req), self.blocks)
            store.publish(Snapshot(self.memory.snapshot(), self.memory.recent_start, self.blocks))

    def summary(self, outputs: int) -> dict[str, Any]:
        """The response's `meta_info["sfi"]`. The first of `outputs` tokens comes from the prefill, and overlap
        scheduling may have launched one step more than was used."""
        used = self.steps[: max(outputs - 1, 0)]
        slow = sum(used)
        caught, observed = self.coverage
        return {
            "slow_steps": slow,
            "fast_steps": len(used) - slow,
            "budget": self.options.budget,
            "selector": self.options.selector.name(),
            "prompt_tokens": self.prompt_tokens,
            "inherited_tokens": self.inherited_tokens,
            "coverage": round(caught / observed, 4) if observed else None,
        }


def requested(req) -> dict | None:
    """The validated `sfi` object that the door left in the request's custom_params, None for a dense request."""
    params = req.sampling_params.custom_params
    return params.get("sfi") if isinstance(params, dict) else None


def without_exclusion(options: SFIOptions) -> SFIOptions:
    """Under tensor parallelism a rank sees only its own KV heads, and exclusion compares all of them: it is left out,
    and the response's `selector` says so."""
    return options.model_copy(update={"selector": options.selector.model_copy(update={"exclusion": False})})


def state_of(req, vocabulary: Vocabulary) -> RequestState | None:
    """The request's state, made on first use; None for a dense request."""
    state = getattr(req, "sfi", None)
    if state is None and (value := requested(req)):
        options = parse_sfi(value)
        assert options is not None
        if get_parallel().attn_tp_size > 1:
            options = without_exclusion(options)
        state = req.sfi = RequestState(options, len(req.origin_input_ids), SegmentTracker(options, vocabulary))
    return state
