"""Stored grey levels to [0, 1]: which number of bits an integer image really uses.

Does not know: DICOM grey-scale transforms (`workbench.imaging.luts`), polarity, or colour.
"""

from __future__ import annotations

import numpy as np

from workbench.errors import InputError, OptionError
from workbench.radiograph.contract import InputWarning

#: Depths that detectors and exporters use inside 16-bit files.
USUAL_BITS = (8, 10, 12, 14, 15, 16)
#: Share of the pixels that may lie above the depth of all others: hot pixels, not the image.
_OUTLIERS = 0.001


def to_unit_range(
    array: np.ndarray, *, bits: int | None = None
) -> tuple[np.ndarray, int, tuple[InputWarning, ...]]:
    """Scale stored grey levels to [0, 1] by the largest value their depth allows.

    Args:
        array: (H, W) unsigned integers, or floats in [0, 1]; singleton axes are dropped.
        bits: significant bits of integer pixels; None decides from type and largest value.

    Returns:
        (H, W) float32 in [0, 1], the bits used (32 for floats), and a "bit-depth" warning where
        a wide integer type holds fewer bits. Where at most a thousandth of the pixels needs more
        bits than all others, the others decide and those become white.

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
    if bits is None:
        bits, warnings = _guess_bits(values)
        values = np.minimum(values, 2**bits - 1)
        return (values / (2**bits - 1)).astype(np.float32), bits, warnings
    highest = int(values.max())
    if highest >= 2**bits:
        raise InputError(
            f"pixels reach {highest}, more than {bits} bits can hold; pass a larger bits="
        )
    return (values / (2**bits - 1)).astype(np.float32), bits, ()


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


def _guess_bits(values: np.ndarray) -> tuple[int, tuple[InputWarning, ...]]:
    if values.dtype.itemsize == 1:
        return 8, ()
    highest = int(values.max())
    bits, beyond = next((b for b in USUAL_BITS if highest < 2**b), 32), 0
    for fewer in reversed([b for b in USUAL_BITS if b < bits]):
        needing = int(np.count_nonzero(values >= 2**fewer))
        if needing > _OUTLIERS * values.size or needing == np.count_nonzero(values):
            break
        bits, beyond = fewer, needing
    if bits >= 16 and not beyond:
        return bits, ()
    reached = f"{beyond:,} pixels lie above the others" if beyond else f"values reach {highest}"
    message = (
        f"{reached}, so the image was read as {bits}-bit; if it looks too bright, pass an array "
        "with the right bits= to Radiograph.from_array"
    )
    return bits, (InputWarning("bit-depth", message),)
