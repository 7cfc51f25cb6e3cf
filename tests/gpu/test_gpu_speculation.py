"""A server that speculates in SGLang's own way: dense requests are served as on a stock one, SFI ones are refused."""

import pytest
import requests

from sfi_sglang.serving.server import running_server
from tests.gpu.test_gpu_server import BF16, FLAGS, PROMPTS, SFI, TOKENS, ask, same_up_to_a_tie

pytestmark = [pytest.mark.gpu, pytest.mark.server, pytest.mark.timeout(900)]

PLAIN = ["--attention-backend", "triton", "--cuda-graph-bs-decode", "1", "8", "--max-running-requests", "8"]
NGRAM = ["--speculative-algorithm", "NGRAM", "--speculative-num-draft-tokens", "8", "--disable-overlap-schedule"]


def test_dense_requests_speculate_and_sfi_is_refused(tmp_path):
    with running_server(flags=[*FLAGS, *BF16, *PLAIN], log=tmp_path / "plain.log") as url:
        expected = ask(url, PROMPTS, [None] * len(PROMPTS))
    with running_server(flags=[*FLAGS, *BF16, *PLAIN, *NGRAM], log=tmp_path / "ngram.log") as url:
        replies = ask(url, PROMPTS, [None] * len(PROMPTS))
        sampling = {"max_new_tokens": 4, "custom_params": {"sfi": SFI}}
        refused = requests.post(f"{url}/generate", json={"text": "Hi", "sampling_params": sampling}, timeout=60)
    assert refused.status_code == 400 and "speculati" in refused.text
    alike = sum(same_up_to_a_tie(one, other) for one, other in zip(expected, replies, strict=True))
    accepted = [reply["meta_info"].get("spec_verify_ct") for reply in replies]
    print(f"{alike} of {len(replies)} replies are the same to the last token; verifications {accepted}")
    assert alike > len(replies) / 2 and any(count and count < TOKENS for count in accepted)
