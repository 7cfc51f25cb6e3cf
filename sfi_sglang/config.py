"""Server settings. They travel in the environment: SGLang's scheduler processes run the plugin anew."""

import argparse
import os

import torch

DEFAULT_ENV = "SFI_DEFAULT"
MEMORY_ENV, MEMORY_MB = "SFI_MEMORY_MB", 512


def sfi_default() -> bool:
    """Is SFI on for requests that do not say? (`--sfi-default`, environment SFI_DEFAULT, off unless set)"""
    return os.environ.get(DEFAULT_ENV, "off") == "on"


def memory_bytes() -> int:
    """Size of the store of memories that outlive their request (`--sfi-memory-mb`, environment SFI_MEMORY_MB)."""
    return int(os.environ.get(MEMORY_ENV, MEMORY_MB)) << 20


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


def keep_arguments(args: argparse.Namespace) -> None:
    """Put the parsed settings where the spawned processes find them. Without CUDA `sfi` serves the prefill as well: the
    stock CPU backend recomputes the whole prompt for every new token."""
    if hasattr(args, "sfi_memory_mb"):
        os.environ[DEFAULT_ENV] = args.sfi_default
        os.environ[MEMORY_ENV] = str(args.sfi_memory_mb)
    backends = [getattr(args, f"{kind}attention_backend", None) for kind in ("decode_", "prefill_", "")]
    if backends == ["sfi", None, None] and not torch.cuda.is_available():
        args.attention_backend = "sfi"
