"""`exact` under grammars, biases and draws, and its log-probabilities: what full attention alone gives, in batches that
are taken back now and then."""

import json

import pytest
import requests

from sfi_sglang.serving.server import running_server
from tests.helpers import flush, generate, probe_env
from tests.server.test_exact_mode import EXACT, FLAGS, LOSSY, RETRACT, STRICT, TEXTS, info

WHOLE = {**EXACT, "budget": 4096}  # every step attends to everything
CALL = {
    "type": "object",
    "properties": {"part": {"enum": [f"part-{i}" for i in range(24)]}, "count": {"enum": [1, 2, 3]}},
    "required": ["part", "count"],
}
TOOL = {"type": "function", "function": {"name": "stock", "parameters": CALL}}
GRAMMARS = {
    "regex": r'\{"id": [0-9]{1,3}, "name": "part-[0-9]{1,2}", "stock": [0-6]\}\n([a-z ,.]{10,60}\n){2}',
    "json_schema": json.dumps({"type": "array", "items": CALL, "minItems": 2, "maxItems": 2}),
    "ebnf": 'root ::= ("On day " [0-9]+ " the " [a-z]+ " wrote. ") root | "End."',
}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    log = tmp_path_factory.mktemp("rules") / "server.log"
    flags = [*FLAGS, "--tool-call-parser", "qwen25", "--constrained-json-disable-any-whitespace"]
    with running_server(flags=flags, log=log, env=probe_env(traced=False, **STRICT, **RETRACT)) as found:
        yield found


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_grammar_is_kept_to_as_by_dense_requests(url, name):
    rule = {name: GRAMMARS[name], "ignore_eos": False}
    texts = [TEXTS[2], TEXTS[0], TEXTS[5], TEXTS[2], TEXTS[0]]
    dense = generate(url, texts[:3], None, tokens=60, **rule)
    flush(url)
    replies = generate(url, texts, [EXACT, EXACT, EXACT, None, LOSSY], tokens=60, **rule)
    for reply, expected in zip(replies, [*dense, dense[0]], strict=False):
        assert reply["output_ids"] == expected["output_ids"]
        assert reply["meta_info"]["finish_reason"] == expected["meta_info"]["finish_reason"]
    reports = [info(reply) for reply in replies[:3]]
    accepted, drafted = (sum(report[key] for report in reports) for key in ("accepted_tokens", "drafted_tokens"))
    assert 30 < accepted <= drafted


def test_a_tool_call_that_is_required_is_the_dense_one(url):
    """Four layers of a model call without end, so what they write is compared, and no parsed call."""
    body = {"model": "m", "max_tokens": 60, "temperature": 0, "tools": [TOOL], "logprobs": True}
    body |= {"tool_choice": "required", "messages": [{"role": "user", "content": TEXTS[2] + "\nHow many are left?"}]}
    replies = [
        requests.post(f"{url}/v1/chat/completions", json={**body, "sfi": sfi}, timeout=120).json()
        for sfi in (False, EXACT)
    ]
    dense, exact = (
        "".join(token["token"] for token in reply["choices"][0]["logprobs"]["content"]) for reply in replies
    )
    assert dense == exact and '"name":"stock"' in exact
    assert replies[1]["sfi"]["accepted_tokens"] > 20


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 0.7, "top_k": 20, "top_p": 0.9}, {"min_p": 0.05, "regex": "[a-z ,.]{30,90}"}]
)
def test_what_is_drawn_never_hangs_on_the_drafts(url, how):
    how = {"temperature": 1.0, "sampling_seed": 11, **how}
    texts = [TEXTS[0], TEXTS[5], TEXTS[2]]
    alone = generate(url, texts, WHOLE, tokens=48, **how)
    assert all(info(reply)["fast_steps"] == 0 for reply in alone)
    replies = generate(url, [*texts, texts[0], texts[0]], [EXACT] * 3 + [None, LOSSY], tokens=48, **how)
    assert [reply["output_ids"] for reply in replies[:3]] == [reply["output_ids"] for reply in alone]
    reports = [info(reply) for reply in replies[:3]]
    assert 10 < sum(report["accepted_tokens"] for report in reports) < sum(r["drafted_tokens"] for r in reports)
    unseeded = [generate(url, texts[0], EXACT, tokens=16, **{**how, "sampling_seed": None})["output_ids"] for _ in "ab"]
    assert unseeded[0] != unseeded[1]


def asked(url: str, text: str, sfi: dict | None, **params) -> dict:
    fixed = {"temperature": 0, "max_new_tokens": 48, "ignore_eos": True, "custom_params": {"sfi": sfi}}
    body = {"text": text, "return_logprob": True, "top_logprobs_num": 3, "token_ids_logprob": [5, 260]}
    body["sampling_params"] = {**fixed, **params}
    found = requests.post(f"{url}/generate", json=body, timeout=120).json()
    return {"output_ids": found["output_ids"], **found["meta_info"]}


def test_logprobs_and_biases_are_the_dense_ones(url):
    bias = {"logit_bias": {"260": 2.5, "28": -4.0}}
    plain, dense, exact = (asked(url, TEXTS[0], *how) for how in [(None,), (None,), (EXACT,)])
    biased, exact_biased = (asked(url, TEXTS[0], sfi, **bias) for sfi in (None, EXACT))
    assert plain["output_ids"] == dense["output_ids"] != biased["output_ids"]
    for one, other in ((dense, exact), (biased, exact_biased)):
        assert one["output_ids"] == other["output_ids"] and info({"meta_info": other})["accepted_tokens"] > 10
        for part in ("output_token_logprobs", "output_top_logprobs", "output_token_ids_logprobs"):
            mine, its = (flat(reply[part]) for reply in (one, other))
            assert [ids for _, ids in mine] == [ids for _, ids in its]
            assert max(abs(a - b) for (a, _), (b, _) in zip(mine, its, strict=True)) < 1e-3, part


def flat(rows: list) -> list[tuple[float, int]]:
    """Log-probability and token of SGLang's triples, nested or not."""
    if rows and isinstance(rows[0], int | float):
        return [(rows[0], rows[1])]
    return [pair for row in rows for pair in flat(row)]


def test_logprobs_of_draws_are_those_of_what_was_drawn(url):
    drawn, whole = (asked(url, TEXTS[0], sfi, temperature=0.8, sampling_seed=3) for sfi in (EXACT, WHOLE))
    assert drawn["output_ids"] == whole["output_ids"]
    mine, its = (flat(reply["output_token_logprobs"]) for reply in (drawn, whole))
    assert [ids for _, ids in mine] == drawn["output_ids"]
    assert max(abs(a - b) for (a, _), (b, _) in zip(mine, its, strict=True)) < 1e-3
    top = [{token: value for value, token, _ in row} for row in drawn["output_top_logprobs"]]
    assert all(abs(row.get(token, value) - value) < 1e-6 for row, (value, token) in zip(top, mine, strict=True))
