"""The benchmark on the real server: fixed history and live, results, resuming, the page."""

import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.token_count import from_server
from sfi_sglang.trajectory import validate
from sfi_sglang.trajectory.cli import app
from sfi_sglang.trajectory.formats import load
from sfi_sglang.trajectory.records import read
from tests.chromium import render

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
    results = read(path)
    assert "--enable-sfi" in results.header.provenance["server"]
    runs = {(run.mode, run.trajectory): run for run in results.runs}
    assert len(runs) == 4 and not any(run.error for run in runs.values())
    for name in {run.trajectory for run in runs.values()}:
        dense, sfi = runs["dense", name].calls, runs["sfi", name].calls
        assert [(c.prompt_tokens, c.output_tokens) for c in dense] == [(c.prompt_tokens, c.output_tokens) for c in sfi]
        assert all(call.sfi is None for call in dense) and all(call.sfi["fast_steps"] > 0 for call in sfi)
        assert all(0 < call.host < call.ttft for call in (*dense, *sfi))
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


def test_each_client_is_compared_with_the_servers_counters_of_its_run(server, monkeypatch):
    """SGLang's benchmark needs packages that we do not: we send its trace in its place."""

    def benchmark(endpoint, trace, calls, out):
        return validate.replay_all(endpoint, load(trace))

    monkeypatch.setattr(validate, "sglang_benchmark", benchmark)
    endpoint = Endpoint.connect(server)
    result = validate.compare_clients(endpoint, from_server(endpoint.url, endpoint.model, ""), 1, 1)
    one, *others = result["medians"].values()
    assert len(others) == 3
    for key in validate.COUNTERS:
        assert all(other[key] == one[key] for other in others)
    for client in (validate.OURS, validate.THEIRS):
        assert 0 <= result["apart"][f"{client} over {validate.SERVER[client]}"]["e2e_ms"] < 0.5
    console = Console(record=True, width=120)
    validate.show(result, console)
    assert "ours over sglang's" in console.export_text()


def test_of_quotients_the_median_counts():
    runs = {validate.OURS: [4, 6, 9], validate.SERVER[validate.OURS]: [4, 4, 9]}
    runs |= {validate.THEIRS: [2, 2, 3], validate.SERVER[validate.THEIRS]: [1, 1, 3]}
    rows = {name: [dict.fromkeys(validate.METRICS, value) for value in values] for name, values in runs.items()}
    assert [figures["ttft_ms"] for figures in validate.apart(rows).values()] == [0.0, 1.0, 2.0, 3.0]
