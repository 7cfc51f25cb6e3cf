"""SGLang's CPU platform in plain torch, for machines without CUDA (entry point group `sglang.srt.platforms`)."""

import torch


def activate() -> str | None:
    """Path of the platform class, or None where CUDA is there and SGLang's own platform serves."""
    return None if torch.cuda.is_available() else "sfi_sglang.integration.platform.cpu.CpuPlatform"
