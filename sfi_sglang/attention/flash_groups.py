"""Sparse extend: attention of the groups of new tokens through FlashAttention 3, where SGLang serves prefill with it.

FlashAttention knows sequences that have page tables. A group is one once for each KV head, since the heads chose
differently, and a page is one head of one token of the KV pool. What the group sees lies in its table in order, so that
FlashAttention's causal mask, which belongs to the last tokens of a sequence, is the group's own.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from sfi_sglang import sglang_symbols as symbols
from sfi_sglang.attention.layers import CoveredLayers
from sfi_sglang.attention.prompts import Prompt
from sfi_sglang.attention.transfer import to_device
from sfi_sglang.kernels.pages import page_chosen
from sfi_sglang.selection.scoring import Scoring


class FlashGroups:
    """Models without caps, sinks and scales. A `GroupAttention`."""

    @staticmethod
    def fits(q: Tensor, keys: Tensor, scoring: Scoring) -> bool:
        """Can a layer be served?"""
        return scoring.bare and keys.dtype == q.dtype

    def __init__(self, prompts: Sequence[Prompt], layers: CoveredLayers, req_to_token: Tensor) -> None:
        self.prompts, self.layers, self.req_to_token = prompts, layers, req_to_token
        self.flash = symbols.resolve(symbols.FLASH_ATTENTION)
        device, kv_heads = req_to_token.device, layers.kv_heads
        self.rows, self.longest = sum(prompt.sparse for prompt in prompts), max(prompt.how.group for prompt in prompts)
        width = max(prompt.visible(prompt.sparse) for prompt in prompts)
        groups = [(prompt, row - prompt.rows.start) for prompt in prompts for row in prompt.first]
        ends = [min(start + prompt.how.group, prompt.sparse) for prompt, start in groups]
        lengths = [prompt.visible(end) for (prompt, _), end in zip(groups, ends, strict=True)]
        sizes = [end - start for (_, start), end in zip(groups, ends, strict=True)]
        choices = [[prompt.line, prompt.sink, prompt.chosen] for prompt, _ in groups]
        starts = [0, *accumulate(sizes * kv_heads)]
        numbers = (torch.tensor(each, dtype=torch.int32) for each in (lengths * kv_heads, starts, choices))
        self.lengths, self.starts, self.choices = (to_device(each, device) for each in numbers)
        self.table = torch.zeros(kv_heads, len(groups), width, dtype=torch.int32, device=device)
        self._page_the_rest()

    def _page_the_rest(self) -> None:
        """All but what is chosen is the same in every layer."""
        kv_heads, number = self.layers.kv_heads, 0
        heads = torch.arange(kv_heads, dtype=torch.int32, device=self.table.device)[:, None, None]
        for prompt in self.prompts:
            slots = self.req_to_token[prompt.line] * kv_heads
            table, number = self.table[:, number : number + len(prompt.first)], number + len(prompt.first)
            table[..., : prompt.sink] = slots[: prompt.sink] + heads
            rest = slots[prompt.recent : prompt.prefix + prompt.sparse]
            after = prompt.visible(prompt.sparse) - len(rest)
            table[..., after : after + len(rest)] = rest + heads

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
