"""Sparse extend: attention of the groups of new tokens to what was chosen for them, through our kernel
(kernels/groups.py), or another one."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from sfi_sglang.attention.layers import CoveredLayers
from sfi_sglang.attention.prompts import Prompt
from sfi_sglang.attention.transfer import to_device
from sfi_sglang.kernels.block_mass import BLOCK_TOKENS
from sfi_sglang.kernels.groups import attend_groups, group_tiles, tile_heads
from sfi_sglang.kernels.heads import queries_of_tile
from sfi_sglang.selection.scoring import Scoring


class GroupAttention(Protocol):
    """Made once a pass, run in every covered layer."""

    def run(self, q: Tensor, keys: Tensor, values: Tensor, chosen: Tensor, scoring: Scoring, out: Tensor) -> None:
        """One layer: q and out [n, heads, D], keys and values [slots, KV, D], chosen int32 [groups, KV, blocks].
        Writes the rows of `out` that are sparse."""


class TritonGroups:
    """Any model that SFI takes."""

    def __init__(self, prompts: Sequence[Prompt], layers: CoveredLayers, req_to_token: Tensor) -> None:
        self.req_to_token, tiles, number = req_to_token, list[list[int]](), 0
        self.tile = tile_heads(layers.dim, layers.group, max(prompt.how.group for prompt in prompts))
        queries = queries_of_tile(self.tile, layers.group)
        for prompt in prompts:
            sparse, group = prompt.rows[: prompt.sparse], prompt.how.group
            ends = prompt.sink, prompt.chosen * BLOCK_TOKENS, prompt.recent
            tiles += group_tiles(prompt.line, sparse, prompt.prefix + 1, number, group, ends, queries)
            number += len(prompt.first)
        self.tiles = to_device(torch.tensor(tiles, dtype=torch.int32), req_to_token.device)

    def run(self, q: Tensor, keys: Tensor, values: Tensor, chosen: Tensor, scoring: Scoring, out: Tensor) -> None:
        attend_groups(q, keys, values, self.req_to_token, self.tiles, chosen, scoring, out, self.tile)
