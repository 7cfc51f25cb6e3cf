"""`exact` on a GPU, under CUDA graphs and overlap scheduling: the dense reply, up to ties of bf16."""

import pytest
import requests

from sfi_sglang.serving.server import running_server
from tests.gpu.test_gpu_server import BF16, FLAGS, PROMPTS, SFI, TOKENS, TRITON, ask, same_up_to_a_tie
from tests.helpers import generate

pytestmark = [pytest.mark.gpu, pytest.mark.server, pytest.mark.timeout(900)]

EXACT = {**SFI, "exact": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    flags = [*FLAGS, *BF16, *TRITON, "--speculative-algorithm", "SFI"]
    env = {"SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1", "SGLANG_CHECK_KV_PAGE_INVARIANTS": "1"}
    with running_server(flags=flags, log=tmp_path_factory.mktemp("exact") / "server.log", env=env) as url:
        yield url


def test_exact_replies_are_the_dense_ones_up_to_ties(server):
    dense = ask(server, PROMPTS, [None] * len(PROMPTS))
    options = [EXACT if i % 3 != 2 else None for i in range(len(PROMPTS))]
    replies = generate(server, PROMPTS, options, tokens=TOKENS)
    alike = drafted = accepted = dense_passes = asked = 0
    for expected, reply, option in zip(dense, replies, options, strict=True):
        alike += same_up_to_a_tie(expected, reply)
        if option:
            report = reply["meta_info"]["sfi"]
            drafted, accepted = drafted + report["drafted_tokens"], accepted + report["accepted_tokens"]
            dense_passes, asked = dense_passes + report["slow_steps"], asked + TOKENS
    print(f"{accepted} of {drafted} drafts accepted, {dense_passes} dense passes for {asked} tokens")
    assert dense_passes < asked / 3
    assert accepted > drafted / 3  # those behind a rejected one count, and copies are long
    print(f"{alike} of {len(replies)} replies are the dense ones to the last token")
    assert alike > len(replies) / 2


def test_replies_that_follow_a_grammar_are_the_dense_ones_up_to_ties(server):
    grammar = {"regex": r"[a-z ,.\n]{200,}"}
    dense = ask(server, PROMPTS, [None] * len(PROMPTS), **grammar)
    replies = generate(server, PROMPTS, EXACT, tokens=TOKENS, **grammar)
    alike = sum(same_up_to_a_tie(expected, reply) for expected, reply in zip(dense, replies, strict=True))
    print(f"{alike} of {len(replies)} replies that follow a grammar are the dense ones to the last token")
    assert alike > len(replies) / 2


@pytest.mark.parametrize("how", [{"temperature": 0.8}, {"temperature": 0.8, "top_p": 0.9}])
def test_draws_hang_on_no_draft_up_to_ties(server, how):
    """The same noise, and drafts of another policy. bf16 rounds otherwise in other batches, so a reply may part."""
    window = {**EXACT, "policy": "never"}
    alone = [generate(server, text, window, tokens=TOKENS, sampling_seed=7, **how) for text in PROMPTS]
    replies = generate(server, PROMPTS, EXACT, tokens=TOKENS, sampling_seed=7, **how)
    alike = sum(one["output_ids"] == other["output_ids"] for one, other in zip(alone, replies, strict=True))
    print(f"{how}: {alike} of {len(replies)} replies are the same to the last token")
    assert alike > len(replies) / 2
    assert all(one["output_ids"][:8] == other["output_ids"][:8] for one, other in zip(alone, replies, strict=True))


def test_nothing_is_left_behind(server):
    assert requests.post(f"{server}/flush_cache", timeout=60).status_code == 200
