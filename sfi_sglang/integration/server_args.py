"""The server's flags. Their values travel in the environment: SGLang's scheduler processes load the plugin anew, before
they have any arguments, and the parsed `ServerArgs` keeps no field that it does not know."""

import argparse
import os

import torch

from sfi_sglang.api.admission import BACKEND
from sfi_sglang.api.settings import EXECUTORS, Settings, switched_on

ATTENTION = ("attention_backend", "decode_attention_backend", "prefill_attention_backend")
DEFAULT_ENV, MEMORY_ENV = "SFI_DEFAULT", "SFI_MEMORY_MB"
BUDGET_ENV, EXECUTOR_ENV = "SFI_MAX_BUDGET", "SFI_EXECUTOR"
TOKENIZER_CACHE_ENV = "SFI_TOKENIZER_CACHE_MB"
LOG_ENV = "SFI_LOG_REQUESTS"


def from_environment() -> Settings:
    """
    Raises:
        ValueError: a variable has no number, or names no executor.
    """
    defaults = Settings()
    executor = os.environ.get(EXECUTOR_ENV, defaults.executor)
    if executor not in EXECUTORS:
        raise ValueError(f"{EXECUTOR_ENV}: {executor!r} is none of {', '.join(EXECUTORS)}")
    return Settings(
        sfi_default=os.environ.get(DEFAULT_ENV, "off") == "on",
        memory_mb=_number(MEMORY_ENV, defaults.memory_mb),
        max_budget=_number(BUDGET_ENV, defaults.max_budget),
        executor=executor,
        tokenizer_cache_mb=_number(TOKENIZER_CACHE_ENV, defaults.tokenizer_cache_mb),
        log_requests=os.environ.get(LOG_ENV, "off") == "on",
    )


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdigit():
        raise ValueError(f"{name}: {value!r} is no whole number")
    return int(value)


def to_environment(settings: Settings) -> dict[str, str]:
    return {
        DEFAULT_ENV: "on" if settings.sfi_default else "off",
        MEMORY_ENV: str(settings.memory_mb),
        BUDGET_ENV: str(settings.max_budget),
        EXECUTOR_ENV: settings.executor,
        TOKENIZER_CACHE_ENV: str(settings.tokenizer_cache_mb),
        LOG_ENV: "on" if settings.log_requests else "off",
    }


def add_arguments(parser: argparse.ArgumentParser, given: Settings) -> None:
    """given: what the environment says, the flags' defaults."""
    group, defaults = parser.add_argument_group("sfi"), Settings()
    group.add_argument(
        "--enable-sfi",
        action="store_true",
        help="serve requests that ask for Slow-Fast Inference (`sfi-sglang serve` gives this flag)",
    )
    group.add_argument(
        "--sfi-default",
        choices=["on", "off"],
        default="on" if given.sfi_default else "off",
        help="Slow-Fast Inference for requests that carry no `sfi` value (default: off)",
    )
    group.add_argument(
        "--sfi-memory-mb",
        type=int,
        default=given.memory_mb,
        help="size of the store of selected memories that later turns and forks inherit "
        f"(default: {defaults.memory_mb})",
    )
    group.add_argument(
        "--sfi-max-budget",
        type=int,
        default=given.max_budget,
        help=f"largest budget that a request may ask for on CUDA (default: {defaults.max_budget})",
    )
    group.add_argument(
        "--sfi-executor",
        choices=EXECUTORS,
        default=given.executor,
        help="who computes attention: Triton kernels under CUDA graphs, the same with FlashInfer for fast steps, or "
        "plain torch (default: by device)",
    )
    group.add_argument(
        "--sfi-tokenizer-cache-mb",
        type=int,
        default=given.tokenizer_cache_mb,
        help="size of the cache by which a turn of a chat tokenises only what is new, dense or not; 0: none "
        f"(default: {defaults.tokenizer_cache_mb})",
    )
    group.add_argument(
        "--sfi-log-requests",
        choices=["on", "off"],
        default="on" if given.log_requests else "off",
        help="one line in the log for each finished SFI request: counts and shares, no text (default: off)",
    )


def from_arguments(args: argparse.Namespace, given: Settings) -> Settings:
    """What the flags say; `given` where the parser had none of ours."""
    if not hasattr(args, "sfi_memory_mb"):
        return given
    return Settings(
        args.sfi_default == "on",
        args.sfi_memory_mb,
        args.sfi_max_budget,
        args.sfi_executor,
        args.sfi_tokenizer_cache_mb,
        args.sfi_log_requests == "on",
    )


def enable(args: argparse.Namespace, settings: Settings) -> None:
    """Make SGLang's arguments say what `--enable-sfi` means; leave a server without it alone. The prefix cache is the
    switch that every process sees.

    Raises:
        ValueError: another server in front, which loads no plugins: SFI requests would be served densely in silence; or
            another prefix cache.
    """
    named = [kind for kind in ATTENTION if getattr(args, kind, None) == BACKEND]
    cache = getattr(args, "radix_cache_backend", None)
    if not (named or cache == BACKEND or getattr(args, "enable_sfi", False)):
        return
    if cache not in (None, BACKEND):
        raise ValueError(f"--enable-sfi brings its own prefix cache: leave out --radix-cache-backend {cache}")
    if front := _front_without_plugins(args):
        raise ValueError(f"{front} does not work with SFI: what it starts loads no plugins, so it would drop `sfi`")
    args.radix_cache_backend = BACKEND
    on_cpu, plain = not torch.cuda.is_available(), settings.resolved_executor() == "torch"
    for kind in named:
        setattr(args, kind, None)
    if named and on_cpu and plain and getattr(args, "attention_backend", None) is None:
        args.attention_backend = "torch_native"
    if plain:
        args.disable_cuda_graph = True  # a graph would repeat what plain torch decided on the host
    elif getattr(args, "cuda_graph_backend_prefill", None) is None:
        args.disable_prefill_cuda_graph = True


def _front_without_plugins(args: argparse.Namespace) -> str | None:
    """The setting by which requests reach the schedulers past our gate in the tokenizer manager."""
    if (getattr(args, "tokenizer_worker_num", None) or 1) > 1:
        return "--tokenizer-worker-num above 1"
    if getattr(args, "smg_grpc_mode", False) or getattr(args, "grpc_mode", False):
        return "--smg-grpc-mode"
    return "SGLANG_RUST_SERVER" if switched_on("SGLANG_RUST_SERVER") else None
