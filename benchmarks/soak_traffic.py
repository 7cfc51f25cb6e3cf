"""Traffic of the soak: the ways in which clients send requests, and what each of them must get."""

import json
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import requests

from benchmarks.soak_cases import SPARSE, TIMEOUT, WORDS, Case, Reply, Tally, ask, sentence

WAYS = ("plain", "stream", "logprobs", "several", "batch", "abort", "leave", "turn", "draw")  # methods of a client


def chunks(url: str, body: dict[str, Any]) -> Iterator[Reply]:
    """Of a stream: each holds all so far. Leaving it is what a client that hangs up does.

    Raises:
        ValueError: it does not have exactly one end, at its end.
    """
    ends, done = 0, False
    with requests.post(f"{url}/generate", json={**body, "stream": True}, stream=True, timeout=TIMEOUT) as stream:
        if not stream.ok:
            raise ValueError(f"status {stream.status_code}: {stream.text[:300]}")
        for line in stream.iter_lines(delimiter=b"\n"):
            if not line.strip():
                continue
            if done or ends > 1:
                raise ValueError(f"after the end came {line[:200]!r}")
            if line == b"data: [DONE]":
                done = True
                continue
            chunk = json.loads(line.removeprefix(b"data: "))
            if "error" in chunk:
                raise ValueError(f"in the stream: {line[:300]!r}")
            ends += chunk["meta_info"]["finish_reason"] is not None
            yield chunk
    if ends != 1 or not done:
        raise ValueError(f"a stream with {ends} ends and {'a' if done else 'no'} [DONE]")


def check(case: Case, reply: Reply) -> None:
    """
    Raises:
        ValueError: the reply was cut short, or is not of its grammar.
    """
    if reply["meta_info"]["finish_reason"]["type"] not in ("length", "stop"):
        raise ValueError(f"ended by {reply['meta_info']['finish_reason']}")
    if case.grammar == "regex" and not re.fullmatch(WORDS.replace("{30,}", "*"), reply["text"]):
        raise ValueError(f"not of the grammar: {reply['text']!r}")


class Client:
    """One of those that ask at the same time; every method is one way to ask and returns when its requests ended."""

    def __init__(self, url: str, cases: Sequence[Case], tally: Tally, seed: int, dense: bool) -> None:
        self.url, self.cases, self.tally, self.dense = url, cases, tally, dense
        self.rng, self.seed, self.number = random.Random(seed), seed, 0
        self.messages: list[dict[str, str]] = []

    def once(self) -> None:
        way = self.rng.choice(WAYS)
        try:
            getattr(self, way)(way)
        except (ValueError, LookupError, TypeError, requests.RequestException) as error:
            self.tally.problem(f"{way}: {type(error).__name__}: {error}")

    def case(self) -> Case:
        return self.rng.choice(self.cases)

    def body(self, case: Case, **more: Any) -> dict[str, Any]:
        self.number += 1
        return {"text": case.text, "sampling_params": case.sampling(), "rid": f"{self.seed}-{self.number}", **more}

    def taken(self, way: str, case: Case, reply: Reply, whole: bool = True) -> None:
        if whole:
            check(case, reply)
        self.tally.compare(way, case, reply, whole)
        self.tally.ended(way, case.option)

    def plain(self, way: str) -> None:
        body = self.body(case := self.case())
        reply = ask(self.url, body)
        if reply["meta_info"]["id"] != body["rid"]:
            raise ValueError("the reply of another request")
        self.taken(way, case, reply)

    def logprobs(self, way: str) -> None:
        reply = ask(self.url, self.body(case := self.case(), return_logprob=True))
        if len(reply["meta_info"]["output_token_logprobs"]) != len(reply["output_ids"]):
            raise ValueError("log-probabilities that are not one a token")
        self.taken(way, case, reply)

    def several(self, way: str) -> None:
        """n > 1."""
        body = self.body(case := self.case())
        del body["rid"]
        replies = ask(self.url, {**body, "sampling_params": {**body["sampling_params"], "n": 2}})
        if len(replies) != 2:
            raise ValueError(f"{len(replies)} replies of 2")
        for reply in replies:
            self.taken(way, case, reply)

    def batch(self, way: str) -> None:
        cases = [self.case() for _ in range(3)]
        sampling = [case.sampling() for case in cases]
        replies = ask(self.url, {"text": [case.text for case in cases], "sampling_params": sampling})
        for case, reply in zip(cases, replies, strict=True):
            self.taken(way, case, reply)

    def stream(self, way: str) -> None:
        case = self.case()
        self.taken(way, case, list(chunks(self.url, self.body(case)))[-1])

    def abort(self, way: str) -> None:
        body, enough = self.body(case := self.case()), self.rng.randrange(1, 20)
        came = []
        for chunk in chunks(self.url, body):
            came.append(chunk)
            if len(came) == enough:
                requests.post(f"{self.url}/abort_request", json={"rid": body["rid"]}, timeout=TIMEOUT)
        self.taken(way, case, came[-1], whole=came[-1]["meta_info"]["finish_reason"]["type"] != "abort")

    def leave(self, way: str) -> None:
        """Hang up in the midst."""
        enough = self.rng.randrange(1, 20)
        for number, last in enumerate(chunks(self.url, self.body(case := self.case()))):
            if number == enough:
                return self.taken(way, case, last, whole=False)
        self.taken(way, case, last)  # it was short

    def draw(self, way: str) -> None:
        """There is no reply to compare with, a grammar apart."""
        body = self.body(case := self.case())
        body["sampling_params"] |= {"temperature": 1.0, "top_p": 0.95}
        check(case, ask(self.url, body))
        self.tally.ended(way, case.option)

    def turn(self, way: str) -> None:
        """The next turn of a chat whose selections are carried on, or the first one of another."""
        if len(self.messages) > 6:
            self.messages = []
        text = "".join(sentence(self.rng) for _ in range(6))
        self.messages.append({"role": "user", "content": text})
        carry = {} if self.dense else {"sfi": {**SPARSE, "carry": self.rng.choice(["inherit", "merge"])}}
        body: dict[str, Any] = {"model": "m", "messages": self.messages, "max_tokens": 24, "temperature": 0, **carry}
        reply = requests.post(f"{self.url}/v1/chat/completions", json=body, timeout=TIMEOUT)
        if not reply.ok or len(reply.json()["choices"]) != 1:
            raise ValueError(f"status {reply.status_code}: {reply.text[:300]}")
        self.messages.append({"role": "assistant", "content": reply.json()["choices"][0]["message"]["content"]})
        self.tally.ended(way, "dense" if self.dense else "carry")
