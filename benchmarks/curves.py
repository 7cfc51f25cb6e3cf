"""Draw how agreement follows the budget and the length of a segment, from a file of `sfi-sglang eval` runs.

python -m benchmarks.curves benchmarks/results/fidelity_probe_h200.json
"""

import json
from pathlib import Path
from typing import Any

import typer

COLOURS = {"prose": "#00798c", "code": "#d1495b", "listing": "#8d99ae"}
NAMES = {"prose": "prose", "code": "code", "listing": "JSON lines"}
PANELS = {"16K budgets": ("budget", "selected tokens"), "16K segments": ("max_segment", "steps between refreshes")}


def points(run: dict[str, Any], kind: str, option: str) -> list[tuple[int, dict[str, float]]]:
    """Value of the option, and the agreement's estimate with its interval, rising."""
    requests = run["variants"]["agreement"]
    found = {cell["variant"]: cell["chosen"] for cell in run["agreement"] if cell["kind"] == kind}
    return sorted((sfi[option], found[label]) for label, sfi in requests.items() if sfi and label in found)


def plot(result: Path) -> Path:
    """A panel a run, a line a kind of text with intervals of 95% over texts; dotted: dense against itself. Writes the
    SVG beside the JSON."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = result.stem  # the same result makes the same file
    import matplotlib.pyplot as plt

    runs = {run["run"]: run for run in json.loads(result.read_text())["runs"]}
    figure, panels = plt.subplots(1, len(PANELS), figsize=(10, 4), sharey=True)
    for axes, (name, (option, title)) in zip(panels, PANELS.items(), strict=True):
        for kind, colour in COLOURS.items():
            line = points(runs[name], kind, option)
            x = [value for value, _ in line]
            y = [cell["value"] for _, cell in line]
            spread = [[abs(cell[end] - cell["value"]) for _, cell in line] for end in ("low", "high")]
            axes.errorbar(x, y, spread, color=colour, marker="o", markersize=3, capsize=2, label=NAMES[kind])
            dense = next(c for c in runs[name]["agreement"] if (c["kind"], c["variant"]) == (kind, "dense"))
            axes.axhline(dense["chosen"]["value"], color=colour, linestyle=":", linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, [str(value) for value in x])
        axes.set_xlabel(title)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("tokens that dense attention would have chosen")
    panels[0].yaxis.set_major_formatter("{x:.0%}")
    panels[0].legend(frameon=False)
    target = result.with_suffix(".svg")
    figure.savefig(target, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return target


if __name__ == "__main__":
    typer.run(plot)
