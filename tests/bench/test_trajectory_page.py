"""The page of the benchmark's report, in a real browser."""

import json

from sfi_sglang.trajectory.headline import headline
from sfi_sglang.trajectory.report import page, write_report
from sfi_sglang.trajectory.summary import summarise
from tests.chromium import measure, render
from tests.made_runs import both, failing, idle, made, results
from tests.report_page import Page, wrong_numbers


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

    assert wrong_numbers(shown, summary, WORDS) == []
    assert len(shown.numbers) > 150


WORDS = ("mode", "trajectory", "error", "field", "this", "other")


def test_page_does_not_grow_with_the_samples():
    few, many = (results(both(loads=(1,), repeats=1, names=names)) for names in ("abc", "abc"))
    many.runs = [made(run.mode, 1, run.trajectory, tokens=5000) for run in many.runs]
    assert sum(len(call.arrivals) for run in many.runs for call in run.calls) == 90_000
    sizes = [len(page(summarise(data), data)) for data in (few, many)]
    assert sizes[1] - sizes[0] < 20_000


PHONE = """({
  page: document.documentElement.scrollWidth,
  legends: [...document.querySelectorAll(".legend button")].map(key => [key.textContent.trim(),
    key.getBoundingClientRect().right, key.getBoundingClientRect().height]),
  tables: [...document.querySelectorAll(".table")].map(table => [
    table.querySelector(".scroll").scrollWidth > table.querySelector(".scroll").clientWidth,
    getComputedStyle(table.querySelector(".more")).display])})"""


def test_a_phone_shows_every_legend_and_says_where_tables_go_on(tmp_path):
    paths = write_report(results(both()), tmp_path / "report")
    found = measure(paths[2], tmp_path / "profile", 390, PHONE)
    assert found["page"] <= 390
    names = [name for name, _, _ in found["legends"]]
    assert len(names) == 2 + 5 + 6 + 4 + 4 + 2 + 2 and {"SFI, 4 clients", "other", "tool wait"} <= set(names)
    assert all(right <= 390 and height > 10 for _, right, height in found["legends"])
    assert {cut for cut, _ in found["tables"]} == {True}
    assert all(display == "block" for _, display in found["tables"])
    wide = measure(paths[2], tmp_path / "profile", 1280, PHONE)
    assert all((display == "block") == cut for cut, display in wide["tables"])
    assert not all(cut for cut, _ in wide["tables"])


HIDE = """(() => {
  const key = [...document.querySelectorAll(".legend button")].find(key => key.textContent.trim() === "tool wait");
  key.click();
  const trace = document.getElementById(key.parentElement.dataset.plot).data.find(trace => trace.name === "tool wait");
  return [key.getAttribute("aria-pressed"), trace.visible];
})()"""
MARKS = """({
  whiskers: document.querySelectorAll(".yerror").length,
  plot: document.getElementById("plot-time").textContent})"""


def test_a_legends_entry_hides_its_part(tmp_path):
    paths = write_report(results(both(loads=(1,))), tmp_path / "report")
    assert measure(paths[2], tmp_path / "profile", 1280, HIDE) == ["false", False]


def test_no_whisker_without_an_interval_and_no_plain_ratio_without_sfi(tmp_path):
    many, few = both("abc", loads=(1,)), [idle(run) for run in both("ab", loads=(1,))]
    shown = [
        measure(write_report(results(runs), tmp_path / name)[2], tmp_path / "profile", 1280, MARKS)
        for name, runs in (("many", many), ("few", few))
    ]
    assert shown[0]["whiskers"] > 0 and "SFI never acted" not in shown[0]["plot"]
    assert shown[1]["whiskers"] == 0 and "SFI never acted" in shown[1]["plot"]
