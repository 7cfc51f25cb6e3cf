"""Server settings. They travel in the environment, because SGLang's scheduler processes re-run the plugin from nothing."""

import argparse
import os

DEFAULT_ENV = "SFI_DEFAULT"


def sfi_default() -> bool:
    """Is SFI on for requests that do not say? (`--sfi-default`, environment SFI_DEFAULT, off unless set)"""
    return os.environ.get(DEFAULT_ENV, "off") == "on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sfi")
    group.add_argument(
        "--sfi-default",
        choices=["on", "off"],
        default=os.environ.get(DEFAULT_ENV, "off"),
        help="Slow-Fast Inference for requests that carry no `sfi` value (default: off)",
    )


def keep_arguments(args: argparse.Namespace) -> None:
    """Put the parsed settings where the spawned processes find them."""
    if hasattr(args, "sfi_default"):
        os.environ[DEFAULT_ENV] = args.sfi_default
