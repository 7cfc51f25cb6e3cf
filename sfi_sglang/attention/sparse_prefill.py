"""Sparse extend on a GPU: what attention/sparse_extend.py says, through kernels.

The mean query of every group of new tokens chooses blocks (kernels/block_mass.py), and the group attends to those
(triton_groups.py, and where it can flash_groups.py). The last tokens of a prompt attend to everything (triton_ends.py,
flash_ends.py).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sfi_sglang.attention.flash_ends import FlashEnds
from sfi_sglang.attention.flash_groups import FlashGroups, flash_serves
from sfi_sglang.attention.layers import CoveredLayers
from sfi_sglang.attention.prompts import Prompt
from sfi_sglang.attention.sparse_extend import Sparsity, mean_queries
from sfi_sglang.attention.transfer import to_device
from sfi_sglang.attention.triton_ends import EndAttention, TritonEnds
from sfi_sglang.attention.triton_groups import GroupAttention, TritonGroups
from sfi_sglang.kernels.block_mass import BLOCK_TOKENS, block_mass, tiles_of
from sfi_sglang.scheduling.row_plan import RowPlan
from sfi_sglang.selection.scoring import Scoring

SPLITS = 32  # of a prefix, where blocks are chosen
SLICE = 64  # groups that choose at a time
STEP = 64  # of sizes: Triton compiles anew for one that 16 does not divide


class SparsePrefill:
    """Plan once a pass, run in every covered layer. processors: of the GPU. flash: is there FlashAttention 3?"""

    def __init__(self, layers: CoveredLayers, req_to_token: Tensor, processors: int, flash: bool = False) -> None:
        self.layers, self.req_to_token, self.processors, self.flash = layers, req_to_token, processors, flash
        self.prompts: list[Prompt] = []

    def compile(self, keys: Tensor, values: Tensor, scoring: Scoring, dtype: torch.dtype) -> None:
        """Build the kernels at the server's start, not in its first request. keys, values: a layer's pool. dtype: of
        the queries."""
        how = Sparsity(BLOCK_TOKENS, recent=BLOCK_TOKENS, tail=1, block=BLOCK_TOKENS)
        self.load([Prompt(0, range(how.group + 1), how.group, 4 * BLOCK_TOKENS, how)])
        q = torch.zeros(how.group + 1, self.layers.heads, self.layers.dim, dtype=dtype, device=self.req_to_token.device)
        self.run(q, keys, values, scoring, torch.empty_like(q))
        self.clear()

    def plan(self, rows: Sequence[RowPlan], counts: Sequence[int]) -> bool:
        """Before the first layer. counts: new tokens of each row. Does every new token belong to a prompt of ours?"""
        prompts, start = list[Prompt](), 0
        for row, count in zip(rows, counts, strict=False):  # a padded batch has no plan
            if row.state is not None and row.sparse:
                how, mine = Sparsity.of(row.state.options, count - row.sparse), range(start, start + count)
                prompts.append(Prompt(row.req_pool_index, mine, row.sparse, row.length - count, how))
            start += count
        if prompts:
            self.load(prompts)
        self.prompts = prompts
        return bool(prompts) and start == sum(len(prompt.rows) for prompt in prompts)

    def load(self, prompts: list[Prompt]) -> None:
        """Tables of the kernels, the same for all layers."""
        self.prompts = prompts
        self.groups: dict[bool, GroupAttention] = {}  # through FlashAttention, or not
        self.ends: dict[bool, EndAttention] = {}
        starts = [prompt.blocks.start for prompt in prompts for _ in prompt.first]
        self.starts = to_device(torch.tensor(starts, dtype=torch.int32)[:, None, None], self.req_to_token.device)
        self._load_choices(prompts)

    def _load_choices(self, prompts: list[Prompt]) -> None:
        layers, device = self.layers, self.req_to_token.device
        counts = [len(prompt.blocks) for prompt in prompts for _ in prompt.first]
        width, self.chosen = _stepped(max(counts)), max(prompt.chosen for prompt in prompts)
        self.lse = torch.empty(min(len(counts), SLICE) * layers.heads, width, device=device)
        self.mass = torch.full((len(counts), layers.kv_heads, width), -1.0, device=device)  # below any block's
        self.slices, done = list[tuple[Tensor, Tensor, Tensor]](), 0  # tiles, counts and mass of SLICE groups at most
        for groups in _sliced(prompts):
            of_tiles, of_groups = (to_device(each, device) for each in tiles_of(groups, layers.group))
            self.slices.append((of_tiles, of_groups, self.mass[done : done + len(of_groups)]))
            done += len(of_groups)

    def run(self, q: Tensor, keys: Tensor, values: Tensor, scoring: Scoring, out: Tensor) -> None:
        """One layer, whose new keys and values are in the pool: q and out [n, heads, D], keys and values [slots, KV,
        D]. Writes the prompts' rows of `out`."""
        self.attend_groups(q, keys, values, self.choose(q, keys, scoring), scoring, out)
        self.attend_ends(q, keys, values, scoring, out)

    def attend_groups(
        self, q: Tensor, keys: Tensor, values: Tensor, chosen: Tensor, scoring: Scoring, out: Tensor
    ) -> None:
        """Writes the sparse rows of `out`."""
        flash = self.flash and flash_serves(q, keys, scoring)
        if flash not in self.groups:
            kind = FlashGroups if flash else TritonGroups
            self.groups[flash] = kind(self.prompts, self.layers, self.req_to_token)
        self.groups[flash].run(q, keys, values, chosen, scoring, out)

    def attend_ends(self, q: Tensor, keys: Tensor, values: Tensor, scoring: Scoring, out: Tensor) -> None:
        """Writes the rows of `out` that attend to everything: those of prompts that end in this pass."""
        prompts = [prompt for prompt in self.prompts if prompt.end]
        flash = self.flash and flash_serves(q, keys, scoring)
        if not prompts:
            return
        if flash not in self.ends:
            triton = self.layers, self.req_to_token, self.processors
            self.ends[flash] = FlashEnds(prompts, self.req_to_token) if flash else TritonEnds(prompts, *triton)
        self.ends[flash].run(q, keys, values, scoring, out)

    def choose(self, q: Tensor, keys: Tensor, scoring: Scoring) -> Tensor:
        """Blocks of each group, int32 [groups, KV, most], the best first."""
        asking = [mean_queries(q[prompt.rows.start :][: prompt.sparse], prompt.how.group) for prompt in self.prompts]
        means = torch.cat(asking) if len(asking) > 1 else asking[0]
        for tiles, counts, mass in self.slices:
            block_mass(means, keys, self.req_to_token, tiles, counts, scoring, self.lse, mass, SPLITS)
        return self.mass.topk(self.chosen, -1).indices.int() + self.starts

    def clear(self) -> None:
        """After the last layer: the tables are the next passes' memory."""
        self.prompts, self.slices, self.groups, self.ends = [], [], {}, {}
        del self.lse, self.mass


def _sliced(prompts: list[Prompt]) -> list[list[tuple[int, int, int, range]]]:
    """What `tiles_of` asks for, in slices of SLICE groups at most: the logits of all would not fit."""
    slices, at, room = list[list[tuple[int, int, int, range]]](), 0, 0
    for prompt in prompts:
        left = len(prompt.first)
        while left:
            if not room:
                slices.append([])
                room = SLICE
            count = min(left, room)
            slices[-1].append((prompt.line, at, count, prompt.blocks))
            at, left, room = at + count, left - count, room - count
    return slices


def _stepped(size: int) -> int:
    return -(-size // STEP) * STEP
