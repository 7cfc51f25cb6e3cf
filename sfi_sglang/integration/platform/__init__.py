"""SGLang's CPU platform in plain torch, for machines without an accelerator (entry point `sglang.srt.platforms`).

SGLang asks before it has any arguments, so what decides is the machine: the platform serves where SGLang would find
none of its own.
"""

import importlib.util
import os
from importlib.metadata import entry_points

import torch

GROUP, NAME = "sglang.srt.platforms", "sfi"
PLATFORM = "sfi_sglang.integration.platform.cpu.CpuPlatform"
ACCELERATORS = ("cuda", "xpu", "npu", "hpu", "mps", "musa")  # ROCm answers as cuda


def activate() -> str | None:
    """Path of the platform class, or None where another platform serves."""
    if accelerated():
        return None
    if os.environ.get("SGLANG_PLATFORM") == NAME:
        return PLATFORM
    others = any(entry.name != NAME for entry in entry_points(group=GROUP))
    stock_cpu = os.environ.get("SGLANG_USE_CPU_ENGINE", "0") == "1"
    return None if others or stock_cpu else PLATFORM


def accelerated() -> bool:
    """Does torch see a device that SGLang has a platform for?"""
    found = (getattr(torch, name, None) for name in ACCELERATORS)
    if any(device is not None and device.is_available() for device in found):
        return True
    late = importlib.util.find_spec("habana_frameworks") is not None  # SGLang imports it only to ask for its device
    return late or getattr(torch.version, "musa", None) is not None
