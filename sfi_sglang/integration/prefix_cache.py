"""SFIRadixCache: SGLang's unified prefix cache, seen by SFI requests."""

import dataclasses
from typing import Any

from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache

from sfi_sglang.api.options import parse_sfi
from sfi_sglang.scheduling.request_state import requested
from sfi_sglang.selection.snapshot_store import SnapshotStore


class SFIRadixCache(UnifiedRadixCache):
    """A thin subclass: tree, eviction and HiCache are SGLang's (srt/mem_cache/unified_radix_cache.py)."""

    store: SnapshotStore | None = None  # set by the plugin

    def match_prefix(self, params: Any) -> Any:
        """A prompt that ends in a selection recomputes its last tokens, as many as the option `queries` says, even when
        all of it is cached: with fewer queries a warm run would select other tokens than a cold one. Any other prompt
        is matched like a dense one, for a prefill that is cut differently rounds differently."""
        if (req := params.req) is not None and (options := parse_sfi(requested(req))) is not None:
            total = len(req.origin_input_ids) + len(req.output_ids)
            if options.selects_at(total):
                params = dataclasses.replace(params, key=params.key[: max(total - options.queries, 0)])
        return super().match_prefix(params)

    def checkpoint(self, req: Any, *, up_to: int, **kwargs: Any) -> None:
        """The shared tree stays exact: of an SFI request it gets the leading tokens whose K and V a dense pass would
        have given, so that nobody reads approximate ones. A recurrent state is of the request's end, unless SGLang
        keeps earlier ones (`extra_buffer`): where the end is approximate, the tree gets nothing."""
        state = getattr(req, "sfi", None)
        if state is not None and not state.options.exact and state.exact < up_to:
            up_to = max(state.exact, req.kv.cache_protected_len)
            if self.supports_mamba() and not (self.enable_mamba_extra_buffer and req.finished()):
                up_to = 0
        super().checkpoint(req, up_to=up_to, **kwargs)

    def on_release(self, req: Any, **kwargs: Any) -> None:
        """The request leaves its row, finished, aborted or retracted: publish its selection, then drop it."""
        super().on_release(req, **kwargs)
        if (state := getattr(req, "sfi", None)) is not None:
            if self.store is not None:
                state.publish(req, self.store)
            state.release(len(req.origin_input_ids) + len(req.output_ids))

    def reset(self) -> None:
        super().reset()
        if self.store is not None:
            self.store.clear()
