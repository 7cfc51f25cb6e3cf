"""What a benchmark runs: programs, each with tasks whose answers are checked."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import openai

from sfi_sglang.agents.loop import AgentResult, Session, Step, Turn, describe
from sfi_sglang.agents.tools import Tool

MAX_STEPS = 12
NUMBER = re.compile(r"(?<![\w.])\d+(?![\w]|\.\d)")


@dataclass(frozen=True)
class Task:
    """plan: steps for a model that is too small to choose its tools."""

    name: str
    question: str
    expected: int | str | tuple[int, ...]
    plan: tuple[Step, ...] = ()

    def check(self, answer: str | None) -> bool:
        """Whether the answer's last numbers, names like POP3 aside, are the expected ones; of an expected text, whether
        the answer has it, as whole words."""
        text = answer or ""
        if isinstance(self.expected, str):
            return re.search(rf"(?<!\w){re.escape(self.expected)}(?!\w)", text) is not None
        expected = self.expected if isinstance(self.expected, tuple) else (self.expected,)
        return numbers_of(text)[-len(expected) :] == expected


def numbers_of(text: str) -> tuple[int, ...]:
    """Its whole numbers, names like POP3 aside; 1,000 is one."""
    return tuple(int(number) for number in NUMBER.findall(re.sub(r"(?<=\d),(?=\d{3})", "", text)))


@dataclass(frozen=True)
class Program:
    """An agent: a sentence on its work, its tools and its tasks. toolbox: fresh tools, for a run may change them."""

    name: str
    about: str
    toolbox: Callable[[], list[Tool]]
    tasks: tuple[Task, ...] = field(repr=False)

    def task(self, name: str) -> Task:
        """
        Raises:
            ValueError: no task of this name.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        raise ValueError(f"task: {self.name} has no {name!r}, but {', '.join(repr(task.name) for task in self.tasks)}")

    def open(
        self, client: openai.OpenAI, model: str, question: str, sfi: bool | dict[str, Any] | None = None
    ) -> Session:
        """A conversation up to the question. sfi: the request option; None sends none."""
        tools = self.toolbox()
        opening = [{"role": "system", "content": describe(self.about, tools)}, {"role": "user", "content": question}]
        return Session(client, model, tools, opening, sfi)

    def run(
        self,
        client: openai.OpenAI,
        model: str,
        task: Task,
        *,
        sfi: bool | dict[str, Any] | None = None,
        planned: bool = True,
        max_steps: int = MAX_STEPS,
        transcript: Path | None = None,
    ) -> AgentResult:
        """Work on `task` from its question on; see `open` and `finish`."""
        session = self.open(client, model, task.question, sfi)
        return self.finish(session, task, planned=planned, max_steps=max_steps, transcript=transcript)

    def finish(
        self,
        session: Session,
        task: Task,
        *,
        planned: bool = True,
        max_steps: int = MAX_STEPS,
        transcript: Path | None = None,
    ) -> AgentResult:
        """Work on `task` in an open conversation. What the API or a tool refused is in the result, never raised.

        planned: follow the task's plan.
        max_steps: of the run, and of each parallel branch.
        transcript: a file for the messages and the result, as JSON.
        """
        result = AgentResult()
        try:
            result.answer = self.work(session, task, planned, max_steps)
            result.finish_reason = "step_limit" if result.answer is None else "answered"
        except (openai.OpenAIError, RuntimeError, OSError) as error:  # the last two: SGLang's frontend language
            result.finish_reason, result.error = "error", f"{type(error).__name__}: {error}"
        finally:
            result.turns = in_order(session)
            if transcript:
                save(transcript, self, task, session, result)
        return result

    def work(self, session: Session, task: Task, planned: bool, max_steps: int) -> str | None:
        """The answer; None: the steps were used up.

        Raises:
            openai.OpenAIError: no answer, or a refused request, after the retries.
        """
        return session.work(task.plan if planned else (), max_steps)


def in_order(session: Session) -> list[Turn]:
    """All turns of a run by their start, their calls numbered so."""
    turns = [*session.turns, *(turn for branch in session.branches for turn in branch.turns)]
    turns.sort(key=lambda turn: turn.call.start)
    for number, turn in enumerate(turns):
        turn.call.turn = number
    return turns


def save(path: Path, program: Program, task: Task, session: Session, result: AgentResult) -> None:
    """`messages` and each of `branches` are OpenAI chat messages, `tools` what a turn's `offered` names."""
    record = {
        "program": program.name,
        "task": task.name,
        "model": session.model,
        "sfi": session.sfi,
        "tools": [tool.definition() for tool in session.tools],
        "messages": session.messages,
        "branches": [branch.messages for branch in session.branches],
        **asdict(result),
        "turns": [{**vars(turn), "call": turn.call.model_dump()} for turn in result.turns],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1))
