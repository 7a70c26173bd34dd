"""TokenLayout: which position of the sequence is what, and which pixels a patch covers.

The one owner of spans and geometry. The sequence of a run is

    text before the image | image patches, row by row | text behind it | generated tokens

and every number is taken from the model's configuration and the fit of the image. Coordinates are
original pixels from the top left corner; boxes are (left, top, right, bottom), as in
`workbench.radiograph.fit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from workbench._repr import short_repr
from workbench.errors import OptionError
from workbench.radiograph import FitGeometry
from workbench.trace.selection import TokenText

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


@dataclass(frozen=True)
class TokenLayout(TokenText):
    """Generated text and spans of a run, and the geometry of its patches.

    Attributes:
        prompt_tokens, question_tokens: pieces of the text before the image, and behind it.
        grid: rows and columns of patches.
        geometry: how the original lies in the model's square input.
    """

    prompt_tokens: tuple[str, ...]
    question_tokens: tuple[str, ...]
    grid: tuple[int, int]
    geometry: FitGeometry

    __repr__ = short_repr

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
