"""KV slots of the tokens that a pass may write, drafts among them, in place of SGLang's own reservation.

SGLang's is twice the widest verification for every request, which is more than the line of a request at the context's
end has columns, and writes the slots by a kernel that CPUs lack.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from sglang.srt.mem_cache.allocation import alloc_token_slots

from sfi_sglang.api.exact import ALGORITHM
from sfi_sglang.attention.transfer import to_device
from sfi_sglang.scheduling.drafting import MOST_DRAFTS

AHEAD = 2  # tokens of the pass at hand, and of one under way whose result the host has not read


def reach(req: Any) -> int:
    """Slots that a request must hold before its next pass. Both that and the one under way may verify drafts."""
    state = getattr(req, "sfi", None)
    exact = state is not None and state.options.exact
    left = req.sampling_params.max_new_tokens - len(req.output_ids)
    drafts = max(min(2 * MOST_DRAFTS, left), 0) if exact else 0
    return int(req.kv.kv_committed_len) + AHEAD + drafts


def missing(reqs: Iterable[Any]) -> list[int]:
    """Slots that each of them lacks."""
    return [max(reach(req) - req.kv.kv_allocated_len, 0) for req in reqs]


def needed(original: Callable[..., int], batch: Any, requests: Sequence[Any], page_size: int) -> int:
    """AROUND ScheduleBatch._new_tokens_required_next_decode_spec_v2: does the pool hold the next pass?"""
    if batch.spec_algorithm.name != ALGORITHM:
        return original(batch, requests, page_size)
    return sum(missing(requests))


def prepare(original: Callable[[Any], None], batch: Any) -> None:
    """AROUND spec_prepare_for_decode."""
    if batch.spec_algorithm.name != ALGORITHM:
        return original(batch)
    if batch.sampling_info.penalizer_orchestrator.is_required:
        batch.cumulate_penalty_output_tokens()
    counts = missing(batch.reqs)
    slots = alloc_token_slots(batch.tree_cache, sum(counts)) if sum(counts) else None
    lines: list[int] = []
    columns: list[int] = []
    for req, count in zip(batch.reqs, counts, strict=True):
        req.decode_batch_idx += 1
        lines += [req.kv.req_pool_idx] * count
        columns += range(req.kv.kv_allocated_len, req.kv.kv_allocated_len + count)
        req.kv.kv_allocated_len += count
    if slots is not None:
        line, column = to_device(torch.tensor([lines, columns]), slots.device)
        batch.req_to_token_pool.write((line, column), slots.to(torch.int32))


def leave_out_moves(original: Callable[[Any], None], pool: Any) -> None:
    """AROUND MHATokenToKVPool._init_kv_copy_and_warmup: trees of drafts move K and V by a kernel that CPUs lack. Ours
    are chains, whose accepted tokens are in place."""
    if torch.device(pool.device).type == "cpu":
        pool._kv_copy_config = None
    else:
        original(pool)
