"""Files of runs and answers, broken off anywhere, and in the C locale."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sfi_sglang.client.file_names import readable, usable
from sfi_sglang.evals.outcomes import Outcomes
from sfi_sglang.trajectory.formats import load
from sfi_sglang.trajectory.records import Writer, read
from tests.bench.test_trajectory_cli import sfi_bench
from tests.made_answers import right
from tests.made_runs import HEADER, both, failing, made

NAME = "a\u2028b \u2013 \u00e9 \U0001f600"  # bytes of 1 to 4 in UTF-8, and what Python takes for a line's end


def written(path, names=("a", NAME, NAME * 2)):
    writer = Writer(path, HEADER, 1)
    for name in names:
        writer.add(made(trajectory=name, turns=1, tokens=2, repeat=len(writer.runs)))
    return writer.runs


def test_a_run_file_cut_anywhere_is_gone_on_with_from_its_last_whole_line(tmp_path):
    path = tmp_path / "r.jsonl"
    runs = written(path)
    data = path.read_bytes()
    ends = [number for number, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(ends[0], len(data) + 1):
        path.write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends) - 1  # a line may lack its end alone
        writer = Writer(path, HEADER, 1)
        assert writer.runs == runs[:whole]
        assert path.read_bytes() == data[: ends[whole] + 1]
    writer.add(runs[0])
    assert read(path).runs == [*runs, runs[0]]
    assert list(tmp_path.iterdir()) == [path]


def test_an_answers_file_cut_anywhere_is_gone_on_with(tmp_path):
    path = tmp_path / "answers.jsonl"

    def begun():
        outcomes = Outcomes(path, "made", {})
        outcomes.begin("retrieval", {}, {}, {})
        return outcomes

    outcomes = begun()
    for seed in range(2):
        outcomes.add(right("dense", seed).model_copy(update={"text": NAME}))
    data = path.read_bytes()
    for cut in range(data.index(b"\n"), len(data)):
        path.write_bytes(data[:cut])
        assert begun().all == outcomes.all[: data[: cut + 1].count(b"\n") - 1]


def test_zeros_after_a_crash_of_the_machine_are_a_cut_line(tmp_path):
    runs = written(tmp_path / "r.jsonl")
    with (tmp_path / "r.jsonl").open("ab") as file:
        file.write(bytes(512))
    assert read(tmp_path / "r.jsonl").runs == runs


def test_other_line_ends_blank_lines_and_a_mark_change_nothing(tmp_path):
    path = tmp_path / "r.jsonl"
    runs = written(path)
    path.write_bytes(b"\xef\xbb\xbf\n" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert read(path).runs == runs and Writer(path, HEADER, 1).runs == runs


def test_an_empty_file_is_begun_and_a_folder_is_named(tmp_path):
    (tmp_path / "r.jsonl").touch()
    assert len(written(tmp_path / "r.jsonl")) == 3
    with pytest.raises(ValueError, match=f"{tmp_path}: a folder, not a file"):
        Writer(tmp_path, HEADER, 1)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"provenance": {}}, None),
        ({"settings": {"modes": ["dense"], "workload": 3, "limit": "x"}}, None),
        ({"provenance": None}, "r.jsonl:1: provenance: Input should be a valid dictionary"),
        ({"loads": ["x"]}, "r.jsonl:1: loads.0: Input should be a valid number"),
    ],
)
def test_a_header_by_others_is_reported_or_named(changes, refusal, tmp_path):
    written(tmp_path / "r.jsonl")
    header, *lines = (tmp_path / "r.jsonl").read_text().split("\n")
    (tmp_path / "r.jsonl").write_text("\n".join([json.dumps({**json.loads(header), **changes}), *lines]))
    done = sfi_bench("report", "r.jsonl", folder=tmp_path)
    if refusal is None:
        assert done.returncode == 0 and not done.stderr
    else:
        assert done.returncode == 1 and done.stderr.startswith(refusal) and done.stderr.count("\n") == 1


ROOT = Path(__file__).parents[2]


def in_c_locale(*command, folder):
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, env=env, cwd=folder, timeout=120)


def test_the_c_locale_reads_and_writes_the_same_files(tmp_path):
    writer = Writer(tmp_path / "r.jsonl", HEADER, 5)
    for run in [*both(), failing(made(trajectory=NAME))]:
        writer.add(run)
    trace = tmp_path / "\u00e9.jsonl"
    value = {"session_id": NAME, "text_input": NAME, "output_length": 1}
    trace.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    command = str(Path(sys.executable).with_name("sfi-bench"))
    done = in_c_locale(command, "report", "r.jsonl", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"") and rb"\u2013" in done.stdout
    assert "\U0001f600" in (tmp_path / "r" / "report.md").read_text(encoding="utf-8")
    done = in_c_locale(command, "export", trace.name, "\u00fc.json", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    workload = load(tmp_path / "\u00fc.json")
    assert (workload.name, workload.about["file"], workload.trajectories[0].id) == ("\u00e9", trace.name, NAME)


def test_the_c_locale_runs_go_on(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.bench.test_run_files import written;"
        "from sfi_sglang.client.provenance import provenance;"
        "path = Path(sys.argv[1]); written(path); Path('said').write_bytes(provenance()['command'].encode())"
    )
    done = in_c_locale(sys.executable, "-c", code, "\u00e9.jsonl", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert read(tmp_path / "\u00e9.jsonl").runs[1].trajectory == NAME
    assert "\u00e9.jsonl" in (tmp_path / "said").read_bytes().decode()


def test_names_survive_a_locale_that_does_not_know_them():
    assert readable("a\udcc3\udca9\udcff") == "a\u00e9\ufffd"
    assert usable("a/b\0c") == "a_b_c"
