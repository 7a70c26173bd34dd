"""DICOM grey-scale transforms: modality LUT or rescale, then VOI LUT or window, onto [0, 1].

Follows DICOM PS3.3: C.11.1 (modality), C.11.2 (VOI), C.11.2.1.2 and C.11.2.1.3 (LINEAR,
LINEAR_EXACT, SIGMOID). A VOI LUT is preferred to a window, the first of several is used. pydicom's
own functions are not used here because they wrap where the input has more bits than the LUT, fail
on 12-bit modality LUTs, and return values whose range the caller has to guess.

Deviations, each on purpose:
- without VOI LUT and window, images of more than 8 bits are spread from their smallest to their
  largest value, because few exporters use the full range;
- a window that is unusable (no width, or one that leaves a single grey) is replaced by that spread
  and reported;
- a LUT whose entries stay below 1/15 of the depth it declares is scaled by the depth it uses.

Does not know: polarity, padding, colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from workbench._repr import short_repr

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class GreyScale:
    """Grey levels after all transforms.

    Attributes:
        values: (H, W) float32 in [0, 1]; 0 is the low end of the scale.
        applied: what was done, for the contract.
        problem: why the file's own transform could not be used, or None.
    """

    values: np.ndarray
    applied: str
    problem: str | None = None

    __repr__ = short_repr


def to_grey_scale(stored: np.ndarray, ds: Dataset, valid: np.ndarray) -> GreyScale:
    """Apply the modality and VOI transforms of a dataset.

    Args:
        stored: (H, W) integers as stored, sign and unused bits already resolved.
        ds: holds the transforms and BitsStored.
        valid: (H, W) bool, False on padding; padding takes no part in finding the range.
    """
    values, after_modality = apply_modality(stored, ds)
    if _lut_item(ds, "VOILUTSequence") is not None:
        item = _lut_item(ds, "VOILUTSequence")
        little = is_little_endian(ds)
        return GreyScale(
            apply_lut(values, item, signed=values.min() < 0, little=little)[1], "VOI LUT"
        )
    center, width = first_number(ds, "WindowCenter"), first_number(ds, "WindowWidth")
    function = str(ds.get("VOILUTFunction") or "LINEAR").strip().upper()
    if center is None or width is None:
        return _full_range(values, ds, valid, after_modality)
    problem = _window_problem(center, width, function)
    if problem is None:
        shown = window(values, center, width, function)
        seen = shown[valid]
        if seen.size and (seen.max() > seen.min() or values[valid].max() == values[valid].min()):
            return GreyScale(shown, f"window {center:g} / {width:g} ({function})")
        problem = f"window {center:g} / {width:g} leaves a single grey level"
    full = _full_range(values, ds, valid, after_modality)
    return GreyScale(full.values, full.applied, problem)


def apply_modality(stored: np.ndarray, ds: Dataset) -> tuple[np.ndarray, bool]:
    """Apply the modality LUT, or slope and intercept.

    Returns:
        (H, W) values, and whether anything was applied.
    """
    item = _lut_item(ds, "ModalityLUTSequence")
    if item is not None:
        signed = bool(ds.get("PixelRepresentation", 0))
        return apply_lut(stored, item, signed=signed, little=is_little_endian(ds))[0], True
    slope, intercept = first_number(ds, "RescaleSlope"), first_number(ds, "RescaleIntercept")
    slope = 1.0 if slope is None else slope
    intercept = 0.0 if intercept is None else intercept
    if slope in (0.0, 1.0) and intercept == 0.0:
        return stored, False
    return stored.astype(np.float32) * (slope or 1.0) + intercept, True


def apply_lut(
    values: np.ndarray, item: Dataset, *, signed: bool, little: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Look values up in a LUT.

    Args:
        values: (H, W) input of the table; fractions are rounded.
        item: LUT item with LUTDescriptor (entries, first value mapped, bits) and LUTData.
        signed: whether the first value mapped is a signed number.
        little: byte order of LUTData where it is raw bytes.

    Returns:
        (H, W) int32 table entries, and the same as float32 in [0, 1].
    """
    entries, first, depth = (int(n) for n in _descriptor(item))
    first = _wrapped(first, signed)
    table = _table(item, entries or 2**16, little)
    index = np.clip(np.rint(values).astype(np.int32) - first, 0, len(table) - 1)
    white = 2 ** max(1, min(depth, 16)) - 1
    highest = int(table.max())
    if highest > white or highest < white / 15:
        white = 2 ** max(1, highest.bit_length()) - 1
    found = table[index]
    return found, (found / np.float32(white)).astype(np.float32)


def window(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Apply a VOI window.

    Args:
        values: (H, W) after the modality transform.
        center, width: WindowCenter and WindowWidth.
        function: "LINEAR", "LINEAR_EXACT" or "SIGMOID".

    Returns:
        (H, W) float32 in [0, 1].
    """
    values = np.asarray(values, dtype=np.float32)
    if function == "SIGMOID":
        exponent = np.clip(-4.0 * (values - center) / width, -80.0, 80.0)
        return 1.0 / (1.0 + np.exp(exponent))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1.0
    if width <= 0:
        return (values > center).astype(np.float32)
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def first_number(ds: Dataset, keyword: str) -> float | None:
    """Return the first value of a numeric element, None where absent, empty or no number."""
    try:
        value = ds.get(keyword)
        if isinstance(value, MultiValue | list | tuple):
            value = value[0] if value else None
        number = None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number is not None and np.isfinite(number) else None


def is_little_endian(ds: Dataset) -> bool:
    """Return the byte order a dataset was read with; little where it was made in memory."""
    return ds.original_encoding[1] is not False


def _full_range(
    values: np.ndarray, ds: Dataset, valid: np.ndarray, after_modality: bool
) -> GreyScale:
    bits = int(ds.BitsStored)
    if bits <= 8 and not after_modality and not ds.get("PixelRepresentation", 0):
        return GreyScale(values / np.float32(2**bits - 1), "full range")
    seen = values[valid] if valid.any() else values
    low, high = float(seen.min()), float(seen.max())
    if high <= low:
        return GreyScale(np.zeros(values.shape, np.float32), "smallest to largest value")
    spread = np.clip((values.astype(np.float32) - low) / (high - low), 0.0, 1.0)
    return GreyScale(spread, "smallest to largest value")


def _window_problem(center: float, width: float, function: str) -> str | None:
    if function not in FUNCTIONS:
        return "the VOI LUT function is not one of the standard's"
    if width < 1 if function == "LINEAR" else width <= 0:
        return f"window {center:g} / {width:g} has no width"
    return None


def _lut_item(ds: Dataset, keyword: str) -> Dataset | None:
    sequence = ds.get(keyword)
    item = sequence[0] if sequence else None
    usable = item is not None and item.get("LUTDescriptor") is not None and item.get("LUTData")
    return item if usable else None


def _descriptor(item: Dataset) -> Sequence[int]:
    raw = item.LUTDescriptor
    values = np.frombuffer(raw, "<u2").tolist() if isinstance(raw, bytes) else list(raw)
    if len(values) != 3:
        raise ValueError("LUTDescriptor does not hold three values")
    return values[0] & 0xFFFF, values[1], values[2]


def _wrapped(first: int, signed: bool) -> int:
    return first - 0x10000 if signed and first >= 0x8000 else first


def _table(item: Dataset, entries: int, little: bool) -> np.ndarray:
    raw = item.LUTData
    if isinstance(raw, bytes):
        one_byte = len(raw) < 2 * entries
        table = np.frombuffer(raw, np.uint8 if one_byte else ("<u2" if little else ">u2"))
    else:
        table = np.asarray(raw).astype(np.int32) & 0xFFFF
    if table.size == 0:
        raise ValueError("LUTData is empty")
    return table[:entries].astype(np.int32)
