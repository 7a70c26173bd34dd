"""Colour images: a tinted or annotated film is a film, a colour photo is not.

A tinted film has colour that follows from its lightness; whatever a quadratic in lightness cannot
explain is real colour. The limits were set on 10 films turned sepia, blue, annotated in red and
yellow, overlaid with a heat map (at most 10 % of the pixels off by more than 0.1), and on colour
photographs (34 % and more).

Does not know: what a picture shows.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from workbench.errors import InputError
from workbench.radiograph import InputWarning

#: Share of pixels whose colour does not follow from lightness, above which it is a photo.
PHOTO_SHARE = 0.25
#: Mean chroma (largest minus smallest channel, in [0, 1]) above which it is a photo or colour map.
PHOTO_CHROMA = 0.45
#: Mean chroma below which an RGB file counts as grey (JPEG rounding).
GREY_CHROMA = 0.004
_RESIDUAL = 0.1
_LONGEST_EDGE = 512


def lightness(rgb: np.ndarray, name: str) -> tuple[np.ndarray, InputWarning | None]:
    """Return the lightness (ITU-R 601) of a colour image at its own depth, and judge its colour.

    Args:
        rgb: (H, W, 3) uint8 or uint16.
        name: for messages.

    Returns:
        (H, W) of the same type, at 8 bits exactly as Pillow computes it; and a warning where there
        is some colour, None where all channels agree.

    Raises:
        InputError: the image is a colour photo or a colour map.
    """
    warning = colour_warning(rgb, name)
    if rgb.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).convert("L")), warning
    weighted = rgb.astype(np.uint32) @ np.array((299, 587, 114), np.uint32)
    return ((weighted + 500) // 1000).astype(np.uint16), warning


def colour_warning(rgb: np.ndarray, name: str) -> InputWarning | None:
    """Judge the colour of an image as `lightness` does."""
    step = max(1, -(-max(rgb.shape[:2]) // _LONGEST_EDGE))
    white = 255 if rgb.dtype == np.uint8 else max(255, 2 ** int(rgb.max()).bit_length() - 1)
    pixels = rgb[::step, ::step].reshape(-1, 3).astype(np.float64) / white
    chroma = float((pixels.max(axis=1) - pixels.min(axis=1)).mean())
    if chroma < GREY_CHROMA:
        return None
    light = pixels @ (0.299, 0.587, 0.114)
    terms = np.stack([np.ones_like(light), light, light**2], axis=1)
    residual = pixels - terms @ np.linalg.lstsq(terms, pixels, rcond=None)[0]
    share = float((np.abs(residual).max(axis=1) > _RESIDUAL).mean())
    if share > PHOTO_SHARE or chroma > PHOTO_CHROMA:
        raise InputError(
            f"{name}: is a colour picture, not a radiograph; export the film itself as greyscale "
            "PNG or DICOM, without colour map or overlay"
        )
    return InputWarning(
        "colour",
        "the file is coloured or tinted; its lightness was read as grey. Check that no coloured "
        "text or drawing lies over the film",
    )
