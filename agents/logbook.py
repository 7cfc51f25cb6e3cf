"""A harbour logbook of 6K tokens, read page by page, and then told from: facts that stand once, far from the end.

The logbook is made here from a fixed seed: sentences without a number, and in each page one record with one. A task is
a sentence of the agent's report that the program begins and the model completes: with the number, and what comes to it.

How the tasks were chosen: a dense model of 135M parameters shall do them, so that what SFI loses can be seen. Dense
SmolLM2 alone decided on the wording. Where all records begin alike, or a question or a tool call names the record, it
found 0 to 6 in 8; of records with wordings of their own, begun for it, 8 in 8, with seed 1 and with seed 2.
"""

import random
from dataclasses import dataclass, field

from pydantic import Field

from sfi_sglang.agents.loop import Session, Step
from sfi_sglang.agents.program import Program, Task, numbers_of
from sfi_sglang.agents.prose import sentence
from sfi_sglang.agents.tools import Arguments, Tool, ToolError

ABOUT = "You report what the logbook of a harbour says."
SEED = 1
SENTENCES = 46  # of a page, beside its record
PAGES_A_CALL = 2
SENTENCE_TOKENS = 48


@dataclass(frozen=True)
class Record:
    """`begins`, a number, `unit` make a sentence."""

    name: str
    begins: str
    unit: str = ""

    def sentence(self, number: int) -> str:
        return f"{self.begins} {number}{self.unit and ' ' + self.unit}."


RECORDS = (
    Record("ferry", "The ferry Aurora carries", "passengers"),
    Record("locker", "The code of the blue locker is"),
    Record("insurance", "The insurance of the pier costs", "crowns"),
    Record("gulls", "The lighthouse keeper counted", "gulls"),
    Record("crane", "The new crane lifts", "kilograms"),
    Record("pilot", "The telephone number of the pilot is"),
    Record("auction", "The fish auction sold", "herrings"),
    Record("parcel", "The lost parcel has the number"),
)


class ReadPages(Arguments):
    first: int = Field(ge=1, le=len(RECORDS), description="number of a page")
    last: int = Field(ge=1, le=len(RECORDS), description="number of a page")


@dataclass(frozen=True)
class Completion(Task):
    """begins: the sentence up to the number."""

    begins: str = ""

    def check(self, answer: str | None) -> bool:
        """Whether the first number is the expected one: the text goes on after it."""
        return numbers_of(answer or "")[:1] == (self.expected,)


@dataclass(frozen=True)
class Logbook(Program):
    tasks: tuple[Completion, ...] = field(repr=False)

    def work(self, session: Session, task: Task, planned: bool, max_steps: int) -> str | None:
        """See Program.work. Without a plan the model reads what it likes, and the last step is the sentence."""
        if not isinstance(task, Completion):
            raise TypeError("task: a logbook needs a Completion")
        plan = task.plan if planned else ()
        session.work(plan, len(plan) if planned else max_steps - 1)
        return session.complete(task.begins, SENTENCE_TOKENS)


def make_pages(numbers: list[int], sentences: int, rng: random.Random) -> list[str]:
    """One page for each record, told somewhere in it."""
    pages = []
    for record, number in zip(RECORDS, numbers, strict=True):
        page = [sentence(rng) for _ in range(sentences)]
        page.insert(rng.randrange(sentences), record.sentence(number))
        pages.append(" ".join(page))
    return pages


def logbook(sentences: int = SENTENCES, seed: int = SEED) -> Logbook:
    """The program. sentences: of a page, about 17 tokens each."""
    rng = random.Random(seed)
    numbers = [rng.randrange(100, 1000) for _ in RECORDS]
    pages = make_pages(numbers, sentences, rng)

    def read(call: ReadPages) -> str:
        if call.last < call.first:
            raise ToolError(f"last ({call.last}) is before first ({call.first})")
        return "\n".join(pages[call.first - 1 : call.last])

    tools = [Tool("read_pages", "read pages of the logbook", ReadPages, read)]
    question = f"Read the logbook, {len(pages)} pages, and then report from it."
    tasks = (
        Completion(record.name, question, number, reading(), record.begins)
        for record, number in zip(RECORDS, numbers, strict=True)
    )
    return Logbook("logbook", ABOUT, lambda: tools, tuple(tasks))


def reading() -> tuple[Step, ...]:
    """The whole logbook, PAGES_A_CALL at a time."""
    firsts = range(1, len(RECORDS) + 1, PAGES_A_CALL)
    return tuple(Step("read_pages", f"The first page is {i}, the last page is {i + PAGES_A_CALL - 1}.") for i in firsts)
