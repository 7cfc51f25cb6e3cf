"""Sparse extend on a GPU: what attention/sparse_extend.py says, through kernels.

Of every group of new tokens the first attends to everything, like the last ones of a prompt (kernels/wide.py), and
also chooses blocks for its group (kernels/block_mass.py); the group attends to those (triton_groups.py, and where it
can flash_groups.py).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sfi_sglang.attention.flash_groups import FlashGroups
from sfi_sglang.attention.layers import CoveredLayers
from sfi_sglang.attention.pass_metadata import PassMetadata
from sfi_sglang.attention.prompts import Prompt
from sfi_sglang.attention.sparse_extend import Sparsity
from sfi_sglang.attention.transfer import to_device
from sfi_sglang.attention.triton_groups import GroupAttention, TritonGroups
from sfi_sglang.kernels.block_mass import BLOCK_TOKENS, block_mass, tiles_of
from sfi_sglang.kernels.decode import DecodeBuffers, merge
from sfi_sglang.kernels.launch import WIDE
from sfi_sglang.kernels.wide import attend_wide, tile_tokens
from sfi_sglang.scheduling.row_plan import RowPlan
from sfi_sglang.selection.scoring import Scoring

SPLITS = 16  # of a context, where it is attended to in full
CHOICE_SPLITS = 32  # of a prefix, where blocks are chosen
SLICE = 64  # groups that choose at a time
STEP = 64  # of sizes: Triton compiles anew for one that 16 does not divide


class SparsePrefill:
    """Plan once a pass, run in every covered layer. processors: of the GPU. flash: is there FlashAttention 3?"""

    def __init__(self, layers: CoveredLayers, req_to_token: Tensor, processors: int, flash: bool = False) -> None:
        self.layers, self.req_to_token, self.flash = layers, req_to_token, flash
        self.programs = WIDE.waves * processors
        self.prompts: list[Prompt] = []

    def compile(self, keys: Tensor, values: Tensor, scoring: Scoring, dtype: torch.dtype) -> None:
        """Build the kernels at the server's start, not in its first request. keys, values: a layer's pool. dtype: of
        the queries."""
        how = Sparsity(BLOCK_TOKENS, recent=BLOCK_TOKENS, group=4, tail=1, block=BLOCK_TOKENS)
        self.load([Prompt(0, range(5), 4, 4 * BLOCK_TOKENS, how)])
        q = torch.zeros(5, self.layers.heads, self.layers.dim, dtype=dtype, device=self.req_to_token.device)
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
        self.prompts, device = prompts, self.req_to_token.device
        self.groups: GroupAttention | None = None
        dense = [row for prompt in prompts for row in prompt.dense]
        lines, metadata = list[int](), self._metadata(prompts, len(dense))
        starts, numbers = list[int](), list[int]()  # of each group: first block to choose, number of its first row
        at = 0
        for prompt in prompts:
            positions = [prompt.prefix + row - prompt.rows.start for row in prompt.dense]
            last = at + len(positions) - 1
            metadata.dense(last, positions[-1] + 1)
            metadata.widen(last, at, positions[:-1])
            starts += [prompt.blocks.start] * len(prompt.first)
            numbers += range(at, at + len(prompt.first))
            lines += [prompt.line] * len(positions)
            at = last + 1
        metadata.load(at, self.programs // self.layers.kv_heads, SPLITS, WIDE.tokens(self.layers.dim))
        self.metadata = metadata
        self.dense_rows, self.lines, self.numbers = (to_device(x, device) for x in (dense, lines, numbers))
        self.first = to_device([row for prompt in prompts for row in prompt.first], device)
        self.starts = to_device(torch.tensor(starts, dtype=torch.int32)[:, None, None], device)
        self._load_choices(prompts)

    def _metadata(self, prompts: list[Prompt], rows: int) -> PassMetadata:
        """And room for partial results."""
        layers, tile, device = self.layers, tile_tokens(self.layers.group), self.req_to_token.device
        tiles = sum(-(-len(prompt.dense) // tile) for prompt in prompts)
        self.buffers = DecodeBuffers.allocate(rows, layers.heads, layers.kv_heads, layers.dim, SPLITS, 0, device)
        return PassMetadata(_stepped(rows), 0, device, max_wide_pieces=tiles * (SPLITS + 1), tile=tile)

    def _load_choices(self, prompts: list[Prompt]) -> None:
        layers, device, group = self.layers, self.req_to_token.device, prompts[0].how.group  # no option of a request
        counts = [len(prompt.blocks) for prompt in prompts for _ in prompt.first]
        width, self.chosen = _stepped(max(counts)), max(prompt.chosen for prompt in prompts)
        self.lse = torch.empty(min(len(counts), SLICE) * layers.heads, width, device=device)
        self.mass = torch.full((len(counts), layers.kv_heads, width), -1.0, device=device)  # below any block's
        self.slices, done = list[tuple[Tensor, Tensor, Tensor]](), 0  # tiles, counts and mass of SLICE groups at most
        for asked in _sliced(prompts, group):
            of_tiles, of_groups = (to_device(each, device) for each in tiles_of(asked, group, layers.group))
            self.slices.append((of_tiles, of_groups, self.mass[done : done + len(of_groups)]))
            done += len(of_groups)

    def run(self, q: Tensor, keys: Tensor, values: Tensor, scoring: Scoring, out: Tensor) -> None:
        """One layer, whose new keys and values are in the pool: q and out [n, heads, D], keys and values [slots, KV,
        D]. Writes the prompts' rows of `out`."""
        dense = self.attend_to_everything(q, keys, values, scoring)
        self.attend_groups(q, keys, values, self.choose(q, keys, scoring), scoring, out)
        lost = dense[self.numbers] - out[self.first]
        at = group_at = 0
        for prompt in self.prompts:
            first, group = prompt.rows.start, prompt.how.group
            whole, rest = divmod(prompt.sparse, group)
            groups = lost[group_at : group_at + len(prompt.first)]
            out[first : first + whole * group].unflatten(0, (whole, group)).add_(groups[:whole, None])
            if rest:
                out[first + whole * group : first + prompt.sparse].add_(groups[whole])
            at, group_at = at + len(prompt.dense), group_at + len(groups)
            tail = len(prompt.rows) - prompt.sparse
            out[prompt.rows.stop - tail : prompt.rows.stop] = dense[at - tail : at]

    def attend_to_everything(self, q: Tensor, keys: Tensor, values: Tensor, scoring: Scoring) -> Tensor:
        """float32 [dense rows, heads, D]."""
        q, rows, kv_heads = q[self.dense_rows], self.metadata.rows, keys.shape[1]
        pieces = self.metadata.wide_pieces
        pool = keys, values, self.req_to_token, self.lines
        attend_wide(q, *pool, rows, pieces, self.buffers, scoring, SPLITS, evidence=False)
        out = torch.empty(q.shape, device=q.device)
        return merge(rows, self.buffers, out, scoring, kv_heads, SPLITS, False)

    def attend_groups(
        self, q: Tensor, keys: Tensor, values: Tensor, chosen: Tensor, scoring: Scoring, out: Tensor
    ) -> None:
        """Writes the sparse rows of `out`."""
        kind = FlashGroups if self.flash and FlashGroups.fits(q, keys, scoring) else TritonGroups
        if not isinstance(self.groups, kind):
            self.groups = kind(self.prompts, self.layers, self.req_to_token)
        self.groups.run(q, keys, values, chosen, scoring, out)

    def choose(self, q: Tensor, keys: Tensor, scoring: Scoring) -> Tensor:
        """Blocks of each group, int32 [groups, KV, most], the best first."""
        group, splits = self.prompts[0].how.group, CHOICE_SPLITS
        for tiles, counts, mass in self.slices:
            block_mass(q, keys, self.req_to_token, tiles, counts, scoring, group, self.lse, mass, splits)
        return self.mass.topk(self.chosen, -1).indices.int() + self.starts

    def clear(self) -> None:
        """After the last layer: the tables are the next passes' memory."""
        self.prompts, self.slices, self.groups = [], [], None
        del self.buffers, self.lse, self.mass


def _sliced(prompts: list[Prompt], group: int) -> list[list[tuple[int, int, int, range]]]:
    """What `tiles_of` asks for, in slices of SLICE groups at most: the logits of all would not fit."""
    slices, groups = list[list[tuple[int, int, int, range]]](), SLICE
    for prompt in prompts:
        for at in range(0, prompt.sparse, SLICE * group):
            rows = min(prompt.sparse - at, SLICE * group)
            count = -(-rows // group)
            if groups + count > SLICE:
                slices.append([])
                groups = 0
            slices[-1].append((prompt.line, prompt.rows.start + at, rows, prompt.blocks))
            groups += count
    return slices


def _stepped(size: int) -> int:
    return -(-size // STEP) * STEP
