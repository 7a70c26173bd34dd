"""TokenLayout: which position of the sequence is what, which pixels a patch covers, which tokens
wrote what.

The one owner of spans and geometry. The sequence of a run is

    text before the image | image patches, row by row | text behind it | generated tokens

and every number is taken from the model's configuration and the fit of the image. Coordinates are
original pixels from the top left corner; boxes are (left, top, right, bottom), as in
`workbench.radiograph.fit`.

Every analysis takes a part of the text as `phrase: str | Selection` (a plain string is a phrase) or
by one of the keywords of `SelectionOptions`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict, TypeVar, Unpack, cast

import numpy as np

from workbench._repr import short_repr
from workbench.errors import InputError, OptionError, check_one_of, unknown_name
from workbench.findings import PRESENT, standard_name
from workbench.model.tokenizer import tokens_within
from workbench.radiograph import FitGeometry
from workbench.reports import FindingLabel, label, sentences

#: What a position can be, in the order of the sequence: text before the image, image, text behind
#: it up to the first generated token, generated tokens.
KINDS = ("prompt", "image", "question", "generated")


@dataclass(frozen=True)
class Span:
    """Consecutive positions of one kind, one of `KINDS`, without `stop`."""

    kind: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def slice(self) -> slice:
        """The positions as a slice."""
        return slice(self.start, self.stop)


def cell_box(
    geometry: FitGeometry, grid: tuple[int, int], row: int, column: int
) -> tuple[float, float, float, float]:
    """Return (left, top, right, bottom) of a cell of a grid in original pixels, unclipped."""
    high, wide = geometry.size / grid[0], geometry.size / grid[1]
    left, top, right, bottom = geometry.box_to_original(
        (column * wide, row * high, (column + 1) * wide, (row + 1) * high)
    )
    return left, top, right, bottom


_T = TypeVar("_T")


@dataclass(frozen=True)
class Selection:
    """A part of the generated text and the tokens that wrote it.

    Attributes:
        kind: "token", "word", "phrase", "sentence", "finding" or "text".
        text: the characters from `start` up to and without `end` of the generated text.
        tokens: numbers of the generated tokens that touch these characters, from 0.
        finding: standard name of the finding that was asked for; empty for other kinds.
    """

    kind: str
    text: str
    start: int
    end: int
    tokens: tuple[int, ...]
    finding: str = ""

    def __str__(self) -> str:
        return self.text or "(nothing)"

    @property
    def shown(self) -> str:
        """The text on one line, cut at 60 characters."""
        return _cut(str(self), 60)


class SelectionOptions(TypedDict, total=False):
    """Ways to name a part of a text other than by a phrase, for every analysis; one of them.

    Attributes:
        token, sentence: its number, from 0.
        word: number of a word, from 0, or a whole word.
        finding: standard name or synonym; the words that name it, its stated side and zone words
            in the same clause included. Mentions that state it come before those that deny it.
        occurrence: which one, from 0, where a phrase, word or finding occurs more than once.
    """

    token: int | None
    word: str | int | None
    sentence: int | None
    finding: str | None
    occurrence: int


_NAMES = tuple(SelectionOptions.__annotations__)


def split_options(options: Mapping[str, object]) -> tuple[SelectionOptions, dict[str, Any]]:
    """Return what names a part of the text, and all other options."""
    named = {name: value for name, value in options.items() if name in _NAMES}
    rest = {name: value for name, value in options.items() if name not in _NAMES}
    return cast("SelectionOptions", named), rest


def words_of(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[Selection, ...]:
    """Return the words of a text; tokens that wrote nothing, such as the end, belong to none."""
    return tuple(
        Selection("word", m.group(), *m.span(), tokens_within(offsets, *m.span()))
        for m in re.finditer(r"\S+", text)
    )


@dataclass(frozen=True)
class TokenLayout:
    """Generated text and spans of a run, and the geometry of its patches.

    Attributes:
        tokens: pieces of the generated tokens.
        offsets: per token, first and one past the last character of `text`.
        prompt_tokens, question_tokens: pieces of the text before the image, and behind it.
        grid: rows and columns of patches.
        geometry: how the original lies in the model's square input.
    """

    text: str
    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    prompt_tokens: tuple[str, ...]
    question_tokens: tuple[str, ...]
    grid: tuple[int, int]
    geometry: FitGeometry

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.offsets):
            raise InputError(
                f"{len(self.tokens)} tokens came with {len(self.offsets)} offsets; "
                "expected one pair of characters for each token"
            )

    @property
    def image_tokens(self) -> int:
        """Patches of the image, which is positions it takes."""
        return self.grid[0] * self.grid[1]

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The four spans, in order."""
        before, behind = len(self.prompt_tokens), len(self.question_tokens)
        lengths = (before, self.image_tokens, behind, len(self.tokens))
        edges = [0, *np.cumsum(lengths).tolist()]
        return tuple(map(Span, KINDS, edges, edges[1:]))

    def span(self, kind: str) -> Span:
        """Return the span of one of `KINDS`; `OptionError` for any other name."""
        check_one_of("span", kind, KINDS)
        return self.spans[KINDS.index(kind)]

    @property
    def length(self) -> int:
        """Positions of the whole sequence."""
        return self.spans[-1].stop

    def query_of(self, token: int) -> int:
        """Return the position whose output chose a generated token: the one before it."""
        number = self._nth(range(len(self.tokens)), token, "tokens")
        return self.span("generated").start + number - 1

    @property
    def patch_size(self) -> tuple[float, float]:
        """(height, width) of a patch in model pixels."""
        return self.geometry.size / self.grid[0], self.geometry.size / self.grid[1]

    def patch_box(self, patch: int) -> tuple[float, float, float, float]:
        """Return the box of a patch in original pixels; beyond the image where it is padding."""
        if not 0 <= patch < self.image_tokens:
            raise OptionError(f"patches go from 0 to {self.image_tokens - 1}, got {patch}")
        return cell_box(self.geometry, self.grid, *divmod(patch, self.grid[1]))

    def patch_at(self, x: float, y: float) -> int | None:
        """Return the patch that shows a point of the original; None where it was cropped away."""
        column, row = self.geometry.to_model(np.array([x, y])) / self.patch_size[::-1]
        if not (0 <= row < self.grid[0] and 0 <= column < self.grid[1]):
            return None
        return int(row) * self.grid[1] + int(column)

    def select(
        self, phrase: str | Selection | None = None, **named: Unpack[SelectionOptions]
    ) -> Selection:
        """Choose a part of the text by phrase or `SelectionOptions`; all of it where none is given.

        Case and white space of a phrase do not matter; a selection is returned as it is.

        Raises:
            OptionError: more than one of them, an unknown one, or a number out of range.
            InputError: the phrase is empty or not in the text, the text does not speak of the
                finding, or the selection is of another text; the message shows the text.
        """
        _check_one_ofs(phrase, named)
        occurrence = named.get("occurrence", 0)
        if isinstance(phrase, Selection):
            return self._own(phrase)
        if phrase is not None:
            return self._by_phrase(phrase, occurrence)
        if (token := named.get("token")) is not None:
            return self._by_token(token)
        if isinstance(word := named.get("word"), str):
            return self._by_phrase(word, occurrence, "word")
        if word is not None:
            return self._nth(words_of(self.text, self.offsets), word, "words")
        if (sentence := named.get("sentence")) is not None:
            chosen = self._nth(sentences(self.text), sentence, "sentences")
            return self._selection("sentence", chosen.start, chosen.end)
        if (finding := named.get("finding")) is not None:
            return self._by_finding(finding, occurrence)
        return self._selection("text", 0, len(self.text))

    def choose(
        self, phrase: str | Selection | None = None, **named: Unpack[SelectionOptions]
    ) -> Selection:
        """Return what `select` does; `InputError` where no token wrote any of it."""
        selection = self.select(phrase, **named)
        if not selection.tokens:
            raise InputError(
                f"{selection.text!r} was written by no token of its own; choose a longer part of: "
                f"{self._quoted()}, or one of its {len(self.tokens)} tokens with token="
            )
        return selection

    def _selection(self, kind: str, start: int, end: int, finding: str = "") -> Selection:
        tokens = tokens_within(self.offsets, start, end)
        return Selection(kind, self.text[start:end], start, end, tokens, finding)

    def _own(self, selection: Selection) -> Selection:
        start, end, tokens = selection.start, selection.end, selection.tokens
        same = start == end or self.text[start:end] == selection.text
        if not same or not set(tokens) <= set(range(len(self.tokens))):
            raise InputError(
                f"the selection {selection.text!r} is of another text; select it again in: "
                f"{self._quoted()}"
            )
        return selection

    def _by_phrase(self, phrase: str, occurrence: int, kind: str = "phrase") -> Selection:
        if not isinstance(phrase, str) or not phrase.split():
            raise InputError(
                f"the phrase is empty ({phrase!r}); expected words of the text: {self._quoted()}"
            )
        pattern = r"\s+".join(map(re.escape, phrase.split()))
        if kind == "word":
            pattern = rf"(?<!\w){pattern}(?!\w)"
        found = list(re.finditer(pattern, self.text, flags=re.IGNORECASE))
        if not found:
            raise InputError(
                f"the text does not contain {phrase!r}; expected words of it: {self._quoted()}"
            )
        match = self._nth(found, occurrence, f"{phrase!r} occurs")
        return self._selection(kind, *match.span())

    def _by_token(self, token: int) -> Selection:
        start, end = self._nth(self.offsets, token, "tokens")
        return Selection("token", self.text[start:end] or self.tokens[token], start, end, (token,))

    def _by_finding(self, finding: str, occurrence: int) -> Selection:
        name = standard_name(finding)
        everything = label(self.text).mentions
        mentions = [row for row in everything if row.finding == name]
        if not mentions:
            raise InputError(
                f"the text does not speak of {name}; expected a finding it names: {self._quoted()}"
            )
        stated = [row for row in mentions if row.code == PRESENT] or mentions
        row = self._nth(stated, occurrence, f"mentions of {name}")
        return self._selection("finding", *self._with_place(row, everything), name)

    def _with_place(self, row: FindingLabel, mentions: Sequence[FindingLabel]) -> tuple[int, int]:
        """Return the characters of a mention, widened to its side and zone in its sentence."""
        start, end = row.start, row.end
        around = next((s for s in sentences(self.text) if s.start <= start and end <= s.end), None)
        words = [*_SIDE_WORDS.get(row.side or "", ()), *(row.zone or "").replace(",", " ").split()]
        if around is None or not words:
            return start, end
        low, high = self._own_part(row, mentions)
        pattern = rf"\b(?:{'|'.join(map(re.escape, words))})\b"
        for match in re.finditer(pattern, around.text, flags=re.IGNORECASE):
            first, last = around.start + match.start(), around.start + match.end()
            if first < low or last > high:
                continue
            gap = self.text[min(last, end) : max(first, start)]
            if not re.search(r"[,;:]", gap):
                start, end = min(start, first), max(end, last)
        return start, end

    def _own_part(self, row: FindingLabel, mentions: Sequence[FindingLabel]) -> tuple[int, int]:
        """Return where words belong to a mention and not to its neighbours.

        The border to another mention is the last joining word between the two; where there is
        none, words go to the mention that follows them.
        """
        low, high = 0, len(self.text)
        for other in mentions:
            if other.end <= row.start:
                joints = list(_JOINT.finditer(self.text, other.end, row.start))
                low = max(low, joints[-1].start() if joints else other.end)
            elif other.start >= row.end:
                joints = list(_JOINT.finditer(self.text, row.end, other.start))
                high = min(high, joints[-1].start() if joints else row.end)
        return low, high

    def _nth(self, found: Sequence[_T], number: int, what: str) -> _T:
        if not isinstance(number, int) or not 0 <= number < len(found):
            raise OptionError(f"{what}: {len(found)} in the text, numbered from 0; got {number!r}")
        return found[number]

    def _quoted(self) -> str:
        return repr(_cut(self.text, 240))


def _cut(text: str, longest: int) -> str:
    """Return a text on one line, of so many characters at most."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 3] + "..."


def _check_one_ofs(phrase: str | Selection | None, named: Mapping[str, object]) -> None:
    """Refuse unknown names, and more than one part of the text."""
    if unknown := [name for name in named if name not in _NAMES]:
        raise OptionError(unknown_name("option", unknown[0], ("phrase", *_NAMES)))
    first = "a selection" if isinstance(phrase, Selection) else "phrase"
    parts = {first: phrase, **{way: named.get(way) for way in _NAMES if way != "occurrence"}}
    if len(given := [name for name, value in parts.items() if value is not None]) > 1:
        raise OptionError(f"name one part of the text, got {' and '.join(given)}")


#: What leads from one finding to the next.
_JOINT = re.compile(r"[,.:;(]|\b(?:and|but|no|or|with|without)\b", re.IGNORECASE)

#: Words by which a text may state a side.
_SIDE_WORDS = {
    "left": ("left", "left-sided"),
    "right": ("right", "right-sided"),
    "bilateral": ("bilateral", "bilaterally", "both", "left", "right"),
}
