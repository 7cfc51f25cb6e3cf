"""What every command prints to, the progress bar of every long one, and how a command line ends."""

import io
import sys
import warnings
from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console()
SPEED_PERIOD = 1800.0  # seconds that the speed of long work is taken from


def progress(console: Console) -> Progress:
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=console)


def long_progress(console: Console) -> Progress:
    """For work whose total is an estimate of seconds: it shows how much is left of it."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()
    times = TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn()
    return Progress(*columns, *times, console=console, speed_estimate_period=SPEED_PERIOD)


def run_command_line(app: Callable[[], None]) -> None:
    """Run `app` to its exit. What the user can put right is one line in red on stderr and exit code 1, no traceback.
    Libraries' warnings stay off the screen, unless asked for with -W or PYTHONWARNINGS. Characters that the locale's
    encoding does not have are escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    try:
        app()
    except (ValueError, RuntimeError, OSError) as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None
