"""The hook by which chats are tokenised through the cache, dense and SFI alike. It changes no id and is a help only:
where it cannot be installed, SGLang tokenises every turn whole, and a line in the log says so."""

import logging
from collections.abc import Callable
from typing import Any

from sglang.srt.plugins.hook_registry import HookRegistry, HookType

from sfi_sglang import sglang_symbols as symbols
from sfi_sglang.api.metrics import TokenizerMetrics
from sfi_sglang.integration.token_cache import TokenCache

logger = logging.getLogger(__name__)


class PromptTokens:
    """Of the process that tokenises. With --tokenizer-worker-num above 1 those load no plugins, so there is none."""

    def __init__(self, capacity: Callable[[], int]) -> None:
        """capacity: bytes, 0 for no cache; asked at each prompt, because the flags are parsed after the hook is set."""
        self.capacity, self.cache, self.metrics = capacity, TokenCache(), TokenizerMetrics()

    def install(self) -> None:
        if symbols.exists(symbols.PROMPT_ENCODE):
            HookRegistry.register(symbols.PROMPT_ENCODE, self.encode_prompt, HookType.AROUND)
        else:
            logger.warning(
                "sfi: every turn of a chat is tokenised whole: this SGLang has no `%s`", symbols.PROMPT_ENCODE
            )

    def encode_prompt(
        self,
        original: Callable[..., list[int]],
        tokenizer: Any,
        text: Any,
        encode_kwargs: dict[str, Any] | None = None,
    ) -> list[int]:
        """AROUND parallel_prompt_encode, which OpenAIServingChat calls with a rendered chat, in threads."""
        capacity = self.capacity()
        if capacity <= 0:
            return original(tokenizer, text, encode_kwargs)
        encoded = self.cache.encode(original, tokenizer, text, encode_kwargs, capacity)
        if symbols.resolve(symbols.OBSERVABILITY)().enable_metrics:
            self.metrics.count(len(encoded.ids), encoded.reused, self.cache.nbytes())
        return encoded.ids
