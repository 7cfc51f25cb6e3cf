"""Ids of the pieces of prompts, kept so that a turn tokenises only what is new in its text.

A piece ends with an added token, such as the end of a message (integration/cut_points.py has why its ids depend on
nothing else). It is found again by the SHA-256 of its text, wherever it stands: behind a message that the chat template
has rewritten, in another conversation with the same tools, in a fork. One pass over the text, no quadratic step.
"""

import logging
import threading
import weakref
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any, TypeAlias

from sfi_sglang.integration.cut_points import CutPoints, NotExact, cut_points

logger = logging.getLogger(__name__)

Ids: TypeAlias = "array[int]"  # 32 bits each
Encode = Callable[..., list[int]]  # SGLang's parallel_prompt_encode(tokenizer, text, encode_kwargs)
ENTRY_BYTES = 320  # of an entry beside its ids: key, array, place in the dictionary (tests/unit/test_token_cache.py)


class PieceStore:
    """Ids by the digest of their text; the longest unused go first. Threads share it."""

    def __init__(self, capacity: int) -> None:
        """capacity: bytes."""
        self.capacity, self.nbytes = capacity, 0
        self._ids: OrderedDict[bytes, Ids] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._ids)

    def get(self, digests: Iterable[bytes]) -> dict[bytes, Ids]:
        """Those that are there."""
        found = {}
        with self._lock:
            for digest in digests:
                if (ids := self._ids.get(digest)) is not None:
                    self._ids.move_to_end(digest)
                    found[digest] = ids
        return found

    def put(self, pieces: dict[bytes, Ids]) -> None:
        with self._lock:
            for digest, ids in pieces.items():
                if digest not in self._ids and _size(ids) <= self.capacity:
                    self._ids[digest] = ids
                    self.nbytes += _size(ids)
            while self.nbytes > self.capacity:
                self.nbytes -= _size(self._ids.popitem(last=False)[1])


def _size(ids: Ids) -> int:
    return ENTRY_BYTES + ids.itemsize * len(ids)


@dataclass(frozen=True)
class Encoded:
    """ids: of the whole text. reused: how many of them were kept from earlier texts."""

    ids: list[int]
    reused: int


@dataclass(frozen=True)
class PieceEncoder:
    """One tokenizer that may be cut, and the ids of its pieces."""

    cuts: CutPoints
    store: PieceStore

    def encode(self, text: bytes, encode: Callable[[str], list[int]]) -> Encoded:
        """Of a UTF-8 text. encode: of one piece."""
        view = memoryview(text)
        pieces = [view[start:end] for start, end in pairwise([0, *self.cuts.ends(text)])]
        digests = [sha256(piece).digest() for piece in pieces]
        kept = self.store.get(digests)
        missing = {digest: piece for digest, piece in zip(digests, pieces, strict=True) if digest not in kept}
        texts = [str(piece, "utf-8") for piece in missing.values()]
        new = dict(zip(missing, self._encoded(texts, encode), strict=True))
        self.store.put(new)
        ids = array("i")
        for digest in digests:
            ids.extend(kept.get(digest) or new.get(digest) or ())
        return Encoded(ids.tolist(), sum(len(kept[digest]) for digest in digests if digest in kept))

    def _encoded(self, texts: Sequence[str], encode: Callable[[str], list[int]]) -> list[Ids]:
        """All at once, on as many cores as the tokenizer takes. A text that is most of them is left to SGLang, which
        also cuts within a long text where the tokenizer lets it."""
        if not texts:
            return []
        longest = max(range(len(texts)), key=lambda index: len(texts[index]))
        alone = 2 * len(texts[longest]) > sum(map(len, texts))
        others = [text for index, text in enumerate(texts) if not (alone and index == longest)]
        found = self.cuts.backend.encode_batch(others, add_special_tokens=False) if others else []
        ids = [array("i", encoding.ids) for encoding in found]
        if alone:
            ids.insert(longest, array("i", encode(texts[longest])))
        return ids


class TokenCache:
    """Of one process: an encoder for each tokenizer whose texts may be cut."""

    def __init__(self) -> None:
        self._encoders: weakref.WeakKeyDictionary[Any, PieceEncoder | None] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def encode(
        self, original: Encode, tokenizer: Any, text: Any, options: dict[str, Any] | None, capacity: int
    ) -> Encoded:
        """What `original(tokenizer, text, options)` returns, and whatever it raises. capacity: bytes for a tokenizer;
        the first call decides."""
        whole = options or {}
        encoder = self._encoder(tokenizer, capacity) if isinstance(text, str) and text else None
        if (
            encoder is None
            or set(whole) - {"add_special_tokens"}
            or (whole.get("add_special_tokens", True) and encoder.cuts.ends_adding)
            or not encoder.cuts.hold()
        ):
            return Encoded(original(tokenizer, text, options), 0)
        try:
            data = text.encode()
        except UnicodeEncodeError:  # half a character: the tokenizer has its own words for it
            return Encoded(original(tokenizer, text, options), 0)
        return encoder.encode(data, lambda piece: original(tokenizer, piece, {"add_special_tokens": False}))

    def nbytes(self) -> int:
        with self._lock:
            return sum(encoder.store.nbytes for encoder in self._encoders.values() if encoder)

    def _encoder(self, tokenizer: Any, capacity: int) -> PieceEncoder | None:
        with self._lock:
            try:
                return self._encoders[tokenizer]
            except KeyError:
                encoder = self._encoders[tokenizer] = self._made(tokenizer, capacity)
                return encoder
            except TypeError:  # one that has no hash, none of ours
                return None

    @staticmethod
    def _made(tokenizer: Any, capacity: int) -> PieceEncoder | None:
        try:
            return PieceEncoder(cut_points(tokenizer), PieceStore(capacity))
        except NotExact as reason:
            logger.warning("sfi: every turn of a chat is tokenised whole: %s", reason)
        except Exception:
            logger.exception("sfi: every turn of a chat is tokenised whole")
        return None
