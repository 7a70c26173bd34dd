"""Radiograph: the pixels of one frontal chest image and what is known about them.

Does not know: file formats (`workbench.imaging`), phantoms (`workbench.phantom`), models.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from workbench.errors import InputError
from workbench.radiograph.contract import InputContract


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One greyscale image, bone bright.

    Attributes:
        pixels: (H, W) float32 in [0, 1]; 0 is air-black, 1 is bone-white.
        contract: what is known about the image.
        meta: allow-listed tags only, never patient identifiers.

    Raises:
        InputError: pixels are not a non-empty 2-D array of finite values in [0, 1].
    """

    pixels: np.ndarray
    contract: InputContract
    meta: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        pixels = np.ascontiguousarray(self.pixels, dtype=np.float32)
        if pixels.ndim != 2 or pixels.size == 0:
            raise InputError(
                f"a radiograph needs a 2-D greyscale array, got shape {np.shape(self.pixels)}; "
                "convert it to one channel first"
            )
        low, high = float(pixels.min()), float(pixels.max())
        if not (np.isfinite(low) and np.isfinite(high) and low >= 0.0 and high <= 1.0):
            raise InputError(
                f"pixels must lie in [0, 1], got [{low:.4g}, {high:.4g}]; "
                "divide by the largest possible value, or read the file with wb.load_radiograph"
            )
        pixels.setflags(write=False)
        object.__setattr__(self, "pixels", pixels)

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns) of the pixels."""
        return self.pixels.shape
