"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Server = Annotated[str | None, typer.Option(help="URL of a running server; none: start the embedded model")]
Budget = Annotated[int, typer.Option(min=1, help="selected tokens per KV head")]
Recent = Annotated[int, typer.Option(min=1, help="last tokens, always visible")]
RUNS = Path("runs")
SERVER_LOG = RUNS / "server.log"
