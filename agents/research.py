"""Research in a long document, Python's language reference as `help()` shows it, with notes.

The right answers are read from the document at run time.
"""

import re
from dataclasses import dataclass, field
from pydoc_data.topics import topics

from pydantic import Field

from sfi_sglang.agents.corpus import MAX_LINES, Corpus, ListNames, ReadLines, Search
from sfi_sglang.agents.loop import Step
from sfi_sglang.agents.program import Program, Task
from sfi_sglang.agents.tools import ANSWER, CALCULATE, Arguments, Tool, ToolError

ABOUT = "You answer questions about a long document, the reference of the Python language."
MAX_NOTES = 20


class WriteNote(Arguments):
    text: str = Field(min_length=2, max_length=160, description="one fact, in one sentence")


class ListNotes(Arguments):
    newest: int = Field(ge=1, le=MAX_NOTES, description="how many notes to show")


class Reference(Corpus):
    """About 500,000 characters in some 80 sections."""

    @property
    def paths(self) -> list[str]:
        return sorted(topics)

    def lines(self, path: str) -> list[str]:
        if path not in topics:
            raise ToolError(f"{path}: no such section")
        return topics[path].splitlines()


@dataclass
class Notes:
    """What one run has written down."""

    texts: list[str] = field(default_factory=list)

    def write(self, call: WriteNote) -> str:
        if len(self.texts) == MAX_NOTES:
            raise ToolError(f"there are {MAX_NOTES} notes already")
        self.texts.append(call.text)
        return f"note {len(self.texts)} written"

    def show(self, call: ListNotes) -> str:
        numbered = [f"{i}. {text}" for i, text in enumerate(self.texts, 1)]
        return "\n".join(numbered[-call.newest :]) or "no notes"


def research() -> Program:
    """The program over this Python's reference.

    Raises:
        LookupError: it lacks a fact that a task asks for.
    """
    return Program("research", ABOUT, toolbox, tuple(make_tasks()))


def toolbox() -> list[Tool]:
    reference, notes = Reference(), Notes()
    return [
        Tool("list_sections", "list the sections whose name matches", ListNames, reference.list_names),
        Tool("search", "find exact text in all sections", Search, reference.search),
        Tool("read_section", f"read at most {MAX_LINES} lines of a section", ReadLines, reference.read_lines),
        Tool("write_note", "write down a fact", WriteNote, notes.write),
        Tool("list_notes", "show the notes", ListNotes, notes.show),
        CALCULATE,
        ANSWER,
    ]


@dataclass(frozen=True)
class Fact:
    """A number in the document. pattern: it is the group; search: a text beside it; sentence: what number it is."""

    section: str
    pattern: str
    search: str
    sentence: str

    @property
    def value(self) -> int:
        """
        Raises:
            LookupError: the section has no such text.
        """
        if found := re.search(self.pattern, topics.get(self.section, "")):
            return int(found[1])
        raise LookupError(f"{self.section}: not the section that the tasks expect")

    @property
    def place(self) -> int:
        """The first line of the search's hit."""
        lines = topics[self.section].splitlines()
        return next(i for i, line in enumerate(lines, 1) if self.search in line)


TAB = Fact(
    "string-methods", r"every \*tabsize\*\s+characters\s+\(default\s+is\s+(\d+)", "Tab positions occur",
    "The default tab size is",
)  # fmt: skip
LISTED = Fact(
    "debugger", r"Without arguments, list (\d+)\s+lines", "Without arguments, list",
    "The number of lines that list shows is",
)  # fmt: skip


def _pep(section: str, title: str) -> Fact:
    pattern = rf"PEP (\d+)\W+{re.escape(title)}"
    return Fact(section, pattern, title, f"The number of the PEP about {title} is")


def make_tasks() -> list[Task]:
    """Questions with one number as the answer.

    Raises:
        LookupError: the document lacks a fact.
    """
    coroutines, nonlocals = _pep("async", "Coroutines with async"), _pep("nonlocal", "Access to Names in Outer Scopes")
    return [
        _one("default tab size", "What is the default tab size of str.expandtabs?", TAB),
        _one("lines of list", "How many lines does the debugger's list command show?", LISTED),
        _one("PEP of coroutines", "Which PEP is about coroutines with async and await syntax?", coroutines),
        _one("PEP of nonlocal", "Which PEP is about access to names in outer scopes?", nonlocals),
        _sum(
            "tab size + lines",
            "What is the default tab size of str.expandtabs plus the number of lines that the debugger's list shows?",
            TAB,
            LISTED,
        ),
    ]


def _one(name: str, question: str, fact: Fact) -> Task:
    notes = Step("list_notes", "The argument newest is 5.")
    return Task(name, question, fact.value, (*_find(fact), notes, _answer(fact.sentence)))


def _sum(name: str, question: str, first: Fact, second: Fact) -> Task:
    steps = (
        *_find(first),
        *_find(second),
        Step("list_notes", "The argument newest is 5."),
        Step("calculate", "The expression is the number of note 1, a plus sign, the number of note 2."),
        _answer("The sum is"),
    )
    return Task(name, question, first.value + second.value, steps)


def _find(fact: Fact) -> tuple[Step, ...]:
    """Read the neighbourhood, find the place and write it down."""
    start = max(1, fact.place - 40)
    return (
        Step("read_section", f'The path is "{fact.section}", start is {start}, end is {start + 60}.'),
        Step("search", f'The pattern is "{fact.search}".'),
        Step("write_note", f"Complete this text with the number: {fact.sentence}"),
    )


def _answer(sentence: str) -> Step:
    return Step("answer", f"Complete this text with the number: {sentence}")
