"""The parts of a text that a number is given for: its words, and the findings that it names.

A finding is rarely decided at the word that names it: after "There is a" little else can follow.
What decided it is everything from the start of its sentence to the end of its name, and the place
and measure that follow are details of it. So a mention has three sets of tokens: its own `words`,
the `deciding` ones, and the whole `sentence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.model.token_text import tokens_within
from workbench.reports import FindingLabel, Section, divide, label, sentences

Offsets = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class FindingMention:
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


def mentions_of(text: str, offsets: Offsets) -> tuple[FindingMention, ...]:
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
        words = tokens_within(offsets, row.start, row.end)
        if words:
            deciding = tokens_within(offsets, start, row.end)
            whole = tokens_within(offsets, start, around.end)
            found.append(FindingMention(row, number, words, deciding, whole))
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
