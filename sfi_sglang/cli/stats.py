"""`sfi-sglang stats`: what SFI has done on a running server, from its Prometheus counters."""

from typing import Annotated

import typer
from rich.table import Table

from sfi_sglang import METRIC_PREFIX
from sfi_sglang.api.metrics import STORE_GAUGES, TOKENIZER_GAUGES
from sfi_sglang.terminal import console

LOCAL = "http://127.0.0.1:30000"  # SGLang's default port
GAUGES = {**STORE_GAUGES, **TOKENIZER_GAUGES}
MEANS = {  # of histograms
    "coverage": ("coverage, mean of requests", ".1%"),
    "memory_age_tokens": ("tokens that an inherited memory had not seen, mean", ",.0f"),
    "refresh_seconds": ("seconds of a pass with a refresh, mean", ".4f"),
}


def stats(server: Annotated[str, typer.Option(help="URL of a running server")] = LOCAL) -> None:
    """What SFI has done on a running server: steps, inherited memory, the store. Needs --enable-metrics there."""
    from sfi_sglang.client.endpoint import Endpoint

    endpoint = Endpoint.connect(server)
    found = endpoint.counters()
    values = {name.removeprefix(METRIC_PREFIX): value for name, value in found.items() if METRIC_PREFIX in name}
    if not found:
        console.print("no metrics: start the server with --enable-metrics")
    elif not values:
        console.print("nothing yet: no SFI request has finished, or sfi-sglang is not installed there")
    else:
        show(endpoint.url, values)


def show(url: str, values: dict[str, float]) -> None:
    table = Table("what", "value", title=f"SFI on {url}")
    for name, value in values.items():
        if name.endswith("_total") or name in GAUGES:
            table.add_row(name, f"{value:,.0f}")
    slow, fast = values.get("slow_steps_total", 0.0), values.get("fast_steps_total", 0.0)
    if slow + fast:
        table.add_row("fast share of the steps", f"{fast / (slow + fast):.0%}")
    if checked := values.get("checked_tokens_total"):
        table.add_row("agreement", f"{values['agreed_tokens_total'] / checked:.1%}")
    for name, (what, form) in MEANS.items():
        if count := values.get(f"{name}_count"):
            table.add_row(what, format(values[f"{name}_sum"] / count, form))
    console.print(table)
    if not fast:
        console.print(f"[yellow]SFI never acted[/]: no step was fast. {within_reach()}")


def within_reach() -> str:
    from sfi_sglang.api.options import SFIOptions

    defaults = SFIOptions()
    visible = defaults.sink + defaults.budget + defaults.recent
    return f"Contexts of up to sink + budget + recent tokens ({visible:,} by default) are decoded densely."
