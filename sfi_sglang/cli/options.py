"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Server = Annotated[str | None, typer.Option(help="URL of a running server; none: start the embedded model")]
RUNS = Path("runs")
SERVER_LOG = RUNS / "server.log"
