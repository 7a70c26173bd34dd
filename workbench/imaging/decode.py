"""DICOM pixel data to integers: native, deflated, RLE, and the JPEG family.

Codecs: pylibjpeg-openjpeg and -rle and Pillow (8-bit JPEG) through pydicom; python-gdcm for JPEG
lossless, JPEG-LS and 12-bit JPEG, which pydicom refuses. gdcm runs in a process of its own because
damaged data can end that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import get_expected_length, pixel_array

from workbench.errors import InputError
from workbench.imaging import gdcm_worker
from workbench.imaging.codestream import (
    Codestream,
    first_frame,
    read_codestream,
    scan_cut_short,
    whole_codestream,
)
from workbench.imaging.guards import silent_terminal
from workbench.radiograph import InputWarning

#: Seconds after which an image that is still being decoded counts as damaged.
DECODE_SECONDS = 120

_JPEG2000 = (*uid.JPEG2000TransferSyntaxes, uid.HTJ2K, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL)
_MARKED_ENDS = (*uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes, *_JPEG2000)
_LOSSY_JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)


def decode_pixels(ds: Dataset, max_pixels: int) -> tuple[np.ndarray, tuple[InputWarning, ...]]:
    """Decode the first frame of a dataset, whose description of pixels is complete.

    Where the pixel data contradict sign or bits of the header, those are corrected.

    Returns:
        (H, W) integers with sign and unused bits resolved, or (H, W, 3) for colour. Then what
        contradicts the header.
    """
    syntax = ds.file_meta.TransferSyntaxUID
    plugin = _plugin(ds)
    stream, found, notes = b"", None, []
    if syntax.is_encapsulated:
        stream = _keep_first_frame(ds, notes)
        found = _check_codestream(ds, stream, max_pixels)
    else:
        _keep_first_native_frame(ds, notes)
    said_signed = bool(ds.PixelRepresentation)
    ds.PixelRepresentation = int(said_signed or (found is not None and found.signed is True))
    values = _decoded(ds, plugin, stream, found, notes)
    colour = ds.SamplesPerPixel != 1 or ds.PhotometricInterpretation == "PALETTE COLOR"
    if values.shape[:2] != (ds.Rows, ds.Columns) or values.ndim != (3 if colour else 2):
        raise _contradiction(
            f"{ds.Rows} x {ds.Columns} pixels of {ds.SamplesPerPixel} samples, the pixel data hold "
            f"{' x '.join(map(str, values.shape))} values"
        )
    if found is not None and not colour:
        values = settled(ds, values, found, said_signed, notes)
    return values, tuple(notes)


def _decoded(
    ds: Dataset, plugin: str, stream: bytes, found: Codestream | None, notes: list[InputWarning]
) -> np.ndarray:
    syntax = ds.file_meta.TransferSyntaxUID
    kind = np.int32 if ds.BitsAllocated <= 16 else np.int64
    if plugin == "gdcm":
        return _decode_apart(ds, stream, found).astype(kind)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        return apply_color_lut(_pixels(ds, plugin), ds).astype(kind)
    if ds.SamplesPerPixel != 1 or (syntax.is_encapsulated and syntax != uid.RLELossless):
        values = _pixels(ds, plugin)
        if plugin == "pillow" and scan_cut_short(stream, values):
            raise InputError("the compressed pixels are cut short; copy or export it again")
        return values.astype(kind)
    values = _pixels(ds, plugin, correct_unused_bits=False)
    shift = max(0, int(ds.HighBit) + 1 - int(ds.BitsStored))
    return settled_native(values.astype(kind) >> shift, ds, notes)


def _pixels(ds: Dataset, plugin: str, correct_unused_bits: bool = True) -> np.ndarray:
    """Decode through pydicom; the decoder of RLE writes its own mishaps to the terminal."""
    quiet = silent_terminal if ds.file_meta.TransferSyntaxUID == uid.RLELossless else nullcontext
    with quiet():
        return pixel_array(ds, decoding_plugin=plugin, correct_unused_bits=correct_unused_bits)


def _plugin(ds: Dataset) -> str:
    """Name the one decoder to use; those that check their input come before gdcm."""
    syntax = ds.file_meta.TransferSyntaxUID
    try:
        available = get_decoder(syntax).available_plugins
    except NotImplementedError:
        label = syntax.name if syntax.name != str(syntax) else "unknown"
        raise InputError(
            f"its pixels are compressed in a way that is not read here ({label}); export "
            "it as uncompressed, JPEG Lossless or JPEG 2000"
        ) from None
    if syntax in _LOSSY_JPEG and ds.BitsStored <= 8:
        return "pillow"
    return next((name for name in ("pylibjpeg", "gdcm") if name in available), "")


def _keep_first_frame(ds: Dataset, notes: list[InputWarning]) -> bytes:
    """Leave one compressed frame in a dataset, without what stands behind it; return it."""
    frame, frames = first_frame(ds)
    if ds.file_meta.TransferSyntaxUID in _MARKED_ENDS:
        whole = whole_codestream(frame)
        if whole is None:
            raise InputError(
                "the compressed pixels are cut short (no end marker); copy or export it again"
            )
        frame = whole
    if frames > 1:
        notes.append(_first_of(f"{frames} frames"))
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        ds.pop(keyword, None)
    ds.NumberOfFrames, ds.PixelData = 1, encapsulate([frame])
    return frame


def _keep_first_native_frame(ds: Dataset, notes: list[InputWarning]) -> None:
    ds.NumberOfFrames = 1
    expected = get_expected_length(ds)
    beyond = len(ds.PixelData) - expected
    if beyond > expected % 2:
        notes.append(_first_of(f"{beyond:,} bytes more than one frame"))
        ds.PixelData = ds.PixelData[: expected + expected % 2]


def _first_of(what: str) -> InputWarning:
    return InputWarning(
        "header",
        f"the pixel data hold {what}, the header says one frame; the first was read, look at it "
        "and export the file again where it is not the one you meant",
    )


def _check_codestream(ds: Dataset, frame: bytes, max_pixels: int) -> Codestream | None:
    """Compare the sizes that header and codestream give; return what the latter says."""
    syntax = ds.file_meta.TransferSyntaxUID
    found = read_codestream(frame) if syntax in _MARKED_ENDS else None
    if found is None:
        return None
    size = found.rows, found.columns
    if found.rows * found.columns > max_pixels or size != (ds.Rows, ds.Columns):
        raise _contradiction(
            f"{ds.Rows} x {ds.Columns} pixels, the compressed data {found.rows} x {found.columns}"
        )
    if found.components != ds.SamplesPerPixel:
        raise _contradiction(
            f"{ds.SamplesPerPixel} samples a pixel, the compressed data {found.components}"
        )
    if syntax in _LOSSY_JPEG and found.bits not in (8, 12):
        raise InputError(
            f"its lossy JPEG data have {found.bits} bits, the standard allows 8 or 12, and "
            "decoders disagree on the rest; export it as JPEG Lossless or JPEG 2000"
        )
    return found


def _contradiction(what: str) -> InputError:
    return InputError(f"the header says {what}; the file is damaged or was put together wrongly")


def _decode_apart(ds: Dataset, frame: bytes, found: Codestream | None) -> np.ndarray:
    """Decode through gdcm in another process, which damaged data may end; give it its sign."""
    if found is None or ds.SamplesPerPixel != 1:
        raise InputError(
            f"colour or unusual data in {ds.file_meta.TransferSyntaxUID.name} are not "
            "read; export the file uncompressed"
        )
    allocated = 8 if found.bits <= 8 else 16
    request = {"rows": found.rows, "columns": found.columns, "stored": found.bits}
    request |= {"allocated": allocated, "syntax": str.__str__(ds.file_meta.TransferSyntaxUID)}
    samples = _run_worker(json.dumps(request).encode() + b"\n" + frame)
    if len(samples) != found.rows * found.columns * allocated // 8:
        raise InputError("the compressed pixels are damaged; copy or export it again")
    values = np.frombuffer(samples, f"<u{allocated // 8}").reshape(found.rows, found.columns)
    bits = min(found.bits, int(ds.BitsStored))
    bits = bits if int(values.max()) < 2**bits else found.bits
    return used_bits(values.astype(np.int64), bits, bool(ds.PixelRepresentation))


def _run_worker(request: bytes) -> bytes:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", gdcm_worker.__file__]
    try:
        done = subprocess.run(
            command, input=request, capture_output=True, timeout=DECODE_SECONDS, env=environment
        )
        return done.stdout if done.returncode == 0 else b""
    except subprocess.TimeoutExpired:
        problem = f"took longer than {DECODE_SECONDS} seconds to decode"
    except OSError as error:
        problem = f"cannot be decoded, no process can be started ({error.strerror})"
    raise InputError(f"{problem}; export the file uncompressed")


# ---------------------------------- where header and pixel data disagree about sign and bits


def used_bits(values: np.ndarray, bits: int, signed: bool) -> np.ndarray:
    """Keep the lowest bits, drop overlays above them, extend the sign."""
    sign = 2 ** (bits - 1) if signed else 0
    return ((values & (2**bits - 1)) ^ sign) - sign


def settled(
    ds: Dataset, values: np.ndarray, found: Codestream, said_signed: bool, notes: list[InputWarning]
) -> np.ndarray:
    """Say where sign or bits of compressed values are not those of the header, and settle it.

    A signed codestream is believed. An unsigned one below a signed header may have lost its sign or
    never had one; the reading in which neighbouring pixels differ less is taken.
    """
    bits = int(ds.BitsStored)
    if found.signed is False and said_signed:
        readings = [used_bits(values, found.bits, signed) for signed in (False, True)]
        values = min(readings, key=_roughness)
        ds.PixelRepresentation = int(values.min() < 0)
    signed = bool(ds.PixelRepresentation)
    if found.signed is not None and found.signed != said_signed:
        kinds = ("unsigned", "signed")
        notes += _header_says(
            f"pixels are {kinds[said_signed]}, the compressed data that they are "
            f"{kinds[found.signed]}; they were read as {kinds[signed]}"
        )
    fits = np.array_equal(used_bits(values, bits, signed), values)
    if not fits or (found.signed is None and signed and found.bits < bits):
        notes += _header_says(
            f"pixels have {bits} bits, the compressed data {found.bits}, which were taken"
        )
        ds.BitsStored = found.bits
    return values


def settled_native(values: np.ndarray, ds: Dataset, notes: list[InputWarning]) -> np.ndarray:
    """Keep the bits that the header names, or all where those alone make no image.

    Bits above them may be overlays, or the header may name too few, or forget the sign. The reading
    in which neighbouring pixels differ least is taken, the header's where two are alike.
    """
    bits, signed = int(ds.BitsStored), bool(ds.PixelRepresentation)
    kept = used_bits(values, bits, signed)
    if np.array_equal(kept, values):
        return kept
    whole, negative = (used_bits(values, int(ds.BitsAllocated), sign) for sign in (False, True))
    found = min((kept, negative if signed else whole, whole, negative), key=_roughness)
    if found is kept:
        return kept
    ds.PixelRepresentation = int(found.min() < 0)
    reach = max(int(found.max()), -1 - int(found.min()))
    ds.BitsStored = max(1, reach.bit_length()) + ds.PixelRepresentation
    kind = ("unsigned", "signed")[ds.PixelRepresentation]
    notes += _header_says(
        f"pixels have {bits} bits, the pixel data {ds.BitsStored} ({kind}), which were taken"
    )
    return found


def _header_says(what: str) -> list[InputWarning]:
    return [InputWarning("header", f"the header says that {what}; check brightness and contrast")]


def _roughness(values: np.ndarray) -> float:
    return float(np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean())
