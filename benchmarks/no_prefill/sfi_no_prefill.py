"""A prefill without attention, for decode benchmarks with dummy weights: keys and values are written, the attention
output is zero. Filling a context of 128K tokens takes a second or two instead of a minute."""

from typing import Any


def register() -> None:
    from sglang.srt.layers.attention.attention_registry import register_attention_backend
    from sglang.srt.server_args import add_attention_backend_choices

    add_attention_backend_choices(["no_prefill"])
    register_attention_backend("no_prefill")(_backend)


def _backend(runner: Any) -> Any:
    from sglang.srt.layers.attention.base_attn_backend import AttentionBackend
    from sglang.srt.mem_cache.memory_pool import KVWriteLoc

    class NoPrefill(AttentionBackend):
        def init_cuda_graph_state(self, max_bs: int, max_num_tokens: int) -> None:
            pass  # asked of it where a pass may give several tokens

        def init_forward_metadata(self, forward_batch: Any) -> None:
            pass

        def forward_extend(
            self, q: Any, k: Any, v: Any, layer: Any, forward_batch: Any, *args: Any, **kwargs: Any
        ) -> Any:
            runner.token_to_kv_pool.set_kv_buffer(layer, KVWriteLoc(forward_batch.out_cache_loc, None), k, v)
            return q.new_zeros(q.shape[0], layer.tp_q_head_num * layer.v_head_dim)

    return NoPrefill()
