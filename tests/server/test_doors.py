"""The doors of the real server: closed ones refuse `sfi`, and the same request without it goes on as ever."""

import pytest
import requests

from sfi_sglang.serving.server import running_server
from tests.helpers import probe_env, story

pytestmark = pytest.mark.server

CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
SHORT = {"max_new_tokens": 2}
SMALL = {"budget": 64, "recent": 64, "min_gap": 4, "max_segment": 16}
GENERATING = {  # and /v1/responses, which SGLang serves where openai_harmony is installed
    "/v1/messages": {"model": "m", **CHAT},
    "/api/chat": {"model": "m", "messages": CHAT["messages"], "options": {"num_predict": 2}, "stream": False},
    "/api/generate": {"model": "m", "prompt": "Hi", "options": {"num_predict": 2}, "stream": False},
    "/vertex_generate": {"instances": [{"text": "Hi"}], "parameters": {"sampling_params": SHORT}},
    "/generate": {"text": "Hi", "sampling_params": SHORT},
}
OTHERS = (
    "/v1/responses", "/v1/systemone", "/v1/decisions", "/v1/embeddings", "/v1/score", "/v1/rerank", "/encode",
    "/tokenize",
)  # fmt: skip


def post(url: str, **body) -> requests.Response:
    return requests.post(url, json=body, timeout=120)


@pytest.mark.parametrize("path", [*GENERATING, *OTHERS])
def test_a_closed_door_refuses_sfi_and_names_itself(server, path):
    refused = post(server + path, **GENERATING.get(path, {}), sfi={"budget": 64})
    assert refused.status_code == 400 and f"sfi: {path} takes no such field: " in refused.text
    if path in GENERATING:
        assert post(server + path, **GENERATING[path]).status_code == 200
        assert post(server + path, **GENERATING[path], sfi=None).status_code == 200


def test_a_stream_through_a_closed_door_is_whole(server):
    with requests.post(
        f"{server}/v1/messages", json={**GENERATING["/v1/messages"], "stream": True}, stream=True, timeout=60
    ) as reply:
        lines = [line for line in reply.iter_lines() if line]
    assert lines[0] == b"event: message_start" and lines[-2] == b"event: message_stop"


def test_the_ways_that_a_refusal_names(server):
    chat = {"messages": [{"role": "user", "content": story(60)}], "max_tokens": 24, "sfi": SMALL}
    assert post(f"{server}/invocations", **chat).json()["sfi"]["budget"] == 64
    params = {"sampling_params": {"max_new_tokens": 24, "ignore_eos": True, "custom_params": {"sfi": SMALL}}}
    reply = post(f"{server}/vertex_generate", instances=[{"text": story(60)}], parameters=params).json()
    assert reply["predictions"][0]["meta_info"]["sfi"]["fast_steps"] > 0


def test_a_plugin_that_does_not_load_refuses_at_every_door(tmp_path):
    flags = ["--attention-backend", "torch_native", "--device", "cpu", "--max-total-tokens", "16384"]
    env = probe_env(traced=False, PROBE_BREAK="sfi_sglang.selection.snapshot_store")
    with running_server(flags=flags, defaults=False, log=tmp_path / "server.log", env=env) as url:
        native = {"text": "Hi", "sampling_params": {**SHORT, "custom_params": {"sfi": True}}}
        answers = {"custom_params": post(f"{url}/generate", **native)}
        for path, body in {**GENERATING, "/v1/chat/completions": CHAT, "/invocations": CHAT}.items():
            answers[path] = post(url + path, **body, sfi=True)
            assert post(url + path, **body).status_code == 200, path
        for path, answer in answers.items():
            assert answer.status_code == 400 and "snapshot_store" in answer.text, (path, answer.text)
