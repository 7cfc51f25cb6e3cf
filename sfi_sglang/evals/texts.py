"""Texts to go on with: real prose, code and JSON lines, or the user's own conversations, as token ids."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import requests

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
    """The user's own conversations: every .json file of `folder`, a list of OpenAI messages or an object with
    `messages` (and `tools`), through the model's chat template.

    Raises:
        ValueError: no such file, or one without messages; names it.
        RuntimeError: the server cannot render one.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(f"{folder}: no .json file with OpenAI messages")
    found = []
    for number, file in enumerate(files):
        try:
            read = json.loads(file.read_text(encoding="utf-8-sig"))
        except ValueError:
            raise ValueError(f"{file}: no JSON") from None
        body = read if isinstance(read, dict) else {"messages": read}
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            raise ValueError(f"{file}: no list of OpenAI messages, nor an object with one as `messages`")
        ids = tokenize(url, messages=body["messages"], **({"tools": body["tools"]} if body.get("tools") else {}))
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
