"""Real texts of installed packages and given folders, without those that the evaluation takes its filler from."""

import hashlib
import importlib.util
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.probe_model.plain import without_tags

SUFFIXES = {
    "prose": {".md", ".rst", ".txt", ".pod", ".html", *(f".{section}" for section in range(1, 9))},
    "code": {".py", ".pyi", ".c", ".h", ".cpp", ".cu", ".cuh", ".js", ".sh", ".toml", ".yaml", ".json"},
}
MOST = {"prose": 80_000_000, "code": 60_000_000}  # bytes read of a kind
SMALLEST, LARGEST = 1_000, 1_000_000  # bytes of a file; larger ones are mostly data
STANDARD_LIBRARY = Path(os.__file__).parent


@dataclass(frozen=True)
class Texts:
    """prose, code: texts in the order of their paths, so that neighbours belong together. about: what was read."""

    prose: list[str]
    code: list[str]
    about: dict[str, Any]

    def passage(self, rng: random.Random, characters: int) -> str:
        """A slice of a random text that begins after white space."""
        text = rng.choice(rng.choice((self.prose, self.code)))
        start = rng.randrange(max(1, len(text) - characters))
        return text[start : start + characters].partition(" ")[2]

    def run(self, rng: random.Random, kind: str) -> Iterator[str]:
        """Texts of a kind one after the other without end; a long first one may begin in its middle."""
        texts = self.prose if kind == "prose" else self.code
        place = rng.randrange(len(texts))
        text = texts[place]
        yield text[rng.randrange(len(text)) :].partition("\n")[2] if rng.random() < 0.5 else text
        while True:
            place = (place + 1) % len(texts)
            yield texts[place]


def default_folders() -> list[Path]:
    """The standard library and the folder that packages are installed in."""
    found = importlib.util.find_spec("transformers")
    return [STANDARD_LIBRARY, *([Path(found.origin).parents[1]] if found and found.origin else [])]


def read_texts(folders: Iterable[Path], seed: int = 0) -> Texts:
    """All of `folders` up to MOST, chosen by the seed.

    Raises:
        ValueError: a kind of text is missing.
    """
    files: dict[str, set[Path]] = {kind: set() for kind in SUFFIXES}
    for folder in folders:
        for path in files_of(folder):
            for kind, suffixes in SUFFIXES.items():
                if path.suffix in suffixes:
                    files[kind].add(path)
    chosen = {kind: _read(sorted(files[kind]), MOST[kind], seed) for kind in SUFFIXES}
    for kind, texts in chosen.items():
        if not texts:
            raise ValueError(f"no {kind} of {SMALLEST} bytes or more in the folders of texts")
    about: dict[str, Any] = {kind: _describe(texts) for kind, texts in chosen.items()}
    return Texts(chosen["prose"], chosen["code"], about)


def files_of(folder: Path) -> Iterator[Path]:
    """Files that may be read."""
    library = folder.resolve() == STANDARD_LIBRARY.resolve()
    for top, folders, names in os.walk(folder):
        skipped = {"__pycache__", "pydoc_data", "sfi_sglang", *({"site-packages", "dist-packages"} if library else ())}
        folders[:] = sorted(name for name in folders if name not in skipped)
        if not (library and Path(top) == folder):  # its modules are the evaluation's
            yield from (Path(top, name) for name in names)


def _read(paths: list[Path], most: int, seed: int) -> list[str]:
    found, size, seen = dict[Path, str](), 0, set[bytes]()
    for path in random.Random(seed).sample(paths, len(paths)):
        if size >= most:
            break
        if path.is_symlink() or not SMALLEST <= path.stat().st_size <= LARGEST:
            continue
        data = path.read_bytes()
        key = hashlib.sha256(data).digest()
        if key in seen or b"\0" in data:
            continue
        seen.add(key)
        text = data.decode(errors="replace")
        found[path] = without_tags(text) if path.suffix == ".html" else text
        size += len(data)
    return [found[path] for path in sorted(found)]


def _describe(texts: list[str]) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    for text in texts:
        digest.update(data := text.encode(errors="replace"))
        size += len(data)
    return {"files": len(texts), "bytes": size, "sha256": digest.hexdigest()}
