"""The report's figures, by Plotly, and the words above them."""

import plotly.graph_objects as go

from sfi_sglang.report.page import PlotGroup
from sfi_sglang.trajectory.call_plots import context_plot, latency_cdf
from sfi_sglang.trajectory.pairing import complete
from sfi_sglang.trajectory.records import Results
from sfi_sglang.trajectory.summary import Summary
from sfi_sglang.trajectory.trajectory_plots import mean_times, parts_of_time, timeline

GROUPS = (
    (
        "Trajectory time",
        "Mean without tool waits, with its interval where there are three trajectories; above the bars the ratio of "
        "dense to SFI on the pairs.",
        ("time",),
    ),
    (
        "Turns of one trajectory",
        "At each load the pair whose ratio is nearest to the load's. Light: until the first token (queue and prefill). "
        "Full: decode. Grey: tool wait.",
        ("timeline",),
    ),
    (
        "Where the time goes",
        "Mean of a trajectory. First token: queue and prefill. Other: what the client saw outside both.",
        ("parts",),
    ),
    (
        "Latency",
        "Share of calls whose first token came within so long, and of pauses between chunks of text that were at most "
        "so long. A step for every value, up to 204.",
        ("ttft", "itl"),
    ),
    (
        "Speed-up by context length",
        "Calls by prompt tokens, in powers of two; above the line SFI is faster. Hollow marks: no call there had a "
        "fast step, so SFI did not act.",
        ("tpot", "latency"),
    ),
)


def groups(summary: Summary, results: Results) -> list[PlotGroup]:
    found = figures(summary, results)
    return [PlotGroup(title, note, {name: found[name] for name in names}) for title, note, names in GROUPS]


def figures(summary: Summary, results: Results) -> dict[str, go.Figure]:
    """By the id of their place on the page; those without data are empty."""
    runs = [run for run in results.runs if complete(run)]
    return {
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
