"""Sparse extend in real servers on a GPU: kernels give the reply of plain torch, up to ties, and dense neighbours
theirs."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import torch

from sfi_sglang.api.options import EXTEND_TAIL
from sfi_sglang.serving.server import running_server
from tests.gpu.test_gpu_server import BF16, FLAGS, PROMPTS, SFI, ask, same_up_to_a_tie
from tests.helpers import story

pytestmark = [pytest.mark.gpu, pytest.mark.server, pytest.mark.timeout(900)]

EXECUTORS = ("torch", "triton")
GRAPHS = ["--cuda-graph-bs-decode", "1", "8"]
SPARSE = {**SFI, "budget": 128, "recent": 32, "extend": "sparse"}
TURN = " wrote again. " + story(30, start=900)


def turns(backend: str, executor: str, log) -> list[dict]:
    """Second turns that extend sparsely: alone, two in one batch, and beside dense prompts."""
    flags = [*FLAGS, *BF16, *GRAPHS, "--attention-backend", backend, "--sfi-executor", executor]
    with running_server(flags=flags, log=log) as url:
        for prompt in PROMPTS:
            ask(url, [prompt], [SPARSE])
        batches = [PROMPTS[:1], PROMPTS[1:3], [PROMPTS[3], PROMPTS[0]]]
        options = [[SPARSE], [SPARSE, SPARSE], [SPARSE, None]]
        pairs = zip(batches, options, strict=True)
        replies = [reply for texts, how in pairs for reply in ask(url, [text + TURN for text in texts], how)]
        replies += ask(url, [PROMPTS[0] + TURN], [None])
        assert requests.post(f"{url}/flush_cache", timeout=60).status_code == 200
    return replies


@pytest.mark.parametrize("backend", ["triton", "fa3"])
def test_kernels_extend_as_torch_does(backend, tmp_path):
    """fa3: groups attend through FlashAttention 3 (attention/flash_groups.py)."""
    if backend == "fa3" and torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("FlashAttention 3 is for Hopper")
    with ThreadPoolExecutor(len(EXECUTORS)) as pool:
        expected, replies = pool.map(lambda name: turns(backend, name, tmp_path / f"{name}.log"), EXECUTORS)
    alike = sum(same_up_to_a_tie(one, other) for one, other in zip(expected, replies, strict=True))
    print(f"{alike} of {len(replies)} replies are torch's to the last token")
    assert alike > len(replies) / 2
    for one, other in zip(expected, replies, strict=True):
        reports = [reply["meta_info"].get("sfi") for reply in (one, other)]
        if reports[0] is None:
            assert reports[1] is None
            continue
        counts = [report["sparse_extend_tokens"] for report in reports]
        assert counts[0] == counts[1] > 300 - EXTEND_TAIL
    beside, alone = replies[-2:]
    assert beside["meta_info"].get("sfi") is None and same_up_to_a_tie(alone, beside)
