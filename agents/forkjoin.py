"""A fork-join agent: it reads and plans once, works on the parts of its plan in parallel, and merges the reports.

A branch goes on from a copy of the messages, so its prompt begins with the plan's and the server may share that prefix.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import openai
from pydantic import Field

from sfi_sglang.agents.corpus import Tree
from sfi_sglang.agents.loop import Session, Step
from sfi_sglang.agents.program import Program, Task
from sfi_sglang.agents.repo import ABOUT, constant, file_tools
from sfi_sglang.agents.tools import ANSWER, CALCULATE, Arguments, Tool

MAX_PARTS = 4
PART = "{part}"  # in a branch's instructions: the plan's words for its part


class Fork(Arguments):
    parts: list[str] = Field(min_length=2, max_length=MAX_PARTS, description="the parts of the question, one a branch")


def announce(call: Fork) -> str:
    return f"{len(call.parts)} branches: {', '.join(call.parts)}"


FORK = Tool("fork", "split the question into parts, which are worked on in parallel", Fork, announce)


@dataclass(frozen=True)
class ForkTask(Task):
    """plan ends with the fork; branch is every part's plan, merge goes on after their reports."""

    branch: tuple[Step, ...] = ()
    merge: tuple[Step, ...] = ()


class ForkJoin(Program):
    def work(self, session: Session, task: Task, planned: bool, max_steps: int) -> str | None:
        """See Program.work. A branch that fails reports so: the merge goes on without it."""
        if not isinstance(task, ForkTask):
            raise TypeError("task: a fork-join program needs a ForkTask")
        plan, branch, merge = (task.plan, task.branch, task.merge) if planned else ((), (), ())
        tools, without_fork = session.tools, [tool for tool in session.tools if tool is not FORK]
        if not planned:
            # Work that needs no parts would be another program's.
            session.tools = [tool for tool in tools if tool is not ANSWER]
        if session.work(plan, max_steps, final=FORK.name) is None:
            return None
        parts = Fork.model_validate_json(session.turns[-1].arguments).parts
        branches = [session.fork(without_fork) for _ in parts]
        for number, (branch_session, part) in enumerate(zip(branches, parts, strict=True), 1):
            branch_session.say(f"This is branch {number}. Work on this part alone and answer it: {part}")
        with ThreadPoolExecutor(len(parts)) as pool:
            reports = list(pool.map(lambda one, part: report(one, branch, part, max_steps), branches, parts))
        session.say("\n".join(["The branches report:", *reports, "Now answer the question."]))
        session.tools = without_fork
        answer = session.work(merge, max_steps)
        session.tools = tools
        return answer


def report(session: Session, plan: Sequence[Step], part: str, max_steps: int) -> str:
    """What a branch found, as a line."""
    steps = [replace(step, instruction=step.instruction.replace(PART, part)) for step in plan]
    try:
        found = session.work(steps, max_steps) or "no answer"
    except openai.OpenAIError as error:
        found = f"failed, {type(error).__name__}"
    return f"{part}: {found}"


def fork_join(tree: Tree | None = None) -> ForkJoin:
    """The program over the standard library of this Python.

    Raises:
        LookupError: the tree is not the standard library's.
    """
    tree = tree or Tree()
    tools = [*file_tools(tree), CALCULATE, FORK, ANSWER]
    return ForkJoin("fork-join", ABOUT, lambda: tools, tuple(make_tasks(tree)))


def make_tasks(tree: Tree) -> list[ForkTask]:
    """Numbers that stand in different files, and a sum of such.

    Raises:
        LookupError: the tree is not the standard library's.
    """
    mail = {"IMAP4_SSL_PORT": "imaplib.py", "POP3_SSL_PORT": "poplib.py"}
    web = {"SMTP_SSL_PORT": "smtplib.py", "HTTPS_PORT": "http/client.py"}
    plain = {"IMAP4_PORT": "imaplib.py", "POP3_PORT": "poplib.py", "FTP_PORT": "ftplib.py"}
    return [
        _all("mail ports", _numbers(tree, mail)),
        _all("mail and web", _numbers(tree, web)),
        _all("three ports", _numbers(tree, plain)),
        _sum("sum of mail ports", _numbers(tree, mail)),
    ]


def _numbers(tree: Tree, places: dict[str, str]) -> dict[str, int]:
    """places: the module of each name."""
    return {name: constant(tree, path, name) for name, path in places.items()}


def _all(name: str, numbers: dict[str, int]) -> ForkTask:
    question = f"What numbers are {', '.join(numbers)}, in this order?"
    values = ", ".join(f'"the value of {one} is" and then the number' for one in numbers)
    return _task(
        name, question, tuple(numbers.values()), list(numbers), (Step("answer", f"Its text must be {values}."),)
    )


def _sum(name: str, numbers: dict[str, int]) -> ForkTask:
    merge = (
        Step("calculate", f"The expression is the number of {', a plus sign, the number of '.join(numbers)}."),
        Step("answer", 'Its text must be "The sum is" and then the number.'),
    )
    return _task(name, f"What is {' plus '.join(numbers)}?", sum(numbers.values()), list(numbers), merge)


def _task(
    name: str, question: str, expected: int | tuple[int, ...], names: list[str], merge: tuple[Step, ...]
) -> ForkTask:
    """One part a name."""
    return ForkTask(
        name,
        question,
        expected,
        plan=(
            Step("search", 'The pattern is "_PORT =".'),
            Step("fork", f"The parts are {', '.join(map(json.dumps, names))}."),
        ),
        branch=(
            Step("search", f'The pattern is "{PART} =".'),
            Step("answer", f'Its text must be "The value of {PART} is" and then the number.'),
        ),
        merge=merge,
    )
