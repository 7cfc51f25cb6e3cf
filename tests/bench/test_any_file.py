"""Whatever a file holds: it is read, or refused in one line that names it, its line and the field."""

import gzip
import json
import re
from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfi_sglang.client import conversation
from sfi_sglang.client.token_count import estimate
from sfi_sglang.evals import outcomes
from sfi_sglang.trajectory import records
from sfi_sglang.trajectory.formats import load, save
from sfi_sglang.trajectory.origin import origin
from tests import made_answers, made_runs

COUNT = estimate()
NAMED = re.compile(r".*/file(?:\.json)?:\d+: [^\n]+")

USER = {"role": "user", "content": [{"type": "text", "text": "a\u2028b"}]}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
REPLY = {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "hm"}
LAST = {"role": "assistant", "content": "c"}
TOOL = {"role": "tool", "tool_call_id": "c", "content": "d"}
TRACE = {"session_id": "s", "timestamp": 5, "delay": 2, "output_length": 3, "message_mode": "history", "extra": {}}
SEEDS: dict[str, list] = {
    "agentic": [{
        "metadata": {"name": "n", "about": {"x": 1}, "tools": [{}], "sessions": [{"id": "i", "start": 1}]},
        "conversations": [[{"messages": [USER], "reply": REPLY, "output_tokens": 3, "delay": 1}, {"messages": [TOOL]}]],
    }],
    "mooncake": [{"timestamp": 5, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}] * 2,
    "bailian": [{"chat_id": 1, "parent_chat_id": -1, "timestamp": 5.5, "input_length": 30, "output_length": 5,
                 "hash_ids": [1, 2], "turn": 1, "type": "text"}] * 2,
    "aiperf": [{**TRACE, "messages": [USER], "tools": [{}]}, {**TRACE, "messages": [USER, REPLY, TOOL], "reply": LAST}],
    "payload": [{"payload": {"messages": [USER], "max_tokens": 4, "max_completion_tokens": None, "tools": []}}],
    "transcript": [{"messages": [USER, REPLY, TOOL, LAST], "branches": [[USER, LAST]], "tools": [{}]}],
    "messages": [[USER, REPLY, TOOL, LAST]],
    "runs": [json.loads(record.model_dump_json()) for record in (made_runs.HEADER, made_runs.made(turns=1, tokens=3))],
    "answers": [json.loads(record.model_dump_json()) for record in
                (made_answers.HEADER, made_answers.right("sfi", 1), made_answers.continued("sfi", 2, [True], [0.5]))],
}  # fmt: skip


def read_all(path):
    """Every reader: what is none of its files it must refuse as well."""
    refused = []
    for reader in (workload, folder, run_file, answers):
        try:
            reader(path)
        except ValueError as error:
            refused.append(str(error))
    return refused


def workload(path):
    found = load(path, COUNT)
    for trajectory in found.trajectories:
        assert all(
            json.dumps(messages, ensure_ascii=False, allow_nan=False).encode() for _, messages in trajectory.calls()
        )
    save(found, path.with_name("again"), "mooncake")


def folder(path):
    for found in conversation.transcripts(path.parent):
        conversation.transcript(found)


def run_file(path):
    assert origin(records.read(path).header)


def answers(path):
    outcomes.read(path)


ODD = [None, True, -1, 0, 3, 2.5, 10**30, 1e300, "", "x", "\ud800", "\u2028", [], [[]], {}, ["x"], [None], {"x": None}]
odd = st.sampled_from(ODD)


def places(value, *steps):
    yield steps
    for key, item in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ()):
        yield from places(item, *steps, key)


@st.composite
def changed(draw):
    """One of the formats, with up to three of its parts replaced or left out."""
    values = json.loads(json.dumps(SEEDS[draw(st.sampled_from(sorted(SEEDS)))]))
    for _ in range(draw(st.integers(0, 3))):
        *steps, last = draw(st.sampled_from(list(places(values))[1:] or [(0,)]))
        parent = values
        for step in steps:
            parent = parent[step]
        if draw(st.booleans()):
            parent[last] = deepcopy(draw(odd))
        elif isinstance(parent, dict):
            del parent[last]
        if not values:
            break
    return values


@st.composite
def files(draw):
    values, ascii_only = draw(changed()), draw(st.booleans())
    indent = draw(st.sampled_from([None, None, 1]))
    end = draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
    texts = [json.dumps(value, ensure_ascii=ascii_only, indent=indent) for value in values]
    data = end.join(texts).encode("utf-8", "surrogatepass") + draw(st.sampled_from([b"", b"\n"]))
    return draw(st.sampled_from(DAMAGES))(data, draw(st.floats(0, 1)))


NUMBERS = (b"1e999", b"NaN", b"-Infinity", b"1" * 5000, b"[" * 9999, b'"\xff"', b"\0")
DAMAGES = [
    *[lambda data, where: data] * 6,
    *(lambda data, where, number=number: data.replace(b"5", number, 1) for number in NUMBERS),
    lambda data, where: data[: int(where * len(data))],
    lambda data, where: b"\xef\xbb\xbf" + data,
    lambda data, where: b"\xff\xfe" + data,
    lambda data, where: b"\n" + data,
    lambda data, where: gzip.compress(data),
    lambda data, where: gzip.compress(data)[: 2 + int(where * len(data))],
]


@pytest.mark.parametrize("name", SEEDS)
def test_the_examples_are_read(name, tmp_path):
    (tmp_path / "file.json").write_text("\n".join(map(json.dumps, SEEDS[name])))
    reader = {"runs": run_file, "answers": answers}.get(name, workload)
    reader(tmp_path / "file.json")


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(data=files() | st.binary(max_size=30))
def test_any_file_is_read_or_refused_by_name(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any" / "file.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    for refusal in read_all(path):
        assert NAMED.fullmatch(refusal) or "broken gzip" in refusal, refusal
