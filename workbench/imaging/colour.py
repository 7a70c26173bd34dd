"""Colour images: judge the colour, and read 16 bits a channel, of which Pillow keeps one byte.

A tinted radiograph has colour that follows from its lightness; whatever a quadratic in lightness
cannot explain is real colour. The limits were set on 10 radiographs turned sepia, blue, annotated
in red and yellow, overlaid with a heat map (at most 10 % of the pixels off by more than 0.1), and
on colour photographs (34 % and more).

Pillow unpacks pixels with colour or alpha at 16 bits a channel to 8 bits, the upper or the lower
byte as the name of the byte order in the raw mode says. Each such file is therefore unpacked twice,
and the bytes are put together. Where that does not work (planes apart, CMYK, premultiplied alpha,
JPEG 2000, PPM) the image is refused, for half of its bits is not what the file contains.
"""

from __future__ import annotations

import io
import sys

import numpy as np
from PIL import Image

from workbench.errors import InputError
from workbench.imaging.codestream import read_codestream
from workbench.imaging.guards import silent_libtiff
from workbench.radiograph import InputWarning

#: Share of pixels whose colour does not follow from lightness, above which it is a photo.
PHOTO_SHARE = 0.25
#: Mean chroma (largest minus smallest channel, in [0, 1]) above which it is a photo or colour map.
PHOTO_CHROMA = 0.45
#: Mean chroma below which an RGB file counts as grey (JPEG rounding).
GREY_CHROMA = 0.004
_RESIDUAL = 0.1
_LONGEST_EDGE = 512

#: Raw mode of the upper byte -> of the lower byte; libtiff gives the machine's own order (N).
_OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
_READABLE = ("RGB", "RGBX", "RGBA")
_ONE_CHANNEL = ("1", "L", "P", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_PLANES_TAG, _DEPTHS_TAG = 284, 258


def lightness(rgb: np.ndarray) -> tuple[np.ndarray, tuple[InputWarning, ...]]:
    """Return the lightness (ITU-R 601) of (H, W, 3) pixels, uint8 or uint16, and judge the colour.

    Returns:
        (H, W) of the same type, at 8 bits exactly as Pillow computes it; and a warning where there
        is some colour. A colour photo or colour map is refused.
    """
    if rgb.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"a colour array must be uint8 or uint16, got {rgb.dtype}; pass one greyscale channel"
        )
    notes = colour_warnings(rgb)
    if rgb.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).convert("L")), notes
    weighted = rgb.astype(np.uint32) @ np.array((299, 587, 114), np.uint32)
    return ((weighted + 500) // 1000).astype(np.uint16), notes


def colour_warnings(rgb: np.ndarray) -> tuple[InputWarning, ...]:
    """Judge the colour of an image as `lightness` does."""
    step = max(1, -(-max(rgb.shape[:2]) // _LONGEST_EDGE))
    white = 255 if rgb.dtype == np.uint8 else max(255, 2 ** int(rgb.max()).bit_length() - 1)
    pixels = rgb[::step, ::step].reshape(-1, 3).astype(np.float64) / white
    chroma = float((pixels.max(axis=1) - pixels.min(axis=1)).mean())
    if chroma < GREY_CHROMA:
        return ()
    light = pixels @ (0.299, 0.587, 0.114)
    terms = np.stack([np.ones_like(light), light, light**2], axis=1)
    residual = pixels - terms @ np.linalg.lstsq(terms, pixels, rcond=None)[0]
    share = float((np.abs(residual).max(axis=1) > _RESIDUAL).mean())
    if share > PHOTO_SHARE or chroma > PHOTO_CHROMA:
        raise InputError(
            "is a colour picture, not a radiograph; export the radiograph itself as greyscale PNG "
            "or DICOM, without colour map or overlay"
        )
    message = (
        "the file is coloured or tinted; its lightness was read as grey. Check that no coloured "
        "text or drawing lies over the image"
    )
    return (InputWarning("colour", message),)


def is_deep(image: Image.Image, data: bytes | None = None) -> bool:
    """Say whether an opened image holds several channels of more than 8 bits.

    Args:
        image: before its pixels are loaded.
        data: content of the file; None where it is not at hand.
    """
    if image.mode in _ONE_CHANNEL:
        return False
    if image.format == "JPEG2000":
        found = read_codestream(data) if data else None
        return found is not None and found.bits > 8
    tiles = getattr(image, "tile", [])
    if image.format == "PPM":  # of each tile, the raw mode and the largest value
        return any(isinstance(tile.args, tuple) and tile.args[1] > 255 for tile in tiles)
    depths = getattr(image, "tag_v2", {}).get(_DEPTHS_TAG, (8,))
    return max(depths) > 8 or any(
        _raw_mode(tile.args).endswith(tuple(_OTHER_BYTE)) for tile in tiles
    )


def read_deep(data: bytes) -> np.ndarray:
    """Read all 16 bits of a picture for which `is_deep` holds, without its alpha.

    Returns:
        (H, W) uint16 of a grey picture, (H, W, 3) uint16 of a colour picture.
    """
    image = Image.open(io.BytesIO(data))
    raw_modes = {_raw_mode(tile.args) for tile in image.tile}
    raw = raw_modes.pop() if len(raw_modes) == 1 else ""
    kind, _, order = raw.partition(";")
    if raw == "LA;16B":
        four = _unpacked(data, "RGBA").astype(np.uint16)  # upper and lower byte, twice
        return four[..., 0] << 8 | four[..., 1]
    planes = getattr(image, "tag_v2", {}).get(_PLANES_TAG, 1)
    if kind not in _READABLE or order not in _OTHER_BYTE or planes != 1:
        raise InputError(
            "holds 16 bits a channel in a way that is not read here; export it as 16-bit greyscale "
            "PNG, or as DICOM"
        )
    upper, lower = _unpacked(data, raw), _unpacked(data, f"{kind};{_OTHER_BYTE[order]}")
    return (upper.astype(np.uint16) << 8 | lower)[..., :3]


def _unpacked(data: bytes, raw: str) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    image.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
        for tile in image.tile
    ]
    with silent_libtiff(image):
        image.load()
    return np.asarray(image)


def _raw_mode(args: object) -> str:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""
