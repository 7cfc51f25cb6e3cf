"""The prefill around a Triton backend: the stock one's, but for sparse extend; prompts leave their last queries."""

from collections.abc import Callable
from typing import Any

import torch
from sglang.srt.mem_cache.memory_pool import KVWriteLoc
from torch import Tensor

from sfi_sglang import sglang_symbols as symbols
from sfi_sglang.attention.layers import CoveredLayers, Scorings
from sfi_sglang.attention.model_support import sinks_of
from sfi_sglang.attention.prefill_observer import PrefillObserver
from sfi_sglang.attention.sparse_prefill import SparsePrefill
from sfi_sglang.attention.workspace import Workspace
from sfi_sglang.scheduling.step_planner import StepPlanner


class Prefill:
    """processors: of the GPU."""

    def __init__(
        self,
        runner: Any,
        layers: CoveredLayers,
        planner: StepPlanner,
        workspace: Workspace,
        scorings: Scorings,
        processors: int,
    ) -> None:
        self.layers, self.planner, self.scorings = layers, planner, scorings
        self.pool, req_to_token = runner.token_to_kv_pool, runner.req_to_token_pool.req_to_token
        self.observer = PrefillObserver(workspace, self._keys, req_to_token)
        flash = runner.prefill_attention_backend_str == "fa3" and symbols.exists(symbols.FLASH_ATTENTION)
        self.sparse = SparsePrefill(layers, req_to_token, processors, flash)
        self.all_sparse = False
        first = layers.first(runner.model)
        scoring, (keys, values) = scorings.of(first), self.pool.get_kv_buffer(first.layer_id)
        self.observer.compile(scoring, runner.dtype)
        self.sparse.compile(keys, values, scoring, runner.dtype)

    def _keys(self, index: int) -> Tensor:
        """Of a covered layer."""
        keys: Tensor = self.pool.get_key_buffer(self.layers.ids[index])
        return keys

    def run(
        self,
        stock: Callable[..., Any],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        layer: Any,
        forward_batch: Any,
        save_kv_cache: bool,
        kwargs: dict[str, Any],
    ) -> Any:
        """One layer. The stock backend is left out where every prompt of the pass extends sparsely. In other passes
        it computes them too: a reply, and its neighbours', hang on nobody."""
        index = self.layers.index.get(layer.layer_id)
        if index is None or not forward_batch.forward_mode.is_extend():
            return stock(q, k, v, layer, forward_batch, save_kv_cache, **kwargs)
        if index == 0:
            rows = self.planner.rows_for(forward_batch.rids, forward_batch.batch_size)
            self.observer.begin(rows, forward_batch.extend_seq_lens_cpu)
            self.all_sparse = self.sparse.plan(rows, forward_batch.extend_seq_lens_cpu)
        if not self.all_sparse:
            result = stock(q, k, v, layer, forward_batch, save_kv_cache, **kwargs)
        else:
            if save_kv_cache and k is not None:
                where = KVWriteLoc.for_batch(forward_batch)
                self.pool.set_kv_buffer(layer, where, k, v, layer.k_scale, layer.v_scale)
            result = torch.zeros_like(q)  # a padded batch has more rows
        scoring, q = self.scorings.of(layer, sinks_of(kwargs)), q.view(-1, self.layers.heads, self.layers.dim)
        if self.sparse.prompts:
            keys, values = self.pool.get_kv_buffer(layer.layer_id)
            self.sparse.run(q.contiguous(), keys, values, scoring, result.view(q.shape))
            if index == len(self.layers.ids) - 1:
                self.sparse.clear()
        self.observer.observe(q, index, scoring)
        return result
