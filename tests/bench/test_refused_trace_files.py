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
        (jsonl({"messages": [{"content": "a"}], "output_length": 1}), r"file:1: messages\.0: needs a role"),
        (jsonl({"payload": {"prompt": "a"}, "output_length": 1}), r"file:1: payload\.messages: "),
        (jsonl({"messages": [USER], "reply": USER, "output_length": 1}), r"file:1: reply: needs the role assistant"),
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
        ("", r"file: no requests"),
        (json.dumps([1, 2]), r"file:1: "),
        (agentic({"messages": "hello"}), r"file: conversations\[0\]\[0\]: messages: "),
        (agentic({"messages": [USER]}, {"messages": [USER], "delay": "x"}), r"conversations\[0\]\[1\]: delay: "),
        (agentic({"messages": []}), r"conversations\[0\]: no turn has messages"),
        (agentic({"messages": [USER]}, sessions=[{"start": -1}]), r"file: metadata: sessions\.0\.start: "),
        (json.dumps({"conversations": [{"turns": []}]}), r"file: conversations\[0\]: needs a list of turns"),
        (json.dumps({"conversations": []}), r"file: conversations: needs a list"),
        (json.dumps({"messages": [USER]}), r"file: messages: no assistant message"),
        (json.dumps({"messages": [ASSISTANT]}), r"file: messages\.0: an assistant message without"),
        (json.dumps({"messages": [USER, {"role": "robot"}]}), r"file: messages\.1: needs a role"),
    ],
)  # fmt: skip
def test_bad_files_name_file_place_and_field(text, message, tmp_path):
    (tmp_path / "file").write_text(text)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "file", COUNT)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="file: not UTF-8"):
        load(tmp_path / "file", COUNT)


def test_a_folder_without_transcripts_is_named(tmp_path):
    with pytest.raises(ValueError, match="no transcripts"):
        load(tmp_path, COUNT)


def test_a_transcript_that_is_no_object_is_named(tmp_path):
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ValueError, match=r"run\.json: not a JSON object"):
        load(tmp_path, COUNT)
