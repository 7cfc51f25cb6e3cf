"""Plots of benchmark results, as SVG beside their JSON.

python -m benchmarks.plots benchmarks/results/decode_h200_qwen3_4b.json
"""

import json
from pathlib import Path

import typer

COLOURS = ("#8d99ae", "#d1495b", "#edae49", "#66a182")


def plot_decode(result: Path) -> Path:
    """Step times by case and mode of a benchmarks.decode_gpu result: median over runs, p99 as a whisker."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    data = json.loads(result.read_text())
    cells = data["cells"]
    cases = list(dict.fromkeys((cell["batch"], cell["context"]) for cell in cells))
    modes = list(dict.fromkeys(cell["mode"] for cell in cells))
    dense = {(c["batch"], c["context"]): c["ms_per_step"] for c in cells if c["mode"] == "dense"}
    width = 0.8 / len(modes)
    figure, axes = plt.subplots(figsize=(1.5 + 1.9 * len(cases), 4))
    for m, mode in enumerate(modes):
        row = [next(c for c in cells if (c["batch"], c["context"], c["mode"]) == (*case, mode)) for case in cases]
        x = [i + (m - (len(modes) - 1) / 2) * width for i in range(len(cases))]
        heights = [c["ms_per_step"] for c in row]
        axes.bar(x, heights, width * 0.92, color=COLOURS[m % len(COLOURS)], label=mode)
        axes.vlines(x, heights, [c["p99"] for c in row], color="#444444", linewidth=1)
        for left, cell in zip(x, row, strict=True):
            ratio = dense[cell["batch"], cell["context"]] / cell["ms_per_step"]
            axes.text(
                left, cell["p99"], f"{ratio:.2f}x" if mode != "dense" else "", ha="center", va="bottom", fontsize=8
            )
    axes.set_xticks(range(len(cases)), [f"{batch} x {context // 1024}K" for batch, context in cases])
    axes.set_ylabel("ms a decode step (bar: mean, line: to p99)")
    axes.set_title(f"{data['model']} on {data['machine']}, budget {data['budget']}; sfi/N refreshes every N steps")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    target = result.with_suffix(".svg")
    figure.savefig(target, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return target


if __name__ == "__main__":
    typer.run(plot_decode)
