"""Start a real SGLang server with the right flags for this machine, and stop it with everything it started."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import requests

from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.serving.embedded_model import EMBEDDED, embedded_model
from sfi_sglang.terminal import console

SFI_FLAGS = ["--enable-sfi", "--enable-cache-report"]
CPU_FLAGS = [
    "--device", "cpu", "--attention-backend", "torch_native", "--max-total-tokens", "65536",
    "--max-running-requests", "8", "--constrained-json-disable-any-whitespace", "--enable-metrics", "--sleep-on-idle",
]  # fmt: skip
CUDA_FLAGS = ["--max-running-requests", "64"]
EMBEDDED_FLAGS = ["--served-model-name", EMBEDDED, "--tool-call-parser", "qwen"]
SGLANG = str(Path(sys.executable).with_name("sglang"))  # the command of this very environment
MODEL_FLAGS = {"--model-path", "--model"}
START_TIMEOUT = 1800.0  # a large model from a slow disk; a server that ended is noticed at once
PR_SET_PDEATHSIG = 1


def serve_command(model: str | None, flags: Sequence[str] = ()) -> list[str]:
    """Arguments of `sglang serve`: this machine's defaults, then `flags`, which win. No model: the embedded one."""
    import torch

    defaults = [*SFI_FLAGS, *(CUDA_FLAGS if torch.cuda.is_available() else CPU_FLAGS)]
    if model is not None:
        defaults = ["--model-path", model, *defaults]
    elif is_embedded(model, flags):
        defaults = ["--model-path", str(embedded_model()), *defaults, *EMBEDDED_FLAGS]
    return [*_without(defaults, _names(flags)), *flags]


def is_embedded(model: str | None, flags: Sequence[str] = ()) -> bool:
    """Do these arguments name no model of their own?"""
    return model is None and _names(flags).isdisjoint(MODEL_FLAGS)


def _names(flags: Sequence[str]) -> set[str]:
    return {flag.split("=")[0] for flag in flags if flag.startswith("--")}


def _without(flags: list[str], given: set[str]) -> list[str]:
    """Drop defaults that the user set too: argparse takes the last, but a log should not show both."""
    kept, skip = [], False
    for flag in flags:
        if flag.startswith("--"):
            skip = flag in given
        if not skip:
            kept.append(flag)
    return kept


def environment(model: str | None = None, flags: Sequence[str] = ()) -> dict[str, str]:
    """Of the server that `serve_command(model, flags)` starts; the user's own variables win.

    Raises:
        ValueError: one of the SFI variables is wrong.
    """
    from sfi_sglang.integration import server_args

    server_args.from_environment()
    offline = {"HF_HUB_OFFLINE": "1"} if is_embedded(model, flags) else {}  # the embedded model is here, whole
    return {"PYTHONWARNINGS": "ignore", **offline} | os.environ


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A free port of 127.0.0.1 that nobody else is given meanwhile: a server binds it seconds later. A socket that is
    bound and does not listen leaves it to those who set SO_REUSEADDR, as servers do (Linux)."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextlib.contextmanager
def running_server(
    model: str | None = None,
    flags: Sequence[str] = (),
    *,
    defaults: bool = True,
    log: Path | None = None,
    env: dict[str, str] | None = None,
    port: int | None = None,
) -> Iterator[str]:
    """A healthy server on 127.0.0.1; yields its URL and ends the whole process tree on exit. Without `defaults` it gets
    `flags` alone, as a plain `sglang serve` would. port: None for a free one.

    Raises:
        RuntimeError: it ended or was not healthy within START_TIMEOUT; the message carries the log's tail.
    """
    arguments = serve_command(model, flags) if defaults else ["--model-path", model or str(embedded_model()), *flags]
    log = log or Path(os.devnull)
    reserved = reserved_port() if port is None else contextlib.nullcontext(port)
    with reserved as number, open(log, "w") as output:
        process = subprocess.Popen(
            [SGLANG, "serve", *arguments, "--host", "127.0.0.1", "--port", str(number)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(model, flags) | (env or {}),
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        try:
            url = f"http://127.0.0.1:{number}"
            _await_healthy(url, process, log)
            yield url
        finally:
            stop(process)


def _end_with_parent() -> None:
    """In the child: a SIGTERM when the starter dies, however it dies, so that no server is left behind (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _await_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            if requests.get(f"{url}/health", timeout=5).status_code == 200:
                return
        time.sleep(0.3)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:]) if log.is_file() else ""
    raise RuntimeError(f"the server did not become healthy\n{tail}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and all its children: ask first, then insist. When they have ended, nothing is left in it to save,
    and it would take seconds to end by itself."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        for child in psutil.wait_procs(family, timeout=15)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    if process.poll() is None:
        process.kill()
    process.wait()


@contextlib.contextmanager
def connected(url: str | None, model: str | None = None, flags: Sequence[str] = (), *, log: Path) -> Iterator[str]:
    """URL of a server that answers: the one at `url`, or without one a server of `model` (None: the embedded one) for
    the time of the command.

    Raises:
        ValueError: `url` is none, or an SFI variable of the environment is wrong.
        ConnectionError: no server there.
        RuntimeError: the server did not start.
    """
    if url:
        yield Endpoint.connect(url).url
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        console.status(f"starting the server, log in {log}") as status,
        running_server(model, flags, log=log) as started,
    ):
        status.stop()
        console.print(f"server up at {started}")
        yield started
