"""The benchmark on the real server: fixed history and live, results, resuming, the page."""

import json

import pytest
from chromium import render
from typer.testing import CliRunner

from sfi_sglang.trajectory.cli import app
from sfi_sglang.trajectory.counters import from_server
from sfi_sglang.trajectory.endpoint import Endpoint
from sfi_sglang.trajectory.records import read
from sfi_sglang.trajectory.validate import gained, replay_all, single_calls

pytestmark = pytest.mark.server
SHORT = {"trajectories": 2, "turns": 2, "output_tokens": 8, "delay": [0.0, 0.0]}


def bench(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_fixed_history_gives_equal_tokens_to_both_modes(server, tmp_path):
    path = tmp_path / "fixed.jsonl"
    arguments = ["run", "smoke", "--server", server, "--set", json.dumps(SHORT), "--sfi", '{"budget": 128}']
    arguments += ["--repeats", "1", "--loads", "2", "--out", str(path)]
    output = bench(*arguments)
    runs = {(run.mode, run.trajectory): run for run in read(path).runs}
    assert len(runs) == 4 and not any(run.error for run in runs.values())
    for name in {run.trajectory for run in runs.values()}:
        dense, sfi = runs["dense", name].calls, runs["sfi", name].calls
        assert [(c.prompt_tokens, c.output_tokens) for c in dense] == [(c.prompt_tokens, c.output_tokens) for c in sfi]
        assert all(call.sfi is None for call in dense) and all(call.sfi["fast_steps"] > 0 for call in sfi)
        assert sfi[1].cached_tokens > 0.9 * sfi[0].prompt_tokens
    summary = json.loads((tmp_path / "fixed" / "summary.json").read_text())
    assert {cell["failed"] for cell in summary["cells"]} == {0}
    assert "as fast as dense at 2 clients" in " ".join(output.split())
    dom, complaints = render(tmp_path / "fixed" / "index.html", tmp_path / "profile")
    assert not complaints and "main-svg" in dom
    before = path.read_text()
    assert "going on with" in bench(*arguments)
    assert path.read_text() == before


def test_live_agents_are_checked_and_leave_transcripts(server, tmp_path):
    path = tmp_path / "live.jsonl"
    bench("live", "repo", "--tasks", "1", "--server", server, "--sfi", '{"budget": 128}', "--out", str(path))
    runs = read(path).runs
    assert {run.mode for run in runs} == {"dense", "sfi"} and all(run.success is not None for run in runs)
    transcripts = list((tmp_path / "live").rglob("repo-*.json"))
    assert len(transcripts) == 2
    assert "Right answers" in (tmp_path / "live" / "report.md").read_text()


def test_our_figures_are_those_of_the_servers_counters(server):
    endpoint = Endpoint.connect(server)
    workload = single_calls(2, from_server(endpoint.url, endpoint.model, ""))
    before = endpoint.counters()
    ours = replay_all(endpoint, workload)
    theirs = gained(before, endpoint, 2)
    for key in ("prompt_tokens", "output_tokens"):
        assert ours[key] == theirs[key]
    assert theirs["e2e_ms"] <= ours["e2e_ms"] < 1.5 * theirs["e2e_ms"]
