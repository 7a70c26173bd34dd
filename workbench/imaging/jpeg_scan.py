"""Whether the compressed data of a lossy JPEG end before its picture does.

An end marker does not say so: programs that repair a file put one behind whatever is left. Decoders
then fill in middle grey, or leave out the finer steps of a progressive file.

Does not know: formats that check themselves (PNG), or files without an end marker.
"""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import Image

#: What decoders fill in, and the edge of a block.
_FILLED, _BLOCK = 128, 8
_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_PROGRESSIVE, _SCAN = 0xC2, 0xDA
#: Compressed data put behind what is there, with every restart marker.
_MORE = b"".join(bytes((0xFF, 0xD0 + n, *range(1, 200))) for n in range(8))


def scan_cut_short(data: bytes, pixels: np.ndarray) -> bool:
    """Say whether data are missing before the end marker.

    Args:
        data: a JPEG file.
        pixels: (H, W) or (H, W, channels) uint8 as decoded from it.
    """
    filled = bool((pixels[-_BLOCK:, -_BLOCK:] == _FILLED).all())
    start = data.find(b"\xff\xda")
    if start < 0:
        return False
    if data.rfind(bytes((0xFF, _PROGRESSIVE)), 0, start) >= 0:
        return _lacks_scans(data)
    end = data.find(_END, start)
    if not filled or end < 0:
        return False
    # More data change nothing where the picture is whole.
    return _decoded(data[:end] + _END) != _decoded(data[:end] + _MORE[2:] + _MORE + _END)


def _decoded(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data), formats=("JPEG",)).tobytes()


def _lacks_scans(data: bytes) -> bool:
    """Say whether some bits of the first component are in no scan of a progressive JPEG."""
    missing = np.full(64, 255)
    first = None
    position = 2
    while found := _MARKER.search(data, position):
        marker, at = found[1][0], found.end()
        if marker == _END[1] or at + 2 > len(data):
            break
        size = int.from_bytes(data[at : at + 2], "big")
        position = at + size
        if marker != _SCAN or len(data) < position or size < 8:
            continue
        components = data[at + 3 : at + 3 + 2 * data[at + 2] : 2]
        first = components[0] if first is None else first
        lowest, highest, step = data[position - 3 : position]
        if first in components:
            missing[lowest : highest + 1] = step & 15
    return first is not None and bool(missing.any())
