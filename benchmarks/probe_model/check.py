"""Dense accuracy on the evaluation's own items without a server: would greedy decoding write the right answer?

Prompt and right answer go through the model in one pass. Where every token is the most probable one, greedy decoding
writes just that answer; where one is not, decoding goes on from there, and the task judges the text.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import regex
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from sfi_sglang.client.token_count import from_tokenizer
from sfi_sglang.evals.calls import Calls
from sfi_sglang.evals.copying import Copying
from sfi_sglang.evals.retrieval import Retrieval
from sfi_sglang.evals.task import Item, Task

TASKS: tuple[Task, ...] = (Retrieval(), Copying(), Calls())
HELD_OUT = 1_000_000  # first of the evaluation's seeds
AHEAD = 8  # threads that make and tokenise items


@dataclass(frozen=True)
class Score:
    """right: of the trials. texts: what was written instead of the right answers, at most three, with those."""

    task: str
    kind: str
    length: int
    right: int
    trials: int
    texts: list[tuple[str, str]]


class Greedy:
    """Greedy decoding that is told what it will probably write."""

    def __init__(self, folder: Path) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa")
        self.model = model.to(self.device).eval()

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    @torch.inference_mode()
    def text(self, prompt: list[int], expected: list[int], most: int, schema: str | None = None) -> str:
        """What follows `prompt`: `expected` and, unless a schema ends it there, one token more; or, where another token
        comes first, up to `most` tokens. schema: a regular expression that the text is held to."""
        out = self.model.model(torch.tensor([prompt + expected], device=self.device), use_cache=True)
        rows = self.model.lm_head(out.last_hidden_state[0, len(prompt) - 1 :]).float()
        written: list[int] = []
        for row, wanted in zip(rows, [*expected, None], strict=True):
            if wanted is None and schema:
                break
            written.append(self._choose(row, written, schema))
            if written[-1] != wanted:
                break
        if len(written) <= len(expected) and written != expected:
            out.past_key_values.crop(len(written) - 1 - len(expected))
            while len(written) < most and not (schema and regex.fullmatch(schema, self._decode(written))):
                token = torch.tensor([written[-1:]], device=self.device)
                states = self.model.model(token, past_key_values=out.past_key_values, use_cache=True).last_hidden_state
                written.append(self._choose(self.model.lm_head(states[0, -1]).float(), written, schema))
        return self._decode(written)

    def _choose(self, row: torch.Tensor, written: list[int], schema: str | None) -> int:
        """The most probable token, of those that the schema allows."""
        if schema is None:
            return int(row.argmax())
        tokens: list[int] = row.argsort(descending=True).tolist()
        texts = ((token, self._decode([*written, token])) for token in tokens)
        before = self._decode(written)  # special tokens add nothing to it
        return next(
            (t for t, text in texts if text != before and regex.fullmatch(schema, text, partial=True)), tokens[0]
        )

    def _decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids)
        return text


def check(folder: Path, lengths: Sequence[int], trials: int, show: Callable[[Score], None]) -> list[Score]:
    """All tasks, `trials` of every kind at every length, seeds from HELD_OUT on."""
    greedy = Greedy(folder)
    count = lru_cache(maxsize=None)(from_tokenizer(folder))  # the sentences come again and again
    seeds = range(HELD_OUT, HELD_OUT + trials)
    scores = []
    for length in lengths:
        for task in TASKS:
            found: dict[str, list[tuple[bool, str, str]]] = {kind: [] for kind in task.kinds}
            for item, prompt, expected in _prepared(task.items(length, trials, seeds, count), greedy.encode):
                text = greedy.text(prompt, expected, item.tokens, item.regex)
                found[item.kind].append((task.right(item, text), text, item.answer))
            for kind, answers in found.items():
                wrong = [(text, answer) for ok, text, answer in answers if not ok]
                scores.append(Score(task.name, kind, length, len(answers) - len(wrong), len(answers), wrong[:3]))
                show(scores[-1])
    return scores


def _prepared(items: list[Item], encode: Callable[[str], list[int]]) -> Iterator[tuple[Item, list[int], list[int]]]:
    """Items with the tokens of their prompts and answers; a held answer goes on inside a word, others after a blank."""

    def prepare(item: Item) -> tuple[Item, list[int], list[int]]:
        return item, encode(item.prompt), encode(item.answer if item.regex else f" {item.answer}")

    with ThreadPoolExecutor(AHEAD) as pool:
        yield from pool.map(prepare, items)
