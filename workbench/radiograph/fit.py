"""The fit of a radiograph of any size to a model's square input, and the way back.

`fit="crop"` is the published preprocessing of CXR-LLaVA v2 (Lee et al., European Radiology 2025,
arXiv 2310.18341): shorter edge to S with Pillow's LANCZOS, longer edge to int(S * long / short),
centre crop with floor offsets. Eight-bit images stay eight-bit on the way, so the result equals the
published pipeline to the bit. `fit="pad"` departs from it on purpose: the whole image is visible,
centred on black.

Coordinates are continuous and measured from the top left corner of an image: pixel i covers
[i, i + 1), its centre is i + 0.5. Points are (x, y), boxes are (left, top, right, bottom).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from workbench.errors import InputError, OptionError

FITS = ("crop", "pad")

#: Side of the square input of the published model; crop losses are stated for it.
PUBLISHED_SIZE = 512

#: A resized image may not have more pixels than this; only absurdly thin strips reach it.
MAX_RESIZED_PIXELS = 100_000_000

#: Pixels this close (in grey levels) to a whole number of 1/255 count as an eight-bit image.
_EIGHT_BIT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class FitGeometry:
    """Where each pixel of the original lies in the model's square input.

    Attributes:
        original_size, resized_size: (rows, columns), and those after the resize.
        size: S, the side of the square input.
        fit: "crop" or "pad".
        offset: (top, left) of the crop inside the resized image (fit "crop"), or of the resized
            image inside the square (fit "pad").
    """

    original_size: tuple[int, int]
    size: int
    fit: str
    resized_size: tuple[int, int]
    offset: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Model pixels per original pixel, (vertical, horizontal)."""
        (rows, columns), (old_rows, old_columns) = self.resized_size, self.original_size
        return rows / old_rows, columns / old_columns

    @property
    def crop_box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of what the model sees, in original pixels."""
        rows, columns = self.original_size
        if self.fit == "pad":
            return 0.0, 0.0, float(columns), float(rows)
        left, top, right, bottom = self.box_to_original((0, 0, self.size, self.size))
        return max(left, 0.0), max(top, 0.0), min(right, float(columns)), min(bottom, float(rows))

    @property
    def crop_loss(self) -> float:
        """Percent of the original's area that the model does not see, in [0, 100)."""
        if self.fit == "pad":
            return 0.0
        rows, columns = self.resized_size
        return 100.0 * (rows * columns - self.size**2) / (rows * columns)

    def to_original(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 2) x and y in model pixels to original pixels, float64.

        They lie outside the original where the point lies on padding.
        """
        return (_pairs(points) + self._shift) / self.scale[::-1]

    def to_model(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 2) x and y in original pixels to model pixels, float64.

        They lie outside [0, size] where the point was cropped away.
        """
        return _pairs(points) * self.scale[::-1] - self._shift

    def box_to_original(self, box: tuple[float, float, float, float]) -> tuple[float, ...]:
        """Map (left, top, right, bottom) from model pixels to original pixels, unclipped."""
        return tuple(self.to_original(np.reshape(box, (2, 2))).ravel().tolist())

    @property
    def _shift(self) -> np.ndarray:
        top, left = self.offset
        return np.array((left, top) if self.fit == "crop" else (-left, -top))


def fit_geometry(height: int, width: int, size: int, fit: str = "crop") -> FitGeometry:
    """Compute how an image of height x width fits a size x size input.

    Raises:
        OptionError: fit is not "crop" or "pad", or size is not positive.
        InputError: the image is empty, or so thin that its crop would need > 100 megapixels.
    """
    if fit not in FITS:
        raise OptionError(
            f"fit must be 'crop' or 'pad', got {fit!r}; "
            "'crop' is the published preprocessing, 'pad' keeps the whole image"
        )
    if size < 1:
        raise OptionError(f"size must be a positive number of pixels, got {size}")
    if height < 1 or width < 1:
        raise InputError(f"an image needs at least one row and one column, got {height} x {width}")
    short, long = min(height, width), max(height, width)
    if fit == "crop":
        new_short, new_long = size, int(size * long / short)
    else:
        new_short, new_long = max(1, int(size * short / long)), size
    if new_short * new_long > MAX_RESIZED_PIXELS:
        raise InputError(
            f"an image of {height} x {width} pixels is too thin for a centre crop to {size} x "
            f"{size}; a radiograph is nearer to a square: check the file, or use fit='pad'"
        )
    rows, columns = (new_long, new_short) if height >= width else (new_short, new_long)
    offset = (abs(rows - size) // 2, abs(columns - size) // 2)
    return FitGeometry((height, width), size, fit, (rows, columns), offset)


def box_geometry(
    original_size: tuple[int, int], box: tuple[float, float, float, float], size: int = 1024
) -> FitGeometry:
    """Return the geometry under which a box fills the square.

    Args:
        original_size: (rows, columns).
        box: (left, top, right, bottom) in original pixels; beyond the image where it is padded.
        size: side of the square; any number would do.
    """
    left, top, right, bottom = box
    tall, wide = size / (bottom - top), size / (right - left)
    numbers: Any = (original_size[0] * tall, original_size[1] * wide), (top * tall, left * wide)
    return FitGeometry(original_size, size, "crop", *numbers)  # parts of pixels


def fit_pixels(pixels: np.ndarray, size: int, fit: str = "crop") -> np.ndarray:
    """Fit greyscale pixels to a model's square input.

    Args:
        pixels: (H, W) values in [0, 1]. Where all are whole multiples of 1/255 the resize works on
            eight-bit pixels as the published pipeline does; otherwise on float pixels.
        size, fit: as in `fit_geometry`.

    Returns:
        (size, size) float32 in [0, 1].
    """
    pixels = np.asarray(pixels, dtype=np.float32)
    height, width = pixels.shape
    geometry = fit_geometry(height, width, size, fit)
    rows, columns = geometry.resized_size
    resized = _as_pillow(pixels).resize((columns, rows), Image.Resampling.LANCZOS)
    top, left = geometry.offset
    if fit == "crop":
        square = np.asarray(resized.crop((left, top, left + size, top + size)))
    else:
        content = np.asarray(resized)
        square = np.zeros((size, size), content.dtype)
        square[top : top + rows, left : left + columns] = content
    if square.dtype == np.uint8:
        return square.astype(np.float32) * np.float32(1 / 255)
    return np.clip(square, 0.0, 1.0, dtype=np.float32)


def _as_pillow(pixels: np.ndarray) -> Image.Image:
    levels = pixels * np.float32(255)
    whole = np.rint(levels)
    near = np.abs(levels - whole).max() < _EIGHT_BIT_TOLERANCE
    if near and whole.min() >= 0 and whole.max() <= 255:
        return Image.fromarray(whole.astype(np.uint8))
    return Image.fromarray(pixels)


def _pairs(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    if points.shape[-1:] != (2,):
        raise InputError(f"points must have shape (..., 2) as x and y, got {points.shape}")
    return points
