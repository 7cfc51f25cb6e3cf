"""The documentation says what is there: links and anchors, files, modules, make targets, options, flags, fields."""

import argparse
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import sglang
from typer.main import get_command

from sfi_sglang import METRIC_PREFIX
from sfi_sglang.api import metrics
from sfi_sglang.api.options import PRESETS, SelectorOptions, SFIOptions
from sfi_sglang.api.settings import EXECUTORS, Settings
from sfi_sglang.cli.main import app
from sfi_sglang.evals import variants
from sfi_sglang.integration import server_args
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
OPTIONS = ROOT / "docs" / "options.md"
PAGES = [
    README,
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
]
HISTORY = ROOT / "CHANGELOG.md"  # may name what is gone
SGLANG = Path(sglang.__path__[0])
EXAMPLES = {"config.json", "tokenizer.json", "result.json", "long.txt", "summary.json", "report.md"}  # not ours to keep
SUFFIXES = "py|md|json|svg|toml|txt"

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(rf"(?<![\w:/.*-])((?:[\w.-]+/)*[\w*-]+\.(?:{SUFFIXES}))\b(?![\w/])")
FOLDER = re.compile(r"(?<![\w/.-])((?:sfi_sglang|kernels|agents|benchmarks|tests|docs|examples)(?:/\w+)*)/(?![\w*.])")
MODULE = re.compile(r"python -m ((?:benchmarks|sfi_sglang)(?:\.\w+)+)")
TARGET = re.compile(r"(?:`|^)make ([a-z][\w-]*)", re.MULTILINE)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
living_page = pytest.mark.parametrize(
    "page", [page for page in PAGES if page != HISTORY], ids=lambda page: str(page.relative_to(ROOT))
)


def without_code(text: str) -> str:
    return re.sub(r"^\s*```.*?^\s*```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ +(.+)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in LINK.findall(without_code(page.read_text())):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def exists(name: str, page: Path) -> bool:
    """By its path in this repository, in our package, in SGLang or beside the page; a bare name anywhere here."""
    if "/" in name:
        places = (ROOT, ROOT / "sfi_sglang", ROOT / "benchmarks", SGLANG, page.parent)
        return any(any(place.glob(name)) for place in places)
    folders = ("sfi_sglang", "kernels", "agents", "benchmarks", "tests", "examples", "docs", "requirements")
    return any(ROOT.glob(name)) or any(any((ROOT / folder).rglob(name)) for folder in folders)


def lost_files(page: Path) -> list[str]:
    text = re.sub(r"\w+://\S+", "", page.read_text())
    named = {name for name in FILE.findall(text) if not name.startswith(("../", "runs/"))}
    return sorted(name for name in named - EXAMPLES if not exists(name, page))


@every_page
def test_links_resolve(page):
    assert broken_links(page) == []


@living_page
def test_files_exist(page):
    assert lost_files(page) == []
    assert [folder for folder in FOLDER.findall(page.read_text()) if not (ROOT / folder).is_dir()] == []


@living_page
def test_modules_and_make_targets_exist(page):
    text = page.read_text()
    modules = [name for name in MODULE.findall(text) if not (ROOT / f"{name.replace('.', '/')}.py").is_file()]
    makefile = (ROOT / "Makefile").read_text()
    targets = [name for name in TARGET.findall(text) if not re.search(rf"^{name}:", makefile, re.MULTILINE)]
    assert modules == targets == []


def test_lost_things_are_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One thing\n[a](#one-thing) [b](#another) [c](gone.md) `sfi_sglang/trigger.py` `options.py` `radix.py`"
    )
    assert broken_links(page) == ["#another", "gone.md"]
    assert lost_files(page) == ["gone.md", "radix.py", "sfi_sglang/trigger.py"]


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 110


def rows(page: Path) -> dict[str, list[str]]:
    """Cells of all table rows, by their first one without backquotes."""
    lines = [line.strip("|").split(" | ") for line in page.read_text().splitlines() if line.startswith("| ")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_every_request_option_is_documented_with_its_default():
    table = rows(OPTIONS)
    documented = {name: table[name][0].strip("`") for name in SFIOptions.model_fields}
    defaults = {name: getattr(SFIOptions(), name) for name in SFIOptions.model_fields}
    assert documented == {
        **{name: str(value).lower() for name, value in defaults.items()},
        "selector": "span",
    }
    assert SFIOptions().selector.stages() == set(PRESETS["span"])
    for name in ("policy", "carry"):
        for choice in get_args(SFIOptions.model_fields[name].annotation):
            assert f"`{choice}`" in " ".join(table[name]), choice
    for word in (*PRESETS, *SelectorOptions.model_fields):
        assert f"`{word}`" in " ".join(table["selector"]), word


def test_every_default_names_what_chose_it():
    """A row may hold several options, its default as many values."""
    chosen = {}
    for names, cells in rows(ROOT / "docs" / "fidelity.md").items():
        values = cells[0].replace("`", "").split(", ")
        chosen.update(dict(zip(re.findall(r"\w+", names), ((value, cells[-1]) for value in values), strict=False)))
    for name, default in SFIOptions():
        shown = "span" if name == "selector" else str(default).lower()
        assert chosen[name][0] == shown, name
        assert "](" in chosen[name][1] or name in ("fast", "detail"), name


def test_every_flag_is_documented_with_its_default():
    parser, defaults, table = argparse.ArgumentParser(), Settings(), rows(OPTIONS)
    server_args.add_arguments(parser, defaults)
    actions = {action.option_strings[0]: action for action in parser._actions if action.option_strings[0] != "-h"}
    variables = server_args.to_environment(defaults)
    assert "`--enable-sfi`" in OPTIONS.read_text() and not actions.pop("--enable-sfi").default
    assert len(actions) == len(variables)
    for flag, action in actions.items():
        variable, default = (cell.strip("`") for cell in table[flag][:2])
        assert default == str(action.default) == variables[variable], flag
    assert all(name in table["--sfi-executor"][2] for name in EXECUTORS)


def test_every_option_of_eval_is_documented():
    text = (ROOT / "docs" / "evaluation.md").read_text()
    group: Any = get_command(app)
    commands = group.commands["eval"].commands
    options = {option for command in commands.values() for each in command.params for option in each.opts}
    assert {"--quick", "--transcripts", "--tasks"} < options
    assert [option for option in options - {"--help"} if f"`{option}`" not in text] == []
    assert [name for name in commands if f"`eval {name}`" not in text] == []
    assert [name for name in variants.SETS if f"`{name}`" not in text] == []


def test_every_field_of_the_report_is_documented():
    options = SFIOptions()
    summary = RequestState(options, 0, SegmentTracker(options, Vocabulary([]))).summary(0)
    documented = {name for cell in rows(OPTIONS) for name in re.findall(r"\w+", cell)}
    assert [name for name in summary if name not in documented] == []


def test_every_metric_is_documented():
    counters = metrics.REQUEST_COUNTERS | metrics.STORE_COUNTERS | metrics.TOKENIZER_COUNTERS
    names = {f"{name}_total" for name in counters} | metrics.STORE_GAUGES.keys() | metrics.TOKENIZER_GAUGES.keys()
    text = (ROOT / "docs" / "monitoring.md").read_text()
    assert f"`{METRIC_PREFIX}...`" in text
    assert [name for name in names | metrics.BUCKETS.keys() if f"`{name}`" not in text] == []
    assert metrics.BUCKETS.keys() == metrics.REQUEST_HISTOGRAMS.keys() | metrics.PASS_HISTOGRAMS.keys()
