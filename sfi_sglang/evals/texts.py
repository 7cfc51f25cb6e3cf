"""Texts to go on with: real prose, code and JSON lines, or the user's own conversations, as token ids."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import requests

from sfi_sglang.client import conversation
from sfi_sglang.client.filler import Filler, Kind
from sfi_sglang.client.generate import TIMEOUT
from sfi_sglang.client.token_count import Count

TOKENS = 128  # of a continuation


@dataclass(frozen=True)
class Text:
    """What is continued. kind: prose, code, listing (JSON lines) or transcript. ids: of its tokens."""

    kind: str
    length: int
    seed: int
    ids: list[int]


def real_texts(url: str, length: int, trials: int, seed: int, count: Count) -> list[Text]:
    """Slices of the Python installation's documentation, sources and symbols, `trials` of each kind."""
    filler = Filler(count, seed)
    return [
        Text(kind, length, seed * 1000 + trial, tokenize(url, prompt=filler.text(kind, length, f"{trial}")))
        for kind in get_args(Kind)
        for trial in range(trials)
    ]


def transcripts(url: str, folder: Path) -> list[Text]:
    """The user's own conversations: every .json or .json.gz file of `folder`, a list of OpenAI messages or an object
    with `messages` (and `tools`), through the model's chat template.

    Raises:
        ValueError: no such file, or one without messages; names file, line and field.
        RuntimeError: the server cannot render one; names the file.
    """
    found = []
    checked = [(value, conversation.transcript(value)) for value in conversation.transcripts(folder)]
    for number, (value, read) in enumerate(checked):
        try:
            ids = tokenize(url, messages=read.messages, **({"tools": read.tools} if read.tools else {}))
        except RuntimeError as error:
            raise RuntimeError(f"{value.path}: {error}") from None
        found.append(Text("transcript", len(ids), number, ids))
    return found


def tokenize(url: str, **text: Any) -> list[int]:
    """Token ids by the server's own tokenizer. text: `prompt`, or `messages` and `tools` for its chat template.

    Raises:
        RuntimeError: the server has no such door, or refused.
    """
    reply = requests.post(f"{url}/v1/tokenize", json=text, timeout=TIMEOUT)
    if not reply.ok:
        raise RuntimeError(f"server: {url}/v1/tokenize refused: HTTP {reply.status_code} {reply.text[:200]}")
    ids: list[int] = reply.json()["tokens"]
    return ids
