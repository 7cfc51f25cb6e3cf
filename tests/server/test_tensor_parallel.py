"""Three tensor-parallel ranks on the CPU, through gloo: one query group and one KV head of SmolLM2 each."""

import pytest

from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.serving.server import running_server
from tests.helpers import GPU, flush, generate, probe_env
from tests.server import test_exact_mode as one_rank
from tests.server.test_exact_mode import EXACT, LOSSY, TEXTS, info
from tests.small_model import FLAGS, WITHOUT_EXCLUSION, answers, assert_same

pytestmark = [pytest.mark.server, pytest.mark.skipif(GPU, reason="SGLang's ranks want a GPU each")]

RANKS = 3
# SGLang wants one NUMA node a rank or a list of cores; without its Intel kernels it binds to none of them.
CORES = "|".join("0" * RANKS)


def test_ranks_decide_alike_and_like_one_rank(small_answers, tmp_path):
    steps = tmp_path / "steps"
    steps.mkdir()
    env = probe_env(traced=False, SGLANG_CPU_OMP_THREADS_BIND=CORES, PROBE_STEPS=str(steps))
    flags = [*FLAGS, "--sfi-executor", "torch", "--tp", str(RANKS)]
    with running_server(flags=flags, env=env, log=tmp_path / "server.log") as url:
        replies = answers(url)
        counters = Endpoint(url, "").counters()
    # Exclusion compares all KV heads and a rank has only its own, so it is off, and the answer says so.
    assert replies["paper"]["meta_info"]["sfi"]["selector"] == WITHOUT_EXCLUSION
    for name, reply in replies.items():
        assert_same(reply, small_answers[WITHOUT_EXCLUSION if name == "paper" else name])
    ranks = [file.read_text() for file in steps.iterdir()]
    assert len(ranks) == RANKS and len(set(ranks)) == 1
    served = [reply for reply in replies.values() if "sfi" in reply["meta_info"]]
    assert len(served) == len(replies) - 1
    assert counters["sglang:sfi_requests_total"] == len(served), "each request counts once, not once a rank"


def test_ranks_draft_and_verify_alike(tmp_path):
    """Also where they draw and follow grammars, each rank for itself."""
    env = probe_env(traced=False, SGLANG_CPU_OMP_THREADS_BIND=CORES, **one_rank.STRICT, **one_rank.RETRACT)
    flags = [*one_rank.FLAGS, "--tp", str(RANKS)]
    drawn = {"temperature": 0.8, "sampling_seed": 5, "regex": r"[a-z ,.\n]{30,}"}
    with running_server(flags=flags, env=env, log=tmp_path / "server.log") as url:
        texts = [TEXTS[5], TEXTS[2]]
        dense = generate(url, texts, None, tokens=24)
        whole = generate(url, texts, {**EXACT, "budget": 4096}, tokens=24, **drawn)
        flush(url)
        greedy = generate(url, [*texts, texts[0], texts[0]], [EXACT] * 2 + [None, LOSSY], tokens=24)
        drawing = generate(url, texts, EXACT, tokens=24, **drawn)
    for replies, expected in ((greedy, [*dense, dense[0]]), (drawing, whole)):
        assert [r["output_ids"] for r in replies[: len(expected)]] == [r["output_ids"] for r in expected]
    assert all(info(reply)["accepted_tokens"] > 0 for reply in [*greedy[:2], *drawing])
