"""A prefill without attention, for decode benchmarks with dummy weights: keys and values are written, the attention
output is zero. Filling a context of 128K tokens takes a second or two instead of a minute."""


def register() -> None:
    from sglang.srt.layers.attention.attention_registry import register_attention_backend
    from sglang.srt.server_args import add_attention_backend_choices

    add_attention_backend_choices(["no_prefill"])
    register_attention_backend("no_prefill")(_backend)


def _backend(runner):
    from sglang.srt.layers.attention.base_attn_backend import AttentionBackend
    from sglang.srt.mem_cache.memory_pool import KVWriteLoc

    class NoPrefill(AttentionBackend):
        def init_forward_metadata(self, forward_batch):
            pass

        def forward_extend(self, q, k, v, layer, forward_batch, save_kv_cache=True, **kwargs):
            runner.token_to_kv_pool.set_kv_buffer(layer, KVWriteLoc(forward_batch.out_cache_loc, None), k, v)
            return q.new_zeros(q.shape[0], layer.tp_q_head_num * layer.v_head_dim)

    return NoPrefill()
