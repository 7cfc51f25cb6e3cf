"""Where a figure comes from: versions, machine, command and date, to be stored beside every result."""

import platform
import shlex
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sfi_sglang.client.file_names import readable

PACKAGES = ("sfi-sglang", "sglang", "torch", "flashinfer-python", "triton", "transformers", "openai")


def versions() -> dict[str, str | None]:
    """Installed version of every package that matters; None where it is missing."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def machine() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{processor()}, {torch.get_num_threads()} threads"


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            return next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def without_folders(arguments: Iterable[str]) -> str:
    """A command line. Absolute paths are cut to their last part: they say nothing to others."""
    given = map(readable, arguments)
    return shlex.join(Path(argument).name if argument.startswith("/") else argument for argument in given)


def provenance() -> dict[str, Any]:
    program = Path(sys.argv[0])
    name = f"python -m benchmarks.{program.stem}" if program.parent.name == "benchmarks" else program.name
    command = f"{name} {without_folders(sys.argv[1:])}".strip()
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"command": command, "date": now, "machine": machine(), "versions": versions()}
