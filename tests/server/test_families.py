"""Models that mix kinds of attention, tiny and with random weights, in the real server against Hugging Face's code: the
layers of full attention turn sparse, with sinks where they have some, and those with windows stay as they are."""

import random

import pytest
import requests

from sfi_sglang.api.options import parse_sfi
from sfi_sglang.serving.server import running_server
from tests import random_models
from tests.helpers import probe_env
from tests.model_families import write_config

pytestmark = pytest.mark.server

DRAW = random.Random(2)
PROMPT = [DRAW.randrange(1, 127) for _ in range(150)]
TOKENS = 40
SMALL = {"budget": 24, "sink": 2, "recent": 32, "min_gap": 4, "max_segment": 12}
LATE = {**SMALL, "budget": 96, "recent": 64}  # the reply begins densely
WINDOW = {"policy": "never", "sink": 2, "recent": 32}
CLOSE = 2e-3  # nats, float32
STATES = {"PROBE_CONV": "1", "SGLANG_MAMBA_CONV_DTYPE": "float32"}  # SGLang keeps them in 16 bits otherwise
PLAIN = ["--skip-tokenizer-init", "--context-length", "512", "--max-total-tokens", "4096"]


def ask(url: str, sfi, ids: list[int] = PROMPT, tokens: int = TOKENS) -> dict:
    sampling = {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True, "custom_params": {"sfi": sfi}}
    body = {"input_ids": ids, "sampling_params": sampling, "return_logprob": True}
    reply = requests.post(f"{url}/generate", json=body, timeout=120)
    reply.raise_for_status()
    answer: dict = reply.json()
    return answer


def logprobs(reply: dict) -> list[float]:
    return [entry[0] for entry in reply["meta_info"]["output_token_logprobs"]]


@pytest.fixture(scope="module", params=["gpt_oss", "gemma3_text", "lfm2"])
def served(request, tmp_path_factory):
    """URL and folder of a model in float32."""
    folder = random_models.build(request.param, tmp_path_factory.mktemp("models") / request.param)
    flags = [*PLAIN, "--dtype", "float32"]
    if request.param == "gpt_oss":  # SGLang names the backends that it may have; the torch executor takes its place
        flags += ["--attention-backend", "triton"]
    with running_server(
        str(folder), flags, log=folder.with_suffix(".log"), env=probe_env(traced=False, **STATES)
    ) as url:
        yield url, folder


def test_dense_and_window_are_those_of_hugging_face(served):
    url, folder = served
    for sfi in (None, WINDOW):
        reply = ask(url, sfi)
        ids = PROMPT + reply["output_ids"]
        assert logprobs(reply) == pytest.approx(
            random_models.logprobs(folder, ids, len(PROMPT), parse_sfi(sfi)), abs=CLOSE
        )
    dense = random_models.logprobs(folder, ids, len(PROMPT))
    assert logprobs(reply) != pytest.approx(dense, abs=10 * CLOSE), "the window must make a difference"


def test_a_budget_above_the_context_is_dense_and_a_small_one_is_not(served):
    url, _ = served
    dense, whole, small = (ask(url, sfi) for sfi in (None, {"budget": 512}, SMALL))
    assert whole["output_ids"] == dense["output_ids"]
    assert whole["meta_info"]["sfi"]["fast_steps"] == 0
    report = small["meta_info"]["sfi"]
    assert report["fast_steps"] > TOKENS // 2 and report["slow_steps"] > 1 and 0 < report["coverage"] < 1
    assert small["output_ids"] != dense["output_ids"]


@pytest.mark.parametrize("sfi", [SMALL, LATE])
def test_what_sfi_leaves_in_the_cache_is_exact(served, sfi):
    """Also beside a sliding-window pool, whose tokens cannot be computed anew, and beside states, of which there is
    only that of the reply's end."""
    url, folder = served
    prompt = PROMPT if sfi is SMALL else PROMPT[::-1]
    sparse = ask(url, sfi, prompt)
    assert sparse["meta_info"]["sfi"]["fast_steps"] > TOKENS // 2
    turn = prompt + sparse["output_ids"] + PROMPT[:20]
    reply = ask(url, None, turn, tokens=8)
    assert reply["meta_info"]["cached_tokens"] >= len(prompt)
    expected = random_models.logprobs(folder, turn + reply["output_ids"], len(turn))
    assert logprobs(reply) == pytest.approx(expected, abs=CLOSE)


def test_an_fp8_cache_gives_both_executors_the_same(tmp_path):
    folder = random_models.build("olmo3", tmp_path / "olmo3")
    flags = [*PLAIN, "--dtype", "float32", "--kv-cache-dtype", "fp8_e4m3", "--sfi-executor"]
    replies = []
    for executor in ("torch", "triton"):
        log = tmp_path / f"{executor}.log"
        with running_server(str(folder), [*flags, executor], log=log, env=probe_env(traced=False)) as url:
            replies.append([ask(url, sfi, tokens=12) for sfi in (None, WINDOW, {**SMALL, "max_segment": 4})])
    for reference, mine in zip(*replies, strict=True):
        assert mine["output_ids"] == reference["output_ids"]
        assert logprobs(mine) == pytest.approx(logprobs(reference), abs=CLOSE)
    dense, _, small = replies[1]
    exact = random_models.logprobs(folder, PROMPT + dense["output_ids"], len(PROMPT))
    assert logprobs(dense) != pytest.approx(exact, abs=CLOSE), "8 bits must make a difference"
    report = small["meta_info"]["sfi"]
    assert report["slow_steps"] > 1 and 0 < report["coverage"] < 1


WINDOWS_ALONE = (
    "none of the model's layers has attention over the whole context that SFI covers: layer 0 attends to a sliding "
    "window, and so on"
)
FP8 = "the KV cache is float8_e5m2, which --sfi-executor torch does not read"


@pytest.mark.parametrize(
    ("family", "flags", "reason"),
    [("gemma3_text", [], WINDOWS_ALONE), ("llama", ["--kv-cache-dtype", "fp8_e5m2"], FP8)],
)
def test_a_server_that_cannot_serve_sfi_goes_on_densely(tmp_path, family, flags, reason):
    model, log = write_config(family, tmp_path / family), tmp_path / "server.log"
    flags = [*PLAIN, "--load-format", "dummy", *flags]
    with running_server(str(model), flags, log=log, env=probe_env(traced=False)) as url:
        before = ask(url, None)["output_ids"]
        for sfi in (True, SMALL):
            params = {"max_new_tokens": 4, "custom_params": {"sfi": sfi}}
            body = {"input_ids": PROMPT, "sampling_params": params, "stream": sfi is True}
            refused = requests.post(f"{url}/generate", json=body, timeout=60)
            assert refused.status_code == 400
            error = refused.json()["error"]
            assert (error if body["stream"] else error["message"]) == f"sfi: not available on this server: {reason}"
        assert ask(url, None)["output_ids"] == before
        assert requests.get(f"{url}/server_info", timeout=60).json()["sfi"] == {"refusal": reason, "statement": None}
    assert f"SFI requests will be refused: {reason}" in log.read_text()


def test_a_server_whose_default_is_sfi_and_that_cannot_serve_it_does_not_start(tmp_path):
    model, log = write_config("gemma3_text", tmp_path / "gemma"), tmp_path / "server.log"
    flags = [*PLAIN, "--load-format", "dummy", "--sfi-default", "on"]
    with pytest.raises(RuntimeError), running_server(str(model), flags, log=log, env=probe_env(traced=False)):
        pass
    assert f"sfi: --sfi-default is on, but this server cannot serve SFI: {WINDOWS_ALONE}" in log.read_text()
