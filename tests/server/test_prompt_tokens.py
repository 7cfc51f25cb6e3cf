"""Chats of several turns through the real server: the ids and texts of a prompt tokenised whole, though most of it is
not tokenised again."""

import pytest
import requests

from sfi_sglang import METRIC_PREFIX
from sfi_sglang.client.endpoint import Endpoint
from tests.helpers import flush, story
from tests.made_tokenizers import CALL, CODE, made

pytestmark = pytest.mark.server

SMALL = {"budget": 32, "recent": 32, "min_gap": 4, "max_segment": 16}
TOKENS, TURNS = 8, 3


def generate(url: str, ids: list[int], sfi) -> str:
    """Greedy text after these very ids."""
    sampling = {"temperature": 0, "max_new_tokens": TOKENS, "ignore_eos": True, "custom_params": {"sfi": sfi}}
    reply = requests.post(f"{url}/generate", json={"input_ids": ids, "sampling_params": sampling}, timeout=300)
    reply.raise_for_status()
    text: str = reply.json()["text"]
    return text


def counted(url: str) -> tuple[float, float]:
    counters = Endpoint(url, "").counters()
    tokens, reused = (counters.get(f"{METRIC_PREFIX}tokenizer_{name}_total", 0) for name in ("tokens", "reused_tokens"))
    return tokens, reused


@pytest.mark.parametrize("sfi", [False, SMALL], ids=["dense", "sfi"])
def test_turns_of_a_chat_are_those_of_the_text_tokenised_whole(server, client, sfi):
    tokenizer = made("embedded")
    said = [
        f"{story(10, 7000 + 100 * bool(sfi))}\n{CODE}",
        f"Said <|im_end|> and é🙂 日本 {CALL}",
        "And now?",
    ]
    messages, sizes = [], []
    before = counted(server)
    for turn in range(TURNS):
        messages.append({"role": "user", "content": said[turn]})
        flush(server)
        answer = client.chat.completions.create(
            model="m", messages=messages, max_tokens=TOKENS, temperature=0, extra_body={"sfi": sfi, "ignore_eos": True}
        )
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert answer.usage.prompt_tokens == len(ids)
        flush(server)
        assert answer.choices[0].message.content.strip() == generate(server, ids, sfi).strip()
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})
        sizes.append(len(ids))
    tokens, reused = (after - first for after, first in zip(counted(server), before, strict=True))
    assert tokens == sum(sizes)
    assert (
        sum(sizes[:-1]) - 20 * TURNS <= reused < tokens
    )  # all of the turn before, but for the end of its last message
    assert Endpoint(server, "").counters()[f"{METRIC_PREFIX}tokenizer_cache_bytes"] > 0


def test_half_a_character_is_refused_and_the_next_request_served(server, client):
    body = b'{"model": "m", "max_tokens": 2, "messages": [{"role": "user", "content": "half \\ud83d"}]}'
    reply = requests.post(
        f"{server}/v1/chat/completions", data=body, headers={"Content-Type": "application/json"}, timeout=60
    )
    assert 400 <= reply.status_code < 600
    good = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], max_tokens=2)
    assert good.usage.completion_tokens == 2
