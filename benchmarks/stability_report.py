"""Table and plot of a benchmarks.stability result.

python -m benchmarks.stability_report benchmarks/results/stability_cpu.json
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

INSIDE, ACROSS, GREY = "#d1495b", "#00798c", "#8d99ae"
SHOWN = {"prose": "sentence", "code": "structural", "listing": "structural"}  # policy that finds most ends there
NAMES = {"prose": "prose", "code": "code", "listing": "JSON lines"}
SIZE, SELECTOR = 512, "plain"  # of the plot
Cell = dict[str, Any]


def table(cells: Sequence[Cell], candidates: int) -> Table:
    """Overlap and mass, percent: inside a sentence / across an end of one, by distance."""
    distances = sorted({int(cell["distance"]) for cell in cells if cell["place"] in ("inside", "across")})
    title = f"percent, inside a sentence / across its end, by distance; {candidates} candidates"
    shown = Table(
        *("text", "ends", "selector", "k", "measure"), *map(str, distances), "refresh", "own", "latest", title=title
    )
    groups: dict[tuple[Any, ...], dict[tuple[str, float], Cell]] = {}
    for cell in cells:
        group = groups.setdefault(tuple(cell[name] for name in ("text", "policy", "selector", "k")), {})
        group[cell["place"], 0 if cell["place"] == "refresh" else cell["distance"]] = cell
    for about, group in groups.items():
        refresh = group.get(("refresh", 0), {})
        for measure in ("overlap", "mass"):
            row = [
                " / ".join(percent(group.get((place, distance), {}), measure) for place in ("inside", "across"))
                for distance in distances
            ]
            bounds = [percent(refresh, name) if measure == "mass" else "" for name in ("own", "latest")]
            age = f" ({refresh['distance']:.0f})" if refresh else ""
            shown.add_row(*map(str, about), measure, *row, percent(refresh, measure) + age, *bounds)
    return shown


def percent(cell: Cell, measure: str) -> str:
    return f"{100 * cell[measure][0]:.0f}" if cell else "-"


def plot(result: Path) -> Path:
    """Mass and overlap by distance, inside a sentence and across an end of one, a panel a kind of text, with intervals
    of 95% over texts; writes the SVG beside the JSON."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = result.stem  # the same result makes the same file
    import matplotlib.pyplot as plt

    data = json.loads(result.read_text())
    figure, panels = plt.subplots(1, len(SHOWN), figsize=(12, 4), sharey=True)
    for axes, (kind, policy) in zip(panels, SHOWN.items(), strict=True):
        cells = [
            cell
            for cell in data["cells"]
            if (cell["text"], cell["policy"], cell["selector"], cell["k"]) == (kind, policy, SELECTOR, SIZE)
        ]
        for place, colour in (("inside", INSIDE), ("across", ACROSS)):
            line = [cell for cell in cells if cell["place"] == place]
            for measure, style in (("mass", "-"), ("overlap", "--")):
                draw(axes, line, measure, color=colour, linestyle=style, label=f"{measure}, {place}")
        bounds = next(cell for cell in cells if cell["place"] == "refresh")
        axes.axhline(bounds["own"][0], color=GREY, linewidth=1, label="mass of the own choice")
        axes.axhline(bounds["latest"][0], color=GREY, linewidth=1, linestyle=":", label=f"mass of the latest {SIZE}")
        axes.set_xscale("log", base=2)
        axes.set_xticks(distances := sorted({cell["distance"] for cell in cells if cell["place"] != "refresh"}))
        axes.set_xticklabels([f"{distance:.0f}" for distance in distances])
        axes.set_xlabel("tokens between the two queries")
        axes.set_title(f"{NAMES[kind]}, ends by `{policy}`", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(0, 1)
    panels[0].set_ylabel("share")
    panels[0].legend(frameon=False, fontsize=8)
    figure.suptitle(
        f"What a choice of {SIZE} out of {data['candidates']} tokens is worth some tokens later", fontsize=11
    )
    target = result.with_suffix(".svg")
    figure.savefig(target, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return target


def draw(axes: Any, cells: Iterable[Cell], measure: str, **style: Any) -> None:
    """A line with its interval as a band."""
    points = sorted((cell["distance"], *cell[measure]) for cell in cells)
    x = [distance for distance, _, _ in points]
    axes.plot(x, [mean for _, mean, _ in points], marker="o", markersize=3, linewidth=1.5, **style)
    low, high = ([mean + sign * half for _, mean, half in points] for sign in (-1, 1))
    axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)


if __name__ == "__main__":
    typer.run(plot)
