"""DICOM pixel data to integers: native, deflated, RLE, and the JPEG family.

Codecs: pylibjpeg-openjpeg and -rle and Pillow (8-bit JPEG) through pydicom; python-gdcm for JPEG
lossless, JPEG-LS and 12-bit JPEG, which pydicom refuses. gdcm runs in a process of its own because
damaged data can end that process.

Does not know: what the integers mean (`luts`), or who the patient is.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from workbench.errors import InputError
from workbench.imaging import gdcm_worker

#: Seconds after which a film that is still being decoded counts as damaged.
DECODE_SECONDS = 120

_MARKED_ENDS = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes)
_LOSSY_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit)
_END_MARKER = b"\xff\xd9"
#: What encoders put behind the end marker to make the length even.
_FILLERS = b"\0\xff"
#: JPEG start-of-frame markers, and JPEG-LS.
_FRAME_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}


def decode_pixels(ds: Dataset, name: str, max_pixels: int) -> np.ndarray:
    """Decode the one frame of a dataset.

    Args:
        ds: with complete pixel description and `file_meta.TransferSyntaxUID`.
        name: for messages.
        max_pixels: largest frame that is decoded.

    Returns:
        (H, W) integers with sign and unused bits resolved, or (H, W, 3) for colour; int32, and
        int64 where 32 bits are allocated.

    Raises:
        InputError: no decoder, or truncated or contradictory data.
    """
    syntax = ds.file_meta.TransferSyntaxUID
    _check_decoder(syntax, name)
    if syntax.is_encapsulated:
        _check_codestream(ds, name, max_pixels)
    plugin = _plugin(ds)
    kind = np.int32 if ds.BitsAllocated <= 16 else np.int64
    if plugin == "gdcm":
        return _used_bits(_decode_apart(ds, name).astype(kind), ds, shifted=False)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        return apply_color_lut(pixel_array(ds, decoding_plugin=plugin), ds).astype(kind)
    if ds.SamplesPerPixel != 1 or (syntax.is_encapsulated and syntax != RLELossless):
        return pixel_array(ds, decoding_plugin=plugin).astype(kind)
    values = pixel_array(ds, decoding_plugin=plugin, correct_unused_bits=False)
    return _used_bits(values.astype(kind), ds, shifted=True)


def _plugin(ds: Dataset) -> str:
    """Name the one decoder to use; those that check their input come before gdcm."""
    syntax = ds.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return ""
    if syntax in _LOSSY_JPEG and ds.BitsStored <= 8:
        return "pillow"
    available = get_decoder(syntax).available_plugins
    return next((name for name in ("pylibjpeg", "gdcm") if name in available), "")


def _used_bits(values: np.ndarray, ds: Dataset, *, shifted: bool) -> np.ndarray:
    """Keep the bits from HighBit down, drop overlays above and below, extend the sign."""
    shift = max(0, int(ds.HighBit) + 1 - int(ds.BitsStored)) if shifted else 0
    values = (values >> shift) & (2**ds.BitsStored - 1)
    if ds.PixelRepresentation:
        sign = 2 ** (ds.BitsStored - 1)
        values = (values ^ sign) - sign
    return values


def _check_decoder(syntax: UID, name: str) -> None:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        decoder = None
    if decoder is None:
        label = syntax.name if syntax.name != str(syntax) else "unknown"
        raise InputError(
            f"{name}: its pixels are compressed in a way that is not read here ({label}); export "
            "it as uncompressed, JPEG Lossless or JPEG 2000"
        )
    if not decoder.is_available:
        raise InputError(
            f"{name}: no decoder is installed for {syntax.name}; run: pip install python-gdcm "
            "pylibjpeg-openjpeg pylibjpeg-rle"
        )


def _check_codestream(ds: Dataset, name: str, max_pixels: int) -> None:
    if ds.file_meta.TransferSyntaxUID not in _MARKED_ENDS:
        return
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    if not frame.rstrip(_FILLERS).endswith(_END_MARKER):
        raise InputError(
            f"{name}: the compressed pixels are cut short (no end marker); copy or export it again"
        )
    found = codestream_shape(frame)
    if found is None:
        return
    rows, columns, bits = found
    if rows * columns > max_pixels or (rows, columns) != (ds.Rows, ds.Columns):
        raise InputError(
            f"{name}: the header says {ds.Rows} x {ds.Columns} pixels, the compressed data "
            f"{rows} x {columns}; the file is damaged or was put together wrongly"
        )
    if ds.file_meta.TransferSyntaxUID in _LOSSY_JPEG and bits not in (8, 12):
        raise InputError(
            f"{name}: its lossy JPEG data have {bits} bits, the standard allows 8 or 12, and "
            "decoders disagree on the rest; export it as JPEG Lossless or JPEG 2000"
        )


def codestream_shape(frame: bytes) -> tuple[int, int, int] | None:
    """Read (rows, columns, bits) from the header of a JPEG, JPEG-LS or JPEG 2000 codestream.

    Returns:
        None where no frame header is found.
    """
    start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start >= 0 and len(frame) >= start + 43:
        right, bottom, left, top = struct.unpack(">4I", frame[start + 8 : start + 24])
        return bottom - top, right - left, (frame[start + 42] & 0x7F) + 1
    position = 2
    while position + 9 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _FRAME_MARKERS:
            bits, rows, columns = struct.unpack(">B2H", frame[position + 4 : position + 9])
            return rows, columns, bits
        else:
            position += 2 + struct.unpack(">H", frame[position + 2 : position + 4])[0]
    return None


def _decode_apart(ds: Dataset, name: str) -> np.ndarray:
    """Decode through gdcm in another process, which damaged data may end."""
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    shape = codestream_shape(frame)
    if shape is None or ds.SamplesPerPixel != 1:
        raise InputError(
            f"{name}: colour or unusual data in {ds.file_meta.TransferSyntaxUID.name} are not "
            "read; export the file uncompressed"
        )
    rows, columns, bits = shape
    allocated = 8 if bits <= 8 else 16
    request = {
        "rows": rows,
        "columns": columns,
        "allocated": allocated,
        "stored": bits,
        "signed": 0,
        "syntax": str.__str__(ds.file_meta.TransferSyntaxUID),
    }
    samples = _run_worker(json.dumps(request).encode() + b"\n" + frame, name)
    if len(samples) != rows * columns * allocated // 8:
        raise InputError(f"{name}: the compressed pixels are damaged; copy or export it again")
    return np.frombuffer(samples, f"<u{allocated // 8}").reshape(rows, columns)


def _run_worker(request: bytes, name: str) -> bytes:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", gdcm_worker.__file__]
    problem = None
    try:
        done = subprocess.run(
            command,
            input=request,
            capture_output=True,
            timeout=DECODE_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        problem = f"took longer than {DECODE_SECONDS} seconds to decode"
    except OSError as error:
        problem = f"cannot be decoded, no process can be started ({error.strerror})"
    if problem:
        raise InputError(f"{name}: {problem}; export the file uncompressed")
    return done.stdout if done.returncode == 0 else b""
