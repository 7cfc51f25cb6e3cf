"""`sfi-sglang eval` against the shared server: all tasks into one folder, single ones that go on, what is refused."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sfi_sglang.cli import eval_all
from sfi_sglang.cli.main import app
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.generate import Refusal
from sfi_sglang.client.token_count import estimate
from sfi_sglang.evals import items, texts
from sfi_sglang.evals.accepted import accepted
from sfi_sglang.evals.copying import Copying
from sfi_sglang.evals.outcomes import read
from sfi_sglang.evals.retrieval import Retrieval
from sfi_sglang.evals.summary import Summary
from sfi_sglang.evals.variants import CHANGES, Variant

pytestmark = pytest.mark.server
runner = CliRunner(env={"COLUMNS": "200"})
TINY = replace(
    eval_all.QUICK, lengths="450", trials=1, length=400, texts=1, tokens=700, turns=2, conversations=1, agents=1
)


def run(*arguments) -> str:
    done = runner.invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_all_tasks_go_into_one_folder_with_one_page(server, tmp_path, monkeypatch):
    from sfi_sglang.evals import agents

    monkeypatch.setattr(eval_all, "QUICK", TINY)
    monkeypatch.setattr(texts, "TOKENS", 24)
    monkeypatch.setitem(CHANGES, "sfi", ({"min_gap": 4, "max_segment": 16}, "with a slow step within so few tokens"))
    monkeypatch.setattr(agents, "CHOSEN", ("repo",))
    monkeypatch.setattr(Retrieval, "kinds", ("single", "earlier turn"))
    monkeypatch.setattr(Copying, "kinds", ("path",))
    command = ("eval", "all", "--quick", "--server", server, "--budget", 32, "--out", tmp_path)
    printed = run(*command)
    header, answers = read(tmp_path / "answers.jsonl")
    summary = Summary.model_validate_json((tmp_path / "summary.json").read_text())
    tasks = ["retrieval", "copy", "tools", "agreement", "coverage", "carry", "agents"]
    assert list(header.settings) == tasks and header.model == Endpoint.connect(server).model
    counts = {task: sum(answer.task == task for answer in answers) for task in tasks}
    assert counts == {
        "retrieval": 6, "copy": 3, "tools": 6, "agreement": 9, "coverage": 3, "carry": 5, "agents": 2,
    }  # fmt: skip
    written = [answer for answer in answers if answer.task == "agreement"]
    assert all(len(answer.chosen) == 24 for answer in written)
    assert all((answer.refreshes[:1] == [0]) == (answer.variant != "dense") for answer in written)
    nats = {v: sum(sum(a.divergence) for a in written if a.variant == v) for v in ("dense", "sfi", "sink+recent")}
    assert nats["dense"] < 0.25 * nats["sfi"], "bf16 rounds alone"
    assert {head.layer for head in summary.coverage} == set(range(30)) and len(summary.coverage) == 90
    assert all(0 < head.coverage.value <= 1.01 for head in summary.coverage)
    carry = {cost.variant: cost for cost in summary.carry}
    assert carry["inherit"].inherited > 0.2 and carry["merge"].inherited > 0.2
    assert carry["fresh"].inherited == carry["dense"].inherited == 0
    assert "more questions; after a break go on with the same --out" in printed
    assert "## Agreement, by tokens since the last refresh" in (tmp_path / "report.md").read_text()
    assert 'id="plot-age-chosen"' in (tmp_path / "index.html").read_text()
    assert (tmp_path / "transcripts" / "repo" / "sfi").is_dir()
    assert "more questions" not in run(*command) and len(read(tmp_path / "answers.jsonl")[1]) == len(answers)


def test_a_task_is_asked_once_and_held_to_its_schema(server, tmp_path):
    command = (
        "eval",
        "tools",
        "--server",
        server,
        "--lengths",
        700,
        "--trials",
        2,
        "--budget",
        64,
        "--recent",
        64,
        "--out",
        tmp_path,
    )
    printed = run(*command)
    header, answers = read(tmp_path / "answers.jsonl")
    assert len(answers) == 2 * 2 * 3 and {answer.variant for answer in answers} == {"dense", "sfi", "sink+recent"}
    assert all(answer.fast_steps > 0 for answer in answers if answer.variant != "dense")
    assert all(answer.text.endswith('"})') for answer in answers)
    assert header.settings["tools"]["trials"] == 2 and header.provenance["server"]
    assert "the same number of tokens, but the last ones" in printed
    other = runner.invoke(app, [*map(str, command), "--budget", "32"])
    assert other.exit_code == 1 and "another budget, variants" in str(other.exception)


def test_sparse_extend_gets_prompts_in_parts_or_says_that_it_did_nothing(server):
    task, count = Copying(), estimate()
    sparse = Variant("sparse", {"budget": 16, "sink": 2, "recent": 16, "extend": "sparse"}, "")
    long, short = (task.items(length, 1, range(1), count)[0] for length in (900, 300))
    assert items.answer(server, task, long, sparse).fast_steps > 0
    with pytest.raises(RuntimeError, match="sparse extend left nothing out of"):
        items.answer(server, task, short, sparse)
    done = runner.invoke(app, ["eval", "agreement", "--server", server, "--set", "extend", "--trials", "1"])
    assert done.exit_code == 1 and "--set extend: for retrieval, copy and tools" in str(done.exception)


@given(st.text(alphabet="ab \n", max_size=60))
def test_a_prompt_comes_in_parts(prompt):
    for part, following in pairwise([*items.beginnings(prompt), prompt]):
        assert following.startswith(part) and prompt[len(part)] == " "


def test_own_transcripts(server, tmp_path):
    messages = [{"role": "user", "content": "Tell me of the harbor. " * 80}]
    (tmp_path / "one.json").write_text(json.dumps(messages))
    (tmp_path / "two.json").write_text(json.dumps({"messages": messages, "model": "m"}))
    one, two = texts.transcripts(server, tmp_path)
    assert one.ids == two.ids and one.length > 400 and one.kind == "transcript"


def test_variants_that_the_server_refuses_are_left_out_with_its_reason(server):
    odd = Variant("odd", {"budget": 0}, "no such budget")
    kept, refused = accepted(server, [Variant("dense", None, ""), Variant("sfi", {"budget": 64}, ""), odd])
    assert [variant.label for variant in kept] == ["dense", "sfi"]
    assert refused.keys() == {"odd"} and refused["odd"].startswith("sfi.budget: expected a whole number")
    with pytest.raises(Refusal, match=r"/generate refused: sfi\.budget"):
        accepted(server, [replace(odd, label="sfi")])


def test_an_unknown_set_is_named(server):
    done = runner.invoke(app, ["eval", "copy", "--server", server, "--set", "all"])
    assert done.exit_code == 2 and "plain, controls," in done.output
