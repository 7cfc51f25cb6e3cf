"""What an operator decides once for a server; requests live within it."""

import os
from dataclasses import dataclass
from importlib.util import find_spec

import torch

EXECUTORS = ("auto", "triton", "flashinfer", "torch")


def switched_on(variable: str) -> bool:
    """Is a variable of the environment on, by SGLang's own reading (EnvBool in srt/environ.py)?"""
    return os.environ.get(variable, "").lower() in ("true", "1", "yes", "y")


@dataclass(frozen=True)
class Settings:
    """sfi_default: serve requests that do not say with SFI (`--sfi-default`).
    memory_mb: size of the store of selections that outlive their request (`--sfi-memory-mb`).
    max_budget: largest `budget` of a request on CUDA, where its selection is set aside (`--sfi-max-budget`).
    executor: one of EXECUTORS (`--sfi-executor`).
    tokenizer_cache_mb: size of the cache of chats' token ids, 0 for none (`--sfi-tokenizer-cache-mb`).
    log_requests: one line in the log for each finished SFI request (`--sfi-log-requests`).
    """

    sfi_default: bool = False
    memory_mb: int = 512
    max_budget: int = 4096
    executor: str = "auto"
    tokenizer_cache_mb: int = 256
    log_requests: bool = False

    @property
    def store_bytes(self) -> int:
        return self.memory_mb << 20

    @property
    def tokenizer_cache_bytes(self) -> int:
        return self.tokenizer_cache_mb << 20

    def resolved_executor(self) -> str:
        """`triton`, `flashinfer` or `torch`; auto: triton where CUDA is."""
        if self.executor != "auto":
            return self.executor
        return "triton" if torch.cuda.is_available() else "torch"

    def check_executor(self) -> None:
        """
        Raises:
            ValueError: the executor asked for cannot run here.
        """
        if self.resolved_executor() == "flashinfer":
            if not torch.cuda.is_available() or torch.version.hip:
                raise ValueError("--sfi-executor flashinfer needs CUDA, which this machine lacks: use triton or torch")
            if find_spec("flashinfer") is None:
                raise ValueError("--sfi-executor flashinfer needs the package flashinfer-python: pip install it")
