"""`sfi-bench` as a command: what a user can put right is a line in red."""

import subprocess
import sys
from pathlib import Path

import pytest

from sfi_sglang import __version__
from sfi_sglang.trajectory.arguments import load_values, sfi_option
from sfi_sglang.trajectory.records import Writer
from tests.made_runs import HEADER, both

DEAD = "http://127.0.0.1:1"
NO_ANSWER = f"server: no models at {DEAD}/v1/models (is a server running there?)"


def sfi_bench(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("sfi-bench")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run smoke", "give either --server URL or --launch MODEL"),
        (f"run smoke --server {DEAD}", NO_ANSWER),
        (f"run smoke --server {DEAD}/v1", NO_ANSWER),
        ("live repo --server 127.0.0.1:1", NO_ANSWER),
        (f"validate --server {DEAD}", NO_ANSWER),
        (f"run smoke --server {DEAD} -- --tp 2", "--tp 2: flags are for a server that --launch starts"),
        (f"run smoke --server {DEAD} --loads foo", "--loads: 'foo' must be numbers"),
        (f"live nothing --server {DEAD}", "programs: nothing is none of repo, "),
        ("run smoke --server ftp://here", "server: 'ftp://here' is no URL like http://127.0.0.1:30000"),
        ("export smoke no/file", "[Errno 2] No such file or directory: 'no/file'"),
        ("export nothing file", "workload: 'nothing' is no file and none of exgentic, "),
        ("export text.md x", "text.md:1: not JSON: expected value at column 1"),
        ("report absent.jsonl", "absent.jsonl: no such file"),
        ("report .", ".: a folder, not a file"),
        ("report text.md", "text.md:1: not JSON: expected value at column 1 (no file of sfi-bench run or live?)"),
        ("report other.json", "other.json:1: workload: Field required (no file of sfi-bench run or live?)"),
    ],
)
def test_a_users_error_is_one_line(arguments, message, tmp_path):
    (tmp_path / "text.md").write_text("# no result\n\nat all\n")
    (tmp_path / "other.json").write_text('{"a": [1]}\n')
    done = sfi_bench(*arguments.split(), folder=tmp_path)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1


def test_the_version():
    assert sfi_bench("--version").stdout == f"sfi-bench {__version__}\n"


def test_report_prints_the_headline_and_its_files(tmp_path):
    writer = Writer(tmp_path / "r.jsonl", HEADER, 5)
    for run in both():
        writer.add(run)
    done = sfi_bench("report", "r.jsonl", folder=tmp_path)
    assert done.returncode == 0 and not done.stderr
    assert "as fast as dense at 1 and 4 clients" in " ".join(done.stdout.split())
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == ["index.html", "report.md", "summary.json"]


def test_a_launched_servers_log_lies_beside_the_results(tmp_path):
    done = sfi_bench("run", "smoke", "--launch", "/nowhere", "--out", "here/r.jsonl", folder=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr.splitlines()[0]
    assert done.stderr.startswith("the server did not become healthy")
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["server.log"]


@pytest.mark.parametrize("wrong", ["1,x", "0", "-1", "nan", "0.5"])
def test_loads_are_checked_by_name(wrong):
    with pytest.raises(ValueError, match="--loads"):
        load_values(wrong, "closed")
    assert load_values("0.5,2", "poisson") == [0.5, 2]


@pytest.mark.parametrize("wrong", ["false", "[]", "{"])
def test_the_sfi_option_is_checked_by_name(wrong):
    with pytest.raises(ValueError, match="--sfi"):
        sfi_option(wrong)
