"""Entry point `sglang.srt.plugins`. SGLang only logs that a plugin did not load, and would then drop `sfi` and answer
densely. So this module imports nothing that could drift, and refuses SFI requests if the plugin itself fails."""

import logging
from typing import Any

from sglang.srt.plugins.hook_registry import HookRegistry, HookType

from sfi_sglang import sglang_symbols as symbols
from sfi_sglang.integration import doors

logger = logging.getLogger(__name__)


def register() -> None:
    """SGLang calls it in every process that it starts, before arguments are parsed."""
    try:
        from sfi_sglang.integration import plugin

        plugin.register()
    except Exception as error:
        logger.exception("sfi: the plugin did not load, SFI requests will be refused")
        refuse(f"the plugin did not load: {error!r}")


def refuse(reason: str) -> None:
    """Close the doors, and the gate behind them: `custom_params` come through /generate and Engine alike."""

    def close_gate(_manager: Any, obj: Any, *_args: Any, **_kwargs: Any) -> None:
        params = getattr(obj, "sampling_params", None)
        custom = params.get("custom_params") if isinstance(params, dict) else None
        if isinstance(custom, dict) and custom.get("sfi") not in (None, False):
            raise ValueError(f"sfi: not available on this server: {reason}")

    def close_doors(*_args: Any, **_kwargs: Any) -> None:
        doors.put_on(symbols.resolve(symbols.HTTP_APP), [reason])

    HookRegistry.register(symbols.TOKENIZED, close_gate, HookType.BEFORE)
    HookRegistry.register(symbols.BEFORE_LISTENING, close_doors, HookType.BEFORE)
