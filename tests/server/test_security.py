"""A server that only some may use: its key guards every door, its log says what SFI does and no text."""

import json
import re

import pytest
import requests

from sfi_sglang.integration.doors import OPEN
from sfi_sglang.serving.server import running_server
from tests.helpers import probe_env, story
from tests.unit.test_doors import CLOSED

pytestmark = pytest.mark.server

KEY = "the-key"
SECRET = "zebra umbrella"
SMALL = {"budget": 64, "recent": 64, "min_gap": 4, "max_segment": 8}
CHAT = {"messages": [{"role": "user", "content": f"{SECRET} {story(40)}"}], "max_tokens": 24, "ignore_eos": True}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """URL and log of a server with a key."""
    log = tmp_path_factory.mktemp("guarded") / "server.log"
    flags = ["--api-key", KEY, "--sfi-log-requests", "on"]
    with running_server(flags=flags, log=log, env=probe_env(traced=False)) as url:
        yield url, log


def post(url: str, key: str | None = None, **body) -> requests.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return requests.post(url, json=body, headers=headers, timeout=120)


def test_no_door_opens_without_the_key(guarded):
    """Whatever `sfi` says, right or wrong: nobody reads it."""
    url, _ = guarded
    opened = {}
    for path in sorted(OPEN | CLOSED):
        for key in (None, "another"):
            status = post(url + re.sub(r"\{.*?\}", "x", path), key, **CHAT, sfi={"budget": 0}).status_code
            if status != 401:
                opened[path] = status
    assert opened == {}
    assert post(f"{url}/v1/chat/completions", KEY, **CHAT, sfi={"budget": 0}).status_code == 400


def test_the_log_says_what_sfi_does_and_no_text(guarded):
    url, log = guarded
    chosen = 'mine\n"sfi request {}'
    report = post(f"{url}/v1/chat/completions", KEY, **CHAT, sfi=SMALL, rid=chosen).json()["sfi"]
    assert post(f"{url}/v1/chat/completions", KEY, **CHAT).status_code == 200, "a dense one"
    lines = log.read_text().splitlines()
    logged = [json.loads(line.partition("sfi request ")[2]) for line in lines if "] sfi request " in line]
    fields = ("prompt_tokens", "inherited_tokens", "slow_steps", "fast_steps", "coverage", "agreement")
    assert logged == [{"rid": chosen, **{name: report[name] for name in fields}, "output_tokens": 24}]
    assert report["fast_steps"] > 0 and SECRET not in log.read_text()
    started = [line.partition("] ")[2] for line in lines if "SFI is " in line]
    assert len(started) == 1
    for part in ("on for requests that ask for it", "executor t", "30 of 30 attention layers", "budget 2048",
                 "repair on", "carry fresh", "memory: "):  # fmt: skip
        assert part in started[0], part
