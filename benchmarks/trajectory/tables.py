"""The summary as tables, for Markdown and HTML alike. Every number is read from the summary by its key."""

from sfi_sglang.report.fields import Columns, Table, make_table, row_keys
from sfi_sglang.trajectory.headline import UNITS
from sfi_sglang.trajectory.origin import difference_table
from sfi_sglang.trajectory.summary import Summary

CELL: Columns = (("mode", "mode", "mode"),)
TIME: Columns = (
    *CELL,
    ("complete", "time.n", "count"),
    ("failed", "failed", "failed"),
    ("mean, s", "time.mean", "seconds"),
    ("95% interval", "time_interval", "interval seconds"),
    ("p50", "time.p50", "seconds"),
    ("p90", "time.p90", "seconds"),
    ("p99", "time.p99", "seconds"),
    ("decode share", "decode_share", "percent"),
    ("tool wait, s", "tool.mean", "seconds"),
)
PAIRED: Columns = (
    ("ratio", "time.value", "ratio"),
    ("95% interval", "time.interval", "interval bound"),
    ("pairs", "pairs", "count"),
    ("trajectories", "time.trajectories", "count"),
    ("failed pairs", "failed", "failed"),
    ("unmatched runs", "unmatched", "count"),
)
SPEED_UP: Columns = (*PAIRED, ("SFI never acted", "idle", "count"))
LATENCY: Columns = (
    *CELL,
    ("calls", "calls", "count"),
    ("TTFT p50, ms", "ttft.p50", "ms"),
    ("p99", "ttft.p99", "ms"),
    ("ITL p50, ms", "itl.p50", "ms"),
    ("p99", "itl.p99", "ms"),
    ("TPOT p50, ms", "tpot.p50", "ms"),
    ("p99", "tpot.p99", "ms"),
)
FIRST_TOKENS: Columns = (
    *CELL,
    *(
        column
        for kind in ("cold", "cached")
        for column in (
            (f"{kind} calls", f"{kind}.ttft.n", "count"),
            ("TTFT p50, ms", f"{kind}.ttft.p50", "ms"),
            ("p99", f"{kind}.ttft.p99", "ms"),
            ("prefill p50, ms", f"{kind}.prefill.p50", "ms"),
            ("host p50, ms", f"{kind}.host.p50", "ms"),
        )
    ),
)
THROUGHPUT: Columns = (
    *CELL,
    ("output tokens/s", "output_tokens_per_second", "seconds"),
    ("requests/s", "requests_per_second", "seconds"),
    ("goodput, trajectories/min", "goodput", "seconds"),
    ("wall time, s", "wall", "seconds"),
)
SUCCESS: Columns = (
    *CELL,
    ("right", "success.successes", "count"),
    ("of", "success.n", "count"),
    ("rate", "success.rate", "percent"),
    ("95% interval", "success.interval", "interval percent"),
)
TOKENS: Columns = (
    *CELL,
    ("prompt", "prompt_tokens", "count"),
    ("output", "output_tokens", "count"),
    ("cached", "cached_tokens", "count"),
    ("inherited", "inherited_tokens", "count"),
    ("slow steps", "slow_step_ratio", "percent"),
    ("calls with no fast step", "idle_calls", "count"),
    ("coverage", "coverage", "percent"),
)
CONTEXTS: Columns = (
    ("tokens from", "low", "count"),
    ("below", "high", "count"),
    ("dense calls", "dense_calls", "count"),
    ("SFI calls", "sfi_calls", "count"),
    ("no fast step", "idle_calls", "count"),
    ("TPOT ratio", "tpot.value", "ratio"),
    ("95% interval", "tpot.interval", "interval bound"),
    ("latency ratio", "latency.value", "ratio"),
    ("95% interval", "latency.interval", "interval bound"),
)
FAILURES: Columns = (
    *CELL,
    ("repeat", "repeat", "count"),
    ("trajectory", "trajectory", "text"),
    ("turn", "turn", "count"),
    ("error", "error", "failed"),
)
IDLE: Columns = (
    ("trajectory", "trajectory", "text"),
    ("runs", "runs", "count"),
    ("slow steps", "slow_steps", "count"),
    ("longest context, tokens", "longest", "count"),
)


def tables(summary: Summary) -> list[Table]:
    """Those that have rows."""
    fields = summary.model_dump(mode="json")
    load = (UNITS[summary.header.arrivals][1], "load", "load")
    live = summary.header.history == "live"
    cells = row_keys(fields, "cells")
    found = [
        make_table(
            "Dense over SFI",
            "Mean trajectory time of dense over that of SFI, on trajectories and repeats complete in both; above 1 SFI "
            "is faster. The interval resamples trajectories, needs three, and is too narrow where they ran together "
            "once: repeats hold the spread between runs." + " Dense is of the other file." * bool(summary.borrowed),
            (load, *SPEED_UP),
            row_keys(fields, "speed_up"),
            fields,
        ),
        make_table(
            "Where SFI never acted",
            "Every decode step of these was a slow one, as dense as dense decoding: the context fits into sink + "
            "budget + recent, or the replies are too short. Their ratio says nothing about SFI: take a smaller budget "
            "or longer contexts.",
            (load, *IDLE),
            row_keys(fields, "idle"),
            fields,
        ),
        make_table(
            "Against the other file",
            "Mean trajectory time in the other file over that in this one; above 1 this one is faster.",
            (load, *CELL, *PAIRED),
            row_keys(fields, "comparison.cells"),
            fields,
        ),
        difference_table(summary.comparison),
        make_table("Failures", "", (load, *FAILURES), row_keys(fields, "failures"), fields),
        make_table("Trajectory time", "Without tool waits; failed ones have no time.", (load, *TIME), cells, fields),
        make_table(
            "Right answers", "A failed trajectory is not right.", (load, *SUCCESS), cells if live else [], fields
        ),
        make_table(
            "Latency per call",
            "TTFT: first token, queue included. ITL: between chunks of text; its p99 shows slow steps. "
            "TPOT: mean per token after the first.",
            (load, *LATENCY),
            cells,
            fields,
        ),
        make_table(
            "First tokens",
            "Cached: at least half of the prompt was in the prefix cache; cold: the others. Prefill: from the first "
            "prefill pass to the first token, as the server tells. Host: TTFT without that and without its queue.",
            (load, *FIRST_TOKENS),
            cells,
            fields,
        ),
        make_table(
            "Throughput",
            _throughput_note(summary),
            (load, *THROUGHPUT),
            cells,
            fields,
        ),
        make_table(
            "Tokens",
            "Of complete trajectories; slow steps: share of SFI's decode steps; coverage: the attention mass that the "
            "memory would have caught at those, mean over calls.",
            (load, *TOKENS),
            cells,
            fields,
        ),
        make_table(
            "Speed-up by context length",
            "Dense over SFI, calls of pairs complete in both modes. Where no call has a fast step, SFI cannot act.",
            (load, *CONTEXTS),
            row_keys(fields, "contexts"),
            fields,
        ),
    ]
    return [table for table in found if table.rows]


def _throughput_note(summary: Summary) -> str:
    """Says how the SLO is set, and where nothing kept it, what would have been kept."""
    slo, cells = summary.slo, [cell for cell in summary.cells if cell.time.n]
    note = (
        f"Complete trajectories over the wall time of all. Goodput counts those whose calls all have a TTFT of at most "
        f"{slo.ttft:g} s and a TPOT of at most {slo.tpot * 1e3:g} ms, an SLO set by sfi-bench report FILE --slo-ttft "
        f"{slo.ttft:g} --slo-tpot {slo.tpot:g} (in seconds)."
    )
    if any(cell.goodput == 0 for cell in cells):
        ttft, tpot = (max(getattr(cell, name).p99 or 0.0 for cell in cells) for name in ("ttft", "tpot"))
        note += f" Where it is 0.00 none kept that; here TTFT has a p99 of {ttft:.3g} s and TPOT of {tpot:.3g} s."
    return note
