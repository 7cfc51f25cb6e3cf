"""Names of files in what we write, and what others wrote in names of files."""

import os
import re
from pathlib import Path


def readable(name: str) -> str:
    """A file's name or a command's argument as text: Python keeps bytes that the locale does not know as surrogates,
    which no file of ours may hold."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def title(path: Path) -> str:
    """The file's name without its ending, and without `.gz`."""
    return Path(readable(path.name).removesuffix(".gz")).stem


def usable(text: str) -> str:
    """`text` as a file's name in this locale."""
    return os.fsdecode(re.sub(r"[/\0]", "_", text).encode())
