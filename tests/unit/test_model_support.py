"""What SFI can serve is seen in the layers and pools that SGLang built, whatever the model's name."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from sglang.srt.layers.radix_attention import AttentionType, RadixAttention
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, MHATokenToKVPoolFP4, ReqToTokenPool

from sfi_sglang import sglang_symbols
from sfi_sglang.attention import model_support
from tests.model_families import FAMILIES

PLAIN = {"llama", "qwen2", "qwen3", "qwen3_moe", "olmo2", "cohere"}


@pytest.fixture(scope="module")
def refusals() -> dict[str, str | None]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.model_families"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_families(refusals, family):
    if family in PLAIN:
        assert refusals[family] is None
    else:
        words = "1 of the model's 4 layers" if family == "qwen3_next" else "layer 0 of the model attends to a sliding"
        assert words in refusals[family]


def layer(number: int = 0, **more) -> RadixAttention:
    shape = {"num_heads": 4, "head_dim": 64, "scaling": 0.125, "num_kv_heads": 2}
    return RadixAttention(layer_id=number, **{**shape, **more})


def model(*layers: torch.nn.Module) -> torch.nn.Module:
    return torch.nn.ModuleList(layers)


def with_sinks() -> torch.nn.Module:
    found = model(layer(0))
    found.attention_sink_bias = torch.nn.Parameter(torch.zeros(4))
    return found


def by_position() -> RadixAttention:
    found = layer(0)
    found.xai_temperature_len = 1024
    return found


@pytest.mark.parametrize(
    ("built", "reason"),
    [
        (model(layer(0), layer(1)), None),
        (model(layer(0), layer(1, sliding_window_size=16)), "layer 1 of the model attends to a sliding window"),
        (model(layer(0, logit_cap=30.0), layer(1)), "layer 0 of the model caps"),
        (model(layer(0), layer(1, is_cross_attention=True)), "encoder"),
        (model(layer(0), layer(1, attn_type=AttentionType.ENCODER_ONLY)), "not causal (ENCODER_ONLY)"),
        (model(layer(0), layer(1, attn_type=AttentionType.DECODER_BIDIRECTIONAL)), "not causal"),
        (model(layer(0), layer(1, use_irope=True)), "within chunks"),
        (model(layer(0), layer(1, pos_encoding_mode="ALIBI")), "ALIBI"),
        (model(layer(0), layer(1, v_head_dim=32)), "different width"),
        (model(by_position(), layer(1)), "by position"),
        (model(layer(0), layer(1, num_kv_heads=4)), "the heads differ"),
        (model(layer(0), torch.nn.Identity()), "1 of the model's 2 layers"),
        (model(layer(0), layer(0)), "1 of the model's 2 layers"),
        (model(torch.nn.Identity(), torch.nn.Identity()), "0 of the model's 2 layers"),
        (with_sinks(), "sinks"),
    ],
)
def test_layers(built, reason):
    got = model_support.unsupported_layers(built, count=2 if reason != "sinks" else 1)
    assert got is None if reason is None else reason in got


def runner(architecture="MHA", pool=MHATokenToKVPool, dtype=torch.bfloat16, dim=64, kv_heads=2, lines=ReqToTokenPool):
    """As much of a ModelRunner as is looked at."""
    memory, rows = pool.__new__(pool), lines.__new__(lines)
    memory.dtype = dtype
    memory.get_key_buffer = lambda _: torch.zeros(8, kv_heads, dim, dtype=dtype)
    config = SimpleNamespace(
        attention_arch=SimpleNamespace(name=architecture), num_hidden_layers=1, num_attention_heads=kv_heads * 4
    )
    built = model(layer(0, head_dim=dim))
    return SimpleNamespace(model_config=config, model=built, token_to_kv_pool=memory, req_to_token_pool=rows)


class LinesOfAnotherKind(ReqToTokenPool):
    """Like the pools of SGLang's other layouts, which inherit too."""


@pytest.mark.parametrize(
    ("given", "executor", "reason"),
    [
        (runner(), "torch", None),
        (runner(architecture="MLA"), "torch", "MLA"),
        (runner(pool=MHATokenToKVPoolFP4), "torch", "MHATokenToKVPoolFP4"),
        (runner(lines=LinesOfAnotherKind), "torch", "LinesOfAnotherKind"),
        (runner(dtype=torch.float8_e4m3fn), "torch", "the KV cache is float8_e4m3fn"),
        (runner(dim=80), "torch", None),
    ],
)
def test_pools(given, executor, reason):
    got = model_support.unsupported(given, executor)
    assert got is None if reason is None else reason in got


@pytest.mark.parametrize(
    ("dim", "graph", "reason"),
    [
        (64, "disabled", None),
        (128, "disabled", None),
        (80, "disabled", "head dims"),
        (512, "disabled", "head dims"),
        (64, "breakable", "--disable-prefill-cuda-graph"),
    ],
)
def test_kernels(monkeypatch, dim, graph, reason):
    graphs = SimpleNamespace(cuda_graph_config=SimpleNamespace(prefill=SimpleNamespace(backend=graph)))
    told = {
        sglang_symbols.PARALLEL: lambda: SimpleNamespace(attn_tp_size=1),
        sglang_symbols.EXECUTION: lambda: SimpleNamespace(graph=graphs),
    }
    resolve = sglang_symbols.resolve
    monkeypatch.setattr(sglang_symbols, "resolve", lambda target: told.get(target) or resolve(target))
    got = model_support.unsupported(runner(dim=dim), "triton")
    assert got is None if reason is None else reason in got


def test_what_attention_would_leave_out_is_named():
    model_support.check_arguments({"sinks": None})
    with pytest.raises(NotImplementedError, match="sinks"):
        model_support.check_arguments({"sinks": torch.zeros(4), "other": None})
