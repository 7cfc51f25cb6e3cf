"""Facts with their questions."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ask:
    """question: may be empty. lead: what the answer begins with and the question gives away; may be empty.
    answer: text right after the lead, with the blank before it if there is one."""

    question: str
    lead: str
    answer: str


@dataclass(frozen=True)
class Puzzle:
    """facts: hidden in this order. asks: each after the last fact. line: a fact stands on lines of its own."""

    facts: list[str]
    asks: list[Ask]
    line: bool = False
