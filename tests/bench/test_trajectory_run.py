"""Cells, starts, resuming and the replay, without a server."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang.client.call import Call
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.openai_stream import make_client
from sfi_sglang.trajectory.experiment import Cell, Experiment
from sfi_sglang.trajectory.records import Header, Run, Writer, covered, read
from sfi_sglang.trajectory.replay import Replay
from sfi_sglang.trajectory.workload import Trajectory, Turn


def header(**changes) -> Header:
    given = {"workload": "w", "history": "fixed", "arrivals": "closed", "cache": "warm", "loads": [1, 4], "repeats": 2}
    return Header(**{**given, **changes})


class Sleeper:
    """A work of one call that takes a moment."""

    start = None

    def __init__(self, name: str, seconds: float = 0.01) -> None:
        self.id, self.seconds, self.running = name, seconds, []

    def warm(self) -> None:
        pass

    def run(self, mode, clock, done) -> Run:
        start = clock()
        time.sleep(self.seconds)
        done()
        call = Call(turn=0, start=start, end=clock(), arrivals=[0.001, self.seconds])
        return Run(mode=mode, load=0, repeat=0, trajectory=self.id, start=start, end=clock(), calls=[call])


class Unflushable(Endpoint):
    def flush_cache(self) -> None:
        raise RuntimeError("cache: cannot")


def experiment(works, **changes) -> Experiment:
    return Experiment(Unflushable("http://127.0.0.1:1", "m"), header(**changes), works, ("dense", "sfi"))


def test_modes_take_turns_in_going_first():
    cells = list(experiment([]).cells())
    firsts = [cell.mode for cell in cells[::2]]
    assert firsts == ["dense", "sfi", "sfi", "dense"]
    assert len(set(cells)) == 8 and cells[0] == Cell("dense", 1, 0)


def test_a_broken_off_cell_is_run_again_and_whole_ones_are_not(tmp_path):
    path, works = tmp_path / "r.jsonl", [Sleeper("a"), Sleeper("b")]
    experiment(works).run(Writer(path, header(), 2))
    lines = path.read_text().splitlines()
    assert len(lines) == 1 + 16
    path.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40])  # killed while writing
    writer = Writer(path, header(), 2)
    assert len(writer.runs) == 14
    ran = []
    again = experiment(works)
    again.progress = lambda cell: ran.append(cell) if cell else None
    again.run(writer)
    assert ran == [list(again.cells())[-1]]
    assert len(read(path).runs) == 16


def test_another_runs_file_is_refused(tmp_path):
    path = tmp_path / "r.jsonl"
    Writer(path, header(), 1)
    with pytest.raises(ValueError, match="another run's results"):
        Writer(path, header(settings={"seed": 1}), 1)
    Writer(path, header(provenance={"date": "later"}), 1)


def test_a_closed_loop_has_as_many_clients_as_its_load():
    works = [Sleeper(str(i), 0.05) for i in range(8)]
    runs = experiment(works)._run_cell(Cell("dense", 4, 0))
    for run in runs:
        assert sum(other.start < run.start + 0.02 < other.end for other in runs) <= 4
    assert 0.09 < max(run.end for run in runs) < 0.4


def test_poisson_starts_are_the_same_for_both_modes_and_of_the_right_rate():
    loads = experiment([Sleeper(str(i)) for i in range(4000)], arrivals="poisson")
    starts = loads._starts(Cell("dense", 5, 0))
    assert starts == loads._starts(Cell("sfi", 5, 0)) != loads._starts(Cell("sfi", 5, 1))
    assert starts == sorted(starts) and starts[0] == 0
    assert starts[-1] / 4000 == pytest.approx(1 / 5, rel=0.1)


def test_a_trace_keeps_its_starts_at_its_speed():
    works = [Sleeper("a"), Sleeper("b")]
    works[1].start = 6.0
    assert experiment(works, arrivals="trace")._starts(Cell("dense", 2, 0)) == [0, 3]


def test_cold_cells_need_a_server_that_can_flush(tmp_path):
    with pytest.raises(RuntimeError, match="cache"):
        experiment([Sleeper("a")], cache="cold").run(Writer(tmp_path / "r.jsonl", header(cache="cold"), 1))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)), max_size=12))
def test_covered_is_the_measure_of_the_union(intervals):
    spans = [(start, start + length) for start, length in intervals]
    assert covered(spans) == len({point for lo, hi in spans for point in range(lo, hi)})


def test_tool_time_is_what_no_call_covers():
    calls = [
        Call(turn=0, start=0, end=2),
        Call(turn=1, start=5, end=9, delay=3),
        Call(turn=2, start=7, end=8, delay=2),  # a branch whose tool worked while the other call was under way
    ]
    run = Run(mode="dense", load=1, repeat=0, trajectory="t", start=0, end=10, calls=calls)
    assert run.tool_seconds == 3 and run.seconds == 7


class Scripted(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that streams two tokens whatever was asked for, and notes the requests."""

    seen: ClassVar[list] = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append(body)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        base = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        pieces = [({"content": word}, None) for word in ("a", "b")] + [({}, "length")]
        for delta, reason in pieces:
            self.send({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
        usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
        self.send({**base, "choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def send(self, chunk):
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def scripted():
    Scripted.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def trajectory(*tokens: int) -> Trajectory:
    turns = [
        Turn(messages=[{"role": "user", "content": f"q{i}"}], reply={"role": "assistant", "content": f"r{i}"},
             output_tokens=n, delay=0.05)
        for i, n in enumerate(tokens)
    ]  # fmt: skip
    return Trajectory(id="t", turns=turns)


def replay(url: str, work: Trajectory, **options) -> list[Call]:
    began = time.perf_counter()
    return Replay(make_client(url, retries=0), "m", **options).run(work, lambda: time.perf_counter() - began)


def test_replay_sends_the_recorded_history_and_waits_for_tools(scripted):
    calls = replay(scripted, trajectory(2, 2), tool_scale=2)
    contents = [[message["content"] for message in body["messages"]] for body in Scripted.seen]
    assert contents == [["q0"], ["q0", "r0", "q1"]]
    assert all(body["max_tokens"] == 2 and body["ignore_eos"] and "sfi" not in body for body in Scripted.seen)
    assert [call.error for call in calls] == [None, None]
    assert [call.delay for call in calls] == [0, 0.1] and calls[1].start - calls[0].end >= 0.1
    assert calls[0].prompt_tokens == 7 and len(calls[0].arrivals) == 2


def test_a_reply_of_the_wrong_length_is_a_failure_and_ends_the_trajectory(scripted):
    calls = replay(scripted, trajectory(2, 3, 2))
    assert [call.error for call in calls] == [None, "the reply has 2 tokens instead of 3"]


def test_a_server_that_ignores_sfi_is_no_sfi_server(scripted):
    calls = replay(scripted, trajectory(2), sfi={"budget": 64})
    assert Scripted.seen[0]["sfi"] == {"budget": 64}
    assert "no SFI report" in calls[0].error


def test_no_server_is_a_failure_not_a_crash():
    calls = replay("http://127.0.0.1:1", trajectory(2, 2))
    assert len(calls) == 1 and "APIConnectionError" in calls[0].error


def test_a_line_that_is_no_trajectory_is_named(tmp_path):
    path, works = tmp_path / "r.jsonl", [Sleeper("a"), Sleeper("b")]
    experiment(works).run(Writer(path, header(), 2))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], '{"mode": "dense"}', *lines[2:]]))
    with pytest.raises(ValueError, match=r"r\.jsonl:3: load: Field required \(no file of sfi-bench"):
        read(path)
