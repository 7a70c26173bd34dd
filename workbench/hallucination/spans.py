"""The parts of a text that a number is given for: its words, and the findings that it names.

A finding is rarely decided at the word that names it: after "There is a" little else can follow.
What decided it is everything from the start of its sentence to the end of its name, and the place
and measure that follow are details of it. So a mention has three sets of tokens: its own `words`,
the `deciding` ones, and the whole `sentence`.

Does not know: images, models or numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.reports import FindingLabel, Section, divide, label, sentences

Offsets = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Part:
    """A word of a text.

    Attributes:
        text: its characters.
        start: first character.
        end: one past the last.
        tokens: numbers of the tokens that touch it.
    """

    text: str
    start: int
    end: int
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Mentioned:
    """One mention of a finding.

    Attributes:
        label: finding, code, side, zone and characters, as the labeler reads them.
        sentence: number of its sentence.
        words: tokens that name it.
        deciding: tokens from the start of its sentence, headings left out, to the end of its name.
        whole: tokens of its sentence.
    """

    label: FindingLabel
    sentence: int
    words: tuple[int, ...]
    deciding: tuple[int, ...]
    whole: tuple[int, ...]


def words_of(text: str, offsets: Offsets) -> tuple[Part, ...]:
    """Return the words of a text; tokens that wrote nothing, such as the end, belong to none."""
    return tuple(
        Part(m.group(), m.start(), m.end(), touching(offsets, m.start(), m.end()))
        for m in re.finditer(r"\S+", text)
    )


def mentions_of(text: str, offsets: Offsets) -> tuple[Mentioned, ...]:
    """Return every mention of a finding that tokens of the text wrote, in its order."""
    stated, divided = sentences(text), divide(text)
    found = []
    for row in label(text).mentions:
        number = next((i for i, s in enumerate(stated) if s.start <= row.start < s.end), None)
        if number is None:
            continue
        around = stated[number]
        heading = behind_heading(text, divided, around.start)
        start = heading if heading <= row.start else around.start
        words = touching(offsets, row.start, row.end)
        if words:
            deciding = touching(offsets, start, row.end)
            whole = touching(offsets, start, around.end)
            found.append(Mentioned(row, number, words, deciding, whole))
    return tuple(found)


def behind_heading(text: str, divided: Sequence[Section], start: int) -> int:
    """Return where the words of a sentence begin: a heading before it is no part of what it says.

    Args:
        text: the whole text.
        divided: its sections, as `workbench.reports.divide` returns them.
        start: first character of the sentence.
    """
    for section in divided:
        if section.start <= start < section.body:
            return len(text) - len(text[section.body :].lstrip())
    return start


def touching(offsets: Offsets, start: int, end: int) -> tuple[int, ...]:
    """Return the numbers of the tokens that wrote any character of a range."""
    return tuple(
        number for number, (first, last) in enumerate(offsets) if first < end and last > start
    )
