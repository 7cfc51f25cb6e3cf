"""When is a step slow? Sentence ends, found in the decoded vocabulary and tracked per request on the host."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from sfi_sglang.api.options import SFIOptions

SENTENCE_ENDS = frozenset(".?!\u2026\u3002\uff01\uff1f\uff0e\uff61")
CLOSERS = "\"'`)]}*_\u201d\u2019\u300d\u300f\uff09\u3011\u300b"  # what may follow the full stop: `."`  `.)`  `.**`
STRUCTURE_ENDS = frozenset("}]")


class TokenKind(IntEnum):
    TEXT, BLANK, ENDER = 0, 1, 2


def token_kind(text: str, structural: bool) -> TokenKind:
    """Class of one decoded token. `structural` adds line ends, `}` and `]` to the enders."""
    stripped = text.strip()
    if structural and ("\n" in text or (stripped and stripped[-1] in STRUCTURE_ENDS)):
        return TokenKind.ENDER
    if not stripped:
        return TokenKind.BLANK
    core = stripped.rstrip(CLOSERS)
    return TokenKind.ENDER if core and core[-1] in SENTENCE_ENDS else TokenKind.TEXT


class Vocabulary:
    """Token kinds [vocab] uint8, read by decoding every id: no tokenizer's ids are hard-coded."""

    def __init__(self, decoded: Sequence[str]):
        self.sentence, self.structural = (
            np.fromiter((token_kind(text, structural) for text in decoded), np.uint8, len(decoded))
            for structural in (False, True)
        )

    @classmethod
    def of(cls, tokenizer: Any) -> "Vocabulary":
        """From a Hugging Face tokenizer; without one (`--skip-tokenizer-init`) only `max_segment` ends a segment."""
        if tokenizer is None:
            return cls([])
        return cls(tokenizer.batch_decode([[i] for i in range(len(tokenizer))], skip_special_tokens=False))

    def kinds(self, policy: str) -> np.ndarray:
        return self.structural if policy == "structural" else self.sentence


class SegmentTracker:
    """One request's segment: an ender arms, the first text token after it ends the segment once `min_gap` steps have
    passed since the last refresh; `max_segment` steps end it in any case.

    The overlap scheduler launches a step before the host has seen the step's input token. To decide alike with and
    without it, the tracker only ever reads outputs that precede the input token.
    """

    def __init__(self, options: SFIOptions, vocabulary: Vocabulary):
        self.options = options
        self.kinds = vocabulary.kinds(options.policy)
        self.refreshed()
        self.read = 0  # outputs consumed

    def refreshed(self) -> None:
        self.steps, self.armed = 0, False

    def step(self, outputs: Sequence[int], visible: int) -> bool:
        """Decide one decode step. `outputs` are the request's output ids, of which `visible` precede the input token.
        Returns True when the step is slow; the caller reports the refresh with `refreshed`."""
        self.steps += 1
        ended = False
        while self.read < visible:
            kind = self._kind(outputs[self.read])
            self.read += 1
            if kind == TokenKind.ENDER:
                self.armed = True
            elif kind == TokenKind.TEXT and self.armed:
                ended = True
        if self.options.policy in ("sentence", "structural") and ended and self.steps >= self.options.min_gap:
            return True
        return self.steps >= self.options.max_segment

    def _kind(self, token: int) -> int:
        return int(self.kinds[token]) if 0 <= token < len(self.kinds) else TokenKind.TEXT
