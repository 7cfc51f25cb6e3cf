"""One real server for the whole session, started when the first test asks for it."""

import itertools
import os
from pathlib import Path

import pytest
import requests
import torch
from hypothesis import settings
from openai import OpenAI

from sfi_sglang.server import running_server
from sfi_sglang.trajectory.endpoint import Endpoint

GPU = torch.cuda.is_available()
if not GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported

settings.register_profile("slow machine", deadline=None)
settings.load_profile("slow machine")

PROBE = str(Path(__file__).parent / "probe")
CHUNK = 2048  # prompt tokens per prefill pass of the shared server


def probe_env(*, traced: bool = True, **extra: str) -> dict[str, str]:
    """Of a server with the probe. Tracing for coverage costs 14 s at its start and a fifth of its time later: servers
    that run what others have run do without."""
    path = os.pathsep.join(part for part in (PROBE, os.environ.get("PYTHONPATH")) if part)
    return {"PYTHONPATH": path, **({} if traced else {"COVERAGE_PROCESS_CONFIG": ""}), **extra}


GROUPS = {2: "small_answers", 3: "server"}  # fixtures that only one worker should pay for


def _needs(item) -> int:
    """0 for a pure test, 1 for one that starts a server of its own, else the group."""
    shared = next((number for number, fixture in GROUPS.items() if fixture in item.fixturenames), 0)
    return shared or int("server" in item.keywords)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config, items):
    """Pure tests first: they fail fast and need no server. Of two workers (pytest-xdist), one takes the tests of the
    shared server and the other all the rest. GPU tests are skipped only where no GPU exists."""
    items.sort(key=_needs, reverse=config.getoption("loadgroup", False))
    for item in items:
        if group := GROUPS.get(_needs(item)):
            item.add_marker(pytest.mark.xdist_group(group))
        if "gpu" in item.keywords and not GPU:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "server.log"
    with running_server(flags=["--chunked-prefill-size", str(CHUNK)], log=log, env=probe_env()) as url:
        yield url


@pytest.fixture(scope="session")
def small_answers(tmp_path_factory):
    """What others are compared with: the torch executor on one rank."""
    from small_model import FLAGS, MORE, answers

    log = tmp_path_factory.mktemp("small") / "server.log"
    with running_server(flags=[*FLAGS, "--sfi-executor", "torch"], env=probe_env(), log=log) as url:
        return answers(url, MORE)


@pytest.fixture
def client(server):
    return OpenAI(base_url=f"{server}/v1", api_key="none")


def generate(url: str, text, sfi=None, tokens: int = 32, logprobs: bool = False, **params) -> dict:
    """POST /generate, greedy, always `tokens` tokens. `text` and `sfi` may be lists, served as one batch; as token
    ids they reach the scheduler in one message, so that timing does not decide what runs together."""

    def one(value) -> dict:
        fixed = {"temperature": 0, "max_new_tokens": tokens, "ignore_eos": True}
        return {**fixed, "custom_params": {"sfi": value}, **params}

    sampling = [one(value) for value in sfi] if isinstance(sfi, list) else one(sfi)
    kind = "input_ids" if isinstance(text[0], list) else "text"
    body = {kind: text, "sampling_params": sampling, "return_logprob": logprobs}
    reply = requests.post(f"{url}/generate", json=body, timeout=300)
    reply.raise_for_status()
    return reply.json()


def flush(url: str) -> None:
    Endpoint(url, "").flush_cache()


def story(sentences: int, start: int = 0) -> str:
    """Numbered prose: about 17 tokens a sentence."""
    lines = (
        f"On day {i} the harbor master wrote that {i % 17} ships came in." for i in range(start, start + sentences)
    )
    return " ".join(lines)


def common_prefix(one: str, other: str) -> str:
    return "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
