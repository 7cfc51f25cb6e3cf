"""Two result files, say of two versions: which cells match, and how much faster one is."""

from typing import Any

from sfi_sglang.client.call import Record
from sfi_sglang.report.modes import Mode
from sfi_sglang.trajectory.pairing import Pairing, pairing
from sfi_sglang.trajectory.records import Results, Run

KIND = ("workload", "history", "arrivals")  # results that differ here do not compare


class Difference(Record):
    field: str
    this: Any
    other: Any


class CellPairing(Pairing):
    """The other file over this one: above 1 this one is faster."""

    mode: Mode
    load: float


class Comparison(Record):
    """cells: those that both files have. differences: of the two headers, provenance included."""

    cells: list[CellPairing]
    differences: list[Difference]


def compare(results: Results, other: Results) -> Comparison:
    """Cells matched by mode and load, runs by trajectory and repeat.

    Raises:
        ValueError: the workloads, the histories or the arrivals differ.
    """
    for field in KIND:
        mine, theirs = getattr(results.header, field), getattr(other.header, field)
        if mine != theirs:
            raise ValueError(f"{field}: {mine!r} in one file, {theirs!r} in the other: their times do not compare")
    cells: dict[tuple[Mode, float], tuple[list[Run], list[Run]]] = {}
    for side, runs in enumerate((results.runs, other.runs)):
        for run in runs:
            cells.setdefault((run.mode, run.load), ([], []))[side].append(run)
    both = sorted((key for key, (mine, theirs) in cells.items() if mine and theirs), key=lambda key: (key[1], key[0]))
    mine, theirs = flat(results.header.model_dump()), flat(other.header.model_dump())
    return Comparison(
        cells=[
            CellPairing(mode=mode, load=load, **dict(pairing(cells[mode, load][1], cells[mode, load][0])))
            for mode, load in both
        ],
        differences=[
            Difference(field=field, this=mine.get(field), other=theirs.get(field))
            for field in sorted(mine.keys() | theirs.keys())
            if mine.get(field) != theirs.get(field)
        ],
    )


def with_dense(results: Results, other: Results | None) -> Results:
    """And the other file's dense runs, at loads where this one has SFI's alone."""
    mine = {(run.mode, run.load) for run in results.runs}
    lacking = {load for mode, load in mine if mode == "sfi" and ("dense", load) not in mine}
    more = [run for run in other.runs if run.mode == "dense" and run.load in lacking] if other else []
    return Results(header=results.header, runs=[*more, *results.runs])


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as dotted names."""
    fields: dict[str, Any] = {}
    for key, item in value.items():
        fields |= flat(item, f"{prefix}{key}.") if isinstance(item, dict) and item else {f"{prefix}{key}": item}
    return fields
