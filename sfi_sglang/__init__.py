"""Slow-Fast Inference for SGLang. `import sfi_sglang.frontend` adds `sfi=` to SGLang's frontend language."""

__version__ = "0.1.0"
METRIC_PREFIX = "sglang:sfi_"
