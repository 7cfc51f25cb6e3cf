"""Sparse extend: attention of the groups of new tokens through FlashAttention 3, where SGLang serves prefill with it.

FlashAttention knows sequences that have page tables. A group is one once for each KV head, since the heads chose
differently, and a page is one head of one token of the KV pool. What the group sees lies in its table in order, so that
FlashAttention's causal mask, which belongs to the last tokens of a sequence, is the group's own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sfi_sglang import sglang_symbols as symbols
from sfi_sglang.attention.layers import CoveredLayers
from sfi_sglang.attention.prompts import Prompt
from sfi_sglang.attention.reference import dense_index
from sfi_sglang.attention.transfer import to_device
from sfi_sglang.kernels.pages import page_chosen
from sfi_sglang.selection.scoring import Scoring


def flash_serves(q: Tensor, keys: Tensor, scoring: Scoring) -> bool:
    """A layer: one without caps, sinks and scales."""
    return scoring.bare and keys.dtype == q.dtype


class FlashGroups:
    """Models that `flash_serves`. A `GroupAttention`."""

    def __init__(self, prompts: Sequence[Prompt], layers: CoveredLayers, req_to_token: Tensor) -> None:
        self.prompts, self.layers, self.req_to_token = prompts, layers, req_to_token
        self.flash = symbols.resolve(symbols.FLASH_ATTENTION)
        device, kv_heads = req_to_token.device, layers.kv_heads
        self.rows, self.longest = 0, max(prompt.how.group for prompt in prompts)
        lengths, ends, choices = list[int](), list[int](), list[list[int]]()
        for prompt in prompts:
            lengths += [prompt.visible(end) for end in prompt.ends]
            ends += [self.rows + end for end in prompt.ends]
            choices += [[prompt.line, prompt.sink, prompt.chosen]] * len(prompt.ends)
            self.rows += prompt.sparse
        starts = [0, *(head * self.rows + end for head in range(kv_heads) for end in ends)]
        numbers = (torch.tensor(each, dtype=torch.int32) for each in (lengths * kv_heads, starts, choices))
        self.lengths, self.starts, self.choices = (to_device(each, device) for each in numbers)
        self.table = torch.zeros(kv_heads, len(ends), max(lengths), dtype=torch.int32, device=device)
        self._page_the_rest()

    def _page_the_rest(self) -> None:
        """All but what is chosen is the same in every layer."""
        kv_heads, number = self.layers.kv_heads, 0
        for prompt in self.prompts:
            slots, length = self.req_to_token[prompt.line], prompt.visible(prompt.sparse)
            rest = dense_index(slots[prompt.recent : prompt.prefix + prompt.sparse], kv_heads)
            table, number = self.table[:, number : number + len(prompt.ends)], number + len(prompt.ends)
            table[..., : prompt.sink] = dense_index(slots[: prompt.sink], kv_heads)[:, None]
            table[..., length - rest.shape[1] : length] = rest[:, None]

    def run(self, q: Tensor, keys: Tensor, values: Tensor, chosen: Tensor, scoring: Scoring, out: Tensor) -> None:
        kv_heads, group, dim = self.layers.kv_heads, self.layers.group, self.layers.dim
        page_chosen(self.table, chosen, self.req_to_token, self.choices)
        asking = q.new_empty(kv_heads, self.rows, group, dim)
        for mine, theirs in self._sparse_rows(asking, q):
            mine.copy_(theirs)
        answers = self.flash(
            q=asking.view(-1, group, dim), k_cache=keys.view(-1, 1, 1, dim), v_cache=values.view(-1, 1, 1, dim),
            page_table=self.table.flatten(0, 1), cache_seqlens=self.lengths, cu_seqlens_q=self.starts,
            max_seqlen_q=self.longest, softmax_scale=scoring.scale, causal=True,
        )  # fmt: skip
        for mine, theirs in self._sparse_rows(answers.view_as(asking), out):
            theirs.copy_(mine)

    def _sparse_rows(self, by_head: Tensor, by_row: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The same rows of each prompt in [KV, rows, G, D] and in [n, heads, D], as views [KV, rows, G, D]."""
        pairs, at = list[tuple[Tensor, Tensor]](), 0
        for prompt in self.prompts:
            first = prompt.rows.start
            theirs = by_row[first : first + prompt.sparse].unflatten(1, (self.layers.kv_heads, self.layers.group))
            pairs.append((by_head[:, at : at + prompt.sparse], theirs.transpose(0, 1)))
            at += prompt.sparse
        return pairs
