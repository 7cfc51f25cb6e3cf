"""What is shipped beside the package says the same as the package: versions of SGLang, files left out, the workflow."""

import json
import os
import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

from tests.unit.test_docs import rows

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_one_sglang_is_pinned_everywhere_and_in_the_range():
    image = re.findall(r"^FROM lmsysorg/sglang:v(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    locked = re.findall(r"^sglang==(\S+)$", (ROOT / "requirements" / "cpu.txt").read_text(), re.MULTILINE)
    group = [line.split("==")[1] for line in PROJECT["dependency-groups"]["cpu-nodeps"] if line.startswith("sglang==")]
    assert len(image) == 1 and image == locked == group
    allowed = next(Requirement(line) for line in PROJECT["project"]["dependencies"] if line.startswith("sglang"))
    assert allowed.specifier.contains(image[0])


def test_the_versions_that_are_taken_have_every_name():
    """The table of docs/upgrading-sglang.md is the run in benchmarks/results."""
    table = rows(ROOT / "docs" / "upgrading-sglang.md")
    allowed = next(Requirement(line) for line in PROJECT["project"]["dependencies"] if line.startswith("sglang"))
    found = json.loads((ROOT / "benchmarks" / "results" / "sglang_versions.json").read_text())["results"]
    assert len(found) == 3
    for one in found:
        missing = str(len(one["missing"])) + (
            f", and {len(one['missing_helps'])} optional" if one["missing_helps"] else ""
        )
        assert table[one["version"]][:3] == [str(one["names"]), missing, str(len(one["changed"]))]
        assert allowed.specifier.contains(one["version"]) == (not one["missing"])


def test_an_image_gets_nothing_that_git_does_not_track():
    def names(file: str) -> set[str]:
        lines = (ROOT / file).read_text().splitlines()
        return {line.removeprefix("**/").rstrip("/") for line in lines if line and line[0] != "#"}

    assert names(".dockerignore") == names(".gitignore") | {".git"}


def test_the_workflow_runs_the_tests_on_the_python_that_is_asked_for():
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["test"]
    (command,) = [step["run"] for step in job["steps"] if "run" in step]
    assert os.access(ROOT / command, os.X_OK) and "make test" in (ROOT / command).read_text()
    (python,) = [step["with"]["python-version"] for step in job["steps"] if "python-version" in step.get("with", {})]
    assert PROJECT["project"]["requires-python"] == f">={python}"
