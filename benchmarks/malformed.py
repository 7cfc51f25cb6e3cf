"""Malformed requests at every door of a server: it must go on, and our own field is never answered with status 500.

    python -m benchmarks.malformed --requests 10000 --out benchmarks/results/malformed_cpu.json

Hypothesis makes them: `sfi` at right and wrong places with right and wrong values, odd prompts, fields of wrong types,
huge numbers, deep nesting, lone surrogates, bodies that are no JSON or no UTF-8. After every hundred, requests that are
right must be answered as before. What stock SGLang dies of, an empty prompt and unknown token ids (docs/limits.md), is
only sent together with an `sfi` that is switched on.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import requests
import typer
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.provenance import provenance
from sfi_sglang.serving.server import running_server
from sfi_sglang.terminal import console, progress

FLAGS = ["--json-model-override-args", '{"num_hidden_layers": 2}', "--context-length", "512"]
TIMEOUT = 120.0  # seconds
EVERY = 100  # requests between controls
Body = dict[str, Any]
CHAT: Body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
NATIVE: Body = {"max_new_tokens": 2, "temperature": 0}
OLLAMA: Body = {"model": "m", "options": {"num_predict": 2}, "stream": False}
OPENAI, IN_PARAMS = ("sfi",), ("sampling_params", "custom_params", "sfi")
DOORS: dict[str, tuple[Body, tuple[str, ...] | None]] = {  # a right body, and where `sfi` is read
    "/generate": ({"text": "Hi", "sampling_params": NATIVE}, IN_PARAMS),
    "/v1/chat/completions": (CHAT, OPENAI),
    "/invocations": (CHAT, OPENAI),
    "/v1/completions": ({"model": "m", "prompt": "Hi", "max_tokens": 2}, OPENAI),
    "/vertex_generate": (
        {"instances": [{"text": "Hi"}], "parameters": {"sampling_params": NATIVE}},
        ("parameters", *IN_PARAMS),
    ),
    "/v1/messages": (CHAT, None),
    "/v1/responses": ({"model": "m", "input": "Hi", "max_output_tokens": 2}, None),
    "/api/chat": ({**OLLAMA, "messages": CHAT["messages"]}, None),
    "/api/generate": ({**OLLAMA, "prompt": "Hi"}, None),
    "/tokenize": ({"model": "m", "prompt": "Hi"}, None),
}
PROMPTS: dict[str, tuple[str, tuple[Any, ...]]] = {  # where they are ids or text as it is
    "/generate": ("input_ids", ([], [[]], [-1], [1, 10**6], [[1], [-7]], [10**30], [1.5], [None], [True], ["x"], "x")),
    "/v1/completions": ("prompt", ("", [], [""], ["", "Hi"], [[]], [-1], [10**9], [1.5], None, {}, [None])),
}
OTHERS = ("stream", "temperature", "top_p", "top_k", "stop", "logit_bias", "tools", "model", "messages", "text", "rid",
          "return_logprob", "extra_key", "response_format", "stream_options", "priority", "unknown")  # fmt: skip
FIELDS = ("budget", "sink", "recent", "min_gap", "max_segment", "policy", "selector", "carry", "repair", "exact",
          "queries", "extend", "detail", "fast", "x", "")  # fmt: skip
DEEP = "deep nesting"  # stands for what json.dumps cannot write
numbers = st.sampled_from([0, -1, 1, 10**6, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, float("inf"), float("nan")])
leaves = st.none() | st.booleans() | numbers | st.sampled_from(["", "x", "\ud800", "\x00", "\u2028", DEEP])
odd = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner), max_leaves=5
)
on = st.sampled_from([True, {}, {"budget": 64}, {"budget": 16, "recent": 4, "carry": "merge"}, {"selector": "paper"}])
sfi_values = on | odd | st.dictionaries(st.sampled_from(FIELDS), odd, max_size=3)


@dataclass(frozen=True)
class Made:
    """plain: the same without `sfi`, to tell whose an error is; None where stock SGLang might die of that."""

    door: str
    body: bytes
    plain: bytes | None


def put(body: Body, path: tuple[str, ...], value: Any) -> Body:
    """A copy with `value` there."""
    made = copy.deepcopy(body)
    inner = made
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
    inner[path[-1]] = value
    return made


def encoded(body: Body) -> bytes:
    depth = 100_000
    return json.dumps(body).replace(json.dumps(DEEP), "[" * depth + "]" * depth).encode()


@st.composite
def malformed(draw: st.DrawFn) -> Made:
    door = draw(st.sampled_from(list(DOORS)))
    plain, place = DOORS[door]
    kind = draw(st.sampled_from(["sfi", "sfi", "prompt", "others", "bytes"]))
    if kind == "prompt" and door in PROMPTS and place:
        name, prompts = PROMPTS[door]
        body = {key: value for key, value in plain.items() if key != "text"}
        body = put(body, (name,), draw(st.sampled_from(prompts)))
        return Made(door, encoded(put(body, place, draw(on))), None)
    for _ in range(draw(st.integers(1, 3)) if kind == "others" else 0):
        plain = put(plain, (draw(st.sampled_from(OTHERS)),), draw(odd))
    prompt_is_odd = plain.get("text", "Hi") != "Hi"  # it might be empty
    places = st.sampled_from([place, place, OPENAI, ("custom_params", "sfi"), ("options", "sfi"), ("metadata", "sfi")])
    path = draw(places) or OPENAI
    value = draw(on if prompt_is_odd else sfi_values)
    if prompt_is_odd:
        path = place or OPENAI
    whole = [encoded(put(plain, path, value)), encoded(plain)]
    if kind == "bytes":
        cut, junk = draw(st.integers(0, len(whole[0]))), draw(st.sampled_from([None, b"\xff", b"\xed\xa0\x80"]))
        whole = [one[:cut] + (b"" if junk is None else junk + one[cut:]) for one in whole]
    return Made(door, whole[0], None if prompt_is_odd else whole[1])


@dataclass
class Outcome:
    sent: int = 0
    statuses: dict[str, dict[int, int]] = field(default_factory=dict)  # by door
    stock_errors: dict[str, int] = field(default_factory=dict)  # 500 and above, which came without `sfi` too, by door
    examples: dict[str, str] = field(default_factory=dict)  # of these, the last by door
    controls: int = 0
    failures: list[str] = field(default_factory=list)


class Siege:
    def __init__(self, url: str) -> None:
        self.url, self.outcome = url, Outcome()
        self.control()  # later ones find their prompts in the cache and round as they did
        self.expected = self.control()

    def post(self, door: str, body: bytes) -> requests.Response:
        """On a connection of its own: the server closes one after an error within it."""
        headers = {"content-type": "application/json"}
        return requests.post(self.url + door, data=body, headers=headers, timeout=TIMEOUT)

    def control(self) -> list[str]:
        """Texts of a dense request and of one with SFI."""
        text = "On this day the harbor master wrote that no ships came in. " * 12
        answers = []
        for sfi in (None, {"budget": 32, "recent": 16, "min_gap": 2, "max_segment": 8}):
            params = {"max_new_tokens": 12, "temperature": 0, "ignore_eos": True, "custom_params": {"sfi": sfi}}
            reply = self.post("/generate", json.dumps({"text": text, "sampling_params": params}).encode())
            reply.raise_for_status()
            answers.append(reply.json()["text"])
            if bool(reply.json()["meta_info"].get("sfi", {}).get("fast_steps")) != bool(sfi):
                raise ValueError(f"sfi: {sfi} was answered with {reply.json()['meta_info']}")
        return answers

    def knock(self, made: Made) -> None:
        """Send it and look at the answer.

        Raises:
            requests.RequestException: the server is gone.
        """
        outcome = self.outcome
        reply = self.post(made.door, made.body)
        outcome.sent += 1
        counts = outcome.statuses.setdefault(made.door, {})
        counts[reply.status_code] = counts.get(reply.status_code, 0) + 1
        if reply.status_code >= 500:
            about = f"{reply.status_code} {made.body[:300]!r}: {reply.text[:200]}"
            if made.plain is not None and self.post(made.door, made.plain).status_code == reply.status_code:
                outcome.stock_errors[made.door] = outcome.stock_errors.get(made.door, 0) + 1
                outcome.examples[made.door] = about
            else:
                outcome.failures.append(f"{made.door} {about}")
                console.print(outcome.failures[-1], markup=False)
        if outcome.sent % EVERY == 0:
            outcome.controls += 1
            if self.control() != self.expected:
                outcome.failures.append(f"another answer to the control after {outcome.sent} requests")


def besiege(url: str, number: int, start: int = 1, done: Callable[[], object] = lambda: None) -> Outcome:
    """Send `number` requests. A dead server ends it and is among the failures."""
    siege, dead = Siege(url), list[str]()

    @seed(start)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(made=malformed())
    def run(made: Made) -> None:
        if dead:
            return
        try:
            siege.knock(made)
        except requests.RequestException as error:
            dead.append(f"no answer: {error}: {made.door} {made.body[:500]!r}")
        done()

    run()
    siege.outcome.failures += dead
    return siege.outcome


def main(
    number: Annotated[int, typer.Option("--requests")] = 10_000,
    start: Annotated[int, typer.Option("--seed")] = 1,
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Malformed requests to a server of its own. Exit code 1: it died, or our field was answered with status 500."""
    Path("runs").mkdir(exist_ok=True)
    with running_server(flags=FLAGS, log=Path("runs/malformed.log")) as url, progress(console) as bar:
        task = bar.add_task("requests", total=number)
        outcome = besiege(url, number, start, lambda: bar.advance(task))
        Endpoint(url, "").flush_cache()
    console.print_json(data=asdict(outcome))
    if out:
        out.write_text(json.dumps({**provenance(), "seed": start, "flags": FLAGS, **asdict(outcome)}, indent=1) + "\n")
    raise typer.Exit(bool(outcome.failures))


if __name__ == "__main__":
    typer.run(main)
