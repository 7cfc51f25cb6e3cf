"""When is a step slow? Sentence ends, found in the decoded vocabulary and tracked per request on the host."""

import codecs
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sfi_sglang.api.options import SFIOptions
from sfi_sglang.scheduling.enders import TokenKind, token_bytes, token_kind

BROKEN = "\ufffd"  # in a decoded token: bytes that are no whole character


class Vocabulary:
    """Token kinds [vocab] uint8, read by decoding every id: no tokenizer's ids are hard-coded.

    pieces: bytes of the tokens that hold a part of a character; what they are depends on the tokens around them.
    """

    def __init__(self, decoded: Sequence[str], pieces: Mapping[int, bytes] | None = None):
        self.sentence, self.structural = (
            np.fromiter((token_kind(text, structural) for text in decoded), np.uint8, len(decoded))
            for structural in (False, True)
        )
        self.pieces = pieces or {}

    @classmethod
    def of(cls, tokenizer: Any) -> "Vocabulary":
        """From a Hugging Face tokenizer; without one (`--skip-tokenizer-init`) only `max_segment` ends a segment."""
        if tokenizer is None:
            return cls([])
        decoded = tokenizer.batch_decode([[i] for i in range(len(tokenizer))], skip_special_tokens=False)
        broken = [i for i, text in enumerate(decoded) if BROKEN in text]
        found = zip(broken, map(token_bytes, tokenizer.convert_ids_to_tokens(broken)), strict=True)
        return cls(decoded, {i: piece for i, piece in found if piece is not None})

    def kinds(self, policy: str) -> np.ndarray:
        return self.structural if policy == "structural" else self.sentence


class SegmentTracker:
    """One request's segment: an ender arms, the first text token after it ends the segment once `min_gap` steps have
    passed since the last refresh; `max_segment` steps end it in any case. Policy `random` draws a length between
    the two instead.

    The overlap scheduler launches a step before the host has seen the step's input token. To decide alike with and
    without it, the tracker only ever reads outputs that precede the input token.
    """

    def __init__(self, options: SFIOptions, vocabulary: Vocabulary, seed: int = 0):
        self.options, self.random = options, random.Random(seed)
        self.kinds, self.pieces = vocabulary.kinds(options.policy), vocabulary.pieces
        self.characters = codecs.getincrementaldecoder("utf-8")("replace")  # holds the bytes of an unfinished one
        self.refreshed()
        self.read = 0  # outputs consumed

    def refreshed(self) -> None:
        self.steps, self.armed = 0, False
        options = self.options
        draws = options.policy == "random"
        self.longest = self.random.randint(options.min_gap, options.max_segment) if draws else options.max_segment

    def kind(self, token: int) -> int:
        """Of the next output. A character counts at the token that completes it; until then it is blank."""
        if (piece := self.pieces.get(token)) is not None:
            return token_kind(self.characters.decode(piece), self.options.policy == "structural")
        self.characters.reset()
        return int(self.kinds[token]) if 0 <= token < len(self.kinds) else TokenKind.TEXT

    def step(self, outputs: Sequence[int], visible: int, drifted: bool = False) -> bool:
        """Decide one decode step. `outputs` are the request's output ids, of which `visible` precede the input token.
        drifted: the memory no longer holds what is attended next, which ends a segment as an ender does.
        Returns True when the step is slow; the caller reports the refresh with `refreshed`."""
        self.steps += 1
        ended = False
        while self.read < visible:
            kind = self.kind(outputs[self.read])
            self.read += 1
            if kind == TokenKind.ENDER:
                self.armed = True
            elif kind == TokenKind.TEXT and self.armed:
                ended = True
        ends = (ended and self.options.policy in ("sentence", "structural", "drift")) or drifted
        return self.steps >= (self.options.min_gap if ends else self.longest)
