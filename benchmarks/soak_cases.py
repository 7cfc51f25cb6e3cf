"""Fixed greedy requests of the soak, their replies alone, and what came back under load."""

import itertools
import json
import math
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.terminal import console

TIMEOUT = 300.0
TIE = 1e-3  # of log-probabilities: two tokens as close as this are ordered by rounding
SPARSE = {"budget": 96, "recent": 48, "min_gap": 4, "max_segment": 16}
OPTIONS: dict[str, dict[str, Any] | None] = {
    "dense": None,
    "sfi": {**SPARSE, "repair": False},
    "repair": SPARSE,
    "exact": {"budget": 96, "recent": 48, "exact": True},
}
WORDS = "[a-z ,.]{30,}"
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"ship": {"type": "string", "maxLength": 12}, "day": {"type": "integer"}},
        "required": ["ship", "day"],
    }
)
GRAMMARS: dict[str, dict[str, Any]] = {"none": {}, "regex": {"regex": WORDS}, "schema": {"json_schema": SCHEMA}}
Reply = dict[str, Any]  # of /generate


@dataclass(frozen=True)
class Case:
    """A greedy request and its reply where it ran alone. gaps: at each of its tokens between the two best, in
    log-probability, in the request's own attention."""

    text: str
    option: str
    grammar: str
    tokens: int
    ids: tuple[int, ...] = ()
    gaps: tuple[float, ...] = ()

    def sampling(self) -> dict[str, Any]:
        """`dense` of the control run is a server without SFI, so nothing is said where there is no option."""
        option = OPTIONS[self.option]
        params = {"temperature": 0, "max_new_tokens": self.tokens, "ignore_eos": self.grammar == "none"}
        return {**params, **GRAMMARS[self.grammar], **({"custom_params": {"sfi": option}} if option else {})}


@dataclass
class Tally:
    """What came back, from all threads."""

    replies: Counter[str] = field(default_factory=Counter)  # by way and option
    equal: Counter[str] = field(default_factory=Counter)  # to the reply of the same request alone, by option
    parted: list[dict[str, Any]] = field(default_factory=list)  # those that are not, and the gap at their first place
    problems: list[str] = field(default_factory=list)
    flushes: Counter[int] = field(default_factory=Counter)  # by status
    lock: threading.Lock = field(default_factory=threading.Lock)

    def compare(self, way: str, case: Case, reply: Reply, whole: bool = True) -> None:
        """whole: of an aborted reply only the tokens that came are compared."""
        given, expected = reply["output_ids"], list(case.ids)
        if not whole:
            expected = expected[: len(given)]
        with self.lock:
            if given == expected:
                self.equal[case.option] += 1
                return
            pairs = itertools.zip_longest(given, expected)
            place = next(i for i, (one, other) in enumerate(pairs) if one != other)
            gap = case.gaps[place] if place < len(case.gaps) else math.inf
            retractions = reply["meta_info"].get("num_retractions")
            about = {"way": way, "option": case.option, "grammar": case.grammar, "place": place, "gap": gap}
            self.parted.append({**about, "retractions": retractions, "verdict": verdict(case, gap, retractions)})
            console.print(self.parted[-1])

    def ended(self, way: str, option: str) -> None:
        with self.lock:
            self.replies[f"{way} {option}"] += 1

    def problem(self, text: str) -> None:
        with self.lock:
            self.problems.append(text[:400])
            console.print(text[:400], markup=False)


def verdict(case: Case, gap: float, retractions: int | None) -> str:
    """On a reply that parts. A request that is taken back selects anew when it comes again, so a sparse reply may go on
    otherwise; a dense or an exact one may not."""
    if gap < TIE:
        return "tie"
    return "taken back" if case.option in ("sfi", "repair") and retractions else "different"


def sentence(rng: random.Random) -> str:
    day, ships, hour = rng.randrange(999), rng.randrange(99), rng.randrange(24)
    return f"On day {day} the harbor master wrote that {ships} ships came in at {hour} and left again. "


def ask(url: str, body: dict[str, Any]) -> Any:
    reply = requests.post(f"{url}/generate", json=body, timeout=TIMEOUT)
    if not reply.ok:
        raise ValueError(f"status {reply.status_code}: {reply.text[:300]}")
    return reply.json()


def alone(url: str, texts: int, tokens: int, dense: bool, done: Callable[[], object]) -> list[Case]:
    """Fixed requests and their replies, one at a time and each on an empty cache. An `exact` one is to give what the
    dense one gave. dense: those without SFI alone."""
    cases = []
    options = ["dense"] if dense else ["dense", "sfi", "repair"]
    for number, option, grammar in itertools.product(range(texts), options, GRAMMARS):
        rng = random.Random(number)
        text = f"Log {number}. " + "".join(sentence(rng) for _ in range(14 + 5 * (number % 4)))
        case = Case(text, option, grammar, tokens)
        Endpoint(url, "").flush_cache()
        body = {"text": text, "sampling_params": case.sampling(), "return_logprob": True, "top_logprobs_num": 2}
        reply = ask(url, body)
        best = reply["meta_info"]["output_top_logprobs"]
        gaps = tuple(math.inf if second is None else first - second for (first, *_), (second, *_) in best)
        cases.append(Case(text, option, grammar, tokens, tuple(reply["output_ids"]), gaps))
        if option == "dense" and not dense:
            cases.append(Case(text, "exact", grammar, tokens, tuple(reply["output_ids"]), gaps))
        done()
    return cases
