"""Real text of a given length: slices of the standard library's sources, its language reference and its symbols.

The text depends on the key, the seed, the token counter and the Python installation alone.
"""

import json
import os
import pydoc_data.topics
import random
import re
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from sfi_sglang.client.token_count import Count

Kind = Literal["code", "prose", "listing"]

PIECE = (600, 2000)  # characters: a piece ends at a blank line in this range, at the latest at a line's end after it
SHORTEST = 200  # characters of a file's last piece
REMAINDER = 16  # tokens: fewest to be filled by a cut piece, so that it has words
PADDING = " a"


class Filler:
    """Texts of an exact number of tokens, as far as `count` allows it.

    Texts are made of pieces that end in a newline and start with a visible character: tokenizers split there, so the
    tokens of pieces, and of texts put together, add up. Every piece is counted once; each text's last one is cut.
    """

    def __init__(self, count: Count, seed: int = 0) -> None:
        self.count, self.seed = count, seed
        self._sizes: dict[tuple[Kind, int], int] = {}

    def text(self, kind: Kind, tokens: int, key: str, heading: str = "") -> str:
        """A slice of `kind` with `tokens` tokens that starts at a place chosen by `key`; the shorter one of two lengths
        starts the longer one but for its last piece. heading: a first line, part of the length."""
        if tokens < 2:
            return "a" * tokens
        pieces = corpus(kind)
        place = random.Random(f"{self.seed}/{kind}/{key}").randrange(len(pieces))
        heading = f"{heading}\n" if heading else ""
        left = tokens - self.count(heading)
        if left < REMAINDER:
            return self._cut(heading + pieces[place], tokens)
        parts = [heading]
        while (size := self._size(kind, place)) <= left - REMAINDER or size == left:
            parts.append(f"{pieces[place]}\n")
            place, left = (place + 1) % len(pieces), left - size
        if left:
            parts.append(self._cut(f"{pieces[place]}\n{pieces[(place + 1) % len(pieces)]}", left))
        return "".join(parts)

    def _size(self, kind: Kind, place: int) -> int:
        if (kind, place) not in self._sizes:
            self._sizes[kind, place] = self.count(f"{corpus(kind)[place]}\n")
        return self._sizes[kind, place]

    def _cut(self, text: str, tokens: int) -> str:
        """The longest start of `text` that has `tokens` tokens with its newline, padded where a cut splits a word."""
        short, long = 0, len(text)
        while short < long:
            middle = (short + long + 1) // 2
            if self.count(_line(text[:middle])) <= tokens:
                short = middle
            else:
                long = middle - 1
        cut = _line(text[:short])
        while self.count(cut) < tokens:
            cut = _line(cut.rstrip() + PADDING)
        return cut


def _line(text: str) -> str:
    return f"{text.strip()}\n"


@cache
def corpus(kind: Kind) -> tuple[str, ...]:
    """All pieces of a kind, in the order of their files."""
    if kind not in get_args(Kind):
        raise ValueError(f"kind: {kind!r} is none of {', '.join(get_args(Kind))}")
    if kind == "prose":
        texts = list(pydoc_data.topics.topics.values())
    elif kind == "code":
        texts = [source for _, source in _sources()]
    else:
        texts = [_symbols(name, source) for name, source in _sources()]
    return tuple(piece for text in texts for piece in _pieces(text))


@cache
def _sources() -> list[tuple[str, str]]:
    """Name and text of the standard library's top-level modules."""
    folder = Path(os.__file__).parent
    return [(file.name, file.read_text(encoding="utf-8", errors="replace")) for file in sorted(folder.glob("*.py"))]


def _symbols(name: str, source: str) -> str:
    """A module's classes and functions as JSON, one a line, as a code search gives them."""
    lines = []
    for number, line in enumerate(source.splitlines(), 1):
        if found := re.match(r"\s*(def|class) (\w+)(.*)", line):
            entry = {"file": name, "line": number, "kind": found[1], "name": found[2], "text": line.strip()}
            lines.append(json.dumps(entry, ensure_ascii=False))
    return "\n".join(lines)


def _pieces(text: str) -> list[str]:
    pieces, lines, size = [], list[str](), 0
    for line in text.splitlines():
        lines.append(line)
        size += len(line) + 1
        if size >= PIECE[1] or (size >= PIECE[0] and not line.strip()):
            pieces.append("\n".join(lines).strip())
            lines, size = [], 0
    pieces.append("\n".join(lines).strip())
    return [piece for piece in pieces if len(piece) >= SHORTEST]
