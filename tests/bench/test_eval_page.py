"""The page of the evaluation's report: its figures, and itself in a real browser."""

import json
import re

import pytest

from sfi_sglang.evals.page import groups, page
from sfi_sglang.evals.report import plain_files
from sfi_sglang.evals.summary import summarise
from sfi_sglang.report.content import write_files
from tests.chromium import measure, render
from tests.made_answers import HEADER, answers, continued, right
from tests.report_page import Page, wrong_numbers

DRAWN = {
    "depth-retrieval", "retrieval-budget", "age-chosen", "age-divergence", "kind-chosen", "kind-divergence",
    "agreement-budget", "coverage-0", "carry", "agents",
}  # fmt: skip


@pytest.fixture(scope="module")
def summary():
    return summarise(HEADER, answers())


@pytest.fixture(scope="module")
def figures(summary):
    return {name: figure for group in groups(summary) for name, figure in group.figures.items() if figure.data}


def test_a_panel_for_each_kind_and_variant_by_length_and_depth(figures):
    assert figures.keys() == DRAWN
    panels = dict(
        zip(
            (note.text for note in figures["depth-retrieval"].layout.annotations),
            figures["depth-retrieval"].data,
            strict=True,
        )
    )
    assert list(panels) == [
        f"{kind}, {variant}" for kind in ("single", "multi-key") for variant in ("dense", "sfi", "128")
    ]
    weak = panels["single, 128"]
    assert weak.x == ("2000", "4000") and weak.y == ("0%–25%", "25%–50%", "50%–75%", "75%–100%")
    assert [list(row) for row in weak.z] == [[0, 0], [1, 1], [1, 1], [1, 1]] and list(weak.text[0]) == ["0/5", "0/5"]
    assert all(value == 1 for row in panels["single, sfi"].z for value in row)
    axes = figures["depth-retrieval"].layout
    assert axes.xaxis.title.text == "prompt tokens" and axes.yaxis.title.text == "depth of the answer"


def test_curves_go_up_with_the_budget(figures):
    sfi, dense = figures["retrieval-budget"].data[:2]
    assert sfi.name == "single, 2000 tokens" and sfi.x == ("128", "512") and sfi.y == (0.75, 1.0)
    assert dense.y == (1.0, 1.0) and dense.line.dash == "dash" and dense.showlegend is False
    assert figures["retrieval-budget"].layout.xaxis.title.text == "retrieval: budget, tokens selected per KV head"
    assert figures["agreement-budget"].data[0].y == pytest.approx((0.64, 0.84))


def test_agreement_over_the_age_of_the_selection(figures):
    sfi, small, dense = figures["age-chosen"].data
    assert (sfi.name, small.name, dense.name) == ("sfi", "128", "dense") and sfi.x[:2] == ("0", "1–4")
    assert sfi.y[0] == 0.5, "of position 0, wrong, and 70, right"
    assert set(dense.y) == {1.0} and sfi.error_y.arrayminus[1] > 0
    bars = {bar.name: dict(zip(bar.x, bar.y, strict=True)) for bar in figures["kind-chosen"].data}
    assert bars["sfi"] == {"code": 0.84, "prose": 0.84} and bars["dense"]["code"] == 1.0


def test_every_head_and_every_program_has_its_place(figures):
    heads = figures["coverage-0"].data[0]
    assert [list(row) for row in heads.z] == [[0.9, 0.5], [0.8, 0.15]] and heads.y == (0, 1) and heads.x == (0, 1)
    assert {bar.name: bar.y for bar in figures["agents"].data} == {"dense": (0.8,), "sfi": (0.6,)}
    assert {bar.name: bar.y for bar in figures["carry"].data} == {
        "dense": (pytest.approx(2 / 3, abs=1e-4),),
        "fresh": (0.5,),
    }


def test_one_text_has_no_whisker_and_one_budget_no_curve():
    lone = summarise(HEADER, [continued("sfi", 1, [True] * 9, refreshes=(0, 5)), right("sfi", 1), right("dense", 1)])
    found = {name: figure for group in groups(lone) for name, figure in group.figures.items() if figure.data}
    assert set(found["age-chosen"].data[0].error_y.arrayminus) == {0}
    assert found.keys() == {"depth-retrieval", "age-chosen", "age-divergence", "kind-chosen", "kind-divergence"}


PHONE = """({page: document.documentElement.scrollWidth,
  names: [...document.querySelectorAll(".legend button")].map(key => key.textContent.trim())})"""


def test_the_page_in_chromium(summary, tmp_path):
    """Plots are drawn without an error and nothing is fetched; every number of a table is the JSON's."""
    paths = write_files(tmp_path / "report", {**plain_files(summary), "index.html": page(summary)})
    dom, console = render(paths[2], tmp_path / "profile")
    shown, kept = Page(dom), json.loads(paths[0].read_text())
    assert console == [] and f'data-drawn="{len(DRAWN)}"' in dom
    assert shown.data["summary"] == kept and {f"figure-{name}" for name in DRAWN} < shown.data.keys()
    assert wrong_numbers(shown, kept) == [] and len(shown.numbers) > 100
    assert shown.classes.count("heatmaplayer") >= 7 and shown.text["headline"].startswith("Right answers of SFI")
    source = paths[2].read_text().split("<script>")[0]
    assert not re.findall(r'(?:src|href)=(?!"data:)|url\(|https?:', source)
    found = measure(paths[2], tmp_path / "profile", 390, PHONE)
    assert found["page"] <= 390 and {"sfi", "128", "dense", "fresh", "single, 4000 tokens"} <= set(found["names"])
