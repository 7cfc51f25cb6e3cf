"""Triton kernels of slow-fast attention, imported as `sfi_sglang.kernels`. Torch references:
sfi_sglang/torch_executor.py for attention, sfi_sglang/selector.py for the Selector."""
