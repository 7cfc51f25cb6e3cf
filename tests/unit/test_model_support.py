"""What SFI can serve is seen in the layers and pools that SGLang built, whatever the model's name."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from sglang.srt.configs.qwen3_next import Qwen3NextConfig
from sglang.srt.layers.radix_attention import AttentionType, RadixAttention
from sglang.srt.mem_cache.memory_pool import (
    HybridLinearKVPool,
    HybridReqToTokenPool,
    MHATokenToKVPool,
    MHATokenToKVPoolFP4,
    ReqToTokenPool,
)
from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

from sfi_sglang import sglang_symbols
from sfi_sglang.attention import model_support
from sfi_sglang.attention.layers import Unsupported, covered_layers
from tests.model_families import FAMILIES

ALL = [0, 1, 2, 3]
COVERED = {
    "gemma2": [1, 3], "gpt_oss": [1, 3], "olmo3": [3], "exaone4": [3], "cohere2": [3], "qwen3_next": [3],
    "lfm2": [1, 3],
    "gemma3_text": "none of the model's layers has attention over the whole context that SFI covers: layer 0 attends "
    "to a sliding window, and so on",
}  # fmt: skip


@pytest.fixture(scope="module")
def found() -> dict[str, list[int] | str]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.model_families"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    layers: dict[str, list[int] | str] = json.loads(done.stdout.splitlines()[-1])
    return layers


@pytest.mark.parametrize("family", FAMILIES)
def test_families(found, family):
    assert found[family] == COVERED.get(family, ALL)


def layer(number: int = 0, **more) -> RadixAttention:
    shape = {"num_heads": 4, "head_dim": 64, "scaling": 0.125, "num_kv_heads": 2}
    made = {name: more.pop(name) for name in ("xai_temperature_len",) if name in more}
    built = RadixAttention(layer_id=number, **{**shape, **more})
    for name, value in made.items():
        setattr(built, name, value)
    return built


def model(*layers: torch.nn.Module) -> torch.nn.Module:
    return torch.nn.ModuleList(layers)


@pytest.mark.parametrize(
    ("second", "ids"),
    [
        ({}, (0, 1)),
        ({"logit_cap": 30.0}, (0, 1)),
        ({"sliding_window_size": 16}, (0,)),
        ({"sliding_window_size": 16, "num_kv_heads": 4}, (0,)),
        ({"is_cross_attention": True}, (0,)),
        ({"attn_type": AttentionType.ENCODER_ONLY}, (0,)),
        ({"attn_type": AttentionType.DECODER_BIDIRECTIONAL}, (0,)),
        ({"use_irope": True}, (0,)),
        ({"pos_encoding_mode": "ALIBI"}, (0,)),
        ({"v_head_dim": 32}, (0,)),
        ({"xai_temperature_len": 1024}, (0,)),
        ({"logit_cap": 30.0, "logit_capping_method": "clip"}, (0,)),
    ],
)
def test_a_layer_is_covered_or_left_to_the_stock_backend(second, ids):
    layers = covered_layers(model(layer(3, **second), layer(1), torch.nn.Identity()))
    assert layers.ids == tuple(1 + 2 * number for number in ids)
    assert layers.others == tuple({1, 3} - set(layers.ids))
    assert layers.index == {number: index for index, number in enumerate(layers.ids)}
    assert (layers.heads, layers.kv_heads, layers.dim, layers.group) == (4, 2, 64, 2)


@pytest.mark.parametrize(
    ("built", "reason"),
    [
        (model(layer(0), layer(1, num_kv_heads=4)), "the heads differ"),
        (model(layer(0), layer(0)), "share one number"),
        (model(torch.nn.Identity()), "none of the model's layers"),
        (model(layer(2, sliding_window_size=8)), "layer 2 attends to a sliding window"),
        (model(layer(0, logit_cap=9.0, logit_capping_method="clip")), "by clip"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(built, reason):
    with pytest.raises(Unsupported, match=reason):
        covered_layers(built)


def runner(
    architecture="MHA", pool=MHATokenToKVPool, dtype=torch.bfloat16, lines=ReqToTokenPool, layout="nhd", second=None,
    whole=MHATokenToKVPool, stock="fa3", device="cuda", mrope=False, text=None, **shape,
):  # fmt: skip
    """As much of a ModelRunner as is looked at."""
    memory, rows = pool.__new__(pool), lines.__new__(lines)
    memory.dtype, memory.kv_cache_layout = dtype, layout
    if pool in (SWAKVPool, HybridLinearKVPool):
        memory.full_kv_pool = whole.__new__(whole)
        memory.full_kv_pool.kv_cache_layout = layout
    told = SimpleNamespace(get_text_config=lambda: text)
    config = SimpleNamespace(attention_arch=SimpleNamespace(name=architecture), model_is_mrope=mrope, hf_config=told)
    built = model(layer(0, **shape), *([layer(1, **second)] if second else []))
    return SimpleNamespace(
        model_config=config, model=built, token_to_kv_pool=memory, req_to_token_pool=rows,
        decode_attention_backend_str=stock, device=device,
    )  # fmt: skip


class LinesOfAnotherKind(ReqToTokenPool):
    """Like the pools of SGLang's other layouts, which inherit too."""


WINDOW, FP8 = {"sliding_window_size": 8}, torch.float8_e4m3fn


@pytest.mark.parametrize(
    ("given", "executor", "reason"),
    [
        (runner(), "torch", None),
        (runner(head_dim=80), "torch", None),
        (runner(dtype=torch.float32), "torch", None),
        (runner(dtype=FP8), "torch", None),
        (runner(pool=SWAKVPool, second=WINDOW), "torch", None),
        (runner(pool=HybridLinearKVPool, lines=HybridReqToTokenPool, device="cpu"), "torch", None),
        (runner(pool=HybridLinearKVPool, lines=HybridReqToTokenPool, text=Qwen3NextConfig()), "torch", None),
        (runner(pool=HybridLinearKVPool, lines=HybridReqToTokenPool), "torch", "are not Gated DeltaNet's"),
        (runner(pool=HybridLinearKVPool, device="cpu"), "torch", "not a HybridReqToTokenPool"),
        (runner(architecture="MLA"), "torch", "MLA"),
        (runner(pool=MHATokenToKVPoolFP4), "torch", "MHATokenToKVPoolFP4"),
        (runner(pool=SWAKVPool, whole=MHATokenToKVPoolFP4), "torch", "MHATokenToKVPoolFP4"),
        (runner(lines=LinesOfAnotherKind), "torch", "LinesOfAnotherKind"),
        (runner(layout="hnd"), "torch", "the layout hnd"),
        (runner(dtype=torch.float8_e5m2), "torch", "the KV cache is float8_e5m2"),
        (runner(second={"use_irope": True}), "torch", "layer 1 of the model attends within chunks"),
    ],
)
def test_pools(given, executor, reason):
    if reason is None:
        assert model_support.survey(given, executor).ids == (0,)
    else:
        with pytest.raises(Unsupported, match=reason):
            model_support.survey(given, executor)


@pytest.mark.parametrize(
    ("given", "executor", "graph", "reason"),
    [
        *((runner(head_dim=dim), "triton", "disabled", None) for dim in (64, 96, 128, 192, 256)),
        (runner(dtype=FP8), "triton", "disabled", None),
        (runner(logit_cap=50.0), "triton", "disabled", None),
        (runner(second=WINDOW), "triton", "disabled", None),
        (runner(second={"use_irope": True}), "triton", "disabled", None),
        (runner(head_dim=80), "triton", "disabled", "head dims"),
        (runner(head_dim=512), "triton", "disabled", "head dims"),
        (runner(num_heads=64), "triton", "disabled", "query heads per KV head"),
        (runner(), "triton", "breakable", "--disable-prefill-cuda-graph"),
        (runner(dtype=torch.float32), "triton", "disabled", "float32"),
        (runner(second=WINDOW, stock="flashinfer"), "triton", "disabled", "--attention-backend fa3 or triton"),
        (runner(second=WINDOW, stock="sfi"), "triton", "disabled", "--attention-backend fa3 or triton"),
        (runner(stock="flashinfer"), "triton", "disabled", None),
        (runner(dtype=FP8), "flashinfer", "disabled", "float8_e4m3fn"),
        (runner(logit_cap=50.0), "flashinfer", "disabled", "--sfi-executor triton"),
    ],
)
def test_kernels(monkeypatch, given, executor, graph, reason):
    graphs = SimpleNamespace(cuda_graph_config=SimpleNamespace(prefill=SimpleNamespace(backend=graph)))
    told = {sglang_symbols.EXECUTION: lambda: SimpleNamespace(graph=graphs)}
    resolve = sglang_symbols.resolve
    monkeypatch.setattr(sglang_symbols, "resolve", lambda target: told.get(target) or resolve(target))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    if reason is None:
        assert model_support.survey(given, executor).ids == (0,)
    else:
        with pytest.raises(Unsupported, match=reason):
            model_support.survey(given, executor)


@pytest.mark.parametrize(("capability", "fits"), [((8, 0), False), ((8, 9), True), ((9, 0), True)])
def test_fp8_needs_a_gpu_that_reads_it(monkeypatch, capability, fits):
    given = runner(dtype=FP8)
    monkeypatch.setattr(model_support, "_check_graphs", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    if fits:
        assert model_support.survey(given, "triton").ids == (0,)
    else:
        with pytest.raises(Unsupported, match="compute capability"):
            model_support.survey(given, "triton")


def test_flashinfer_executor_refuses_sinks(monkeypatch):
    given = runner()
    given.model.attention_sink_bias = torch.nn.Parameter(torch.zeros(4))
    monkeypatch.setattr(model_support, "_check_graphs", lambda: None)
    assert model_support.survey(given, "triton").ids == (0,)
    with pytest.raises(Unsupported, match="sinks"):
        model_support.survey(given, "flashinfer")


def test_tokens_are_computed_anew_in_plain_pools_alone():
    assert model_support.repairs(runner()) and not model_support.repairs(runner(pool=SWAKVPool))
    assert not model_support.repairs(runner(mrope=True))


def test_what_attention_would_leave_out_is_named():
    sinks = torch.zeros(4)
    assert model_support.sinks_of({"sinks": None}) is None and model_support.sinks_of({"sinks": sinks}) is sinks
    with pytest.raises(NotImplementedError, match="other"):
        model_support.sinks_of({"sinks": sinks, "other": torch.zeros(1)})
