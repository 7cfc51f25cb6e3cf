"""A decode pass with more rows than requests: a slow row's earlier tokens follow the requests, a row each.

The added rows share their request's line of `req_to_token` and write K and V into the slots that these tokens have
already; nobody else uses those before the request is released. SGLang itself runs decode rows beyond the requests in
beam search (srt/managers/beam_search).
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from sfi_sglang.scheduling.step_planner import Repair, RowPlan

Repairs = list[tuple[int, RowPlan, Repair]]


def widen(runner: Any, batch: Any, repairs: Repairs) -> Any | None:
    """The ForwardBatch with a row for every token to repair; None where a row is more than its token (M-RoPE, LoRA,
    embeddings, hidden states)."""
    if batch.lora_ids is not None and any(name is not None for name in batch.lora_ids):
        return None
    if any(getattr(batch, name, None) is not None for name in ("mrope_positions", "input_embeds", "encoder_lens")):
        return None
    if batch.batch_size != len(batch.seq_lens_cpu) or batch.input_ids.shape[0] != batch.batch_size:
        return None
    device = batch.input_ids.device
    added = [(index, position) for index, _, repair in repairs for position in repair.positions]
    host = torch.tensor([*zip(*added, strict=True), [token for *_, repair in repairs for token in repair.tokens]])
    if device.type == "cuda":
        host = host.pin_memory()
    requests, positions, tokens = host.to(device, non_blocking=True)
    lines = batch.req_pool_indices[requests]
    slots = runner.req_to_token_pool.req_to_token[lines, positions]
    lengths_cpu = host[1] + 1

    def joined(name: str, more: Tensor) -> Tensor:
        own = getattr(batch, name)
        return torch.cat([own, more.to(own.dtype)])

    changed = {
        "batch_size": batch.batch_size + len(added),
        "input_ids": joined("input_ids", tokens),
        "positions": joined("positions", positions),
        "req_pool_indices": joined("req_pool_indices", lines),
        "seq_lens": joined("seq_lens", positions + 1),
        "seq_lens_cpu": joined("seq_lens_cpu", lengths_cpu),
        "seq_lens_sum": batch.seq_lens_sum + int(lengths_cpu.sum()),
        "out_cache_loc": joined("out_cache_loc", slots),
    }
    if batch.orig_seq_lens is not None:
        changed["orig_seq_lens"] = joined("orig_seq_lens", positions + 1)
    if batch.global_num_token_non_padded is not None:
        changed["global_num_token_non_padded"] = batch.global_num_token_non_padded + len(added)
        changed["global_num_token_non_padded_cpu"] = batch.global_num_token_non_padded_cpu + len(added)
    wide = dataclasses.replace(batch, **changed)
    wide.forward_metadata_ready = False
    wide.sfi_rows_added = len(added)
    runner.kv_index_translator.bind_own_plan(wide)
    return wide


def finish(output: Any, batch: Any, repairs: Repairs) -> None:
    """Take the added rows out of the output of a wide pass; the requests know now that they are exact, and how many of
    their tokens the dense pass would have chosen."""
    logits = output.logits_output.next_token_logits
    own, added = logits[: batch.batch_size], logits[batch.batch_size :]
    output.logits_output.next_token_logits = own
    choices, start = added.argmax(-1), 0
    for index, row, repair in repairs:
        count = len(repair.tokens)
        following = torch.tensor(repair.following, device=choices.device)
        if len(repair.following) < count:
            following = torch.cat([following, batch.input_ids[index : index + 1].to(following.dtype)])
        assert row.state is not None
        row.state.repaired(row.length, repair.start + count, (choices[start : start + count] == following).sum())
        start += count
