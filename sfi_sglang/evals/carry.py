"""Does memory carried over turns help? Facts planted in turn 1 are asked for in the last turn, by carry mode.

The history is fixed (the model's notes are not fed back), so that every mode sees the same tokens. Modes that inherit
live in radix namespaces of their own: nothing is shared between them. Dense and fresh do not inherit and share one.
"""

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sfi_sglang.client.generate import generate
from sfi_sglang.evals.needle import found, make_trial

PLACES = ("stone bridge", "music school", "north gate", "old mill", "grain store", "boat house")
FACTS = 3  # planted in turn 1, asked for one by one in the last turn
NOTE = " I have read it and will keep it in mind.\n"
NOTE_TOKENS, ANSWER_TOKENS = 16, 12
MODES = ("dense", "fresh", "inherit", "merge")


@dataclass(frozen=True)
class Conversation:
    """Prompts of the turns before the last, and (prompt, number) of the forks of the last turn."""

    turns: list[str]
    questions: list[tuple[str, str]]


@dataclass(frozen=True)
class Result:
    """One mode over all conversations. Times in seconds, medians over turns after the first; None from a server that
    tells none (without --enable-metrics)."""

    mode: str
    found: int
    trials: int
    slow_steps_per_turn: float
    inherited_share: float  # inherited tokens of prompt tokens, turns after the first
    first_token_seconds: float | None


def make_conversation(tokens: int, turns: int, seed: int, count_tokens: Callable[[str], int]) -> Conversation:
    """A conversation whose last prompt has about `tokens` tokens."""
    rng = random.Random(seed)
    places = rng.sample(PLACES, FACTS)
    numbers = [str(rng.randrange(10000, 99999)) for _ in places]
    texts = [filler(tokens // turns, seed * 100 + turn, count_tokens) for turn in range(turns)]
    sentences = texts[0].split(". ")
    for i, (place, number) in enumerate(zip(places, numbers, strict=True)):
        sentences.insert(len(sentences) * (2 * i + 1) // (2 * FACTS), f"The access code of the {place} is {number}")
    texts[0] = ". ".join(sentences)
    history, prompts = "", []
    for text in texts[:-1]:
        prompts.append(f"{history}Report: {text}\nNote:")
        history = prompts[-1] + NOTE
    last = f"{history}Report: {texts[-1]}\n"
    return Conversation(prompts, [(last + question(place), n) for place, n in zip(places, numbers, strict=True)])


def filler(tokens: int, seed: int, count_tokens: Callable[[str], int]) -> str:
    return make_trial(tokens, 0.0, seed, count_tokens).prompt.split(". ", 1)[1].split("\nQuestion")[0]


def question(place: str) -> str:
    return f"Question: What is the access code of the {place}?\nAnswer: The access code of the {place} is"


def run(
    url: str,
    conversations: list[Conversation],
    budget: int,
    modes: Sequence[str] = MODES,
    done: Callable[[], None] = lambda: None,
) -> list[Result]:
    """All conversations in all modes, a conversation's modes after each other."""
    correct = dict.fromkeys(modes, 0)
    replies: dict[str, list[dict[str, Any]]] = {mode: [] for mode in modes}
    for conversation in conversations:
        for mode in modes:
            sfi: dict[str, Any] | bool = {"budget": budget, "carry": mode} if mode != "dense" else False
            key = mode if mode in ("inherit", "merge") else "no carry"
            for i, prompt in enumerate(conversation.turns):
                reply = generate(url, prompt, NOTE_TOKENS, sfi, ignore_eos=True, extra_key=key)
                replies[mode] += [reply] if i else []
            for prompt, number in conversation.questions:
                reply = generate(url, prompt, ANSWER_TOKENS, sfi, ignore_eos=True, extra_key=key)
                correct[mode] += found(reply["text"], number)
                replies[mode].append(reply)
            done()
    trials = sum(len(conversation.questions) for conversation in conversations)
    return [summarize(mode, correct[mode], trials, replies[mode]) for mode in modes]


def summarize(mode: str, correct: int, trials: int, replies: list[dict[str, Any]]) -> Result:
    metas = [reply["meta_info"] for reply in replies]
    infos = [meta["sfi"] for meta in metas if "sfi" in meta]
    times = [meta["first_token_latency"] for meta in metas if "first_token_latency" in meta]
    prompt_tokens = sum(info["prompt_tokens"] for info in infos)
    return Result(
        mode,
        correct,
        trials,
        statistics.mean(info["slow_steps"] for info in infos) if infos else 0.0,
        sum(info["inherited_tokens"] for info in infos) / prompt_tokens if infos else 0.0,
        statistics.median(times) if times else None,
    )
