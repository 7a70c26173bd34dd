"""DICOM pixel data to integers: native, deflated, RLE, and the JPEG family.

Codecs: python-gdcm (JPEG baseline, extended, lossless, JPEG-LS, JPEG 2000) and
pylibjpeg-openjpeg/-rle, through pydicom. pydicom refuses 12-bit JPEG Extended; gdcm reads it, so
it is asked directly.

Does not know: what the integers mean (`luts`), or who the patient is.
"""

from __future__ import annotations

import struct

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
from pydicom.uid import (
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from workbench.errors import InputError

_MARKED_ENDS = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes)
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
        (H, W) int64 grey levels with sign and unused bits resolved, or (H, W, 3) for colour.

    Raises:
        InputError: no decoder, or truncated or contradictory data.
    """
    syntax = ds.file_meta.TransferSyntaxUID
    _check_decoder(syntax, name)
    if syntax.is_encapsulated:
        _check_codestream(ds, name, max_pixels)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        return apply_color_lut(pixel_array(ds), ds).astype(np.int64)
    if syntax == JPEGExtended12Bit and ds.BitsStored > 8:
        return _decode_extended(ds).astype(np.int64)
    if ds.SamplesPerPixel != 1:
        return pixel_array(ds).astype(np.int64)
    if syntax.is_encapsulated and syntax != RLELossless:
        return pixel_array(ds).astype(np.int64)
    return _used_bits(pixel_array(ds, correct_unused_bits=False).astype(np.int64), ds)


def _used_bits(values: np.ndarray, ds: Dataset) -> np.ndarray:
    """Keep the bits from HighBit down, drop overlays above and below, extend the sign."""
    shift = max(0, int(ds.HighBit) + 1 - int(ds.BitsStored))
    values = (values >> shift) & (2**ds.BitsStored - 1)
    if ds.PixelRepresentation:
        sign = 2 ** (ds.BitsStored - 1)
        values = (values ^ sign) - sign
    return values


def _check_decoder(syntax, name: str) -> None:
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
    size = codestream_size(frame)
    if size is None:
        return
    if size[0] * size[1] > max_pixels or size != (ds.Rows, ds.Columns):
        raise InputError(
            f"{name}: the header says {ds.Rows} x {ds.Columns} pixels, the compressed data "
            f"{size[0]} x {size[1]}; the file is damaged or was put together wrongly"
        )


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Read (rows, columns) from the header of a JPEG, JPEG-LS or JPEG 2000 codestream.

    Returns:
        None where no frame header is found.
    """
    start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start >= 0 and len(frame) >= start + 24:
        right, bottom, left, top = struct.unpack(">4I", frame[start + 8 : start + 24])
        return bottom - top, right - left
    position = 2
    while position + 9 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _FRAME_MARKERS:
            return struct.unpack(">2H", frame[position + 5 : position + 9])
        else:
            position += 2 + struct.unpack(">H", frame[position + 2 : position + 4])[0]
    return None


def _decode_extended(ds: Dataset) -> np.ndarray:
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(get_frame(ds.PixelData, 0, number_of_frames=1))
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((int(ds.Columns), int(ds.Rows), 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType(str(ds.PhotometricInterpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    syntax = gdcm.TransferSyntax.GetTSType(str.__str__(JPEGExtended12Bit))
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    bits = int(ds.BitsStored)
    image.SetPixelFormat(
        gdcm.PixelFormat(1, int(ds.BitsAllocated), bits, bits - 1, int(ds.PixelRepresentation))
    )
    buffer = image.GetBuffer().encode("utf-8", "surrogateescape")
    values = np.frombuffer(buffer, "<i2" if ds.PixelRepresentation else "<u2")
    return values.reshape(int(ds.Rows), int(ds.Columns))
