"""Which models SFI can serve, found by looking at what SGLang built and not at the model's name.

Supported: some of the layers attend causally to their whole context, with one shape for all of these, and keep their
keys and values token by token in SGLang's plain pools. What the other layers do is the stock backend's business.
"""

from collections.abc import Mapping
from typing import Any

import torch

from sfi_sglang import sglang_symbols as symbols
from sfi_sglang.api.admission import BACKEND
from sfi_sglang.attention.layers import FP8, CoveredLayers, Unsupported, attention_layers, covered_layers, unusual

STOCK = {True: "flashinfer", False: "torch_native"}  # on CUDA or not, what the flags' value `sfi` stands for
HEAD_DIMS, MAX_GROUP = (64, 96, 128, 192, 256), 16  # of the Triton kernels
HALF = (torch.bfloat16, torch.float16)
DTYPES = {"torch": (*HALF, FP8, torch.float32), "triton": (*HALF, FP8), "flashinfer": HALF}  # of KV, by executor
FP8_SINCE = (8, 9)  # compute capability with which Triton reads FP8


def survey(runner: Any, executor: str) -> CoveredLayers:
    """The layers that SFI takes of this ModelRunner's model.

    Raises:
        Unsupported: SFI cannot serve it.
    """
    architecture = runner.model_config.attention_arch.name
    if architecture != "MHA":
        raise Unsupported(f"the model's attention is {architecture}, not multi-head or grouped-query")
    layers = covered_layers(runner.model)
    _check_pools(runner, executor)
    if executor == "torch":
        _check_others(runner.model)
        return layers
    _check_graphs()
    _check_kernels(runner, layers)
    if executor == "flashinfer":
        _check_bare(runner.model, layers)
    return layers


def plain_pool(runner: Any) -> bool:
    """Does one pool of keys and values hold all layers, and nothing else?"""
    return type(runner.token_to_kv_pool) is symbols.resolve(symbols.KV_POOL)


def repairs(runner: Any) -> bool:
    """May a slow row compute earlier tokens anew? Not where a window or a state has left its first tokens since, or
    where a position is more than a number."""
    return plain_pool(runner) and not runner.model_config.model_is_mrope


def sinks_of(arguments: Mapping[str, Any]) -> torch.Tensor | None:
    """Of an attention call, from what it passes beyond the usual.

    Raises:
        NotImplementedError: the model wants something of attention that ours would leave out.
    """
    if given := [name for name, value in arguments.items() if value is not None and name != "sinks"]:
        raise NotImplementedError(f"sfi: the model's attention layers pass {', '.join(given)}, which SFI does not know")
    return arguments.get("sinks")


def _check_pools(runner: Any, executor: str) -> None:
    pool, lines = runner.token_to_kv_pool, runner.req_to_token_pool
    plain, windows, states = map(symbols.resolve, (symbols.KV_POOL, symbols.WINDOW_POOL, symbols.STATE_POOL))
    whole = pool.full_kv_pool if type(pool) in (windows, states) else pool  # one pool for each kind of layer
    rows = symbols.resolve(symbols.STATE_LINES if type(pool) is states else symbols.LINE_POOL)
    on_cuda = torch.device(runner.device).type == "cuda"
    if type(pool) is states and on_cuda and symbols.resolve(symbols.DELTA_NET)(runner.model_config) is None:
        raise Unsupported("the model's recurrent states are not Gated DeltaNet's, which alone were tried on a GPU")
    for found, kind in ((whole, plain), (lines, rows)):
        if type(found) is not kind:  # a kind of its own has a layout of its own
            raise Unsupported(f"the model's memory is a {type(found).__name__}, not a {kind.__name__}")
    if whole.kv_cache_layout != "nhd":
        raise Unsupported(f"the KV cache has the layout {whole.kv_cache_layout}, not nhd")
    interpreted = executor == "triton" and not on_cuda
    if pool.dtype not in DTYPES["torch" if interpreted else executor]:
        told = str(pool.dtype).removeprefix("torch.")
        raise Unsupported(f"the KV cache is {told}, which --sfi-executor {executor} does not read")


def _check_others(model: torch.nn.Module) -> None:
    """The torch executor has no stock backend beside it: it serves windows itself, and nothing else."""
    for layer in attention_layers(model):
        if reason := unusual(layer):
            raise Unsupported(f"layer {layer.layer_id} of the model {reason}")


def _check_graphs() -> None:
    """A prefill in a graph would not stop for us to read its queries."""
    if symbols.resolve(symbols.EXECUTION)().graph.cuda_graph_config.prefill.backend != "disabled":
        raise Unsupported(
            "prefill CUDA graphs are on: start it with --disable-prefill-cuda-graph (or `sfi-sglang serve`)"
        )


def _check_kernels(runner: Any, layers: CoveredLayers) -> None:
    cuda = torch.device(runner.device).type == "cuda"
    if cuda and runner.token_to_kv_pool.dtype == FP8 and torch.cuda.get_device_capability(runner.device) < FP8_SINCE:
        raise Unsupported("the KV cache is float8_e4m3fn, which the kernels read from compute capability 8.9 on")
    if layers.dim not in HEAD_DIMS or layers.group > MAX_GROUP:
        raise Unsupported(
            f"the kernels cover head dims {HEAD_DIMS} and up to {MAX_GROUP} query heads per KV head; "
            f"this model has {layers.dim} and {layers.group}"
        )
    stock = runner.decode_attention_backend_str
    if layers.others and stock in (STOCK[True], BACKEND) and cuda:
        raise Unsupported(
            f"{len(layers.others)} of the model's attention layers stay with the stock backend, and flashinfer has one "
            "plan for all of SFI's graphs: start it with --attention-backend fa3 or triton"
        )


def _check_bare(model: torch.nn.Module, layers: CoveredLayers) -> None:
    if any(layer.logit_cap > 0 for layer in attention_layers(model) if layer.layer_id in layers.index):
        raise Unsupported("the model caps its attention logits: use --sfi-executor triton")
    if any("sink" in name.rpartition(".")[2] for name, _ in model.named_parameters()):
        raise Unsupported("the model's attention has sinks: use --sfi-executor triton")
