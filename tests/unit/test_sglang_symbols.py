"""Every SGLang name we rely on exists in the installed SGLang, and a missing one is noticed and refuses SFI."""

from types import SimpleNamespace

import pytest

from sfi_sglang import sglang_symbols
from sfi_sglang.api import admission
from sfi_sglang.api.settings import Settings
from sfi_sglang.integration import server_args

EVERYWHERE = sglang_symbols.SERVER_TARGETS + sglang_symbols.APP_TARGETS + sglang_symbols.FRONTEND_TARGETS


@pytest.mark.parametrize("target", EVERYWHERE)
def test_target_exists(target):
    assert sglang_symbols.resolve(target) is not None


def test_a_missing_target_is_named():
    gone = f"{sglang_symbols.RUN_BATCH}_renamed"
    assert not sglang_symbols.exists(gone)
    assert sglang_symbols.missing([sglang_symbols.RUN_BATCH, gone]) == [gone]
    assert sglang_symbols.missing() == []
    assert admission.refusal_of(None, None, [f"this SGLang has no `{gone}`"]) == f"this SGLang has no `{gone}`"


def arguments(**given):
    defaults = {
        "decode_attention_backend": None,
        "attention_backend": "sfi",
        "radix_cache_backend": "sfi",
        "disaggregation_mode": "null",
        "speculative_algorithm": None,
        "pp_size": 1,
    }
    return SimpleNamespace(**defaults | given)


def config(arch="MHA", **given):
    return SimpleNamespace(attention_arch=SimpleNamespace(name=arch), **given)


@pytest.mark.parametrize(
    ("args", "model", "reason"),
    [
        (arguments(), config(), None),
        (arguments(decode_attention_backend="sfi", attention_backend="fa3"), config(), None),
        (arguments(enable_dp_attention=True), config(), "--enable-dp-attention is on"),
        (arguments(attention_backend="fa3"), config(), "--decode-attention-backend sfi"),
        (arguments(decode_attention_backend="fa3"), config(), "--decode-attention-backend sfi"),
        (arguments(radix_cache_backend=None), config(), "--radix-cache-backend sfi"),
        (arguments(disaggregation_mode="decode"), config(), "--disaggregation-mode decode is on"),
        (arguments(enable_unified_memory=True), config(), "--enable-unified-memory is on"),
        (arguments(attn_cp_size=2), config(), "--attn-cp-size is above 1"),
        (arguments(dcp_size=2), config(), "--dcp-size is above 1"),
        (arguments(speculative_algorithm="EAGLE"), config(), "speculative"),
        (arguments(pp_size=2), config(), "pipeline"),
        (arguments(), config("MLA"), "MLA"),
        (arguments(), config(is_hybrid_swa=True), "sliding-window"),
        (arguments(), config(is_encoder_decoder=True), "encoder-decoder"),
    ],
)
def test_a_server_that_cannot_serve_sfi_says_why(args, model, reason):
    got = admission.refusal_of(args, model, [])
    assert got is None if reason is None else reason in got


@pytest.mark.parametrize(
    ("flags", "variable", "name"),
    [
        ({"tokenizer_worker_num": 2}, "0", "--tokenizer-worker-num"),
        ({"smg_grpc_mode": True}, "0", "--smg-grpc-mode"),
        ({"grpc_mode": True}, "0", "--smg-grpc-mode"),
        ({}, "1", "SGLANG_RUST_SERVER"),
    ],
)
def test_a_front_that_loads_no_plugins_is_refused_at_the_start(flags, variable, name, monkeypatch):
    monkeypatch.setenv("SGLANG_RUST_SERVER", variable)
    with pytest.raises(ValueError, match=name):
        server_args.choose_backends(SimpleNamespace(attention_backend="sfi", **flags), Settings(executor="torch"))
    stock = SimpleNamespace(attention_backend="fa3", **flags)
    server_args.choose_backends(stock, Settings(executor="torch"))
    assert stock.attention_backend == "fa3"
