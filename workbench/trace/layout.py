"""TokenLayout: which position of the sequence is what, and which pixels a patch covers.

The one owner of spans and geometry. The sequence of a run is

    text before the image | image patches, row by row | text behind it | generated tokens

and every number (how many patches, how many rows of them, where a patch lies in the file that was
read) is taken from the model's configuration and the fit of the image.

Coordinates: original pixels, continuous, from the top left corner; boxes are
(left, top, right, bottom), as in `workbench.radiograph.fit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Unpack

import numpy as np

from workbench._repr import short_repr
from workbench.errors import InputError, OptionError
from workbench.radiograph import FitGeometry
from workbench.trace.selection import Selection, SelectionOptions, TextParts

#: What a position can be, in the order of the sequence.
KINDS = ("prompt", "image", "question", "generated")


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


def cell_box(
    geometry: FitGeometry, grid: tuple[int, int], row: int, column: int
) -> tuple[float, float, float, float]:
    """Return (left, top, right, bottom) of a cell of a grid in original pixels, unclipped."""
    high, wide = geometry.size / grid[0], geometry.size / grid[1]
    left, top, right, bottom = geometry.box_to_original(
        (column * wide, row * high, (column + 1) * wide, (row + 1) * high)
    )
    return left, top, right, bottom


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

    def query_of(self, token: int) -> int:
        """Return the position whose output chose a generated token: the one before it."""
        if not 0 <= token < len(self.tokens):
            raise OptionError(
                f"the text has {len(self.tokens)} tokens, numbered from 0; got {token}"
            )
        return self.span("generated").start + token - 1

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
        """Choose a part of the text; the whole text when nothing is named.

        Args:
            phrase: characters of the text, case and white space do not matter; or a selection,
                which is returned as it is.
            **named: see `SelectionOptions`.

        Raises:
            OptionError: more than one of them, an unknown one, or a number out of range.
            InputError: the phrase is empty or not in the text, the text does not speak of the
                finding, or the selection is of another text; the message shows the text.
        """
        return TextParts(self.text, self.tokens, self.offsets).select(phrase, **named)
