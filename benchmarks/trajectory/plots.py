"""The report's figures, by Plotly. Colours of text and grid are the page's, set there."""

import plotly.graph_objects as go

from sfi_sglang.trajectory.call_plots import context_plot, latency_cdf
from sfi_sglang.trajectory.pairing import complete
from sfi_sglang.trajectory.records import Results
from sfi_sglang.trajectory.summary import Summary
from sfi_sglang.trajectory.trajectory_plots import mean_times, parts_of_time, timeline


def figures(summary: Summary, results: Results) -> dict[str, go.Figure]:
    """By the id of their place on the page; those without data are absent."""
    runs = [run for run in results.runs if complete(run)]
    found = {
        "time": mean_times(summary),
        "timeline": timeline(summary, results),
        "ttft": latency_cdf(
            summary, runs, lambda call: [call.ttft] if call.ttft is not None else [], "time to first token, ms"
        ),
        "itl": latency_cdf(summary, runs, lambda call: call.itl, "inter-token latency, ms"),
        "tpot": context_plot(summary, "tpot", "TPOT, dense / SFI"),
        "latency": context_plot(summary, "latency", "call latency, dense / SFI"),
        "parts": parts_of_time(summary),
    }
    for figure in found.values():
        figure.update_layout(
            template=None,
            showlegend=False,
            margin={"l": 8, "r": 12, "t": 8, "b": 8},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
        )
        figure.update_xaxes(automargin=True)
        figure.update_yaxes(automargin=True, ticklabelstandoff=6)
    return {name: figure for name, figure in found.items() if figure.data}
