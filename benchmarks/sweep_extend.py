"""Launch settings of the kernels of sparse extend, tried on this GPU: `choice` (kernels/block_mass.py) and `groups`
(kernels/groups.py), by tile of query heads, tokens an iteration, stages and warps.

    python -m benchmarks.sweep_extend --prefix 65536 --new 8192 --out result.json

Random data, all layers in one CUDA graph, as in extend_gpu.py. Settings that the multiprocessor has no room for are
left out.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import typer
from rich.table import Table
from triton.runtime.errors import OutOfResources

from benchmarks.attention_bench import GPU
from benchmarks.extend_gpu import Case
from benchmarks.sweep_gpu import numbers
from sfi_sglang.api.options import SFIOptions
from sfi_sglang.client.provenance import provenance
from sfi_sglang.kernels import block_mass, groups, launch
from sfi_sglang.kernels.launch import Launch
from sfi_sglang.terminal import console, progress


def settings_of(part: str, dim: int, tile: int, setting: Launch) -> list[tuple[Any, str, Any]]:
    """What to put in place of what."""
    if part == "choice":
        return [(block_mass, "TILE", tile), (block_mass, "CHOICE", setting)]
    return [
        (groups, "TILE", tile),
        (groups, "TILE_NUMBERS", tile * dim),
        (groups, "GROUPS", setting),
        (launch, "TILE_NUMBERS", setting.block * dim),
    ]


@contextmanager
def changed(settings: list[tuple[Any, str, Any]]) -> Iterator[None]:
    with ExitStack() as stack:
        for where, name, value in settings:
            stack.enter_context(patch.object(where, name, value))
        yield


def main(
    prefix: int = 65536,
    new: int = 8192,
    budget: int = 2048,
    parts: str = "choice,groups",
    tiles: Annotated[str, typer.Option(help="query heads of a tile")] = "64,128,256",
    blocks: str = "64,128",
    stages: str = "2,3",
    warps: str = "4,8",
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Try all combinations."""
    ways = list(itertools.product(*map(numbers, (tiles, blocks, stages, warps))))
    case = Case("qwen3-4b" if GPU else "tiny", prefix, new, SFIOptions(budget=budget, extend="sparse"))
    steps: dict[str, Callable[[int], object]] = {"choice": case.choice, "groups": case.triton}
    rows = list[dict[str, Any]]()
    with progress(console) as bar:
        for part, (tile, block, depth, warp) in bar.track(list(itertools.product(parts.split(","), ways))):
            setting = Launch(block=block, stages=depth, warps=warp, waves=1)
            with changed(settings_of(part, case.dim, tile, setting)):
                case.load(case.ours.prompts)
                try:
                    time = case.all_layers(steps[part])
                except OutOfResources:
                    continue
            rows.append({"part": part, "tile": tile, "block": block, "stages": depth, "warps": warp, "us": time})
    for part in parts.split(","):
        table = Table("tile", "block", "stages", "warps", "ms", title=f"{part}, {prefix} + {new}")
        for row in sorted((row for row in rows if row["part"] == part), key=lambda row: row["us"])[:12]:
            cells = (row["tile"], row["block"], row["stages"], row["warps"])
            table.add_row(*map(str, cells), f"{row['us'] / 1e3:.2f}")
        console.print(table)
    if out:
        settings = {"prefix": prefix, "new": new, "budget": budget}
        out.write_text(json.dumps({**provenance(), **settings, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
