"""Where a text may be cut so that the ids of its pieces, one after the other, are the ids of the text.

A Hugging Face fast tokenizer first cuts a text at its added tokens, then normalises, pre-tokenises and encodes what is
between them, each gap by itself. Added tokens that are matched in the raw text (`normalized` false) are found from left
to right, of several at one place the longest, and the search goes on behind the match. So whatever stands behind such a
token changes neither the match nor anything before it, and the search in what follows begins anew there: the end of
such a token is a cut that changes no id. What could break this is looked up in the tokenizer itself, and refused.
(SGLang argues the same way in srt/entrypoints/openai/parallel_prompt_encode.py.)
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer

# Each acts on a gap without knowing where in the text it stands. Metaspace does if it marks only the first word.
PRE_TOKENIZERS = frozenset({
    "ByteLevel", "Split", "Digits", "Punctuation", "Whitespace", "WhitespaceSplit", "BertPreTokenizer",
    "CharDelimiterSplit", "UnicodeScripts", "Metaspace",
})  # fmt: skip
NORMALIZERS = frozenset({
    "BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend",
    "Replace", "Strip", "StripAccents",
})  # fmt: skip
POST_PROCESSORS = frozenset({"BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing"})
MODELS = frozenset({"BPE", "Unigram", "WordLevel", "WordPiece"})
PARTS = ("normalizers", "pretokenizers", "processors")  # of a Sequence of each kind


class NotExact(Exception):
    """Cutting could change the ids; says why."""


@dataclass(frozen=True)
class CutPoints:
    """Of one tokenizer. ends_adding: it adds tokens (BOS, EOS) around a text that is encoded with special tokens."""

    backend: Tokenizer
    pattern: re.Pattern[bytes]
    added: int
    ends_adding: bool

    def ends(self, text: bytes) -> list[int]:
        """Ends of the pieces of a UTF-8 text; the last one is the text's."""
        ends = [match.end() for match in self.pattern.finditer(text)]
        return ends if ends and ends[-1] == len(text) else [*ends, len(text)]

    def hold(self) -> bool:
        """Whether the tokenizer, which others share and may set, is as it was when the cuts were found."""
        backend = self.backend
        return (
            backend.truncation is None
            and backend.padding is None
            and not backend.encode_special_tokens
            and len(backend.get_added_tokens_decoder()) == self.added
        )


def cut_points(tokenizer: Any) -> CutPoints:
    """tokenizer: of transformers.

    Raises:
        NotExact: its texts have to be encoded whole.
    """
    backend = _backend(tokenizer)
    added = list(backend.get_added_tokens_decoder().values())
    for name in ("lstrip", "rstrip", "single_word"):
        if token := next((token for token in added if getattr(token, name)), None):
            raise NotExact(f"its token {token.content!r} looks at its neighbours ({name})")
    _check(backend.normalizer, NORMALIZERS, "normalizer")
    _check(backend.pre_tokenizer, PRE_TOKENIZERS, "pre-tokenizer")
    _check(backend.post_processor, POST_PROCESSORS, "post-processor")
    model = type(backend.model).__name__
    if model not in MODELS:
        raise NotExact(f"its model is unknown: {model}")
    if getattr(backend.model, "dropout", None):
        raise NotExact("its model draws lots (dropout)")
    ends_adding = backend.num_special_tokens_to_add(False) > 0
    return CutPoints(backend, _pattern(added), len(added), ends_adding)


def _backend(tokenizer: Any) -> Tokenizer:
    """The Rust tokenizer, if the stock `encode` hands a text over to it as it is."""
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    kind, backend = type(tokenizer), getattr(tokenizer, "_tokenizer", None)
    stock = (
        isinstance(tokenizer, PreTrainedTokenizerFast)
        and kind.encode is PreTrainedTokenizerBase.encode
        and kind._encode_plus is PreTrainedTokenizerFast._encode_plus
        and vars(tokenizer).keys().isdisjoint({"encode", "_encode_plus"})
    )
    if not stock or not isinstance(backend, Tokenizer):
        raise NotExact(f"{kind.__name__} is no plain fast tokenizer")
    if getattr(tokenizer, "split_special_tokens", False):
        raise NotExact("it splits special tokens (split_special_tokens)")
    return backend


def _check(component: Any, known: frozenset[str], what: str) -> None:
    """component: of the `tokenizers` library, whose state is its part of tokenizer.json."""
    if component is None:
        return
    try:
        config = json.loads(component.__getstate__())
    except Exception as error:  # one written in Python has no JSON
        raise NotExact(f"its {what} cannot be read: {error}") from None
    for part in _parts(config):
        if part.get("type") not in known:
            raise NotExact(f"its {what} is unknown: {part.get('type')}")
        if part.get("prepend_scheme") == "first":
            raise NotExact(f"its {what} treats the first word in its own way (Metaspace, prepend_scheme first)")
        if part["type"] == "TemplateProcessing" and sum("Sequence" in item for item in part["single"]) != 1:
            raise NotExact(f"its {what} does not leave the ids of a text as they are")


def _parts(config: dict[str, Any]) -> list[dict[str, Any]]:
    if config.get("type") != "Sequence":
        return [config]
    return [leaf for name in PARTS for part in config.get(name, []) for leaf in _parts(part)]


def _pattern(added: list[AddedToken]) -> re.Pattern[bytes]:
    """Longest first: of several tokens at one place, `re` takes the first of its list, the tokenizer the longest."""
    contents = {token.content.encode() for token in added if token.content and not token.normalized}
    if not contents:
        raise NotExact("it has no added token to cut at")
    return re.compile(b"|".join(re.escape(content) for content in sorted(contents, key=len, reverse=True)))
