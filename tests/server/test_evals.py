"""`sfi-sglang eval` against the shared server: tasks, agreement, a file that is gone on with."""

import json

import pytest
from typer.testing import CliRunner

from sfi_sglang.cli.main import app
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.evals import agreement

pytestmark = pytest.mark.server
runner = CliRunner(env={"COLUMNS": "200"})


def run(*arguments) -> str:
    done = runner.invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_task_is_asked_once(server, tmp_path):
    out = tmp_path / "answers.jsonl"
    command = ("eval", "tools", "--server", server, "--lengths", 700, "--trials", 2, "--budget", 64, "--out", out)
    printed = run(*command)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    answers = lines[1:]
    assert len(answers) == 2 * 2 * 3 and {answer["variant"] for answer in answers} == {"dense", "sfi", "sink+recent"}
    assert all(answer["fast_steps"] > 0 for answer in answers if answer["variant"] != "dense")
    assert all(answer["text"].endswith('"})') for answer in answers), "held to the schema"
    table = out.with_suffix(".md").read_text()
    assert table.strip() in printed
    run(*command)
    assert len(out.read_text().splitlines()) == len(lines), "nothing is asked again"
    settings = json.loads(out.read_text().splitlines()[0])["settings"]
    assert settings["model"] == Endpoint.connect(server).model and settings["trials"] == 2
    assert "- sink+recent: the same number of tokens" in printed
    assert runner.invoke(app, [*map(str, command[:-3]), "32", "--out", str(out)]).exit_code == 1


def test_dense_agrees_with_itself_and_a_narrow_window_less(server, tmp_path):
    out = tmp_path / "agreement.jsonl"
    printed = run(
        "eval", "agreement", "--server", server, "--length", 600, "--trials", 1, "--budget", 32, "--out", out
    )  # fmt: skip
    answers = [json.loads(line) for line in out.read_text().splitlines()[1:]]
    assert len(answers) == 3 * 3 and all(len(answer["chosen"]) == agreement.TOKENS for answer in answers)
    nats = {
        variant: sum(sum(answer["divergence"]) for answer in answers if answer["variant"] == variant)
        for variant in ("dense", "sfi", "sink+recent")
    }
    assert nats["dense"] < 0.25 * nats["sfi"], "bf16 rounds alone"
    assert "| dense |" in printed


def test_own_transcripts(server, tmp_path):
    messages = [{"role": "user", "content": "Tell me of the harbor. " * 80}]
    (tmp_path / "one.json").write_text(json.dumps(messages))
    (tmp_path / "two.json").write_text(json.dumps({"messages": messages, "model": "m"}))
    one, two = agreement.transcripts(server, tmp_path)
    assert one.ids == two.ids and one.length > 400 and one.kind == "transcript"


def test_an_unknown_set_is_named(server):
    done = runner.invoke(app, ["eval", "copy", "--server", server, "--set", "all"])
    assert done.exit_code == 2 and "plain, controls, budgets" in done.output
