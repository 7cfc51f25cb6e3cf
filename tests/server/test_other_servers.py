"""Servers started otherwise: plain `sglang serve` without overlap, stock attention with a hook missing, Engine."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest
import requests

from sfi_sglang.serving.embedded_model import embedded_model
from sfi_sglang.serving.server import environment, running_server
from tests.helpers import flush, generate, probe_env, story
from tests.server.test_doors import GENERATING

pytestmark = pytest.mark.server

SMALL = {"budget": 64, "recent": 64, "min_gap": 4, "max_segment": 16}
PROMPT = story(60) + "\nQuestion: What did the harbor master write?\nAnswer:"
SHORT = [story(3 + i, start=11 * i) for i in range(6)]


def test_plain_sglang_serve_without_overlap_gives_the_same_text(server, tmp_path):
    """Also `--sfi-default on`: requests that do not say are served with SFI, `false` is dense, for every prompt of a
    batch; and `--preferred-sampling-params`, which pass the same gate."""
    flush(server)  # a prompt that is cached in part is computed in other pieces, and rounds differently
    with_overlap = generate(server, PROMPT, SMALL, tokens=48)
    dense = generate(server, PROMPT, None, tokens=48)
    flags = ["--decode-attention-backend", "sfi", "--radix-cache-backend", "sfi", "--disable-overlap-schedule"]
    preferred = '{"custom_params": {"sfi": {"budget": 300}}}'
    flags += ["--preferred-sampling-params", preferred]
    flags += ["--sfi-default", "on", "--device", "cpu", "--max-total-tokens", "16384"]
    log, served = tmp_path / "server.log", tmp_path / "served"
    served.mkdir()
    env = probe_env(traced=False, PROBE_STEPS=str(served))
    with running_server(flags=flags, defaults=False, log=log, env=env) as url:
        without = generate(url, PROMPT, SMALL, tokens=48)
        assert without["text"] == with_overlap["text"]
        assert without["meta_info"]["sfi"] == with_overlap["meta_info"]["sfi"]
        assert generate(url, PROMPT, None, tokens=4)["meta_info"]["sfi"]["budget"] == 2048
        params = {"max_new_tokens": 4, "temperature": 0}
        body = {"text": PROMPT, "sampling_params": params}
        preferring = requests.post(f"{url}/generate", json=body, timeout=60).json()
        assert preferring["meta_info"]["sfi"]["budget"] == 300
        params["custom_params"] = {"sfi": False}
        body = {"text": [PROMPT, PROMPT, "Hi"], "sampling_params": params}
        batch = requests.post(f"{url}/generate", json=body, timeout=60).json()
        assert not any("sfi" in reply["meta_info"] for reply in batch)
        off = generate(url, PROMPT, False, tokens=48)
        assert "sfi" not in off["meta_info"] and off["text"] == dense["text"]
        before = finished(served)
        for path, body in GENERATING.items():
            assert requests.post(url + path, json=body, timeout=60).status_code == 200
        assert finished(served) == before + len(GENERATING), "endpoints that take no field"


def finished(folder: Path) -> int:
    """SFI requests that a server with PROBE_STEPS has served."""
    return sum(len(file.read_text().splitlines()) for file in folder.iterdir())


def first_logprobs(url: str) -> list[tuple[int, float]]:
    firsts = []
    for text in SHORT:
        params = {"temperature": 0, "max_new_tokens": 1}
        body = {"text": text, "return_logprob": True, "sampling_params": params}
        reply = requests.post(f"{url}/generate", json=body, timeout=120).json()
        logprob, token, _ = reply["meta_info"]["output_token_logprobs"][0]
        firsts.append((token, logprob))
    return firsts


def listening(url: str) -> Counter[str]:
    """Addresses at which the processes of a server listen, and how many ports at each."""
    port = int(url.rpartition(":")[2])
    found = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    (owner,) = {each.pid for each in found if each.laddr.port == port}
    family = {owner, *(child.pid for child in psutil.Process(owner).children(recursive=True))}
    return Counter(each.laddr.ip for each in found if each.pid in family)


def test_a_missing_hook_refuses_sfi_and_serves_dense_like_stock(server, tmp_path):
    """The backend is SGLang's torch_native, so this is the stock reference too: also of where a server listens. That is
    127.0.0.1, but for the one port at which torch.distributed lets the ranks meet."""
    flags = ["--attention-backend", "torch_native", "--device", "cpu", "--max-total-tokens", "16384"]
    log = tmp_path / "server.log"
    env = probe_env(traced=False, PROBE_RENAME="RUN_BATCH")
    with running_server(flags=flags, defaults=False, log=log, env=env) as url:
        ours = listening(server)
        assert ours <= listening(url) and ours.total() - ours["127.0.0.1"] <= 1
        (off,) = (line for line in log.read_text().splitlines() if "SFI is " in line)
        assert "SFI is off: " in off and "run_batch_renamed" in off
        stock = first_logprobs(url)
        body = {"text": "Hi", "sampling_params": {"max_new_tokens": 2, "custom_params": {"sfi": True}}}
        refused = requests.post(f"{url}/generate", json=body, timeout=60)
        assert refused.status_code == 400
        assert "Scheduler.run_batch_renamed" in refused.text
        chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "sfi": True}
        refused = requests.post(f"{url}/v1/chat/completions", json=chat, timeout=60)
        assert refused.status_code == 400 and "run_batch_renamed" in refused.text
        assert generate(url, "Hi", None, tokens=4)["text"]
    for (token, logprob), (our_token, our_logprob) in zip(stock, first_logprobs(server), strict=True):
        assert token == our_token
        assert logprob == pytest.approx(our_logprob, abs=0.1)


ENGINE = """
import json, sys
import sglang as sgl

if __name__ == "__main__":
    engine = sgl.Engine(model_path=sys.argv[1], device="cpu", attention_backend="sfi", radix_cache_backend="sfi",
                        max_total_tokens=16384, log_level="error")
    params = {"temperature": 0, "max_new_tokens": 12, "ignore_eos": True}
    prompt = sys.stdin.read()
    replies = engine.generate([prompt, prompt], [params, params | {"custom_params": {"sfi": json.loads(sys.argv[2])}}])
    try:
        engine.generate("Hi", {"custom_params": {"sfi": {"budget": 0}}})
        error = None
    except ValueError as wrong:
        error = str(wrong)
    print("RESULT" + json.dumps([[r["text"], r["meta_info"].get("sfi")] for r in replies] + [error]))
    engine.shutdown()
"""


def test_engine(tmp_path):
    script = tmp_path / "engine.py"
    script.write_text(ENGINE)
    command = [sys.executable, str(script), str(embedded_model()), json.dumps(SMALL)]
    run = subprocess.run(
        command, input=PROMPT, capture_output=True, text=True, timeout=300, env=environment() | probe_env(traced=False)
    )
    result = next((line[6:] for line in run.stdout.splitlines() if line.startswith("RESULT")), None)
    assert result, run.stderr[-2000:]
    dense, sparse, error = json.loads(result)
    assert dense[1] is None and sparse[1]["fast_steps"] > 0
    assert "sfi.budget" in error
