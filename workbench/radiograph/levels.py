"""Stored grey levels to [0, 1]: which number of bits an integer image really uses.

Does not know: DICOM grey-scale transforms (`workbench.imaging.luts`), polarity, or colour.
"""

from __future__ import annotations

import numpy as np

from workbench.errors import InputError, OptionError
from workbench.radiograph.contract import InputWarning

#: Depths that detectors and exporters use inside 16-bit files.
USUAL_BITS = (8, 10, 12, 14, 15, 16)


def to_unit_range(
    array: np.ndarray, *, bits: int | None = None
) -> tuple[np.ndarray, int, tuple[InputWarning, ...]]:
    """Scale stored grey levels to [0, 1] by the largest value their depth allows.

    Args:
        array: (H, W) unsigned integers, or floats in [0, 1]; singleton axes are dropped.
        bits: significant bits of integer pixels; None decides from type and largest value.

    Returns:
        (H, W) float32 in [0, 1], the bits used (32 for floats), and a "bit-depth" warning where
        a wide integer type holds fewer bits.

    Raises:
        InputError: not one greyscale image, or values that do not fit.
        OptionError: bits is outside 1..32.
    """
    values = _one_channel(array)
    if bits is not None and not 1 <= bits <= 32:
        raise OptionError(f"bits must lie between 1 and 32, got {bits}")
    if np.issubdtype(values.dtype, np.floating):
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):
            raise InputError(
                f"floating-point pixels must lie in [0, 1], got [{low:.4g}, {high:.4g}]; divide "
                "by the largest possible value, or pass unsigned integers"
            )
        return values.astype(np.float32), 32, ()
    if not np.issubdtype(values.dtype, np.integer):
        raise InputError(
            f"pixels must be unsigned integers or floats in [0, 1], got {values.dtype}; convert "
            "them first"
        )
    if int(values.min()) < 0:
        raise InputError(
            f"pixels must be unsigned integers or floats in [0, 1], got values from "
            f"{values.min()} to {values.max()}; shift and scale them first"
        )
    highest = int(values.max())
    bits, warnings = (bits, ()) if bits is not None else _guess_bits(values.dtype, highest)
    if highest >= 2**bits:
        raise InputError(
            f"pixels reach {highest}, more than {bits} bits can hold; pass a larger bits="
        )
    return (values / (2**bits - 1)).astype(np.float32), bits, warnings


def _one_channel(array: np.ndarray) -> np.ndarray:
    values = np.asarray(array)
    if values.size == 0:
        raise InputError(f"the array is empty (shape {values.shape}); expected greyscale pixels")
    if values.ndim > 2:
        axes = [i for i, n in enumerate(values.shape) if n == 1][: values.ndim - 2]
        values = np.squeeze(values, axis=tuple(axes))
    if values.ndim != 2:
        raise InputError(
            f"a radiograph needs a 2-D greyscale array, got shape {np.shape(array)}; convert it "
            "to one channel first"
        )
    return values


def _guess_bits(dtype: np.dtype, highest: int) -> tuple[int, tuple[InputWarning, ...]]:
    if dtype.itemsize == 1:
        return 8, ()
    bits = next((b for b in USUAL_BITS if highest < 2**b), 32)
    if bits >= 16:
        return bits, ()
    message = (
        f"stored values reach only {highest}, so the pixels were read as {bits}-bit; if the image "
        "looks too bright, pass an array with the right bits= to Radiograph.from_array"
    )
    return bits, (InputWarning("bit-depth", message),)
