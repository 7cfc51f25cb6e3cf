"""Workload files as other programs and other machines write them: read as they are meant."""

import gzip
import json

import pytest

from sfi_sglang.client.json_text import read_json
from sfi_sglang.client.token_count import estimate
from sfi_sglang.trajectory.formats import load
from tests.helpers import common_prefix

COUNT = estimate()
MOONCAKE = [
    {"timestamp": 3000, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]},
    {"timestamp": 5500, "input_length": 1030, "output_length": 6, "hash_ids": [0, 1, 3]},
]
BAILIAN = [
    {"chat_id": 7, "parent_chat_id": -1, "timestamp": 61.25, "input_length": 521, "output_length": 5, "type": "text",
     "turn": 1, "hash_ids": list(range(33))},
    {"chat_id": 8, "parent_chat_id": 7, "timestamp": 63.75, "input_length": 539, "output_length": 6, "type": "text",
     "turn": 2, "hash_ids": list(range(34))},
]  # fmt: skip
USER, ASSISTANT = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b" * 40}


def lines(values, end="\n"):
    return "".join(f"{json.dumps(value, ensure_ascii=False)}{end}" for value in values).encode()


def loaded(tmp_path, data, name="trace.jsonl"):
    (tmp_path / name).write_bytes(data)
    return load(tmp_path / name, COUNT)


WRITTEN = {
    "byte order mark": lambda values: b"\xef\xbb\xbf" + lines(values),
    "CR LF": lambda values: lines(values, "\r\n"),
    "gzip": lambda values: gzip.compress(lines(values)),
    "gzip of a byte order mark": lambda values: gzip.compress(b"\xef\xbb\xbf" + lines(values, "\r\n")),
    "blank lines": lambda values: b"\n \r\n" + lines(values, "\n\n\t\n"),
    "no last line end": lambda values: lines(values).rstrip(),
    "pretty": lambda values: json.dumps(values, indent=2).encode(),
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("values", [MOONCAKE, BAILIAN], ids=["milliseconds, 512", "seconds, 16"])
def test_traces_are_taken_as_they_come(values, written, tmp_path):
    workload = loaded(tmp_path, written(values))
    first, second = workload.trajectories
    assert [trajectory.start for trajectory in workload.trajectories] == pytest.approx([0, 2.5])
    assert [COUNT(t.turns[0].messages[0]["content"]) for t in (first, second)] == pytest.approx(
        [value["input_length"] for value in values], abs=2 * len(values[0]["hash_ids"])
    )
    shared = common_prefix(first.turns[0].messages[0]["content"], second.turns[0].messages[0]["content"])
    assert COUNT(shared) > 500
    block, unit = (16, "in seconds") if values is BAILIAN else (512, "in milliseconds")
    assert (workload.about["block_tokens"], workload.about["timestamps"]) == (block, unit)
    assert workload.name == "trace"


def test_other_block_sizes_are_told_from_the_lengths(tmp_path):
    for block in (16, 32, 64, 128, 256, 512, 1024):
        values = [{"input_length": 2 * block + 1 + i, "output_length": 1, "hash_ids": [0, 1, i]} for i in range(3)]
        assert loaded(tmp_path, lines(values)).about["block_tokens"] == block


def test_a_gzipped_file_is_named_as_if_it_were_not(tmp_path):
    assert loaded(tmp_path, gzip.compress(lines(MOONCAKE)), "day.jsonl.gz").name == "day"


def test_what_python_takes_for_line_ends_may_stand_in_texts(tmp_path):
    name = "a\u2028b\u2029c\u0085d"
    values = [{"session_id": name, "text_input": name, "output_length": 1}]
    (trajectory,) = loaded(tmp_path, lines(values)).trajectories
    assert trajectory.id == name and trajectory.turns[0].messages[0]["content"] == name


def test_null_is_as_good_as_absent(tmp_path):
    payload = {"messages": [USER], "max_completion_tokens": None, "max_tokens": 7, "tools": None}
    (trajectory,) = loaded(tmp_path, lines([{"payload": payload, "delay": None, "timestamp": None}])).trajectories
    assert (trajectory.turns[0].output_tokens, trajectory.start, trajectory.tools) == (7, None, ())
    turn = {"messages": [USER], "reply": None, "output_tokens": None, "delay": None, "restart": None}
    metadata = {"tools": None, "sessions": [{"id": None, "start": None, "tools": None}], "name": None}
    trace = {"metadata": metadata, "conversations": [[turn, {**turn, "messages": None}]]}
    (trajectory,) = loaded(tmp_path, lines([trace])).trajectories
    assert (len(trajectory.turns), trajectory.turns[0].delay, trajectory.tools) == (1, 0, ())
    transcript = {"messages": [USER, ASSISTANT], "tools": None, "branches": None}
    assert loaded(tmp_path, lines([transcript])).trajectories[0].tools == ()


@pytest.mark.parametrize("indent", [None, 1])
def test_one_request_may_be_a_file(indent, tmp_path):
    data = json.dumps({"input_length": 10, "output_length": 5}, indent=indent).encode()
    assert loaded(tmp_path, data).trajectories[0].turns[0].output_tokens == 5


def test_a_transcript_may_be_a_list_of_messages(tmp_path):
    data = json.dumps([USER, ASSISTANT], indent=1).encode()
    for name in ("a.json", "b.json.gz"):
        alone = loaded(tmp_path, gzip.compress(data) if name.endswith("gz") else data, name)
        assert alone.trajectories[0].turns[0].output_tokens == 10
    assert [trajectory.id for trajectory in load(tmp_path, COUNT).trajectories] == ["a", "b"]


@pytest.mark.parametrize("content", ["", None, "b" * 8])
@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_output(content, name, tmp_path):
    reply = {"role": "assistant", "content": content, name: "hm, " * 20}
    (turn,) = loaded(tmp_path, lines([{"messages": [USER, reply]}])).trajectories[0].turns
    assert turn.output_tokens == 20 + len(content or "") // 4


def test_a_value_knows_its_line(tmp_path):
    value = {"a": [{"b": 1}, {"c{": [2, {"d": "\n\u2028"}]}], "e": {}}
    (tmp_path / "v.json").write_text(f"\n{json.dumps(value, indent=1)}")
    (found,) = read_json(tmp_path / "v.json")
    rows = (tmp_path / "v.json").read_text().split("\n")
    for steps, text in ((("a", 1, "c{", 1, "d"), '"d"'), (("e",), '"e"'), (("a", 0, "b"), '"b"'), (("e", "x"), '"e"')):
        where = str(found.error("wrong", *steps)).removeprefix(f"{tmp_path / 'v.json'}:")
        line, field, _ = where.split(": ")
        assert text in rows[int(line) - 1] and field == ".".join(map(str, steps))
