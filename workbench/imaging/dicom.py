"""DICOM radiographs (CR, DX, DR): bytes in, de-identified Radiograph out.

Follows DICOM PS3.3 C.7.6.3 (pixels), C.7.5.1.1.2 (padding), C.11 (grey scale) and PS3.10 (files).
MONOCHROME1, or PresentationLUTShape INVERSE, turns the values over once, also where a file says
both. Padding becomes black, the value of air, whatever the polarity.

Only the tags of `workbench.imaging.vocabulary` are parsed, no identifiers. What pydicom says about
the others is not logged, and its errors, which quote values, are not passed on.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from pydicom import dcmread, uid
from pydicom.dataset import Dataset, FileDataset

from workbench.errors import InputError
from workbench.imaging import header
from workbench.imaging.decode import decode_pixels
from workbench.imaging.luts import GreyScale, to_grey_scale
from workbench.imaging.picture import lightness
from workbench.imaging.sources import MAX_FILE_BYTES, Reading, check_pixel_count, shared_name
from workbench.imaging.vocabulary import READ_KEYWORDS, VOCABULARY, read_numbers
from workbench.radiograph import InputContract, InputWarning, Radiograph, to_unit_range

#: What a deflated radiograph may unpack to: 32 bits a pixel, and everything that is no pixel.
_BYTES_OF_A_PIXEL, _OTHER_BYTES, _PIECE = 4, 64_000_000, 1 << 20
_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOUR = tuple(p for p in VOCABULARY["PhotometricInterpretation"] if p not in _GREY)


def looks_like_dicom(data: bytes) -> bool:
    """Say whether the content is DICOM, with or without its preamble."""
    if data[128:132] == b"DICM":
        return True
    if len(data) < 12:
        return False
    explicit = data[4:6].isalpha() and data[4:6].isupper()
    for order in "<>":
        group, _, length = struct.unpack(f"{order}HHI", data[:8])
        if group in (0x0002, 0x0008) and (explicit or length < min(len(data), 4096)):
            return True
    return False


def read_dicom(data: bytes, how: Reading) -> Radiograph:
    """Decode a DICOM file; `how.upright` turns it as PatientOrientation says."""
    ds = _parse(data, how.max_pixels)
    header.raise_frame_tags(ds)
    notes = _complete_description(ds)
    _check_description(ds, how.max_pixels)
    stored, contradictions = decode_pixels(ds, how.max_pixels)
    if stored.ndim == 3:
        stored, scaled, bits, colour_notes = _lightness(stored)
        valid, inverted = np.ones(stored.shape, bool), False
    else:
        valid, inverted = _valid_pixels(stored, ds), _is_inverted(ds)
        scaled, bits, colour_notes = to_grey_scale(stored, ds, valid), int(ds.BitsStored), ()
    seen = stored[valid] if valid.any() else stored
    inverted = inverted if how.invert is None else how.invert
    pixels = 1 - scaled.values if inverted else scaled.values
    pixels[~valid] = 0
    orientation, turn_notes = header.turn_upright(ds, how.upright)
    found = (*notes, *turn_notes, *contradictions, *scaled.notes(), *colour_notes)
    contract = InputContract(
        source=shared_name(how.name, data),
        modality=header.modality_of(ds),
        bits=bits,
        stored_range=(float(seen.min()), float(seen.max())),
        inverted=inverted,
        view=header.view_of(ds),
        burned_in=header.burned_in_of(ds),
        pixel_spacing=header.pixel_spacing_of(ds),
        warnings=(*header.header_warnings(ds), *found),
        file_format=f"DICOM, {ds.file_meta.TransferSyntaxUID.name}",
        grey_scale=scaled.applied,
    )
    pixels = header.turned(pixels, orientation)
    return Radiograph.examined(pixels, contract, fit=how.fit, meta=header.allowed_meta(ds))


def _lightness(rgb: np.ndarray) -> tuple[np.ndarray, GreyScale, int, tuple[InputWarning, ...]]:
    """Return lightness at full depth as for pictures, its scale and bits; refuse colour photos."""
    highest = int(rgb.max())
    depth = np.uint8 if highest <= 255 else np.uint16
    grey, notes = lightness((rgb[..., :3] >> max(0, highest.bit_length() - 16)).astype(depth))
    values, bits, more = to_unit_range(grey)
    return grey, GreyScale(values, "lightness of colour"), bits, (*more, *notes)


def _parse(data: bytes, max_pixels: int) -> FileDataset:
    _check_deflated(data, max_pixels)
    ds = dcmread(io.BytesIO(data), force=True, specific_tags=list(READ_KEYWORDS))
    if ds.file_meta.get("MediaStorageSOPClassUID") == uid.MediaStorageDirectoryStorage:
        raise InputError("is a DICOMDIR, an index of files; pass one image it lists")
    if "FloatPixelData" in ds or "DoubleFloatPixelData" in ds:
        raise InputError(
            "holds floating-point pixels, a computed map and not a radiograph; pass the "
            "image it was computed from"
        )
    if not ds.get("PixelData"):
        modality = header.modality_of(ds)
        raise InputError(
            f"holds no pixels (modality {modality}); it is a report or other object, or "
            "was cut short: pass an image of the study"
        )
    if "TransferSyntaxUID" not in ds.file_meta:
        implicit, little = ds.original_encoding
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        ds.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else explicit
    return ds


def _check_deflated(data: bytes, max_pixels: int) -> None:
    """Refuse a deflated dataset that would unpack to more than any radiograph."""
    if uid.DeflatedExplicitVRLittleEndian.encode("ascii") not in data[132:2048]:
        return
    if data[132:136] != b"\x02\0\0\0":
        raise InputError("its file header is damaged; copy or export the file again")
    rest = data[144 + struct.unpack("<I", data[140:144])[0] :]
    most = min(MAX_FILE_BYTES, _BYTES_OF_A_PIXEL * max_pixels + _OTHER_BYTES)
    unpacker, unpacked = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while rest and not unpacker.eof:
        unpacked += len(unpacker.decompress(rest, _PIECE))
        rest = unpacker.unconsumed_tail
        if unpacked > most:
            raise InputError(
                f"unpacks to more than {most / 1e6:.4g} MB, which no image of the allowed "
                "size does; check where the file comes from"
            )


def _complete_description(ds: Dataset) -> list[InputWarning]:
    """Fill in what files often omit, and refuse what cannot be guessed."""
    missing = [k for k in ("Rows", "Columns", "BitsAllocated") if not ds.get(k)]
    if missing:
        raise InputError(
            f"the header lacks {', '.join(missing)}, so its pixels cannot be read; export "
            "the file again"
        )
    omitted = {"SamplesPerPixel": 1, "PixelRepresentation": 0, "BitsStored": ds.BitsAllocated}
    for keyword, value in omitted.items():
        if ds.get(keyword) is None:
            setattr(ds, keyword, value)
    if ds.get("HighBit") is None:
        ds.HighBit = ds.BitsStored - 1
    return _complete_polarity(ds)


def _complete_polarity(ds: Dataset) -> list[InputWarning]:
    photometric = str(ds.get("PhotometricInterpretation") or "").strip().upper()
    shape = str(ds.get("PresentationLUTShape") or "").strip().upper()
    one_frame = ds.Rows * ds.Columns * ds.BitsAllocated // 8
    if photometric in _COLOUR and ds.SamplesPerPixel == 1 and len(ds.PixelData) >= 2 * one_frame:
        raise InputError(
            f"the header says one sample a pixel and colour ({photometric}), and the pixel "
            "data are longer than one sample each; export the file again as greyscale"
        )
    if photometric not in (_COLOUR if ds.SamplesPerPixel > 1 else _GREY):
        ds.PhotometricInterpretation = "MONOCHROME2" if ds.SamplesPerPixel == 1 else "RGB"
        message = (
            "the file does not say which end of the scale is white; look at it, and if bone is "
            "dark load it with invert=True"
        )
    elif (photometric, shape) in (("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")):
        message = (
            f"{photometric} and PresentationLUTShape {shape} contradict each other; it was turned "
            "over: look at it, and if bone is dark load it with invert=False"
        )
    else:
        return []
    return [InputWarning("polarity", message)]


def _check_description(ds: Dataset, max_pixels: int) -> None:
    (frames, *others) = read_numbers(ds, "NumberOfFrames").values or (1,)
    if others or frames is None or frames % 1:
        raise InputError("NumberOfFrames is no whole number; export the file again, as one frame")
    if frames > 1:
        raise InputError(
            f"holds {frames:.0f} frames; save the one image as its own single-frame file"
        )
    check_pixel_count(ds.Rows, ds.Columns, max_pixels)
    if ds.BitsAllocated not in (8, 16, 32):
        raise InputError(
            f"has {ds.BitsAllocated} bits a pixel; a radiograph has 8 to 16, a mask or a "
            "packed image must be converted first"
        )


def _is_inverted(ds: Dataset) -> bool:
    shape = str(ds.get("PresentationLUTShape") or "").strip().upper()
    return ds.PhotometricInterpretation == "MONOCHROME1" or shape == "INVERSE"


def _valid_pixels(stored: np.ndarray, ds: Dataset) -> np.ndarray:
    """Return (H, W) bool, False where a pixel lies in the padding value or range."""
    keywords = ("PixelPaddingValue", "PixelPaddingRangeLimit")
    low, high = (_as_stored(ds.get(keyword), ds) for keyword in keywords)
    if low is None:
        return np.ones(stored.shape, bool)
    high = low if high is None else high
    return (stored < min(low, high)) | (stored > max(low, high))


def _as_stored(value, ds: Dataset) -> int | None:
    """Read a padding value with the sign of the pixels, however its own VR was chosen."""
    if value is None or value == "":
        return None
    if isinstance(value, bytes):
        value = int.from_bytes(value[:2], "little" if ds.original_encoding[1] else "big")
    bits = int(ds.BitsAllocated)
    sign = 2 ** (bits - 1) if ds.PixelRepresentation else 0
    return (int(value) + sign) % 2**bits - sign
