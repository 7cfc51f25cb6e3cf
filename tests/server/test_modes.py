"""Modes of SGLang that change where K and V lie or who keeps them, in the real server against Hugging Face's code."""

import pytest

from sfi_sglang.api.options import parse_sfi
from sfi_sglang.serving.server import running_server
from tests import random_models
from tests.helpers import probe_env
from tests.server.test_families import CLOSE, PLAIN, PROMPT, SMALL, WINDOW, ask, logprobs

pytestmark = pytest.mark.server


@pytest.mark.parametrize(
    ("flags", "cached"), [(["--page-size", "32"], 160), (["--page-size", "64", "--disable-radix-cache"], 0)]
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
