"""Workload files that are refused: the message names file, place and field."""

import json

import pytest

from sfi_sglang.client.token_count import estimate
from sfi_sglang.trajectory.formats import load

COUNT = estimate()
LINE = {"input_length": 10, "output_length": 5}
USER, ASSISTANT = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


def agentic(*turns, **metadata):
    return json.dumps({"metadata": metadata, "conversations": [list(turns)]})


def jsonl(*lines):
    return "\n".join(map(json.dumps, lines))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (jsonl(LINE, {**LINE, "input_length": 0}), r"file:2: input_length: .*greater"),
        (jsonl(LINE, {"output_length": 3}), r"file:2: needs one of input_length, .* has none"),
        (jsonl(LINE, {**LINE, "text_input": "x"}), r"file:2: .*has input_length and text_input"),
        (jsonl({**LINE, "hash_ids": [1, 2]}), r"file:1: hash_ids: 2 blocks of 512 tokens do not make 10"),
        (jsonl({"text_input": "x", "output_length": 1, "hash_ids": [1]}), r"file:1: hash_ids: only with input_length"),
        (jsonl({"text_input": "x"}), r"file:1: output_length: missing"),
        (jsonl({**LINE, "delay": -1}), r"file:1: delay: "),
        (jsonl({"messages": [{"content": "a"}], "output_length": 1}), r"file:1: messages\.0\.role: needs a role"),
        (jsonl({"payload": {"prompt": "a"}, "output_length": 1}), r"file:1: payload\.messages: "),
        (jsonl({"messages": [USER], "reply": USER, "output_length": 1}), r"file:1: reply\.role: needs the role assis"),
        (
            jsonl(*({"session_id": "s", "messages": [USER], "message_mode": mode, "output_length": 1}
                    for mode in ("delta", "history"))),
            r"file:1: message_mode: session s mixes",
        ),
        (
            jsonl(*({"session_id": "s", "messages": [USER], "tools": [{"name": name}], "output_length": 1}
                    for name in "ab")),
            r"file:2: tools: differ",
        ),
        (jsonl(LINE) + "\n{broken", r"file:2: not JSON"),
        ("", r"file:1: empty"),
        (json.dumps([1, 2]), r"file:1: "),
        (agentic({"messages": "hello"}), r"file:1: conversations\.0\.0\.messages: "),
        (agentic({"messages": [USER]}, {"messages": [USER], "delay": "x"}), r"conversations\.0\.1\.delay: "),
        (agentic({"messages": []}), r"conversations\.0: no turn has messages"),
        (agentic({"messages": [USER]}, sessions=[{"start": -1}]), r"file:1: metadata\.sessions\.0\.start: "),
        (json.dumps({"conversations": [{"turns": []}]}), r"file:1: conversations\.0: needs a list"),
        (json.dumps({"conversations": []}), r"file:1: conversations: needs one or more"),
        (json.dumps({"messages": [USER]}), r"file:1: messages: no assistant message"),
        (json.dumps({"messages": [ASSISTANT]}), r"file:1: messages\.0: an assistant message without"),
        (json.dumps({"messages": [USER, {"role": "robot"}]}), r"file:1: messages\.1\.role: needs a role"),
    ],
)  # fmt: skip
def test_bad_files_name_file_place_and_field(text, message, tmp_path):
    (tmp_path / "file").write_text(text)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "file", COUNT)


def said(**message):
    """A transcript's second line holds the message."""
    return '[{"role": "user", "content": "a"},\n' + json.dumps({"role": "user", "content": "b", **message}) + "]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (said(content=["a"]), r"file:2: messages\.1\.content\.0: needs an object with a type"),
        (said(content=[{"type": "text", "text": None}]), r"file:2: messages\.1\.content\.0\.text: needs a string"),
        (said(content=[{"type": "text"}]), r"file:2: messages\.1\.content\.0\.text: needs a string"),
        (said(content={"type": "text"}), r"file:2: messages\.1\.content: needs a string or a list of parts"),
        (said(content=5), r"file:2: messages\.1\.content: needs a string or a list of parts"),
        (said(content=None), r"file:2: messages\.1\.content: needs a string or a list of parts"),
        (said(role="assistant", tool_calls="f()"), r"file:2: messages\.1\.tool_calls: needs a list"),
        (said(role="assistant", tool_calls=["f()"]), r"file:2: messages\.1\.tool_calls\.0: needs an object with a fun"),
        (said(role="assistant", reasoning_content=["a"]), r"file:2: messages\.1\.reasoning_content: needs a string"),
        (said(content="\ud800"), r"file:2: not JSON: .*hex escape"),
        (said(name=1).replace("1", "[" * 9999 + "]" * 9999), r"file:2: not JSON: recursion limit"),
        (said(name=1).replace("1", "NaN"), r"file:2: messages\.1\.name: needs a finite number"),
        (said(name=1).replace("1", "1e999"), r"file:2: messages\.1\.name: needs a finite number"),
        (jsonl({**LINE, "timestamp": 1}).replace("1", "1e999"), r"file:1: .*: Input should be a "),
        (jsonl({**LINE, "delay": 7}).replace("7", "1e999"), r"file:1: delay: Input should be a finite number"),
        (jsonl({**LINE, "delay": 1e13}), r"file:1: delay: Input should be less than"),
        (jsonl(LINE, {**LINE, "timestamp": 1}, {**LINE, "timestamp": 1e14}), r"file:3: timestamp: 1e\+11 s after"),
        (jsonl({**LINE, "input_length": 10**30}), r"file:1: input_length: "),
        (jsonl({**LINE, "input_length": 33, "hash_ids": [1, 2, 3]}, {**LINE, "input_length": 50, "hash_ids": [1]}),
         r"file:2: hash_ids: 1 blocks of 16 tokens do not make 50"),
        (agentic(), r"file:1: conversations\.0: no turn has messages"),
        (agentic({"delay": 7}).replace("[{", "[\n{").replace("7", "1e999"), r"file:2: conversations\.0\.0\.delay: "),
        ('{"conversations": [[]\n', r"file:2: not JSON: EOF"),
        (jsonl(LINE)[:-9], r"file:1: not JSON: EOF"),
    ],
)  # fmt: skip
def test_what_messages_and_numbers_must_not_be_is_named(text, message, tmp_path):
    (tmp_path / "file").write_text(text)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "file", COUNT)


def test_what_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "run.json.gz").write_bytes(b"\x1f\x8b broken")
    for path in (tmp_path, tmp_path / "run.json.gz"):
        with pytest.raises(ValueError, match=r"run\.json\.gz: broken gzip"):
            load(path, COUNT)
    with pytest.raises(ValueError, match="absent: no such file"):
        load(tmp_path / "absent", COUNT)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="file:1: not UTF-8"):
        load(tmp_path / "file", COUNT)


def test_a_folder_without_transcripts_is_named(tmp_path):
    with pytest.raises(ValueError, match="no transcripts"):
        load(tmp_path, COUNT)


def test_a_transcript_that_is_no_object_is_named(tmp_path):
    (tmp_path / "run.json").write_text("3")
    with pytest.raises(ValueError, match=r"run\.json:1: needs an object"):
        load(tmp_path, COUNT)
