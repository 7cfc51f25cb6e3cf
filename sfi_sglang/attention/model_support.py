"""Which models SFI can serve, found by looking at what SGLang built and not at the model's name.

Supported: every layer of the model attends causally to its whole context, with one shape for all, and keeps its keys
and values as they are in SGLang's plain pool.
"""

from collections.abc import Mapping
from typing import Any

import torch

from sfi_sglang import sglang_symbols as symbols
from sfi_sglang.api.admission import BACKEND

STOCK = {True: "flashinfer", False: "torch_native"}  # on CUDA or not
HEAD_DIMS, MAX_GROUP = (64, 128, 256), 16  # of the Triton kernels
DTYPES, CUDA_DTYPES = (torch.bfloat16, torch.float16, torch.float32), (torch.bfloat16, torch.float16)


def unsupported(runner: Any, executor: str) -> str | None:
    """Why SFI cannot serve the model of this ModelRunner, in words for its user; None: it can."""
    architecture = runner.model_config.attention_arch.name
    if architecture != "MHA":
        return f"the model's attention is {architecture}, not multi-head or grouped-query"
    reason = unsupported_layers(runner.model, runner.model_config.num_hidden_layers) or _pools(runner)
    return reason or (None if executor == "torch" else _graphs() or _kernels(runner))


def stock_backend(runner: Any) -> Any:
    """SGLang's own backend of this ModelRunner, for a server that cannot serve SFI: the prefill's, where that is not
    ours."""
    name = runner.prefill_attention_backend_str
    if name == BACKEND:
        name = STOCK[torch.device(runner.device).type == "cuda"]
    return symbols.resolve(symbols.BACKENDS)[name](runner)


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Of an attention call, beyond what every layer passes.

    Raises:
        NotImplementedError: the model wants something of attention that ours would leave out.
    """
    if given := [name for name, value in arguments.items() if value is not None]:
        raise NotImplementedError(f"sfi: the model's attention layers pass {', '.join(given)}, which SFI does not know")


def unsupported_layers(model: torch.nn.Module, count: int) -> str | None:
    """The same of the model alone. count: its layers."""
    kind = symbols.resolve(symbols.RADIX_ATTENTION)
    layers = [module for module in model.modules() if isinstance(module, kind)]
    for layer in layers:
        if reason := _special(layer):
            return f"layer {layer.layer_id} of the model {reason}"
    found = sorted(layer.layer_id for layer in layers)
    if found != list(range(count)):
        return f"{len(set(found))} of the model's {count} layers have attention over the whole context, not all"
    if len({(layer.tp_q_head_num, layer.tp_k_head_num, layer.qk_head_dim) for layer in layers}) > 1:
        return "the heads differ between the model's layers"
    if any("sink" in name.rpartition(".")[2] for name, _ in model.named_parameters()):
        return "the model's attention has sinks"
    return None


def _special(layer: Any) -> str | None:
    """What this RadixAttention (layers/radix_attention.py) does that ours would not."""
    if layer.sliding_window_size > 0:
        return "attends to a sliding window"
    if layer.use_irope:
        return "attends within chunks"
    if layer.logit_cap > 0:
        return "caps its attention logits"
    if layer.xai_temperature_len > 0:
        return "scales its attention logits by position"
    if layer.pos_encoding_mode != "NONE":
        return f"adds positions to its attention logits ({layer.pos_encoding_mode})"
    if layer.is_cross_attention:
        return "attends to an encoder"
    if layer.attn_type.name != "DECODER":
        return f"is not causal ({layer.attn_type.name})"
    if layer.qk_head_dim != layer.v_head_dim:
        return "has keys and values of different width"
    return None


def _pools(runner: Any) -> str | None:
    for pool, target in ((runner.token_to_kv_pool, symbols.KV_POOL), (runner.req_to_token_pool, symbols.LINE_POOL)):
        if type(pool) is not symbols.resolve(target):  # a kind of its own has a layout of its own
            return f"the model's memory is a {type(pool).__name__}, not a {target.rpartition('.')[2]}"
    if runner.token_to_kv_pool.dtype not in DTYPES:
        return f"the KV cache is {str(runner.token_to_kv_pool.dtype).removeprefix('torch.')}"
    return None


def _graphs() -> str | None:
    """A prefill in a graph would not stop for us to read its queries."""
    if symbols.resolve(symbols.EXECUTION)().graph.cuda_graph_config.prefill.backend == "disabled":
        return None
    return "prefill CUDA graphs are on: start it with --disable-prefill-cuda-graph (or `sfi-sglang serve`)"


def _kernels(runner: Any) -> str | None:
    keys = runner.token_to_kv_pool.get_key_buffer(0)  # [slots, KV heads of this rank, D]
    kv_heads, dim = keys.shape[1:]
    heads = runner.model_config.num_attention_heads // symbols.resolve(symbols.PARALLEL)().attn_tp_size
    group = heads // kv_heads  # with more ranks than KV heads each rank has a copy of one and a part of its query heads
    if dim in HEAD_DIMS and group <= MAX_GROUP and (keys.dtype in CUDA_DTYPES or not keys.is_cuda):
        return None
    return (
        f"the kernels cover head dims {HEAD_DIMS}, up to {MAX_GROUP} query heads per KV head, bf16 or fp16 KV; "
        f"this model has {dim}, {group} and {keys.dtype}"
    )
