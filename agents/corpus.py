"""Named texts that an agent lists, searches and reads in pieces: files of a source tree, sections of a manual."""

import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from pydantic import Field

from sfi_sglang.agents.tools import Arguments, ToolError

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
SKIPPED = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "encodings"}
MAX_NAMES = 40
MAX_HITS, CONTEXT = 6, 4
MAX_LINES, MAX_COLUMNS = 100, 120


class ListNames(Arguments):
    pattern: str = Field(min_length=1, max_length=60, description="pattern of the names, e.g. http/*.py; * is any text")


class Search(Arguments):
    pattern: str = Field(min_length=2, max_length=60, description="exact text to find, e.g. def name")


class ReadLines(Arguments):
    path: str = Field(min_length=1, max_length=80, description="name, as in the search results")
    start: int = Field(ge=1, le=99999, description="first line number")
    end: int = Field(ge=1, le=99999, description="last line number")


class Corpus(ABC):
    """Texts by name. The methods that take a call are tools: the output is bounded, a senseless call is a ToolError."""

    @property
    @abstractmethod
    def paths(self) -> list[str]:
        """All names, in the order of search results."""

    @abstractmethod
    def lines(self, path: str) -> list[str]:
        """All lines of a text.

        Raises:
            ToolError: there is none of this name.
        """

    def list_names(self, call: ListNames) -> str:
        """The count of names that match, then MAX_NAMES of them with their lengths."""
        found = [path for path in self.paths if fnmatchcase(path, call.pattern)]
        if not found:
            raise ToolError(f"no name matches {call.pattern!r}")
        shown = [f"{path}: {len(self.lines(path))} lines" for path in found[:MAX_NAMES]]
        more = ["(more names were left out)"] if len(found) > MAX_NAMES else []
        return "\n".join([f"{len(found)} found", *shown, *more])

    def search(self, call: Search) -> str:
        """Up to MAX_HITS places with CONTEXT lines after each."""
        hits: list[str] = []
        for path, number, lines in self._hits(call.pattern):
            if len(hits) == MAX_HITS:
                hits.append("(more hits were left out)")
                break
            shown = lines[number - 1 : number + CONTEXT]
            hits.append("\n".join(f"{path}:{number + i}: {line[:MAX_COLUMNS]}" for i, line in enumerate(shown)))
        if not hits:
            raise ToolError(f"no line contains {call.pattern!r}")
        return "\n--\n".join(hits)

    def _hits(self, pattern: str) -> Iterator[tuple[str, int, list[str]]]:
        for path in self.paths:
            lines = self.lines(path)
            yield from ((path, i, lines) for i, line in enumerate(lines, 1) if pattern in line)

    def read_lines(self, call: ReadLines) -> str:
        """Lines start to end, both included, at most MAX_LINES of them."""
        lines = self.lines(call.path)
        if call.end < call.start:
            raise ToolError(f"end ({call.end}) is before start ({call.start})")
        if call.start > len(lines):
            raise ToolError(f"{call.path} has only {len(lines)} lines")
        shown = lines[call.start - 1 : min(call.end, call.start + MAX_LINES - 1)]
        return "\n".join(f"{i}: {line[:MAX_COLUMNS]}" for i, line in enumerate(shown, call.start))


class Tree(Corpus):
    """Python sources under `root`, addressed by relative path; nothing outside is read."""

    def __init__(self, root: Path = STANDARD_LIBRARY) -> None:
        self.root = root.resolve()

    @cached_property
    def paths(self) -> list[str]:
        """Relative paths, those near the root first."""
        found = (path.relative_to(self.root) for path in self.root.rglob("*.py"))
        kept = (path for path in found if SKIPPED.isdisjoint(path.parts))
        inside = filter(self._inside, kept)
        return [path.as_posix() for path in sorted(inside, key=lambda path: (len(path.parts), path))]

    def _inside(self, path: Path) -> bool:
        try:
            file = (self.root / path).resolve()
        except (OSError, RuntimeError):  # a circle of links
            return False
        return file.is_relative_to(self.root) and file.is_file()

    def lines(self, path: str) -> list[str]:
        """Also refused: what lies outside of the root."""
        try:
            file = (self.root / path).resolve()
            if not file.is_relative_to(self.root):
                raise ToolError(f"{path}: outside of the document tree")
            if file.suffix != ".py" or not file.is_file():  # a pipe would never end
                raise ToolError(f"{path}: no such file")
            return file.read_text(encoding="utf-8", errors="replace").splitlines()
        except (OSError, ValueError, RuntimeError):  # the last: a circle of links
            raise ToolError(f"{path}: no such file") from None
