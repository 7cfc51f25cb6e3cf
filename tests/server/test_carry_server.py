"""Memory across turns and forks, on real servers."""

import pytest
import requests
from openai import OpenAI

from sfi_sglang import METRIC_PREFIX
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.selection.snapshot_store import BLOCK
from sfi_sglang.serving.embedded_model import embedded_model
from sfi_sglang.serving.server import running_server
from tests.helpers import flush, generate, probe_env, story

pytestmark = pytest.mark.server

SMALL = {"budget": 64, "recent": 64, "min_gap": 4, "max_segment": 16, "carry": "inherit"}
HISTORY = story(50)


def info(reply) -> dict:
    return reply["meta_info"]["sfi"]


def tokens(url: str, text: str) -> list[int]:
    return requests.post(f"{url}/tokenize", json={"prompt": text, "add_special_tokens": False}, timeout=30).json()[
        "tokens"
    ]


def shared_blocks(a: list[int], b: list[int]) -> int:
    """Tokens of the common prefix, in whole blocks."""
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return same // BLOCK * BLOCK


@pytest.mark.parametrize("carry", ["inherit", "merge"])
def test_turn_two_inherits_the_whole_shared_prefix(server, carry):
    flush(server)
    sfi = SMALL | {"carry": carry}
    first = generate(server, HISTORY, sfi, tokens=24)
    assert info(first)["inherited_tokens"] == 0
    history = HISTORY + first["text"]
    second = generate(server, history + " Tool result: " + story(6, 900), sfi, tokens=24)
    published = tokens(server, HISTORY) + first["output_ids"]
    assert info(second)["inherited_tokens"] == shared_blocks(
        published, tokens(server, history + " Tool result: " + story(6, 900))
    )
    assert info(second)["inherited_tokens"] > 600
    assert info(generate(server, history, sfi | {"carry": "fresh"}, tokens=4))["inherited_tokens"] == 0


def test_flush_forgets(server):
    generate(server, HISTORY, SMALL, tokens=8)
    flush(server)
    assert info(generate(server, HISTORY, SMALL, tokens=8))["inherited_tokens"] == 0


def test_new_weights_forget_also_without_a_flush(server):
    generate(server, HISTORY, SMALL, tokens=8)
    body = {"model_path": str(embedded_model()), "flush_cache": False}
    reply = requests.post(f"{server}/update_weights_from_disk", json=body, timeout=120)
    assert reply.json()["success"], reply.text
    assert info(generate(server, HISTORY, SMALL, tokens=8))["inherited_tokens"] == 0


def test_forks_run_together_like_alone(server):
    endings = [" Then " + story(3, 1000 + 50 * i) for i in range(4)]

    def prepare():
        flush(server)
        generate(server, HISTORY, SMALL, tokens=24)

    alone = []
    for ending in endings:
        prepare()
        alone.append(generate(server, HISTORY + ending, SMALL, tokens=24))
    prepare()
    together = generate(server, [HISTORY + ending for ending in endings], [SMALL] * 4, tokens=24)
    assert [r["text"] for r in together] == [r["text"] for r in alone]
    assert all(
        info(r)["inherited_tokens"] == info(a)["inherited_tokens"] > 600 for r, a in zip(together, alone, strict=True)
    )


def test_a_divergence_inside_a_block_shares_the_blocks_before(server):
    flush(server)
    generate(server, HISTORY, SMALL, tokens=8)
    changed = story(20) + " Something else happened. " + story(30, 400)
    expected = shared_blocks(tokens(server, HISTORY), tokens(server, changed))
    assert 0 < expected < 400
    assert info(generate(server, changed, SMALL, tokens=8))["inherited_tokens"] == expected


TENANTS = (
    {}, {"extra_key": "ab"}, {"cache_salt": "ab"}, {"extra_key": "a", "cache_salt": "b"},
)  # fmt: skip


def test_tenants_never_share(server):
    """Whichever key tells them apart, and however the keys are cut: neither memories nor the prefix cache."""
    flush(server)

    def shared(keys) -> tuple[int, int]:
        params = {"temperature": 0, "max_new_tokens": 8, "custom_params": {"sfi": SMALL}}
        body = {"text": HISTORY, "sampling_params": params, **keys}
        reply = requests.post(f"{server}/generate", json=body, timeout=120).json()
        return info(reply)["inherited_tokens"], reply["meta_info"]["cached_tokens"]

    assert [shared(keys) for keys in TENANTS] == [(0, 0)] * len(TENANTS)
    assert min(min(shared(keys)) for keys in TENANTS) > 600


def test_chats_with_another_salt_carry_nothing_over(server, client):
    def chat(salt: str) -> int:
        messages = [{"role": "user", "content": HISTORY}]
        extra = {"sfi": SMALL, "cache_salt": salt}
        reply = client.chat.completions.create(model="m", messages=messages, max_tokens=8, extra_body=extra)
        return reply.sfi["inherited_tokens"]

    flush(server)
    assert [chat("one"), chat("other")] == [0, 0]
    assert min(chat("one"), chat("other")) > 600


STORE_MB = 1
LAYERS = '{"num_hidden_layers": 12}'
TEMPLATE = (
    "{% for m in messages %}{% set text = m['content'] %}"
    "{% if m['role'] == 'assistant' and '</think>' in text %}{% set text = text.split('</think>')[-1] %}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ text }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def test_small_pool_evictions_and_a_thinking_template(tmp_path):
    template = tmp_path / "thinking.jinja"
    template.write_text(TEMPLATE)
    flags = ["--max-total-tokens", "8192", "--max-running-requests", "4", "--sfi-memory-mb", str(STORE_MB)]
    flags += ["--chat-template", str(template), "--json-model-override-args", LAYERS]
    with running_server(flags=flags, log=tmp_path / "log", env=probe_env(traced=False)) as url:
        evicted_and_recomputed(url)
        dropped_reasoning(OpenAI(base_url=f"{url}/v1", api_key="none"))
        oldest_forgotten(url)


def evicted_and_recomputed(url: str) -> None:
    generate(url, HISTORY, SMALL, tokens=8)
    for i in range(10):  # more than the pool holds
        generate(url, story(50, 1000 * (i + 2)), None, tokens=1)
    again = generate(url, HISTORY, SMALL, tokens=8)
    assert again["meta_info"]["cached_tokens"] < 64, "the KV must be gone"
    assert info(again)["inherited_tokens"] > 600


def oldest_forgotten(url: str) -> None:
    """A store that is full forgets the oldest selections, and never holds more than its size."""
    wide = {"budget": 512, "recent": 64, "carry": "inherit"}
    prompts = [story(45, 1000 * i) for i in range(20, 36)]
    for prompt in prompts:
        generate(url, prompt, wide, tokens=1)
    first, last = (
        info(generate(url, prompt, wide, tokens=1))["inherited_tokens"] for prompt in prompts[:: len(prompts) - 1]
    )
    assert first == 0 < last
    counted = Endpoint(url, "").counters()
    assert counted[f"{METRIC_PREFIX}memory_evictions_total"] > 0
    assert 0 < counted[f"{METRIC_PREFIX}memory_bytes"] <= STORE_MB << 20


def dropped_reasoning(client: OpenAI) -> None:
    question = {"role": "user", "content": HISTORY + " What happened?"}
    thinking = {"role": "assistant", "content": "<think>" + story(5, 70) + "</think>Ships came in."}
    extra = {"sfi": SMALL, "return_meta_info": True}

    def ask(messages):
        reply = client.chat.completions.create(
            model="m", messages=messages, max_tokens=16, temperature=0, extra_body=extra
        )
        return reply.choices[0].model_extra["meta_info"]["sfi"]

    first = ask([question])
    second = ask([question, thinking, {"role": "user", "content": "And then? " + story(8, 300)}])
    assert second["inherited_tokens"] == first["prompt_tokens"] // BLOCK * BLOCK
