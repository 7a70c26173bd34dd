"""Small text work of tokens: byte pieces, which tokens wrote what, spaces before punctuation."""

from __future__ import annotations

import re
from collections.abc import Sequence

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_LONGEST_UTF8 = 4
_REPLACEMENT = "\ufffd"

#: Replacements of transformers' `clean_up_tokenization`, in its order.
_SPACES = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def read_byte(piece: str) -> int | None:
    """Return the value of a byte piece such as "<0x0A>", or None for any other piece."""
    found = _BYTE.fullmatch(piece)
    return int(found[1], 16) if found else None


def byte_spans(values: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """Decode bytes as sentencepiece does and report which character each of them belongs to.

    Returns:
        The text, with one U+FFFD for every byte that belongs to no character, and one (start, end)
        per byte.
    """
    data = bytes(values)
    text, spans = "", []
    while len(spans) < len(data):
        character, length = _first_character(data[len(spans) :])
        spans += [(len(text), len(text) + 1)] * length
        text += character
    return text, spans


def tokens_within(offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, ...]:
    """Return the numbers of the tokens that wrote any character of a range, `end` excluded."""
    return tuple(
        number for number, (first, last) in enumerate(offsets) if first < end and last > start
    )


def clean_spaces(text: str) -> str:
    """Remove the space before punctuation and clitics, as `clean_up_tokenization_spaces` asks."""
    for pattern in _SPACES:
        text = text.replace(pattern, pattern.strip() if pattern != " ' " else "'")
    return text


def _first_character(data: bytes) -> tuple[str, int]:
    for length in range(1, min(_LONGEST_UTF8, len(data)) + 1):
        try:
            return data[:length].decode("utf-8"), length
        except UnicodeDecodeError:
            continue
    return _REPLACEMENT, 1
