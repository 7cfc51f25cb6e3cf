"""SFI as a speculative algorithm: which servers may start with it, whose requests it serves, what it sets aside."""

from types import SimpleNamespace

import pytest
from sglang.srt.plugins.hook_registry import HookRegistry

from sfi_sglang import sglang_symbols
from sfi_sglang.api import admission, exact
from sfi_sglang.api.options import SFIOptions
from sfi_sglang.integration import draft_slots, plugin
from sfi_sglang.integration.speculation import SFISpec
from sfi_sglang.scheduling.drafting import MOST_DRAFTS

STARTED = SimpleNamespace(speculative_algorithm="SFI", grammar_backend=None)
GREEDY = {"temperature": 0}


def started(**given) -> SimpleNamespace:
    alone = {"tp_size": 1, "pp_size": 1, "page_size": None, "disaggregation_mode": "null"}
    return SimpleNamespace(**{"radix_cache_backend": "sfi", **alone, **given})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"radix_cache_backend": None}, "--enable-sfi"),
        ({"pp_size": 2}, "--pp-size"),
        ({"page_size": 16}, "--page-size"),
        ({"disaggregation_mode": "decode"}, "--disaggregation-mode"),
    ],
)
def test_a_server_that_cannot_does_not_start(given, words):
    algorithm = SFISpec("SFI", lambda arguments: None)
    with pytest.raises(ValueError, match=words):
        algorithm.handle_server_args(started(**given))
    good = started(tp_size=2)
    algorithm.handle_server_args(good)
    assert good.speculative_num_draft_tokens == MOST_DRAFTS + 1


def test_ranks_cannot_draw_lots_for_a_benchmark(monkeypatch):
    monkeypatch.setenv(exact.CHANCE_ENV, "0.9")
    SFISpec("SFI", lambda arguments: None).handle_server_args(started())
    with pytest.raises(ValueError, match="--tp-size"):
        SFISpec("SFI", lambda arguments: None).handle_server_args(started(tp_size=2))


@pytest.mark.parametrize(
    ("params", "fields", "words"),
    [
        (GREEDY, {}, None),
        ({"temperature": 1.0, "top_k": 1}, {}, None),
        ({**GREEDY, "repetition_penalty": 1.0, "logit_bias": None, "stop": ["x"], "n": 2}, {}, None),
        ({"temperature": 0.7, "json_schema": "{}", "logit_bias": {"5": 1}}, {"return_logprob": True}, None),
        ({**GREEDY, "presence_penalty": 0.5}, {}, "presence_penalty"),
        (GREEDY, {"lora_path": "adapter"}, "lora_path"),
        (GREEDY, {"custom_logit_processor": "x"}, "custom_logit_processor"),
        (GREEDY, {"return_sampling_mask": True}, "return_sampling_mask"),
        (GREEDY, {"return_sampling_mask": False}, None),
    ],
)
def test_what_goes_together_with_exact(params, fields, words):
    if words is None:
        return exact.check(params, SimpleNamespace(**fields), STARTED)
    with pytest.raises(ValueError, match=rf"^sfi\.exact: .*{words}"):
        exact.check(params, SimpleNamespace(**fields), STARTED)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"grammar_backend": "outlines"}, "regex only with --grammar-backend xgrammar as yet, not outlines"),
        ({"enable_watermark": True}, "not together with --enable-watermark"),
        ({"grammar_backend": "xgrammar", "enable_watermark": False}, None),
    ],
)
def test_what_a_server_has_to_have_for_it(given, words):
    arguments = SimpleNamespace(**{**vars(STARTED), **given})
    if words is None:
        return exact.check({"regex": "[a-z]+"}, SimpleNamespace(), arguments)
    with pytest.raises(ValueError, match=words):
        exact.check({"regex": "[a-z]+"}, SimpleNamespace(), arguments)


def test_what_the_server_prefers_is_judged_too():
    with pytest.raises(ValueError, match="repetition_penalty"):
        exact.check(admission.joined(GREEDY, '{"repetition_penalty": 1.1}'), SimpleNamespace(), STARTED)


def test_all_passes_of_a_request_draw_with_one_seed():
    assert exact.seeded({"sampling_seed": 0, "n": 2}) == {"sampling_seed": 0, "n": 2}
    assert exact.seeded({})["sampling_seed"] != exact.seeded({})["sampling_seed"]


def test_other_servers_refuse():
    for name in (None, "EAGLE"):
        with pytest.raises(ValueError, match="start the server with --speculative-algorithm SFI"):
            exact.check(GREEDY, SimpleNamespace(), SimpleNamespace(speculative_algorithm=name))


def request(committed: int, outputs: int = 0, most: int = 100, sfi: bool | None = None) -> SimpleNamespace:
    made = SimpleNamespace(
        kv=SimpleNamespace(kv_committed_len=committed, kv_allocated_len=committed),
        sampling_params=SimpleNamespace(max_new_tokens=most),
        output_ids=[0] * outputs,
    )
    if sfi is not None:
        made.sfi = SimpleNamespace(options=SFIOptions(exact=sfi))
    return made


def test_slots_are_set_aside_for_drafts_of_those_who_draft_and_none_past_the_end():
    assert draft_slots.missing([request(50), request(50, sfi=False)]) == [2, 2]
    assert draft_slots.missing([request(50, sfi=True)]) == [2 + 2 * MOST_DRAFTS]
    assert draft_slots.missing([request(50, outputs=97, sfi=True), request(50, outputs=101, sfi=True)]) == [5, 2]


def test_without_a_name_of_sglangs_exact_alone_is_off(monkeypatch, caplog):
    gone = f"{sglang_symbols.SPEC_PREPARE}_renamed"
    monkeypatch.setattr(sglang_symbols, "EXACT_TARGETS", (gone,))
    registered = []
    monkeypatch.setattr(HookRegistry, "register", lambda *given: registered.append(given))
    made = plugin.Plugin()
    made._add_speculation()
    assert not registered and not made.problems
    assert f"`exact` will be refused: this SGLang has no `{gone}`" in caplog.text
