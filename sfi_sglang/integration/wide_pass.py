"""A decode pass with more rows than requests: a slow row's earlier tokens follow the requests, a row each.

The added rows share their request's line of `req_to_token` and write K and V into the slots that these tokens have
already; nobody else uses those before the request is released. SGLang itself runs decode rows beyond the requests in
beam search (srt/managers/beam_search). Where a request drafts, these tokens are its drafts, and what the rows choose is
what verifies them.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfi_sglang.attention.transfer import to_device
from sfi_sglang.integration.choices import Choices
from sfi_sglang.integration.draft_tokens import Checked, DraftTokens
from sfi_sglang.scheduling.row_plan import ON_DEVICE, Repair, RowPlan

Repairs = list[tuple[int, RowPlan, Repair]]
PER_TOKEN = ("mrope_positions", "input_embeds", "encoder_lens")  # where a row is more than its token


@dataclass(frozen=True)
class WidePass:
    """batch: SGLang's ForwardBatch with the added rows. own: rows of requests. requests, places, following: int64, see
    Checked."""

    batch: Any
    own: int
    repairs: Repairs
    requests: Tensor
    places: Tensor
    following: Tensor

    @classmethod
    def of(cls, runner: Any, batch: Any, repairs: Repairs, drafts: DraftTokens | None) -> "WidePass | None":
        """None where the batch cannot be widened: LoRA, M-RoPE, embeddings. drafts: where a request drafts."""
        if batch.lora_ids is not None and any(name is not None for name in batch.lora_ids):
            return None
        if any(getattr(batch, name, None) is not None for name in PER_TOKEN):
            return None
        if batch.batch_size != len(batch.rids) or batch.input_ids.shape[0] != batch.batch_size:  # beams
            return None
        rows = [
            (index, position, token, after, place if row.settled else -1)
            for index, row, repair in repairs
            for place, (position, token, after) in enumerate(
                zip(repair.positions, repair.tokens, [*repair.following, ON_DEVICE], strict=False)
            )
        ]
        host = torch.tensor(rows).T.contiguous()
        requests, positions, tokens, following, places = to_device(host, batch.input_ids.device)
        after = batch.input_ids[requests]
        if drafts is not None:
            lines = batch.req_pool_indices[requests]
            after = drafts.at(lines, positions + 1)
            tokens = torch.where(tokens == ON_DEVICE, drafts.at(lines, positions), tokens)
        following = torch.where(following == ON_DEVICE, after, following)
        wide = _widened(runner, batch, host[1], requests, positions, tokens)
        return cls(wide, batch.batch_size, repairs, requests, places, following)

    def finish(self, output: Any, rules: Choices | None) -> Checked:
        """Take the added rows out of the output. Requests that do not draft know now that they are exact, and where the
        number of tokens is that dense attention would have chosen too."""
        logits = output.logits_output.next_token_logits
        output.logits_output.next_token_logits = logits[: self.own]
        choices = logits[self.own : self.own + len(self.requests)].argmax(-1)
        if rules is not None:
            choices = rules.added(choices)
        alike = torch.zeros(self.own, dtype=torch.int64, device=choices.device)
        alike.index_add_(0, self.requests, (choices == self.following).long())
        for index, row, repair in self.repairs:
            if not row.settled:
                assert row.state is not None
                row.state.repaired(row.length, repair.positions.stop, alike[index])
        return Checked(self.requests, self.places, choices, self.following)


def _widened(runner: Any, batch: Any, host: Tensor, requests: Tensor, positions: Tensor, tokens: Tensor) -> Any:
    """host: the positions on the host."""
    lines = batch.req_pool_indices[requests]
    slots = runner.req_to_token_pool.req_to_token[lines, positions]
    lengths = positions + 1

    def joined(name: str, more: Tensor) -> Tensor:
        own = getattr(batch, name)
        return torch.cat([own, more.to(own.dtype)])

    changed = {
        "batch_size": batch.batch_size + len(host),
        "input_ids": joined("input_ids", tokens),
        "positions": joined("positions", positions),
        "req_pool_indices": joined("req_pool_indices", lines),
        "seq_lens": joined("seq_lens", lengths),
        "seq_lens_cpu": joined("seq_lens_cpu", host + 1),
        "seq_lens_sum": batch.seq_lens_sum + int((host + 1).sum()),
        "out_cache_loc": joined("out_cache_loc", slots),
    }
    if batch.orig_seq_lens is not None:
        changed["orig_seq_lens"] = joined("orig_seq_lens", lengths)
    if batch.global_num_token_non_padded is not None:
        changed["global_num_token_non_padded"] = batch.global_num_token_non_padded + len(host)
        changed["global_num_token_non_padded_cpu"] = batch.global_num_token_non_padded_cpu + len(host)
    wide = dataclasses.replace(batch, **changed)
    wide.forward_metadata_ready = False
    wide.sfi_rows_added = len(host)
    runner.kv_index_translator.bind_own_plan(wide)
    return wide
