"""Every SGLang name we rely on exists in the installed SGLang, and a missing one is noticed and refuses SFI."""

from types import SimpleNamespace

import pytest
from sglang.srt.plugins.hook_registry import HookRegistry

from sfi_sglang import sglang_symbols
from sfi_sglang.api import admission
from sfi_sglang.api.settings import Settings
from sfi_sglang.integration import server_args
from sfi_sglang.integration.prompt_tokens import PromptTokens

EVERYWHERE = (
    sglang_symbols.SERVER_TARGETS
    + sglang_symbols.APP_TARGETS
    + sglang_symbols.EXACT_TARGETS
    + sglang_symbols.OPTIONAL_TARGETS
    + sglang_symbols.FRONTEND_TARGETS
)


@pytest.mark.parametrize("target", EVERYWHERE)
def test_target_exists(target):
    assert sglang_symbols.resolve(target) is not None


def test_a_missing_target_is_named():
    gone = f"{sglang_symbols.RUN_BATCH}_renamed"
    assert not sglang_symbols.exists(gone)
    assert sglang_symbols.missing([sglang_symbols.RUN_BATCH, gone]) == [gone]
    assert sglang_symbols.missing() == []
    assert admission.refusal_of(None, [f"this SGLang has no `{gone}`"]) == f"this SGLang has no `{gone}`"


def test_a_missing_help_costs_no_request(monkeypatch, caplog):
    """Without the function that tokenises chats nothing is refused: turns are tokenised whole, and one line says so."""
    gone = f"{sglang_symbols.PROMPT_ENCODE}_renamed"
    monkeypatch.setattr(sglang_symbols, "PROMPT_ENCODE", gone)
    registered = []
    monkeypatch.setattr(HookRegistry, "register", lambda *given: registered.append(given))
    PromptTokens(lambda: 1 << 20).install()
    assert not registered and [record.message for record in caplog.records] == [
        f"sfi: every turn of a chat is tokenised whole: this SGLang has no `{gone}`"
    ]
    assert set(sglang_symbols.OPTIONAL_TARGETS).isdisjoint(sglang_symbols.SERVER_TARGETS)


def arguments(**given):
    defaults = {
        "radix_cache_backend": "sfi",
        "disaggregation_mode": "null",
        "speculative_algorithm": None,
        "pp_size": 1,
    }
    return SimpleNamespace(**defaults | given)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (arguments(), None),
        *((arguments(**{flag: True}), f"--{flag.replace('_', '-')} is on") for flag in admission.UNTRIED),
        (arguments(radix_cache_backend=None), "start it with --enable-sfi"),
        (arguments(disaggregation_mode="decode"), "--disaggregation-mode decode is on"),
        (arguments(attn_cp_size=2), "--attn-cp-size is above 1"),
        (arguments(dcp_size=2), "--dcp-size is above 1"),
        (arguments(dp_size=2), "--dp-size is above 1"),
        (arguments(speculative_algorithm="EAGLE"), "speculative"),
        (arguments(speculative_algorithm="sfi"), None),
        (arguments(pp_size=2), "pipeline"),
    ],
)
def test_a_server_that_cannot_serve_sfi_says_why(args, reason):
    got = admission.refusal_of(args, [])
    assert got is None if reason is None else reason in got


def test_a_graph_that_repeats_an_earlier_plan_is_refused(monkeypatch):
    monkeypatch.setenv(admission.GLUE_GRAPH, "Y")
    assert admission.refusal_of(arguments(), []) == f"{admission.GLUE_GRAPH} is on"


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
        server_args.enable(SimpleNamespace(enable_sfi=True, **flags), Settings(executor="torch"))
    stock = SimpleNamespace(attention_backend="fa3", **flags)
    server_args.enable(stock, Settings(executor="torch"))
    assert stock == SimpleNamespace(attention_backend="fa3", **flags)


@pytest.mark.parametrize(
    ("given", "attention"),
    [
        ({"enable_sfi": True, "attention_backend": "fa3"}, "fa3"),
        ({"radix_cache_backend": "sfi", "attention_backend": None}, None),
        ({"attention_backend": "sfi"}, "torch_native"),
        ({"decode_attention_backend": "sfi"}, "torch_native"),
        ({"decode_attention_backend": "sfi", "attention_backend": "triton"}, "triton"),
    ],
)
def test_one_flag_enables_sfi_and_what_it_was_once_called_does_too(given, attention):
    args = SimpleNamespace(**given)
    server_args.enable(args, Settings(executor="torch"))
    assert args.radix_cache_backend == "sfi" and args.attention_backend == attention and args.disable_cuda_graph


def test_another_prefix_cache_is_refused():
    args = SimpleNamespace(enable_sfi=True, radix_cache_backend="lmcache")
    with pytest.raises(ValueError, match="--radix-cache-backend lmcache"):
        server_args.enable(args, Settings())


def test_prefill_graphs_are_off_unless_asked_for():
    for asked, off in ((None, True), ("breakable", False)):
        given = SimpleNamespace(
            decode_attention_backend="sfi", cuda_graph_backend_prefill=asked, disable_prefill_cuda_graph=False
        )
        server_args.enable(given, Settings(executor="triton"))
        assert given.disable_prefill_cuda_graph is off and given.decode_attention_backend is None
    stock = SimpleNamespace(attention_backend="fa3", disable_prefill_cuda_graph=False)
    server_args.enable(stock, Settings(executor="triton"))
    assert not stock.disable_prefill_cuda_graph
