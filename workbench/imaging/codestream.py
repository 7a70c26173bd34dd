"""Compressed images: the first frame of a DICOM file, its end, and what it says of itself.

Reads the headers of JPEG (ITU-T T.81), JPEG-LS (T.87), JPEG 2000 and HTJ2K (T.800, T.814). None of
them can contain its end marker inside the compressed data, so what has none was cut short, and what
follows one does not matter. Of a lossy JPEG an end marker does not say that it is whole: programs
that repair a file put one behind whatever is left. Decoders then fill in middle grey, or leave out
the finer steps of a progressive file; `scan_cut_short` finds that.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, parse_basic_offsets

_END = b"\xff\xd9"
_JPEG, _JPEG2000, _JP2 = b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP"
_START_OF_TILE = b"\xff\x90"
_START_OF_SCAN = 0xDA
#: JPEG start-of-frame markers, and JPEG-LS.
_FRAME_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
#: Bytes of the header of an RLE frame, behind which its first segment starts.
_RLE_HEADER = 64
#: What decoders of JPEG fill in, and the edge of a block.
_FILLED, _BLOCK = 128, 8
_PROGRESSIVE = 0xC2
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
#: Compressed data put behind what is there, with every restart marker.
_MORE = b"".join(bytes((0xFF, 0xD0 + n, *range(1, 200))) for n in range(8))


class Codestream(NamedTuple):
    """What a codestream says of itself; `signed` is None where its format cannot say it."""

    rows: int
    columns: int
    bits: int
    signed: bool | None
    components: int


def first_frame(ds: Dataset) -> tuple[bytes, int]:
    """Return the first frame of encapsulated pixel data, and how many frames there are."""
    buffer = io.BytesIO(ds.PixelData)
    parse_basic_offsets(buffer)
    fragments = list(generate_fragments(buffer))
    starts = [at for at, fragment in enumerate(fragments) if _starts_a_frame(fragment)]
    end = starts[1] if len(starts) > 1 else len(fragments)
    return b"".join(fragments[:end]), max(1, len(starts))


def whole_codestream(frame: bytes) -> bytes | None:
    """Return a frame up to its end marker, None where it has none."""
    start = frame.find(_JPEG2000, 0, 4096)
    scans = (start for marker, start, _ in _segments(frame) if marker == _START_OF_SCAN)
    data = frame.find(_START_OF_TILE, start) if start >= 0 else next(scans, 0)
    end = frame.rfind(_END, max(data, 0))
    return None if end < 0 else frame[: end + len(_END)]


def read_codestream(frame: bytes) -> Codestream | None:
    """Read the header of a JPEG, JPEG-LS or JPEG 2000 codestream, None where there is none."""
    start = frame.find(_JPEG2000, 0, 4096)
    if start >= 0 and len(frame) >= start + 43:
        right, bottom, left, top = struct.unpack(">4I", frame[start + 8 : start + 24])
        components, depth = struct.unpack(">HB", frame[start + 40 : start + 43])
        signed = bool(depth & 0x80)
        return Codestream(bottom - top, right - left, (depth & 0x7F) + 1, signed, components)
    for marker, at, _ in _segments(frame):
        if marker in _FRAME_MARKERS and at + 8 <= len(frame):
            bits, rows, columns, components = struct.unpack(">B2HB", frame[at + 2 : at + 8])
            return Codestream(rows, columns, bits, None, components)
        if marker == _START_OF_SCAN:
            return None
    return None


def _segments(frame: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of the segments of a JPEG, those behind scans included."""
    end = 2
    while (found := _MARKER.search(frame, end)) and found.end() + 2 <= len(frame):
        start = found.end()
        end = start + int.from_bytes(frame[start : start + 2], "big")
        yield found[1][0], start, end


def _starts_a_frame(fragment: bytes) -> bool:
    if fragment.startswith((_JPEG, _JPEG2000, _JP2)):
        return True
    if len(fragment) < _RLE_HEADER:
        return False
    segments, offset = struct.unpack("<2I", fragment[:8])
    return 1 <= segments <= 15 and offset == _RLE_HEADER


def scan_cut_short(data: bytes, pixels: np.ndarray) -> bool:
    """Say whether a JPEG file, and the (H, W, ...) pixels decoded from it, lack data at the end."""
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
    missing, first = np.full(64, 255), None
    for marker, start, end in _segments(data):
        if marker == _END[1]:
            break
        if marker != _START_OF_SCAN or len(data) < end or end - start < 8:
            continue
        components = data[start + 3 : start + 3 + 2 * data[start + 2] : 2]
        first = components[0] if first is None else first
        lowest, highest, step = data[end - 3 : end]
        if first in components:
            missing[lowest : highest + 1] = step & 15
    return first is not None and bool(missing.any())
