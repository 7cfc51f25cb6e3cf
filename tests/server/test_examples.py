"""The examples, run as their first lines say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sfi_sglang.serving.embedded_model import embedded_model
from sfi_sglang.serving.server import environment
from tests.helpers import probe_env

pytestmark = pytest.mark.server
EXAMPLES = Path(__file__).parents[2] / "examples"


def run(example: str, *arguments: str) -> str:
    env = environment() | probe_env(traced=False)
    command = [sys.executable, str(EXAMPLES / f"{example}.py"), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_example_is_run_here():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {file.stem for file in EXAMPLES.glob("*.py")} <= tested


def test_openai_chat(server):
    dense, sparse = run("openai_chat", "--server", server).split("sfi=")[1:]
    assert dense.startswith("False") and "slow steps" not in dense
    assert sparse.startswith("{'budget': 256, 'recent': 256}") and "'prompt_tokens': " in sparse


def test_agent_loop(server):
    printed = run("agent_loop", "--server", server)
    assert "search({'day': '120'})\n    On day 120 the harbor master wrote that 3 ships came in." in printed
    assert "answer({'text': " in printed.splitlines()[-1]
    assert not re.search(r"\b0 fast ones", printed)


def test_frontend(server):
    printed = run("frontend", "--server", server)
    summary, title = printed.split("title:")
    assert "'fast_steps': " in summary and "SFI: None" in title


def test_engine():
    dense, sparse = run("engine", str(embedded_model())).split("  SFI: ")[1:]
    assert dense.startswith("None\n") and "'fast_steps': " in sparse
    assert "'fast_steps': 0" not in sparse
