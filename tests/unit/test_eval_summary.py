"""The evaluation's answers and what they come to: a file that is gone on with, rows, ages of selections, headlines."""

import json
import sys

import pytest

from sfi_sglang.cli.eval_run import ANSWERS, publish
from sfi_sglang.evals import ask
from sfi_sglang.evals.continued import ages, heads, since_refresh
from sfi_sglang.evals.headline import headline
from sfi_sglang.evals.job import Job
from sfi_sglang.evals.outcomes import Outcomes
from sfi_sglang.evals.report import plain_files
from sfi_sglang.evals.summary import Summary, depths, rows, summarise
from sfi_sglang.terminal import console, long_progress
from tests.made_answers import ASKED, HEADER, VARIANTS, answers, carried, continued, covered, right

SETTINGS = {"budget": 512, "variants": ASKED}
BOTH = ("dense", "sfi")


def begun(path, task="retrieval", settings=SETTINGS, model="made"):
    outcomes = Outcomes(path, model, {"machine": "another"})
    outcomes.begin(task, settings, {"sfi": "as served"}, {})
    return outcomes


def test_a_broken_off_file_is_gone_on_with(tmp_path):
    path = tmp_path / "a" / "answers.jsonl"
    kept = Outcomes(path, "made", {"machine": "m"})
    kept.begin("retrieval", SETTINGS, {}, {"oracle": "sfi: no"})
    kept.add(right("dense", 1))
    kept.add(continued("sfi", 1, [True, False], [0.0, 0.5], (0,)))
    path.write_text(path.read_text() + '{"task": "retr')
    again = begun(path)
    assert again.all == kept.all
    again.add(right("sfi", 1, False))
    last = begun(path)
    assert last.all == [*kept.all, right("sfi", 1, False)]
    assert last.header.provenance == {"machine": "m"} and last.header.refused == {"oracle": "sfi: no"}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_another_task_is_added_and_other_settings_are_refused(tmp_path):
    path = tmp_path / "answers.jsonl"
    begun(path).add(right("dense", 1))
    assert begun(path, "copy", {"budget": 64, "variants": {}}).all == [right("dense", 1)]
    with pytest.raises(ValueError, match=r"answers.jsonl: holds answers with another budget, trials; give"):
        begun(path, settings={"budget": 64, "variants": ASKED, "trials": 3})
    with pytest.raises(ValueError, match="answers of made; give another folder"):
        begun(path, model="another")
    for text, line in (("# notes\n", 1), ("[]\n", 1), (path.read_text() + "{}\n{}\n", 3)):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"answers.jsonl:{line}: .* \(no file of sfi-sglang eval\?\)"):
            begun(path)


def test_only_what_is_missing_is_asked_and_the_time_is_told_before(tmp_path):
    asked, said, gone = [], [], [2, 3]

    def answer(question, variant):
        if question.seed in gone:
            raise ConnectionError("gone")
        asked.append((question.seed, variant.label))
        return right(variant.label, question.seed)

    questions = [right("", seed) for seed in range(4)]
    job = Job("retrieval", questions, VARIANTS[:2], answer, settings={"budget": 512})

    def run():
        outcomes = Outcomes(tmp_path / "answers.jsonl", "made", {})
        outcomes.begin(job.task, job.identity, {}, {})
        with long_progress(console) as bars:
            ask.ask_all([job], outcomes, bars, said.append)
        return outcomes

    with pytest.raises(ConnectionError):
        run()
    assert said == ["about 0 seconds for 3 more questions"] and len(asked) == 4
    gone.clear()
    assert len(run().all) == 8 and asked[4:] == [(2, "dense"), (2, "sfi"), (3, "dense"), (3, "sfi")]
    run()
    assert len(asked) == 8 and len(said) == 2
    assert ask.duration(600) == "about 10 minutes" and ask.duration(7200) == "about 2.0 hours"


def test_rows_pair_answers_by_seed_and_part():
    single, weak, carry = rows(
        [
            *(
                right(variant, seed, variant == "dense" or seed > 0)
                for seed in range(20)
                for variant in ("dense", "sfi")
            ),
            *(right("dense", seed, seed < 10, "multi-key") for seed in range(20)),
            carried("dense", 1, [True, False, True]),
            carried("fresh", 1, [False, False, True]),
        ]
    )
    dense, sfi = single.shares
    assert single.able and not weak.able and (dense.n, dense.right.value, dense.against) == (20, 1.0, None)
    assert sfi.right.value == 0.95 and sfi.against.value == pytest.approx(-0.05) and sfi.against.low < -0.05
    assert [(share.n, share.right.value) for share in carry.shares] == [
        (3, pytest.approx(2 / 3)),
        (3, pytest.approx(1 / 3)),
    ]
    assert carry.shares[1].against.value == pytest.approx(-1 / 3)


def test_rows_stand_task_by_task():
    """The first question of every task is asked before all others."""
    asked = (("retrieval", "single"), ("copy", "single"), ("retrieval", "x"), ("copy", "y"))
    made = [right("dense", 1, task=task, kind=kind) for task, kind in asked]
    assert [(row.task, row.kind) for row in rows(made)] == [
        ("retrieval", "single"), ("retrieval", "x"), ("copy", "single"), ("copy", "y"),
    ]  # fmt: skip


def test_depths_are_quarters_of_the_prompt():
    found = depths([right("sfi", seed, seed != 3, depth=depth) for seed, depth in enumerate((0.0, 0.2, 0.25, 0.99))])
    assert [(one.low, one.high, one.right, one.n) for one in found] == [
        (0, 0.25, 2, 2),
        (0.25, 0.5, 1, 1),
        (0.75, 1, 0, 1),
    ]


def test_agreement_by_the_age_of_the_selection():
    """Ages 0 to 69, then 0 to 29: right but for one token of age 3 and those of age 70 and more."""
    chosen = [i != 3 for i in range(80)]
    old = continued("sfi", 1, chosen, refreshes=(0, 70))
    assert ages(old) == [*range(70), *range(10)]
    found = {since.age: since for since in since_refresh([old, continued("dense", 1, chosen)])}
    assert list(found) == ["0", "1–4", "5–8", "9–16", "17–32", "33–64", ">64"]
    assert {age: since.tokens for age, since in found.items()} == {
        "0": 2, "1–4": 8, "5–8": 8, "9–16": 9, "17–32": 16, "33–64": 32, ">64": 5,
    }  # fmt: skip
    assert found["1–4"].chosen.value == 7 / 8 and found["1–4"].divergence.value == 0.5 / 8
    assert all(found[age].chosen.value == 1 for age in found if age != "1–4")
    assert since_refresh([continued("sink+recent", 1, chosen, refreshes=(0,))]) == [], "it never refreshes"


def test_coverage_is_a_mean_over_texts_with_slow_steps():
    found = {
        (head.layer, head.head): head
        for head in heads([covered(1, [[0.5, 0.9]]), covered(2, [[0.7, 0.9]]), covered(3, None)])
    }
    assert found[0, 0].coverage.value == pytest.approx(0.6) and found[0, 0].texts == 2
    assert found[0, 1].coverage.low == pytest.approx(0.9) and len(found) == 2


def test_what_carrying_costs():
    dense, fresh = summarise(HEADER, answers()).carry
    assert (fresh.slow_steps, fresh.inherited, fresh.first_token_seconds) == (1.5, 0.25, pytest.approx(0.4))
    assert (dense.variant, dense.slow_steps) == ("dense", 0)
    assert summarise(HEADER, [carried("fresh", 1, [True])]).carry[0].first_token_seconds is None


def test_the_report_in_words(tmp_path):
    summary = summarise(HEADER, answers())
    files = plain_files(summary)
    assert Summary.model_validate(json.loads(files["summary.json"])) == summary
    text = files["report.md"]
    said = (
        "Right answers of SFI (of dense): retrieval 100.0% (100.0%), carry 50.0% (66.7%), agents 60.0% (80.0%); dense"
    )
    assert said in text and "attention would have chosen 84.0% of SFI's tokens (100.0% of its own)" in text
    assert "| retrieval: single | 2000 | 20 | 100.0% | 100.0% (+0.0, " in text and "75.0% (-25.0, " in text
    assert "less than 90% right: retrieval: multi-key at 2000 (50%)" in text and "| retrieval: multi-key" not in text
    assert "| agents: repo | – | 5 | 80.0% | 60.0% (-20.0, " in text
    assert "| fresh, told in turn 1 of 3, 6000 tokens | 50.0% (-16.7, " in text
    worst, best = (text.index(f"| sfi | {row} |") for row in ("1 | 1 | 15.0%", "0 | 0 | 90.0%"))
    assert worst < best
    assert r"sfi.fast: oracle needs \| the torch executor" in text and '| 128 | {"budget": 128} |' in text


def test_sfi_that_is_surely_worse_is_marked():
    made = [
        right(variant, seed, variant == "dense" or seed < 10)
        for seed in range(20)
        for variant in ("dense", "sfi", "128")
    ]
    text = plain_files(summarise(HEADER, made))["report.md"]
    assert text.count("🔴") == 1 and "| 100.0% | 🔴 50.0% (-50.0, " in text


def test_nothing_to_compare_is_said():
    assert headline(summarise(HEADER, [right("sfi", 1)])).startswith("Nothing compares")


def test_without_the_extra_there_is_all_but_the_page(tmp_path, monkeypatch, capsys):
    outcomes = begun(tmp_path / ANSWERS)
    for seed in range(20):
        outcomes.add(right("sfi", seed))
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for name in ("sfi_sglang.report.page", "sfi_sglang.evals.page"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    publish(outcomes, tmp_path)
    assert 'no page, because jinja2 is missing: pip install "sfi-sglang[bench]"' in capsys.readouterr().out
    assert sorted(file.name for file in tmp_path.iterdir()) == [ANSWERS, "report.md", "summary.json"]
    monkeypatch.undo()
    publish(outcomes, tmp_path)
    assert (tmp_path / "index.html").read_text().startswith("<!doctype html>")
