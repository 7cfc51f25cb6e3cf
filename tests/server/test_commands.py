"""The commands against the shared server: evaluations, stats and the demo, as a user would run them, but smaller."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from sfi_sglang import METRIC_PREFIX
from sfi_sglang.agents import logbook
from sfi_sglang.cli import stats
from sfi_sglang.cli.main import app
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.generate import generate as text_of
from tests.helpers import generate, story

pytestmark = pytest.mark.server
runner = CliRunner(env={"COLUMNS": "160"})


def run(*arguments) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_stats(server):
    sfi = {"budget": 64, "recent": 64, "carry": "inherit", "min_gap": 1, "max_segment": 4}
    generate(server, story(40), sfi, tokens=12)
    printed = run("stats", "--server", f"{server}/v1")
    assert "memory_bytes" in printed and "memory_lookups_total" in printed and "fast_steps_total" in printed
    counted = Endpoint.connect(server).counters()
    fast, slow = (counted[f"{METRIC_PREFIX}{kind}_steps_total"] for kind in ("fast", "slow"))
    assert f"{fast / (fast + slow):.0%}" in printed and "never acted" not in printed
    agreed, checked = (counted[f"{METRIC_PREFIX}{kind}_tokens_total"] for kind in ("agreed", "checked"))
    assert checked > 0 and f"{agreed / checked:.1%}" in printed
    refreshes, seconds = (counted[f"{METRIC_PREFIX}refresh_seconds_{part}"] for part in ("count", "sum"))
    assert f"{seconds / refreshes:.4f}" in printed and "coverage, mean of requests" in printed
    assert "_bucket" not in printed and "_created" not in printed


def test_stats_say_where_sfi_never_acted(capsys):
    stats.show("http://host", {"slow_steps_total": 106.0, "fast_steps_total": 0.0})
    printed = capsys.readouterr().out
    assert "never acted" in printed and "3,076" in printed and "0%" in printed


def test_a_refused_request_gives_the_servers_reason(server):
    with pytest.raises(RuntimeError, match=r"/generate refused: .*budget"):
        text_of(server, "Once", 4, {"budget": 0})


def test_demo(server, tmp_path, monkeypatch):
    """From a short logbook, in which SFI with a small budget acts."""
    program = logbook.logbook(sentences=4)
    monkeypatch.setattr(logbook, "logbook", lambda: program)
    monkeypatch.chdir(tmp_path)
    printed = run("demo", "--server", server, "--budget", 64, "--recent", 64)
    assert printed.count('read_pages {"first": ') == 4 and program.tasks[0].begins in printed
    *_, gained, cost, following = printed.splitlines()
    assert gained.startswith("Gained: ") and "8 at once" in gained and "steps were fast" in gained
    assert cost.startswith("Cost: right answers dense ") and following.startswith("Next: ")
    records = [json.loads(path.read_text()) for path in tmp_path.glob("runs/demo/*/*.json")]
    assert len(records) == 2 * len(program.tasks)
    assert len({json.dumps(record["messages"][:-1]) for record in records}) == 1  # one history for all
    assert {json.dumps(record["sfi"]) for record in records} == {"null", '{"budget": 64, "recent": 64}'}


def test_demo_says_where_sfi_never_acted(server, tmp_path, monkeypatch):
    program = logbook.logbook(sentences=1)
    monkeypatch.setattr(logbook, "logbook", lambda: replace(program, tasks=program.tasks[:1]))
    monkeypatch.chdir(tmp_path)
    printed = run("demo", "--server", server, "--budget", 4096)
    assert "never acted" in printed and "Gained: nothing" in printed
