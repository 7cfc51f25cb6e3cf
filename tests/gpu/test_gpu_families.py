"""Models that mix kinds of layers on a GPU, tiny and with random weights, under CUDA graphs: sinks and windows
(gpt-oss), Gated DeltaNet (Qwen3-Next)."""

import random

import numpy as np
import pytest
import requests
import torch

from sfi_sglang.serving.server import running_server
from tests import random_models

pytestmark = [pytest.mark.gpu, pytest.mark.server, pytest.mark.timeout(900)]

DRAW = random.Random(2)
PROMPT = [DRAW.randrange(1, 127) for _ in range(300)]
TOKENS = 48
SMALL = {"budget": 64, "sink": 2, "recent": 64, "min_gap": 4, "max_segment": 12}
WINDOW = {"policy": "never", "sink": 2, "recent": 64}
NEARLY = {"policy": "never", "sink": 2, "recent": 320}  # all but a few tokens, of the last of them
ROUNDED = 0.05  # nats, mean: bf16
FLAGS = ["--skip-tokenizer-init", "--context-length", "512", "--max-total-tokens", "16384", "--dtype", "bfloat16"]
FLAGS += ["--mem-fraction-static", "0.2", "--sampling-backend", "pytorch", "--cuda-graph-bs-decode", "1", "8"]
BACKENDS = {  # attention, and what goes with it
    "gpt_oss": ["--attention-backend", "triton", "--moe-runner-backend", "triton"],
    "qwen3_next": ["--attention-backend", "triton"],
}


def ask(url: str, sfi, ids: list[list[int]], tokens: int = TOKENS) -> list[dict]:
    """One batch."""
    sampling = {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True, "custom_params": {"sfi": sfi}}
    body = {"input_ids": ids, "sampling_params": sampling, "return_logprob": True}
    reply = requests.post(f"{url}/generate", json=body, timeout=300)
    reply.raise_for_status()
    return reply.json()


def gap(one: dict, other: dict) -> float:
    """Mean difference of log-probabilities up to where the texts part, that token included, nats."""
    pairs = [zip(*r["meta_info"]["output_token_logprobs"], strict=True) for r in (one, other)]
    (mine, ours, _), (theirs, its, _) = pairs
    parted = next((i + 1 for i, (a, b) in enumerate(zip(ours, its, strict=True)) if a != b), len(ours))
    return float(np.abs(np.subtract(mine[:parted], theirs[:parted])).mean())


@pytest.fixture(scope="module", params=BACKENDS)
def served(request, tmp_path_factory):
    folder = random_models.build(request.param, tmp_path_factory.mktemp("m") / request.param, torch.bfloat16)
    with running_server(str(folder), [*FLAGS, *BACKENDS[request.param]], log=folder.with_suffix(".log")) as url:
        yield url, folder


def test_what_sees_nearly_everything_is_nearly_dense(served):
    """So the kernels read the layers of full attention as the stock backend does, sinks and all."""
    url, folder = served
    (dense,), (nearly,), (window,) = (ask(url, sfi, [PROMPT]) for sfi in (None, NEARLY, WINDOW))
    assert nearly["meta_info"]["sfi"]["fast_steps"] > 20
    near, far = (gap(dense, other) for other in (nearly, window))
    print(f"{folder.name}: nearly everything {near:.4f} nats from dense, a window {far:.4f}")
    assert near < ROUNDED < far


def test_a_small_budget_is_sparse_and_the_cache_stays_exact(served):
    """Also beside recurrent states, of which SGLang keeps those at some lengths."""
    url, folder = served
    (dense,), (whole,), (sparse,) = (ask(url, sfi, [PROMPT]) for sfi in (None, {"budget": 512}, SMALL))
    assert whole["output_ids"] == dense["output_ids"]
    report = sparse["meta_info"]["sfi"]
    assert report["fast_steps"] > TOKENS // 2 and report["slow_steps"] > 1 and 0 < report["coverage"] < 1
    assert sparse["output_ids"] != dense["output_ids"]
    turn = PROMPT + sparse["output_ids"] + PROMPT[:20]
    (after,) = ask(url, None, [turn], tokens=16)
    requests.post(f"{url}/flush_cache", timeout=60).raise_for_status()
    (fresh,) = ask(url, None, [turn], tokens=16)
    assert fresh["meta_info"]["cached_tokens"] == 0
    print(f"{folder.name}: {after['meta_info']['cached_tokens']} of {len(turn)} tokens cached, {report}")
    assert gap(after, fresh) < ROUNDED


def test_rows_of_both_kinds_share_a_batch(served):
    url, _ = served
    (alone,) = ask(url, SMALL, [PROMPT])
    batch = [PROMPT, PROMPT[7:], PROMPT[20:]]
    fixed = {"max_new_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    params = [{**fixed, "custom_params": {"sfi": sfi}} for sfi in (SMALL, None, WINDOW)]
    reply = requests.post(f"{url}/generate", json={"input_ids": batch, "sampling_params": params}, timeout=300).json()
    mine, dense, _ = reply
    assert "sfi" not in dense["meta_info"]
    for key in ("fast_steps", "slow_steps"):
        assert mine["meta_info"]["sfi"][key] == alone["meta_info"]["sfi"][key]
