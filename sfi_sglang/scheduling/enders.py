"""What ends a sentence, and how the bytes of a character that takes several tokens are put together."""

from enum import IntEnum

import regex

SENTENCE_END = regex.compile(r"[\p{Sentence_Terminal}\u2026]")  # Unicode's; the ellipsis is not among them
CLOSERS = "\"'`)]}*_\u201d\u2019\u300d\u300f\uff09\u3011\u300b"  # what may follow the full stop: `."`  `.)`  `.**`
STRUCTURE_ENDS = frozenset("}]")
FALLBACK = regex.compile(r"<0x([0-9A-F]{2})>")  # a SentencePiece token of one byte
_OWN = [byte for byte in range(256) if chr(byte).isprintable() and byte != ord(" ")]
_OTHERS = [byte for byte in range(256) if byte not in _OWN]
# Byte-level BPE writes a byte as the Latin-1 character of its number if that can be seen, else as one from U+0100 on.
BYTE_OF = {chr(byte): byte for byte in _OWN} | {chr(0x100 + i): byte for i, byte in enumerate(_OTHERS)}


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
    return TokenKind.ENDER if core and SENTENCE_END.match(core[-1]) else TokenKind.TEXT


def token_bytes(token: str | bytes | None) -> bytes | None:
    """Bytes of a vocabulary's token as its tokenizer writes it; None if that is in neither of the two ways."""
    if token is None or isinstance(token, bytes):
        return token
    if fallback := FALLBACK.fullmatch(token):
        return bytes.fromhex(fallback[1])
    found = [BYTE_OF.get(char) for char in token]
    return None if None in found else bytes(byte for byte in found if byte is not None)
