"""Documents as batches of a constant number of tokens, made by worker processes; a stream for each length."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from benchmarks.probe_model.document import Encode, document
from benchmarks.probe_model.texts import Texts

Batch = tuple[torch.Tensor, torch.Tensor]  # token ids, int64, and weights, float32; both [documents, length]


def encoder(folder: Path) -> Encode:
    """Text to token ids by the tokenizer in a model's folder; special tokens may stand in the text."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    return encode


class Documents(IterableDataset[Batch]):
    """Batches without end. Document i of a length depends on the seed, the length, i and the texts alone; worker w of n
    makes every n-th batch from the w-th on."""

    def __init__(self, length: int, documents: int, texts: Texts, folder: Path, seed: int) -> None:
        self.length, self.documents, self.texts, self.folder, self.seed = length, documents, texts, folder, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        encode, number = encoder(self.folder), first
        while True:
            made = [self._document(number * self.documents + i, encode) for i in range(self.documents)]
            yield torch.tensor([ids for ids, _ in made]), torch.tensor([weights for _, weights in made])
            number += step

    def _document(self, number: int, encode: Encode) -> tuple[list[int], list[float]]:
        return document(random.Random(f"{self.seed}/{self.length}/{number}"), self.length, self.texts, encode)


def streams(
    lengths: list[int], tokens: int, texts: Texts, folder: Path, seed: int, workers: int
) -> dict[int, Iterator[Batch]]:
    """By length. tokens: of a batch. workers: processes a length; 0: made where they are used. Start it before CUDA is
    in use: workers are forked."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    made: dict[int, Iterator[Batch]] = {}
    options: dict[str, Any] = {"prefetch_factor": 3, "multiprocessing_context": "fork"} if workers else {}
    for length in dict.fromkeys(lengths):
        data = Documents(length, max(1, tokens // length), texts, folder, seed)
        made[length] = iter(DataLoader(data, batch_size=None, num_workers=workers, **options))
    return made
