"""What tests of several folders share: a request, texts, and the environment of a server under test."""

import itertools
import os
from pathlib import Path

import requests
import torch

from sfi_sglang.client.endpoint import Endpoint

GPU = torch.cuda.is_available()
PROBE = str(Path(__file__).parent / "probe")
CHUNK = 2048  # prompt tokens per prefill pass of the shared server


def probe_env(*, traced: bool = True, **extra: str) -> dict[str, str]:
    """Of a server with the probe. Tracing for coverage costs 14 s at its start and a fifth of its time later: servers
    that run what others have run do without."""
    path = os.pathsep.join(part for part in (PROBE, os.environ.get("PYTHONPATH")) if part)
    return {"PYTHONPATH": path, **({} if traced else {"COVERAGE_PROCESS_CONFIG": ""}), **extra}


def generate(url: str, text, sfi=None, tokens: int = 32, logprobs: bool = False, **params) -> dict:
    """POST /generate, greedy, always `tokens` tokens. `text` and `sfi` may be lists, served as one batch; as token
    ids they reach the scheduler in one message, so that timing does not decide what runs together."""

    def one(value) -> dict:
        fixed = {"temperature": 0, "max_new_tokens": tokens, "ignore_eos": True}
        return {**fixed, "custom_params": {"sfi": value}, **params}

    sampling = [one(value) for value in sfi] if isinstance(sfi, list) else one(sfi)
    kind = "text" if isinstance(text, str) or isinstance(text[0], str) else "input_ids"
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


def ids_of(url: str, text: str) -> list[int]:
    return requests.post(f"{url}/tokenize", json={"prompt": text}, timeout=60).json()["tokens"]
