"""Slow-Fast Inference for SGLang. `import sfi_sglang` adds `sfi=` to SGLang's frontend language."""

from sfi_sglang.frontend import install

__version__ = "0.1.0"

install()
