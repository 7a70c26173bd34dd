"""TokenLayout: which position of the sequence is what, and which pixels a patch covers.

The one owner of spans and geometry. The sequence of a run is

    text before the image | image patches, row by row | text behind it | generated tokens

and every number (how many patches, how many rows of them, where a patch lies in the file that was
read) is taken from the model's configuration and the fit of the image.

Does not know: tensors and models; what a finding looks like.
Coordinates: original pixels, continuous, from the top left corner; boxes are
(left, top, right, bottom), as in `workbench.radiograph.fit`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from workbench._repr import short_repr
from workbench.errors import InputError, OptionError
from workbench.findings import PRESENT, standard_name
from workbench.model.token_text import tokens_within
from workbench.radiograph import FitGeometry
from workbench.reports import label, sentences

if TYPE_CHECKING:
    import pandas as pd

#: What a position can be, in the order of the sequence.
KINDS = ("prompt", "image", "question", "generated")

_SHOWN = 240


@dataclass(frozen=True)
class Span:
    """Consecutive positions of one kind.

    Attributes:
        kind: "prompt" (text before the image), "image", "question" (text behind it, up to the
            first generated token) or "generated".
        start: first position.
        stop: one past the last.
    """

    kind: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def slice(self) -> slice:
        """The positions as a slice."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Selection:
    """A part of the generated text and the tokens that wrote it.

    Attributes:
        kind: "token", "word", "phrase", "sentence", "finding" or "text".
        text: the characters.
        start: first character in the generated text.
        end: one past the last.
        tokens: numbers of the generated tokens that touch these characters, from 0.
    """

    kind: str
    text: str
    start: int
    end: int
    tokens: tuple[int, ...]

    def __str__(self) -> str:
        return self.text or "(nothing)"


@dataclass(frozen=True)
class TokenLayout:
    """Spans of a run and geometry of its patches.

    Attributes:
        prompt_tokens: pieces of the text before the image.
        question_tokens: pieces of the text behind it.
        tokens: pieces of the generated tokens.
        offsets: per generated token, first and one past the last character of `text`.
        text: the generated text.
        grid: rows and columns of patches.
        geometry: how the original lies in the model's square input.
    """

    prompt_tokens: tuple[str, ...]
    question_tokens: tuple[str, ...]
    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    text: str
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
        lengths = (
            len(self.prompt_tokens),
            self.image_tokens,
            len(self.question_tokens),
            len(self.tokens),
        )
        ends = np.cumsum(lengths).tolist()
        return tuple(
            Span(kind, end - length, end)
            for kind, end, length in zip(KINDS, ends, lengths, strict=True)
        )

    def span(self, kind: str) -> Span:
        """Return one span.

        Raises:
            OptionError: the kind is not one of `KINDS`.
        """
        if kind not in KINDS:
            raise OptionError(f"a span is one of {', '.join(KINDS)}; got {kind!r}")
        return self.spans[KINDS.index(kind)]

    @property
    def length(self) -> int:
        """Positions of the whole sequence."""
        return self.spans[-1].stop

    def kind_of(self, position: int) -> str:
        """Return what a position is."""
        if not 0 <= position < self.length:
            raise OptionError(f"positions go from 0 to {self.length - 1}, got {position}")
        return next(span.kind for span in self.spans if position < span.stop)

    def query_of(self, token: int) -> int:
        """Return the position whose output chose a generated token: the one before it."""
        if not 0 <= token < len(self.tokens):
            raise OptionError(
                f"the text has {len(self.tokens)} tokens, numbered from 0; got {token}"
            )
        return self.span("generated").start + token - 1

    def names(self) -> list[str]:
        """Return a name for every position: its piece, or "row, column" of its patch."""
        rows, columns = self.grid
        patches = [f"patch {r}, {c}" for r in range(rows) for c in range(columns)]
        return [*self.prompt_tokens, *patches, *self.question_tokens, *self.tokens]

    # ---------------------------------------------------------------- geometry

    @property
    def patch_size(self) -> tuple[float, float]:
        """(height, width) of a patch in model pixels."""
        return self.geometry.size / self.grid[0], self.geometry.size / self.grid[1]

    def patch_box(self, patch: int) -> tuple[float, float, float, float]:
        """Return the box of a patch in original pixels; beyond the image where it is padding."""
        if not 0 <= patch < self.image_tokens:
            raise OptionError(f"patches go from 0 to {self.image_tokens - 1}, got {patch}")
        row, column = divmod(patch, self.grid[1])
        high, wide = self.patch_size
        box = (column * wide, row * high, (column + 1) * wide, (row + 1) * high)
        return self.geometry.box_to_original(box)

    def patch_at(self, x: float, y: float) -> int | None:
        """Return the patch that shows a point of the original; None where it was cropped away."""
        column, row = self.geometry.to_model(np.array([x, y])) / self.patch_size[::-1]
        if not (0 <= row < self.grid[0] and 0 <= column < self.grid[1]):
            return None
        return int(row) * self.grid[1] + int(column)

    # ---------------------------------------------------------------- choosing words

    def select(
        self,
        phrase: str | None = None,
        *,
        token: int | None = None,
        word: str | int | None = None,
        sentence: int | None = None,
        finding: str | None = None,
        occurrence: int = 0,
    ) -> Selection:
        """Choose a part of the text; the whole text when nothing is named.

        Args:
            phrase: characters of the text; case and white space do not matter.
            token: number of a generated token, from 0.
            word: number of a word, from 0, or a whole word.
            sentence: number of a sentence, from 0.
            finding: standard name or synonym; the words that name it, its stated side and zone
                words in the same clause included.
            occurrence: which one, from 0, where a phrase or word occurs more than once.

        Raises:
            OptionError: more than one of them, or a number out of range.
            InputError: the phrase is empty or not in the text, or the text does not speak of the
                finding; the message shows the text.
        """
        given = {
            "phrase": phrase,
            "token": token,
            "word": word,
            "sentence": sentence,
            "finding": finding,
        }
        named = [kind for kind, value in given.items() if value is not None]
        if len(named) > 1:
            raise OptionError(f"name one part of the text, got {' and '.join(named)}")
        if not named:
            return self._selection("text", 0, len(self.text))
        kind = named[0]
        return getattr(self, f"_by_{kind}")(given[kind], occurrence)

    def _selection(self, kind: str, start: int, end: int) -> Selection:
        tokens = tokens_within(self.offsets, start, end)
        return Selection(kind, self.text[start:end], start, end, tokens)

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

    def _by_token(self, token: int, _: int) -> Selection:
        self.query_of(token)
        start, end = self.offsets[token]
        return Selection("token", self.text[start:end] or self.tokens[token], start, end, (token,))

    def _by_word(self, word: str | int, occurrence: int) -> Selection:
        if isinstance(word, str):
            return self._by_phrase(word, occurrence, "word")
        match = self._nth(list(re.finditer(r"\S+", self.text)), word, "words")
        return self._selection("word", *match.span())

    def _by_sentence(self, sentence: int, _: int) -> Selection:
        chosen = self._nth(sentences(self.text), sentence, "sentences")
        return self._selection("sentence", chosen.start, chosen.end)

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
        return self._selection("finding", *self._with_place(row, everything))

    def _with_place(self, row, mentions) -> tuple[int, int]:
        """Return the characters of a mention, widened to its side and zone in its sentence."""
        start, end = row.start, row.end
        around = next(
            (s for s in sentences(self.text) if s.start <= row.start and row.end <= s.end), None
        )
        words = [*(_SIDE_WORDS.get(row.side, ())), *(row.zone or "").replace(",", " ").split()]
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

    def _own_part(self, row, mentions) -> tuple[int, int]:
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

    def _nth(self, found, number: int, what: str):
        if not isinstance(number, int) or not 0 <= number < len(found):
            raise OptionError(f"{what}: {len(found)} in the text, numbered from 0; got {number!r}")
        return found[number]

    def _quoted(self) -> str:
        text = " ".join(self.text.split())
        return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per position: kind, name, row and column of patches (-1 elsewhere)."""
        import pandas as pd

        kinds = [span.kind for span in self.spans for _ in range(len(span))]
        image = self.span("image")
        inside = np.arange(self.length) - image.start
        patch = np.where((inside >= 0) & (inside < len(image)), inside, -1)
        return pd.DataFrame(
            {
                "kind": kinds,
                "name": self.names(),
                "row": np.where(patch >= 0, patch // self.grid[1], -1),
                "column": np.where(patch >= 0, patch % self.grid[1], -1),
            }
        ).rename_axis("position")


#: What leads from one finding to the next.
_JOINT = re.compile(r"[,.:;(]|\b(?:and|but|no|or|with|without)\b", re.IGNORECASE)

#: Words by which a text may state a side.
_SIDE_WORDS = {
    "left": ("left", "left-sided"),
    "right": ("right", "right-sided"),
    "bilateral": ("bilateral", "bilaterally", "both", "left", "right"),
}
