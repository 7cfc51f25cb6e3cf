"""`exact`: the reply of a dense request, token for token, beside dense and lossy neighbours, and its exact cache.

Four layers of SmolLM2 in float32: fast steps are approximate, so drafts are rejected; rounding decides no token. The
server takes requests back now and then, and checks the accounts of its KV pool after every pass.
"""

import json
import textwrap

import pytest
import requests
import torch

from benchmarks.soak import STORE_MB, soak
from benchmarks.soak_cases import OPTIONS
from benchmarks.soak_traffic import WAYS
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.serving.server import running_server
from tests.helpers import flush, generate, probe_env, story

CHUNK = 512
FLAGS = ["--json-model-override-args", '{"num_hidden_layers": 4}', "--dtype", "float32", "--context-length", "4096"]
FLAGS += ["--speculative-algorithm", "SFI", "--chunked-prefill-size", str(CHUNK), "--max-total-tokens", "4096"]
FLAGS += ["--sfi-memory-mb", str(STORE_MB), "--preferred-sampling-params", '{"temperature": 0}']
EXACT = {"budget": 64, "recent": 32, "exact": True}
LOSSY = {"budget": 64, "recent": 32, "min_gap": 4, "max_segment": 12}
STRICT = {"SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1", "SGLANG_CHECK_KV_PAGE_INVARIANTS": "1"}
RETRACT = {"SGLANG_TEST_RETRACT": "1", "SGLANG_TEST_RETRACT_INTERVAL": "40"}
RETRACTED = "sglang:num_retracted_requests_total"
ROUNDING = 2e-3  # of K and V; approximate ones are off by more than 0.1

ROWS = "\n".join(json.dumps({"id": 7919 * i % 1000, "name": f"part-{i}", "stock": i % 7}) for i in range(24))
CALL = json.dumps({"name": "stock", "arguments": {"part": "part-5"}})
TURNS = {"user": "How many of part-5 are left?", "assistant": f"<tool_call>\n{CALL}\n</tool_call>", "tool": ROWS[:900]}
TOOLS = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in TURNS.items())
TEXTS = [
    story(40),
    textwrap.dedent(json.JSONEncoder.__init__.__doc__ or "")[:1200],
    ROWS,
    TOOLS + "<|im_start|>assistant\n",
    story(16, 70),
    ROWS[300:1100] + "\n",
]


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """The server, and the folder where it writes K and V."""
    folder = tmp_path_factory.mktemp("kv")
    env = probe_env(traced=False, PROBE_KV=str(folder), **STRICT, **RETRACT)
    with running_server(flags=FLAGS, log=folder.with_suffix(".log"), env=env) as url:
        yield url, folder


def info(reply: dict) -> dict:
    return reply["meta_info"]["sfi"]


def test_replies_are_the_dense_ones_in_a_mixed_batch_that_is_taken_back(exact):
    url, _ = exact
    endpoint = Endpoint.connect(url)
    dense = [generate(url, text, None, tokens=64) for text in TEXTS]
    assert dense[0]["meta_info"]["prompt_tokens"] > CHUNK
    flush(url)
    before = endpoint.counters().get(RETRACTED, 0.0)
    options = [EXACT, EXACT, EXACT, EXACT, None, LOSSY]
    mixed = generate(url, TEXTS, options, tokens=64)
    assert endpoint.counters()[RETRACTED] > before
    for reply, expected, option in zip(mixed, dense, options, strict=True):
        if option is not LOSSY:
            assert reply["output_ids"] == expected["output_ids"]
    reports = [info(reply) for reply in mixed[:4]]
    accepted, drafted = (sum(report[key] for report in reports) for key in ("accepted_tokens", "drafted_tokens"))
    assert 80 < accepted < drafted, "drafts must pass, and some must not"
    assert 0 < sum(report["copied_tokens"] for report in reports) < accepted, "of both drafters"
    assert "drafted_tokens" not in info(mixed[5]) and info(mixed[5])["fast_steps"] > 30


def test_what_enters_the_tree_is_what_a_dense_prefill_gives(exact):
    url, folder = exact
    flush(url)
    reply = generate(url, TEXTS[0], EXACT, tokens=60)
    sparse = torch.load(max(folder.iterdir()))
    prompt = reply["meta_info"]["prompt_tokens"]
    assert len(sparse["ids"]) == prompt + 59 and info(reply)["fast_steps"] > 30
    again = generate(url, sparse["ids"], None, tokens=1)
    assert again["meta_info"]["cached_tokens"] == prompt + 58
    flush(url)
    generate(url, sparse["ids"], None, tokens=1)
    dense = torch.load(max(folder.iterdir()))
    assert dense["ids"] == sparse["ids"]
    pairs = [pair for layers in zip(sparse["kv"], dense["kv"], strict=True) for pair in zip(*layers, strict=True)]
    assert max(float((mine - its).abs().max()) for mine, its in pairs) < ROUNDING


@pytest.mark.parametrize("tokens", [1, 2, 3, 17])
def test_a_reply_ends_where_the_dense_one_ends(exact, tokens):
    url, _ = exact
    dense, reply = (generate(url, TEXTS[2], options, tokens=tokens) for options in (None, EXACT))
    assert reply["output_ids"] == dense["output_ids"] and len(reply["output_ids"]) == tokens


def test_a_stop_within_what_was_verified_ends_the_reply(exact):
    url, _ = exact
    whole = generate(url, TEXTS[0], None, tokens=60)
    stop_text, stop_id = whole["text"][70:76], whole["output_ids"][40]
    for stop in ({"stop": stop_text}, {"stop_token_ids": [stop_id]}):
        dense, reply = (
            generate(url, TEXTS[0], options, tokens=60, ignore_eos=False, **stop) for options in (None, EXACT)
        )
        assert reply["text"] == dense["text"] and len(reply["text"]) < len(whole["text"])
        assert reply["meta_info"]["finish_reason"] == dense["meta_info"]["finish_reason"]
        assert reply["output_ids"] == dense["output_ids"]


def streamed(url: str, sfi: dict | None, enough: int) -> list[list[int]]:
    """The output ids of each chunk until there are `enough`; then the client goes away."""
    params = {"max_new_tokens": 64, "ignore_eos": True, "temperature": 0, "custom_params": {"sfi": sfi}}
    body = {"text": TEXTS[0], "stream": True, "sampling_params": params}
    chunks: list[list[int]] = []
    with requests.post(f"{url}/generate", json=body, stream=True, timeout=120) as stream:
        for line in stream.iter_lines():
            if line.startswith(b"data: {"):
                chunks.append(json.loads(line.removeprefix(b"data: "))["output_ids"])
                if len(chunks[-1]) >= enough:
                    break
    return chunks


def test_a_stream_has_no_chunk_without_a_token_and_may_be_given_up(exact):
    url, _ = exact
    dense, chunks = streamed(url, None, 64)[-1], streamed(url, EXACT, 64)
    lengths = [len(chunk) for chunk in chunks]
    assert chunks[-1] == dense and lengths == sorted(set(lengths)) and len(lengths) < 50
    for enough in (1, 20):
        given_up = streamed(url, EXACT, enough)[-1]
        assert given_up == dense[: len(given_up)]
    flush(url)  # refused while anything holds a slot
    assert generate(url, TEXTS[0], EXACT, tokens=20)["output_ids"] == dense[:20]


REFUSED = {
    "repetition_penalty": {"repetition_penalty": 1.1},
    "frequency_penalty": {"frequency_penalty": 0.1},
    "min_new_tokens": {"min_new_tokens": 2},
    "beam": {"beam_width": 2, "n": 2},
}


@pytest.mark.parametrize("name", [*REFUSED, "return_sampling_mask", "session_params"])
def test_what_is_not_exact_as_yet_is_refused_by_name(exact, name):
    url, _ = exact
    params = {"temperature": 0, "max_new_tokens": 2, "custom_params": {"sfi": EXACT}, **REFUSED.get(name, {})}
    more = {"return_sampling_mask": {"return_sampling_mask": True}}
    more["session_params"] = {"session_params": {"id": "s"}}
    body = {"text": "Hi", "sampling_params": params, **more.get(name, {}), "stream": name in REFUSED}
    reply = requests.post(f"{url}/generate", json=body, timeout=60)
    assert reply.status_code == 400 and "sfi" in reply.text and name.removesuffix("_params") in reply.text


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_server_prefers_counts(exact, stream):
    """Here a temperature of 0: without it the reply would be drawn."""
    dense = generate(exact[0], TEXTS[0], None, tokens=24)
    body = {
        "text": TEXTS[0],
        "sampling_params": {"max_new_tokens": 24, "ignore_eos": True, "custom_params": {"sfi": EXACT}},
        "stream": stream,
    }
    reply = requests.post(f"{exact[0]}/generate", json=body, timeout=60)
    whole = reply.text.split("data: ")[-2] if stream else reply.text
    assert json.loads(whole)["output_ids"] == dense["output_ids"] and '"drafted_tokens"' in whole


def test_openai_clients_and_dense_neighbours(exact):
    """Dense requests keep what `exact` has to refuse."""
    url, _ = exact
    body = {"model": "m", "prompt": TEXTS[0], "max_tokens": 24, "temperature": 0, "sfi": EXACT}
    reply = requests.post(f"{url}/v1/completions", json=body, timeout=60).json()
    assert reply["sfi"]["drafted_tokens"] > 0
    other = generate(url, TEXTS[0], None, tokens=24, logprobs=True, regex="[a-z ,.]{24,}")
    assert len(other["meta_info"]["output_token_logprobs"]) == other["meta_info"]["completion_tokens"]
    refused = requests.post(f"{url}/v1/completions", json={**body, "presence_penalty": 1, "stream": True}, timeout=60)
    assert refused.status_code == 400 and refused.json()["param"] == "sfi.exact"


def test_soak(exact):
    """Two minutes of mixed traffic of eight clients; longer: `python -m benchmarks.soak`."""
    url, _ = exact
    result = soak(url, 120, texts=2, tokens=24)
    assert not result.failures()
    assert {name.split()[0] for name in result.replies} == set(WAYS) and result.equal.keys() == OPTIONS.keys()
    assert result.retracted > 0 and result.flushes.get(400), "the pool is small, and requests are in flight"
    assert result.store["hits"] > 0 and result.peak_store_bytes > 0
    half, end = (result.scheduler_mb[i][2] for i in (len(result.scheduler_mb) // 2, -1))
    assert end < half + 300
