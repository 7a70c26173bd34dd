"""Pictures with colour or alpha at 16 bits a channel, of which Pillow keeps one byte.

Pillow unpacks such pixels to 8 bits, the upper or the lower byte as the name of the byte order in
the raw mode says. Each file is therefore unpacked twice, and the bytes are put together. Where that
does not work (planes apart, CMYK, premultiplied alpha, JPEG 2000, PPM) the picture is refused, for
half of its bits is not what the file holds.

Does not know: what a picture shows.
"""

from __future__ import annotations

import io
import sys

import numpy as np
from PIL import Image

from workbench.errors import InputError
from workbench.imaging.codestream import read_codestream

#: Raw mode of the upper byte -> of the lower byte; libtiff gives the machine's own order (N).
_OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
_READABLE = ("RGB", "RGBX", "RGBA")
_ONE_CHANNEL = ("1", "L", "P", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_PLANES_TAG, _DEPTHS_TAG = 284, 258


def is_deep(image: Image.Image, data: bytes | None = None) -> bool:
    """Say whether a file holds several channels of more than 8 bits.

    Args:
        image: as it was opened.
        data: content of the file; None where it is not at hand.
    """
    if image.mode in _ONE_CHANNEL:
        return False
    if image.format == "JPEG2000":
        found = read_codestream(data) if data else None
        return found is not None and found.bits > 8
    if image.format == "PPM":
        return any(_largest(tile.args) > 255 for tile in image.tile)
    depths = getattr(image, "tag_v2", {}).get(_DEPTHS_TAG, (8,))
    return max(depths) > 8 or any(
        _raw_mode(tile.args).endswith(tuple(_OTHER_BYTE)) for tile in image.tile
    )


def read_deep(data: bytes, name: str) -> np.ndarray:
    """Read all 16 bits of a picture for which `is_deep` holds.

    Returns:
        (H, W) uint16 of a grey picture with alpha, (H, W, 3) uint16 of a colour picture; alpha is
        dropped.

    Raises:
        InputError: of a kind that is not read.
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
            f"{name}: holds 16 bits a channel in a way that is not read here; export it as 16-bit "
            "greyscale PNG, or as DICOM"
        )
    upper, lower = _unpacked(data, raw), _unpacked(data, f"{kind};{_OTHER_BYTE[order]}")
    return (upper.astype(np.uint16) << 8 | lower)[..., :3]


def _unpacked(data: bytes, raw: str) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    image.tile = [
        tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:]))
        for tile in image.tile
    ]
    image.load()
    return np.asarray(image)


def _raw_mode(args) -> str:
    first = args if isinstance(args, str) else next(iter(args or ()), "")
    return first if isinstance(first, str) else ""


def _largest(args) -> int:
    return args[1] if isinstance(args, tuple) and len(args) > 1 and isinstance(args[1], int) else 0
