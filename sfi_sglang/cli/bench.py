"""The command `sfi-bench`. Its libraries are those of the extra `bench`, so they are imported where a missing one is
answered in one line."""

from sfi_sglang.cli.extra import explained
from sfi_sglang.terminal import run_command_line


def main() -> None:
    run_command_line(explained(_benchmark))


def _benchmark() -> None:
    from sfi_sglang.trajectory.cli import app

    app()
