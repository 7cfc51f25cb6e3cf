"""An attention backend that is SGLang's own in everything but what a subclass overrides."""

from typing import Any


class StockProxy:
    """Stands where SGLang expects the backend that it has built (layers/attention/base_attn_backend.py), and hands on
    what it does not know. Not a subclass of AttentionBackend: that one's defaults would hide what `stock` says."""

    def __init__(self, stock: Any) -> None:
        self.stock = stock

    def __getattr__(self, name: str) -> Any:
        if name == "stock":  # not set yet: `copy` and `pickle` ask before `__init__`
            raise AttributeError(name)
        return getattr(self.stock, name)
