"""Compressed frames of a DICOM file: the first one, its end, and what it says of itself.

Reads the headers of JPEG (ITU-T T.81), JPEG-LS (T.87), JPEG 2000 and HTJ2K (T.800, T.814). None of
them can hold its end marker inside the compressed data, so what has one is whole, whatever stands
behind it, and what has none was cut short.

Does not know: how data are decoded, or what the header of the file says.
"""

from __future__ import annotations

import io
import struct
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, parse_basic_offsets

_END = b"\xff\xd9"
_JPEG, _JPEG2000, _JP2 = b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP"
_START_OF_TILE = b"\xff\x90"
_START_OF_SCAN = 0xDA
#: JPEG start-of-frame markers, and JPEG-LS.
_FRAME_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
#: Where the header of an RLE frame says that its first segment starts: behind the header.
_RLE_HEADER = 64


class Codestream(NamedTuple):
    """What a codestream says of itself; `signed` is None where its format cannot say it."""

    rows: int
    columns: int
    bits: int
    signed: bool | None
    components: int


def first_frame(ds: Dataset) -> tuple[bytes, int]:
    """Return the first frame of encapsulated pixel data, and how many frames there are.

    Raises:
        ValueError: the fragments are damaged.
    """
    buffer = io.BytesIO(ds.PixelData)
    parse_basic_offsets(buffer)
    fragments = list(generate_fragments(buffer))
    starts = [at for at, fragment in enumerate(fragments) if _starts_a_frame(fragment)]
    end = starts[1] if len(starts) > 1 else len(fragments)
    return b"".join(fragments[:end]), max(1, len(starts))


def whole_codestream(frame: bytes) -> bytes | None:
    """Return a frame up to its end marker, None where it has none."""
    start = frame.find(_JPEG2000, 0, 4096)
    data = frame.find(_START_OF_TILE, start) if start >= 0 else _start_of_scan(frame)
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
    for marker, position in _segments(frame):
        if marker in _FRAME_MARKERS and position + 10 <= len(frame):
            bits, rows, columns, components = struct.unpack(
                ">B2HB", frame[position + 4 : position + 10]
            )
            return Codestream(rows, columns, bits, None, components)
    return None


def _segments(frame: bytes):
    """Yield marker and position of the segments before the compressed data."""
    position = 2
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        yield marker, position
        if marker == _START_OF_SCAN:
            return
        position += 2 + struct.unpack(">H", frame[position + 2 : position + 4])[0]


def _start_of_scan(frame: bytes) -> int:
    return next((at for marker, at in _segments(frame) if marker == _START_OF_SCAN), 0)


def _starts_a_frame(fragment: bytes) -> bool:
    if fragment.startswith((_JPEG, _JPEG2000, _JP2)):
        return True
    if len(fragment) < _RLE_HEADER:
        return False
    segments, offset = struct.unpack("<2I", fragment[:8])
    return 1 <= segments <= 15 and offset == _RLE_HEADER
