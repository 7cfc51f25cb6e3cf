"""Slow-Fast Inference for SGLang. `import sfi_sglang.frontend` adds `sfi=` to SGLang's frontend language."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sfi-sglang")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
METRIC_PREFIX = "sglang:sfi_"
TIMING_HEADER = "x-sfi-timing"  # of a request for a stream that shall end with what the server spent on it
