"""A server's processes are killed in the midst of requests. SGLang ends the server with its scheduler or detokenizer;
clients learn it, and go on with the server that is started in its place."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import psutil
import pytest
import requests

from sfi_sglang.agents.programs import PROGRAMS
from sfi_sglang.client.openai_stream import make_client
from sfi_sglang.serving.server import reserved_port, running_server
from sfi_sglang.trajectory.records import read
from tests.helpers import probe_env, story

pytestmark = pytest.mark.server

FLAGS = ["--json-model-override-args", '{"num_hidden_layers": 1}', "--max-total-tokens", "16384"]
SFI = {"budget": 64, "recent": 64, "min_gap": 4, "max_segment": 16}
PATIENCE = 40  # retries, up to 8 s apart
SOON = 60.0  # seconds
NO_DUMPS = {"SGLANG_CUDA_COREDUMP_BEFORE_CRASH_WAIT_SECS": "0"}  # for which it waits a minute otherwise
TOKENS = 1500  # some seconds


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a server, always on the same port."""
    folder = tmp_path_factory.mktemp("kill")
    with reserved_port() as port:
        env = probe_env(traced=False, **NO_DUMPS)
        yield lambda: running_server(flags=FLAGS, port=port, log=folder / "log", env=env)


def family(url: str) -> list[psutil.Process]:
    """The server's process first, then all that it started."""
    port = int(url.rpartition(":")[2])
    (owner,) = {
        each.pid for each in psutil.net_connections("tcp") if each.status == "LISTEN" and each.laddr.port == port
    }
    return [psutil.Process(owner), *psutil.Process(owner).children(recursive=True)]


def kill(url: str, name: str) -> None:
    """SIGKILL one process, and see the whole server end."""
    whole = family(url)
    (victim,) = [whole[0]] if name == "server" else [one for one in whole if name in " ".join(one.cmdline())]
    victim.kill()
    assert not psutil.wait_procs(whole, timeout=SOON)[1]
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/health", timeout=SOON)


def completion(client: openai.OpenAI):
    extra = {"sfi": SFI, "ignore_eos": True}
    return client.completions.create(model="m", prompt=story(40), max_tokens=TOKENS, temperature=0, extra_body=extra)


def bench(url: str, path: Path) -> subprocess.Popen:
    settings = '{"trajectories": 1, "turns": 2, "output_tokens": 200, "delay": [0, 0]}'
    arguments = ["run", "smoke", "--server", url, "--repeats", "2", "--no-report", "--out", str(path)]
    arguments += ["--sfi", '{"budget": 64, "recent": 64}', "--set", settings]
    command = [str(Path(sys.executable).with_name("sfi-bench")), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_clients_and_the_benchmark_go_on_after_a_restart(start, tmp_path):
    path, sent = tmp_path / "runs.jsonl", []
    program = PROGRAMS["data"]()
    task = program.task("gold of Canada")
    with ThreadPoolExecutor(2) as pool:
        with start() as url:
            hooks = {"request": [lambda request: sent.append(request.url.path)]}
            http = httpx.Client(event_hooks=hooks, timeout=120)
            plain = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=PATIENCE, http_client=http)
            asked = pool.submit(completion, plain)
            agent = pool.submit(program.run, make_client(url, retries=PATIENCE), "m", task, sfi=SFI, max_steps=2)
            time.sleep(1)
            assert len(sent) == 1 and not asked.done()
            kill(url, "scheduler")
        with start() as url:
            assert asked.result(180).usage.completion_tokens == TOKENS and asked.result().sfi["fast_steps"] > 0
            assert len(sent) > 2, "refused while no server was there"
            result = agent.result(180)
            assert result.error is None and any(call.output_tokens for call in result.calls)
            broken = bench(url, path)
            while not path.exists() or len(path.read_text().splitlines()) < 2:
                assert broken.poll() is None
                time.sleep(0.05)
            kill(url, "server")
            assert broken.wait(SOON) == 1
            assert broken.stderr.read().startswith("server: no answer at ")
            assert 0 < len(read(path).runs) < 4 and not any(run.error for run in read(path).runs)
        with start() as url:
            resumed = bench(url, path)
            assert resumed.wait(180) == 0 and "going on with" in resumed.stdout.read()
            assert len(read(path).runs) == 4 and not any(run.error for run in read(path).runs)
            asked = pool.submit(completion, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0))
            time.sleep(1)
            kill(url, "detokenizer")
            with pytest.raises(openai.APIError):
                asked.result(SOON)
