"""`sfi-sglang stats`: what SFI has done on a running server, from its Prometheus counters."""

from typing import Annotated

import typer
from rich.table import Table

from sfi_sglang import METRIC_PREFIX
from sfi_sglang.terminal import console

LOCAL = "http://127.0.0.1:30000"  # SGLang's default port


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
        if not name.endswith("_created"):
            table.add_row(name, f"{value:,.0f}")
    slow, fast = values.get("slow_steps_total", 0.0), values.get("fast_steps_total", 0.0)
    if slow + fast:
        table.add_row("fast share of the steps", f"{fast / (slow + fast):.0%}")
    if checked := values.get("checked_tokens_total"):
        table.add_row("agreement", f"{values['agreed_tokens_total'] / checked:.1%}")
    console.print(table)
    if not fast:
        console.print(f"[yellow]SFI never acted[/]: no step was fast. {within_reach()}")
    console.print("Coverage is in each response, not summed here: `coverage` in its `sfi` report.", highlight=False)


def within_reach() -> str:
    from sfi_sglang.api.options import SFIOptions

    defaults = SFIOptions()
    visible = defaults.sink + defaults.budget + defaults.recent
    return f"Contexts of up to sink + budget + recent tokens ({visible:,} by default) are decoded densely."
