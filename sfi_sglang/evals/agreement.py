"""Agreement: would a dense pass have chosen the tokens that SFI wrote, and how far apart are the two distributions?

SFI continues real text greedily; then one dense pass over prompt and continuation gives, at every position, dense
attention's choice and its most probable tokens. All it needs are log-probabilities over HTTP, so any model will do. The
tokens are SFI's own and not the text's: HTTP has no way to force them.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import requests

from sfi_sglang.client.filler import Filler, Kind
from sfi_sglang.client.generate import TIMEOUT, generate
from sfi_sglang.client.token_count import Count
from sfi_sglang.evals.outcomes import Outcome
from sfi_sglang.evals.variants import Variant

TASK = "agreement"
TOKENS = 128  # of a continuation
ALTERNATIVES = 20  # tokens a position of which the probability is known

Top = Sequence[Sequence[Any]]  # of one position: (log-probability, token id, text)


@dataclass(frozen=True)
class Comparison:
    """One continuation, by position. chosen: dense attention would have chosen this token too. divergence: from dense
    to SFI, nats (`divergence`)."""

    chosen: list[bool]
    divergence: list[float]


def compare(url: str, prompt: list[int], sfi: dict[str, Any] | None, tokens: int = TOKENS) -> Comparison:
    """
    Raises:
        ConnectionError, RuntimeError: as `generate` does.
    """
    written = generate(url, prompt, tokens, sfi or False, ignore_eos=True, logprobs=ALTERNATIVES)["meta_info"]
    ids = [token for _, token, _ in written["output_token_logprobs"]]
    start = len(prompt) - 1  # the position before predicts the first token written
    scored = generate(url, [*prompt, *ids], 1, False, ignore_eos=True, logprobs=ALTERNATIVES, logprobs_from=start)
    dense = scored["meta_info"]["input_top_logprobs"][-len(ids) :]
    pairs = list(zip(dense, written["output_top_logprobs"], strict=True))
    best = [max(top)[1] for top in dense]
    return Comparison([a == b for a, b in zip(best, ids, strict=True)], [divergence(p, q) for p, q in pairs])


def divergence(dense: Top, ours: Top) -> float:
    """Kullback-Leibler divergence, nats, of the distributions as far as they are known: the tokens that both list, one
    by one, and all others as one. It is at most the true one."""
    q = {token: logprob for logprob, token, _ in ours}
    both = [(logprob, q[token]) for logprob, token, _ in dense if token in q]
    total: float = sum(math.exp(a) * (a - b) for a, b in both)
    rest, other = (max(1e-9, 1 - sum(math.exp(pair[side]) for pair in both)) for side in (0, 1))
    return max(0.0, total + rest * math.log(rest / other))


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


def answer(url: str, text: Text, variant: Variant) -> Outcome:
    """What one variant writes after a text, compared.

    Raises:
        ConnectionError, RuntimeError: as `generate` does.
    """
    found = compare(url, text.ids, variant.sfi)
    where = (TASK, text.kind, text.length, 1.0, text.seed, variant.label)
    rounded = tuple(round(nats, 5) for nats in found.divergence)
    return Outcome(*where, chosen=tuple(found.chosen), divergence=rounded)
