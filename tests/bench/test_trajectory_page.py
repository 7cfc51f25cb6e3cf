"""The benchmark's report as it is read: tables, plots, and the page in a real browser."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest

from sfi_sglang.trajectory.headline import headline
from sfi_sglang.trajectory.plots import figures
from sfi_sglang.trajectory.report import markdown, page, write_report
from sfi_sglang.trajectory.summary import summarise
from tests.chromium import render
from tests.made_runs import both, failing, made, results


def test_markdown_tables_are_rectangular_whatever_the_text():
    error = "a | b\n<b>`*_\\ `"
    text = markdown(summarise(results([*both(), failing(made(trajectory="x|y"), error=error)])))
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) >= 7
    for block in blocks:
        assert len({line.replace("\\|", "").count("|") for line in block}) == 1
    assert "<b>" not in text
    assert "🔴 **1 of 41 trajectories failed:**" in text


# The plots


def test_timeline_shows_the_typical_pair_turn_by_turn():
    odd = [made("dense", 1, "odd", itl=0.05), made("sfi", 1, "odd", itl=0.01)]
    data = results([*both("abc", loads=(1,), repeats=1), *odd])
    bars = {bar.name: bar for bar in figures(summarise(data), data)["timeline"].data}
    run = next(run for run in data.runs if run.mode == "sfi" and run.trajectory == bars["SFI, decode"].customdata[0][0])
    assert run.trajectory != "odd"
    starts = [call.start for call in run.calls]
    assert bars["SFI, first token"].base == pytest.approx(starts, abs=1e-4)
    assert bars["SFI, first token"].x == pytest.approx([0.1, 0.2, 0.3], abs=1e-4)
    assert bars["SFI, decode"].base == pytest.approx(
        [start + call.ttft for start, call in zip(starts, run.calls, strict=True)], abs=1e-4
    )
    assert bars["SFI, decode"].x == pytest.approx([call.decode_seconds for call in run.calls], abs=1e-4)
    assert list(bars["tool wait"].x) == [0.5] * 6
    assert bars["tool wait"].base[3:] == pytest.approx([start - 0.5 for start in starts], abs=1e-4)
    assert list(dict.fromkeys(bars["tool wait"].y)) == ["1 client, dense", "1 client, SFI"]


def test_cdf_against_numpy():
    data = results(both(loads=(1,)))
    dense, sfi = figures(summarise(data), data)["itl"].data
    for mode, line in (("dense", dense), ("sfi", sfi)):
        gaps = np.concatenate([np.diff(call.arrivals) for run in data.runs if run.mode == mode for call in run.calls])
        for x, share in list(zip(line.x, line.y, strict=True))[10:-10:20]:
            assert np.mean(gaps * 1e3 <= x) == pytest.approx(share, abs=2 / gaps.size + 0.005)


# The page


class Page(HTMLParser):
    """Numbers by key, JSON by id, and the text of the headline."""

    def __init__(self, html):
        super().__init__()
        self.numbers, self.data, self.classes, self.bad = [], {}, [], 0
        self.text, self.where = {}, None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.classes += (found.get("class") or "").split()
        self.where = (tag, found)

    def handle_endtag(self, tag):
        self.where = None

    def handle_data(self, data):
        tag, found = self.where or (None, {})
        if tag == "span" and "data-key" in found:
            self.numbers.append((found["data-key"], float(found["data-scale"]), data))
        elif tag == "script" and found.get("type") == "application/json":
            self.data[found["id"]] = json.loads(data)
        elif tag == "h1":
            self.text["headline"] = data
        self.where = self.where if tag == "script" else None


def look_up(summary, key):
    for name in key.split("."):
        summary = summary[int(name)] if isinstance(summary, list) else summary[name]
    return summary


def test_page_in_chromium(tmp_path):
    """Plots are drawn without an error, and every number of a table is the JSON's."""
    failed = failing(made("sfi", 4, "f"), error="</script><script>throw 'injected'</script>")
    runs = [*both(dense=0.008), made("dense", 4, "f"), failed]
    paths = write_report(results(runs), tmp_path / "report", other=results(both(loads=(1,))))
    assert [path.name for path in paths] == ["summary.json", "report.md", "index.html"]
    dom, console = render(paths[2], tmp_path / "profile")
    shown, summary = Page(dom), json.loads(paths[0].read_text())
    assert console == []
    assert shown.data["summary"] == summary
    assert shown.text["headline"].replace("\u2060", "") == headline(summarise(results(runs)))
    assert 'data-drawn="7"' in dom
    assert shown.classes.count("plot") == 7
    assert shown.classes.count("barlayer") >= 3
    assert shown.classes.count("scatterlayer") >= 4
    assert "failed" in shown.classes
    assert shown.classes.count("bad") >= 3  # cell, pair, error

    numbers = [
        (look_up(summary, key) * scale, text) for key, scale, text in shown.numbers if key.split(".")[-1] not in WORDS
    ]
    assert len(numbers) > 150
    for value, text in numbers:
        digits = text.strip("x%").replace(",", "")
        unit = 10 ** -len(digits.partition(".")[2])
        assert float(digits) == pytest.approx(value, abs=0.501 * unit), text


WORDS = ("mode", "trajectory", "error", "field", "this", "other")


def test_page_does_not_grow_with_the_samples():
    few, many = (results(both(loads=(1,), repeats=1, names=names)) for names in ("abc", "abc"))
    many.runs = [made(run.mode, 1, run.trajectory, tokens=5000) for run in many.runs]
    assert sum(len(call.arrivals) for run in many.runs for call in run.calls) == 90_000
    sizes = [len(page(summarise(data), data)) for data in (few, many)]
    assert sizes[1] - sizes[0] < 20_000
