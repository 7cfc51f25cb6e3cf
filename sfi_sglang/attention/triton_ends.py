"""Sparse extend: the last new tokens of prompts, which attend to everything, through the kernel of wide rows
(kernels/wide.py), or another one."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from sfi_sglang.attention.layers import CoveredLayers
from sfi_sglang.attention.pass_metadata import PassMetadata, Pieces
from sfi_sglang.attention.prompts import Prompt
from sfi_sglang.attention.transfer import to_device
from sfi_sglang.kernels.decode import DecodeBuffers, merge
from sfi_sglang.kernels.launch import WIDE
from sfi_sglang.kernels.wide import attend_wide
from sfi_sglang.selection.scoring import Scoring

SPLITS = 16  # of a context
STEP = 64  # of the rows of a table: Triton compiles anew for a size that 16 does not divide


class EndAttention(Protocol):
    """Made once a pass of prompts that end in it, run in every covered layer."""

    def run(self, q: Tensor, keys: Tensor, values: Tensor, scoring: Scoring, out: Tensor) -> None:
        """One layer: q and out [n, heads, D], keys and values [slots, KV, D]. Writes the rows of `out` that are dense
        at the prompts' ends."""


class TritonEnds:
    """Any model that SFI takes. processors: of the GPU."""

    def __init__(self, prompts: Sequence[Prompt], layers: CoveredLayers, req_to_token: Tensor, processors: int) -> None:
        self.req_to_token, device, tile = req_to_token, req_to_token.device, WIDE.queries(layers.group)
        rows, tiles = [row for prompt in prompts for row in prompt.end], sum(-(-len(p.end) // tile) for p in prompts)
        self.rows, self.lines = (to_device(x, device) for x in (rows, [p.line for p in prompts for _ in p.end]))
        stepped = -(-len(rows) // STEP) * STEP
        pieces = Pieces(tiles=tiles, tile=tile, wave=WIDE.programs(processors, layers.kv_heads))
        sizes = layers.heads, layers.kv_heads, layers.dim, pieces.parts
        self.buffers = DecodeBuffers.allocate(len(rows), *sizes, candidates=0, device=device)
        self.metadata = PassMetadata(stepped, 0, device, pieces)
        at = 0
        for prompt in prompts:
            last, length = at + len(prompt.end) - 1, prompt.prefix + len(prompt.rows)
            self.metadata.dense(last, length)
            self.metadata.widen(last, at, range(length - len(prompt.end), length - 1))
            at = last + 1
        self.metadata.load(at, splits=SPLITS, block=WIDE.tokens(layers.dim))

    def run(self, q: Tensor, keys: Tensor, values: Tensor, scoring: Scoring, out: Tensor) -> None:
        q, rows, kv_heads = q[self.rows], self.metadata.rows, keys.shape[1]
        pool = keys, values, self.req_to_token, self.lines
        attend_wide(q, *pool, rows, self.metadata.wide_pieces, self.buffers, scoring, WIDE, evidence=False)
        out[self.rows] = merge(rows, self.buffers, torch.empty_like(q), scoring, kv_heads, SPLITS, False)
