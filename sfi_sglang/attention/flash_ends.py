"""Sparse extend: the last new tokens of prompts, which attend to everything, through FlashAttention 3, where SGLang
serves prefill with it."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from sfi_sglang import sglang_symbols as symbols
from sfi_sglang.attention.prompts import Prompt
from sfi_sglang.attention.transfer import to_device
from sfi_sglang.selection.scoring import Scoring


class FlashEnds:
    """Models that `flash_serves`. An `EndAttention`."""

    def __init__(self, prompts: Sequence[Prompt], req_to_token: Tensor) -> None:
        self.flash, device = symbols.resolve(symbols.FLASH_ATTENTION), req_to_token.device
        lengths, counts = [p.prefix + len(p.rows) for p in prompts], [len(p.end) for p in prompts]
        starts = [0, *accumulate(counts)]
        self.lengths, self.starts = (to_device(torch.tensor(x, dtype=torch.int32), device) for x in (lengths, starts))
        self.rows = to_device([row for prompt in prompts for row in prompt.end], device)
        self.table = req_to_token[to_device([p.line for p in prompts], device), : max(lengths)]
        self.longest = max(counts)

    def run(self, q: Tensor, keys: Tensor, values: Tensor, scoring: Scoring, out: Tensor) -> None:
        out[self.rows] = self.flash(
            q=q[self.rows], k_cache=keys.unsqueeze(1), v_cache=values.unsqueeze(1), page_table=self.table,
            cache_seqlens=self.lengths, cu_seqlens_q=self.starts, max_seqlen_q=self.longest,
            softmax_scale=scoring.scale, causal=True,
        )  # fmt: skip
