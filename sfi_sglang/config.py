"""Server settings. They travel in the environment: SGLang's scheduler processes run the plugin anew."""

import argparse
import os
from importlib.util import find_spec

import torch

DEFAULT_ENV = "SFI_DEFAULT"
MEMORY_ENV, MEMORY_MB = "SFI_MEMORY_MB", 512
BUDGET_ENV, MAX_BUDGET = "SFI_MAX_BUDGET", 4096
EXECUTOR_ENV, EXECUTORS = "SFI_EXECUTOR", ("auto", "triton", "flashinfer", "torch")


def sfi_default() -> bool:
    """Is SFI on for requests that do not say? (`--sfi-default`, environment SFI_DEFAULT, off unless set)"""
    return os.environ.get(DEFAULT_ENV, "off") == "on"


def memory_bytes() -> int:
    """Size of the store of memories that outlive their request (`--sfi-memory-mb`, environment SFI_MEMORY_MB)."""
    return int(os.environ.get(MEMORY_ENV, MEMORY_MB)) << 20


def max_budget() -> int:
    """Largest `budget` of a request on CUDA, where its memory is set aside (`--sfi-max-budget`)."""
    return int(os.environ.get(BUDGET_ENV, MAX_BUDGET))


def executor() -> str:
    """`triton`, `flashinfer` or `torch` (`--sfi-executor`, environment SFI_EXECUTOR); auto: triton where CUDA is."""
    name = os.environ.get(EXECUTOR_ENV, "auto")
    if name != "auto":
        return name
    return "triton" if torch.cuda.is_available() else "torch"


def check_executor() -> None:
    """
    Raises:
        ValueError: the executor asked for cannot run here.
    """
    if executor() == "flashinfer":
        if not torch.cuda.is_available() or torch.version.hip:
            raise ValueError("--sfi-executor flashinfer needs CUDA, which this machine lacks: use triton or torch")
        if find_spec("flashinfer") is None:
            raise ValueError("--sfi-executor flashinfer needs the package flashinfer-python, which is not installed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sfi")
    group.add_argument(
        "--sfi-default",
        choices=["on", "off"],
        default=os.environ.get(DEFAULT_ENV, "off"),
        help="Slow-Fast Inference for requests that carry no `sfi` value (default: off)",
    )
    group.add_argument(
        "--sfi-memory-mb",
        type=int,
        default=int(os.environ.get(MEMORY_ENV, MEMORY_MB)),
        help=f"size of the store of selected memories that later turns and forks inherit (default: {MEMORY_MB})",
    )
    group.add_argument(
        "--sfi-max-budget",
        type=int,
        default=int(os.environ.get(BUDGET_ENV, MAX_BUDGET)),
        help=f"largest budget that a request may ask for on CUDA (default: {MAX_BUDGET})",
    )
    group.add_argument(
        "--sfi-executor",
        choices=EXECUTORS,
        default=os.environ.get(EXECUTOR_ENV, "auto"),
        help="who computes attention: Triton kernels under CUDA graphs, the same with FlashInfer for fast steps, or "
        "plain torch (default: by device)",
    )


def keep_arguments(args: argparse.Namespace) -> None:
    """Put the parsed settings where the spawned processes find them. The torch executor serves the prefill as well: the
    stock CPU backend recomputes the whole prompt for every new token. The other executors only decode.

    Raises:
        ValueError: the executor asked for cannot run here.
    """
    if hasattr(args, "sfi_memory_mb"):
        os.environ[DEFAULT_ENV] = args.sfi_default
        os.environ[MEMORY_ENV] = str(args.sfi_memory_mb)
        os.environ[BUDGET_ENV] = str(args.sfi_max_budget)
        os.environ[EXECUTOR_ENV] = args.sfi_executor
    check_executor()
    backends = [getattr(args, f"{kind}attention_backend", None) for kind in ("decode_", "prefill_", "")]
    if executor() == "torch" and "sfi" in backends:
        if backends == ["sfi", None, None]:
            args.attention_backend = "sfi"
        args.disable_cuda_graph = True  # a graph would repeat what plain torch decided on the host
    elif backends == [None, None, "sfi"]:
        args.attention_backend, args.decode_attention_backend = None, "sfi"
