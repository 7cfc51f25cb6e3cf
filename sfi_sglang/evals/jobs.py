"""What each command asks: its questions, variants and settings as a job."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.token_count import Count
from sfi_sglang.evals import agreement, carry, coverage, items
from sfi_sglang.evals.job import Job, Question
from sfi_sglang.evals.task import Task
from sfi_sglang.evals.texts import Text, real_texts, transcripts
from sfi_sglang.evals.variants import DENSE, Sight, Variant, variants

HELD_OUT = 1_000_000  # first of the seeds that no default was chosen on


@dataclass(frozen=True)
class Target:
    """The server, how its tokens are counted, and how it is asked. variants: those that it takes. sight: of SFI
    as served. compared: the set of variants. clients: questions at once."""

    endpoint: Endpoint
    count: Count
    variants: Sequence[Variant]
    sight: Sight
    compared: str
    clients: int


def answers(target: Target, task: Task, lengths: Sequence[int], trials: int, split: str) -> Job:
    """lengths: of prompts, tokens. trials: of every kind and length."""
    first = HELD_OUT if split == "held-out" else 0
    seeds = range(first, first + trials)
    questions = [item for length in lengths for item in task.items(length, trials, seeds, target.count)]
    ask = partial(items.answer, target.endpoint.url, task)
    settings = {**target.sight._asdict(), "set": target.compared, "split": split, "trials": trials}
    return Job(task.name, questions, target.variants, ask, target.clients, settings)


def texts(target: Target, length: int, trials: int, seed: int, folder: Path | None) -> list[Text]:
    """To be continued: the conversations in `folder`, or real texts of `length` tokens, `trials` of each kind."""
    url = target.endpoint.url
    return transcripts(url, folder) if folder else real_texts(url, length, trials, seed, target.count)


def agreements(target: Target, found: Sequence[Text], source: str) -> Job:
    """source: of the texts, in words.

    Raises:
        ValueError: a set that does nothing here.
    """
    refuse_sparse_extend(target)
    settings = {**target.sight._asdict(), "set": target.compared, "texts": source}
    ask = partial(agreement.answer, target.endpoint.url)
    return Job(agreement.TASK, found, target.variants, ask, target.clients, settings)


def coverages(target: Target, found: Sequence[Text], source: str) -> Job:
    """As `agreements`."""
    refuse_sparse_extend(target)
    settings = {**target.sight._asdict(), "set": target.compared, "texts": source}
    ask = partial(coverage.answer, target.endpoint.url)
    selecting = [variant for variant in target.variants if coverage.selects(variant)]
    return Job(coverage.TASK, found, selecting, ask, target.clients, settings)


def refuse_sparse_extend(target: Target) -> None:
    """Of texts that are read whole: it would do nothing."""
    if any(variant.extends_sparsely for variant in target.variants):
        raise ValueError(f"--set {target.compared}: for retrieval, copy and tools; texts are read whole")


def carries(target: Target, tokens: int, turns: int, conversations: int, seed: int) -> Job:
    """One conversation at a time: the first tokens are timed."""
    made = [carry.conversation(tokens, turns, seed * 100 + i, target.count) for i in range(conversations)]
    ask = partial(carry.answer, target.endpoint.url)
    return Job(carry.TASK, made, carry.variants(target.sight), ask, 1, target.sight._asdict())


def agent_runs(target: Target, runs: Sequence[Question], folder: Path | None) -> Job:
    """runs: those of evals/agents.py. folder: for transcripts."""
    from sfi_sglang.evals import agents

    compared = [variant for variant in variants(target.sight) if variant.label in (DENSE, "sfi")]
    ask = partial(agents.answer, target.endpoint, folder)
    return Job(agents.TASK, runs, compared, ask, 1, target.sight._asdict())
