"""Triton kernels of slow-fast attention, imported as `sfi_sglang.kernels`. Torch references:
sfi_sglang/attention/reference.py for attention, sfi_sglang/selection/selector.py and stages.py for the Selector."""
