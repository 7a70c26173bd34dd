"""Which way an image lies, from PatientOrientation, and how to turn it upright.

DICOM PS3.3 C.7.6.1.1.1: the first value names the direction of the rows, the second that of the
columns. A frontal image is upright as L\\F, which puts the patient's right on the left; a lateral
one as A\\F or P\\F. FieldOfViewHorizontalFlip is not asked: it says what was done to the image, and
PatientOrientation what came of it.

Does not know: pixels, or whether the tag is right; a side marker in the image decides that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Turn:
    """What makes an image upright: transpose first, then mirror, then upside down."""

    transpose: bool = False
    mirror: bool = False
    upend: bool = False

    def __bool__(self) -> bool:
        return self.transpose or self.mirror or self.upend

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Turn an (H, W) array."""
        array = array.T if self.transpose else array
        array = array[:, ::-1] if self.mirror else array
        return array[::-1] if self.upend else array

    def words(self) -> str:
        """Return how the untouched image lies."""
        if self.transpose:
            return "lies on its side"
        if self.mirror and self.upend:
            return "is upside down"
        sides = "left and right" if self.mirror else "head and foot"
        return f"is mirrored, {sides} are exchanged"


def turn_of(parts: list[str], lateral: bool) -> Turn | None:
    """Find what makes an image upright.

    Args:
        parts: PatientOrientation, one string for rows and one for columns.
        lateral: whether the view is lateral.

    Returns:
        The turn, or None where the two directions make no image of this view.
    """
    row, column = ((part.strip().upper() or " ")[0] for part in parts)
    if (row, column) == ("L", "F"):  # what many devices write for every view
        return Turn()
    across = "AP" if lateral else "LR"
    transpose = row in "HF" and column in across
    if transpose:
        row, column = column, row
    if row not in across or column not in "HF":
        return None
    return Turn(transpose, mirror=row == "R", upend=column == "H")
