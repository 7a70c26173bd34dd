"""Sign and bits of grey pixels where header and pixel data disagree about them.

Does not know: how pixels are compressed, or what they mean.
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from workbench.imaging.codestream import Codestream
from workbench.radiograph import InputWarning


def used_bits(values: np.ndarray, ds: Dataset, bits: int) -> np.ndarray:
    """Keep the lowest bits, drop overlays above them, extend the sign."""
    values = values & (2**bits - 1)
    if ds.PixelRepresentation:
        sign = 2 ** (bits - 1)
        values = (values ^ sign) - sign
    return values


def used_bits_of_codestream(values: np.ndarray, ds: Dataset, found: Codestream) -> np.ndarray:
    """Give JPEG and JPEG-LS samples, which have no sign, that of the header."""
    bits = min(found.bits, int(ds.BitsStored))
    return used_bits(values, ds, bits if int(values.max()) < 2**bits else found.bits)


def settled(
    ds: Dataset,
    values: np.ndarray,
    found: Codestream,
    said_signed: bool,
    notes: list[InputWarning],
) -> np.ndarray:
    """Say where sign or bits of compressed values are not those of the header, and settle it.

    A signed codestream is believed. An unsigned one below a signed header may have lost its sign or
    never had one; the reading in which neighbouring pixels differ less is taken.
    """
    bits, said = int(ds.BitsStored), []
    if found.signed is False and said_signed:
        unsigned = values & (2**found.bits - 1)
        sign = 2 ** (found.bits - 1)
        values = min((unsigned, (unsigned ^ sign) - sign), key=_roughness)
        ds.PixelRepresentation = int(values.min() < 0)
    signed = bool(ds.PixelRepresentation)
    if found.signed is not None and found.signed != said_signed:
        kinds = ("unsigned", "signed")
        said.append(
            f"pixels are {kinds[said_signed]}, the compressed data that they are "
            f"{kinds[found.signed]}; they were read as {kinds[signed]}"
        )
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    fits = low <= int(values.min()) and int(values.max()) <= high
    if not fits or (found.signed is None and signed and found.bits < bits):
        said.append(f"pixels have {bits} bits, the compressed data {found.bits}, which were taken")
        ds.BitsStored = found.bits
    notes += map(_header_says, said)
    return values


def settled_native(values: np.ndarray, ds: Dataset, notes: list[InputWarning]) -> np.ndarray:
    """Keep the bits that the header names, or all where those alone make no image.

    Bits above them may be overlays, or the header may name too few, or forget the sign. The reading
    in which neighbouring pixels differ least is taken, the header's where two are alike.

    Args:
        values: (H, W) as stored, shifted so that the lowest bit is the image's.
        ds: where the pixels contradict its sign or bits, those are corrected.
        notes: what contradicts the header is added.
    """
    bits, signed = int(ds.BitsStored), bool(ds.PixelRepresentation)
    kept = used_bits(values, ds, bits)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    if int(values.max()) < high and (not signed or low <= int(values.min())):
        return kept
    allocated = 2 ** int(ds.BitsAllocated)
    whole = values % allocated
    negative = np.where(whole >= allocated // 2, whole - allocated, whole)
    found = min((kept, negative if signed else whole, whole, negative), key=_roughness)
    if found is kept:
        return kept
    ds.PixelRepresentation = int(found.min() < 0)
    reach = max(int(found.max()), -1 - int(found.min()))
    ds.BitsStored = max(1, reach.bit_length()) + ds.PixelRepresentation
    kind = ("unsigned", "signed")[ds.PixelRepresentation]
    said = f"pixels have {bits} bits, the pixel data {ds.BitsStored} ({kind}), which were taken"
    notes.append(_header_says(said))
    return found


def _header_says(what: str) -> InputWarning:
    return InputWarning("header", f"the header says that {what}; check brightness and contrast")


def _roughness(values: np.ndarray) -> float:
    return float(np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean())
