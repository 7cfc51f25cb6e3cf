"""The words of the benchmark's report: Markdown that any text survives, and a header in plain language."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from sfi_sglang.trajectory.origin import origin
from sfi_sglang.trajectory.presets import preset
from sfi_sglang.trajectory.records import Header
from sfi_sglang.trajectory.report import markdown
from sfi_sglang.trajectory.summary import summarise
from tests.made_runs import HEADER, both, failing, made, results

PUBLISHED = Path(__file__).parents[2] / "benchmarks" / "results"
NASTY = "a | b\n<b>`*_\\ ` [x](y) ~~z~~ &amp; # $1$ ![i](j) 1. http://x.y"
READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def shown(text: str) -> tuple[list[str], set[str]]:
    """What a reader of the Markdown sees, and the kinds of marks in it."""
    inlines = [token for token in READER.parse(text) if token.type == "inline"]
    pieces = [child for token in inlines for child in token.children or []]
    texts = ["".join(child.content for child in token.children or []) for token in inlines]
    return texts, {child.type for child in pieces}


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"))))
@settings(max_examples=60)
def test_markdown_shows_any_text_as_it_is(text):
    for error in (text, NASTY):
        runs = [made(), failing(made(trajectory="x|y"), error=error)]
        texts, marks = shown(markdown(summarise(results(runs, workload=f"w{error}"))))
        plain = " ".join(error.split())
        assert f"{' '.join(f'w{error}'.split())}: dense and SFI" in texts
        assert not error.strip() or f"🔴 {plain}" in texts
        assert "x|y" in texts
        assert marks <= {"text", "text_special", "strong_open", "strong_close"}


def test_tables_are_rectangular_whatever_the_text():
    text = markdown(summarise(results([*both(), failing(made(trajectory="x|y"), error=NASTY)])))
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) >= 7
    for block in blocks:
        assert len({line.replace("\\|", "").count("|") for line in block}) == 1
    assert "🔴 **1 of 41 trajectories failed:**" in text


def test_the_headers_fields_are_said_in_words():
    workload = {"preset": "smoke", "settings": preset("smoke").model_dump(mode="json"), "calls_left_out": 0}
    asked = {"sfi": True, "limit": None, "tool_scale": 1.0, "modes": "dense,sfi", "planned": False}
    header = HEADER.model_copy(
        update={
            "loads": [1.0, 0.5],
            "settings": {**asked, "tasks": ["repo: a", "repo: b"], "workload": workload},
            "provenance": {"server": None, "versions": {"sglang": "0.5.23", "flashinfer-python": None}},
        }
    )
    said = dict(origin(header))
    expected = {
        "loads": "1, 0.5 (clients)",
        "SFI options": "on, all at their defaults",
        "trajectories taken": "all",
        "modes": "dense, SFI",
        "tasks": "repo: a, repo: b",
        "told which tool to call": "no",
        "preset's tool waits, shortest and longest in s": "0.2, 0.2",
        "version of flashinfer-python": "not installed",
        "server started by": "–",
    }
    assert {name: said[name] for name in expected} == expected
    for name, value in said.items():
        assert not {"None", "True", "False"} & set(value.split()) and "[" not in value, (name, value)
        assert "_" not in name and "." not in name and "settings" not in name


@pytest.mark.parametrize("file", sorted(PUBLISHED.glob("*_h200_c*.json")), ids=lambda file: file.stem)
def test_published_headers_are_said_in_words(file):
    header = Header.model_validate(json.loads(file.read_text())["header"])
    assert all("_" not in name and "None" not in value.split() for name, value in origin(header))
