"""Modes of SGLang that change where K and V lie or who keeps them, in the real server against Hugging Face's code."""

import re
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.interleave import stream as steps
from sfi_sglang.api.options import parse_sfi
from sfi_sglang.serving.server import running_server
from tests import random_models
from tests.helpers import probe_env
from tests.server.test_families import CLOSE, PLAIN, PROMPT, SMALL, WINDOW, ask, logprobs

pytestmark = pytest.mark.server


TURNS = ["--prefill-decode-interval", "1", "--prefill-decode-interval-min-bs", "1", "--decode-log-interval", "1"]


@pytest.mark.parametrize(
    ("flags", "cached"),
    [
        (["--page-size", "32"], 160),
        (["--page-size", "64", "--disable-radix-cache", "--chunked-prefill-size", "64", *TURNS], 0),
    ],
)
def test_pages_and_no_prefix_cache(tmp_path, flags, cached):
    folder = random_models.build("llama", tmp_path / "llama")
    flags = [*PLAIN, "--dtype", "float32", *flags]

    def close(reply, ids, sfi=None):
        expected = random_models.logprobs(folder, ids + reply["output_ids"], len(ids), parse_sfi(sfi))
        return logprobs(reply) == pytest.approx(expected, abs=CLOSE)

    with running_server(str(folder), flags, log=tmp_path / "log", env=probe_env(traced=False)) as url:
        for sfi in (None, WINDOW):
            assert close(ask(url, sfi), PROMPT, sfi)
        small = ask(url, SMALL)
        report = small["meta_info"]["sfi"]
        assert report["slow_steps"] > 1 and report["fast_steps"] > 20 and report["checked_tokens"] > 0
        turn = PROMPT + small["output_ids"] + PROMPT[:20]
        reply = ask(url, None, turn, tokens=8)
        assert reply["meta_info"]["cached_tokens"] == cached and close(reply, turn)
        if TURNS[0] in flags:
            assert any(takes_turns(during(url, tmp_path / "log")) for _ in range(5))


def takes_turns(passes: list[str]) -> bool:
    """Does a pass that decodes lie between any two chunks? Not where the stream was over before the prompt came."""
    return passes.count("Prefill") > 4 and "Prefill" not in {a for a, b in pairwise(passes) if a == b}


def during(url: str, log: Path) -> list[str]:
    """The kinds of the server's passes from the first to the last chunk of a prompt that comes while another request
    decodes with SFI."""
    begun = threading.Event()

    def going_on() -> bool:
        begun.set()
        return False

    stream = threading.Thread(target=steps, args=(url, PROMPT, SMALL, 200, [], going_on))
    stream.start()
    begun.wait(60)
    start = log.stat().st_size
    ask(url, None, PROMPT[::-1] + PROMPT, tokens=1)
    text = log.read_bytes()[start:].decode()
    stream.join()
    passes = re.findall("(Prefill|Decode) batch", text)
    ends = [i for i, kind in enumerate(passes) if kind == "Prefill"]
    return passes[ends[0] : ends[-1] + 1]
