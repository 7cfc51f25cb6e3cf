"""What an evaluation leaves behind: a header line, then one JSON line an answer. A run of the same settings goes on
where the last one was broken off, and a run of another task adds to it."""

from pathlib import Path
from typing import Any

from pydantic import Field

from sfi_sglang.client import run_file
from sfi_sglang.client.call import Record

Key = tuple[str, str, int | None, int, str]


class Turns(Record):
    """What a conversation's requests after its first turn cost (evals/carry.py).

    requests, prompt_tokens, inherited_tokens, slow_steps: sums over them, by the server's reports; 0 without SFI.
    first_token_seconds: of each; empty from a server that tells none (without --enable-metrics).
    """

    requests: int
    prompt_tokens: int
    inherited_tokens: int
    slow_steps: int
    first_token_seconds: list[float]


class Outcome(Record):
    """One answer of one variant to one question.

    length: tokens of the prompt, about; None where nobody chose it. depth: where the answer stands in it, 0 to 1.
    right: of each thing that was asked for; empty where nothing was.
    chosen, divergence, refreshes: by position, of a continued text (evals/agreement.py).
    coverage: share of the attention at slow steps that the selection caught, [layers][KV heads] (evals/coverage.py).
    """

    task: str
    kind: str
    length: int | None
    seed: int
    variant: str
    depth: float | None = None
    right: list[bool] = Field(default_factory=list)
    text: str = ""
    fast_steps: int = 0
    slow_steps: int = 0
    chosen: list[bool] = Field(default_factory=list)
    divergence: list[float] = Field(default_factory=list)
    refreshes: list[int] = Field(default_factory=list)
    coverage: list[list[float]] | None = None
    turns: Turns | None = None

    @property
    def key(self) -> Key:
        return self.task, self.kind, self.length, self.seed, self.variant


class Header(Record):
    """settings: by task, what its answers depend on; its `variants` are requests by their labels. about: what each
    variant is. refused: those that the server did not take, with its reasons."""

    model: str
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    about: dict[str, str] = Field(default_factory=dict)
    refused: dict[str, str] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)


class Outcomes:
    """The answers so far, and their file if there is one."""

    def __init__(self, path: Path | None, model: str, provenance: dict[str, Any]) -> None:
        """
        Raises:
            ValueError: the file holds another model's answers, or something else.
        """
        self.path, self.all = path, list[Outcome]()
        self.header = Header(model=model, provenance=provenance)
        if path and run_file.begun(path):
            self.header, self.all = read(path)
            if self.header.model != model:
                raise ValueError(f"{path}: holds answers of {self.header.model}; give another folder or remove it")

    def begin(self, task: str, settings: dict[str, Any], about: dict[str, str], refused: dict[str, str]) -> None:
        """Before a task's first answer.

        Raises:
            ValueError: the file holds answers to this task under other settings; names them.
        """
        kept = self.header.settings.setdefault(task, settings)
        if differing := [name for name in {**kept, **settings} if kept.get(name) != settings.get(name)]:
            names = ", ".join(differing)
            raise ValueError(f"{self.path}: holds answers with another {names}; give another folder or remove it")
        self.header.about |= about
        self.header.refused |= refused
        if self.path:
            run_file.write(self.path, [self.header, *self.all])

    def add(self, outcome: Outcome) -> None:
        self.all.append(outcome)
        if self.path:
            run_file.append(self.path, outcome)

    def keys(self) -> set[Key]:
        return {outcome.key for outcome in self.all}


def read(path: Path) -> tuple[Header, list[Outcome]]:
    """A last line that was cut short is left out.

    Raises:
        ValueError: no file of an evaluation; names file, line and field.
    """
    return run_file.read(path, Header, Outcome, "sfi-sglang eval")
