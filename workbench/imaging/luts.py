"""DICOM grey-scale transforms: modality LUT or rescale, then VOI LUT or window, onto [0, 1].

Follows DICOM PS3.3: C.11.1 (modality), C.11.2 (VOI), C.11.2.1.2 and C.11.2.1.3 (LINEAR,
LINEAR_EXACT, SIGMOID). A VOI LUT is preferred to a window, the first usable of several is used.
pydicom's functions wrap where the input has more bits than the LUT, fail on 12-bit modality LUTs,
and return values whose range the caller has to guess.

Deviations, each on purpose:
- without VOI LUT and window, images of more than 8 bits are spread from their smallest to their
  largest value (`spread_of`), because few exporters use the full range;
- a transform that is unusable, or that hides (nearly) the whole image, is replaced by the next one
  of the file, else by that spread, and reported;
- a LUT is scaled by the next power of two above its largest entry, because many declare more bits
  than they use.

The smallest and the largest value of an image are often no part of it: a hot or dead pixel, a lead
marker, padding that no tag declares, a collimated border. Two rules of `spread_of` leave such
values out. The outermost thousandth of the pixels at each end goes where that shortens the range by
a tenth. Of two groups of values that lie further apart than half of the range, the one goes that
contains few pixels, else the narrower one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from workbench._repr import result
from workbench.imaging.vocabulary import first_number, read_numbers
from workbench.radiograph import InputWarning, little_seen

#: Part of the grey scale into which a transform may not press an image. Twice that is warned of,
#: but kept: it may be meant.
HIDDEN_LIMIT = 0.1
#: Pixels that are looked at before all are.
_GLANCE = 1000
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
#: Share of the pixels at each end that may be left out, and how much that must shorten the range.
_OUTERMOST, _SHORTER = 0.001, 0.9
#: Groups of values: steps of the range, steps without pixels that part two groups, share of the
#: pixels at which a step counts as without, share of the pixels below which a group is few.
_STEPS, _GAP, _STRAY, _SMALL = 64, 32, 0.001, 0.1
#: Pixels below which groups mean nothing, and pixels that are looked at.
_FEW, _SAMPLE = 100, 1 << 16


@result(eq=True)
class GreyScale:
    """Grey levels after all transforms."""

    values: np.ndarray  # (H, W) float32 in [0, 1]; 0 is the low end of the scale
    applied: str  # what was done, for the contract
    problems: tuple[str, ...] = ()  # why transforms of the file could not be used
    apart: float = 0.0  # share of the pixels, far from all others, that the range leaves out

    def notes(self) -> tuple[InputWarning, ...]:
        """Return what a person should know about the scale."""
        found = {}
        if self.problems:
            found["window"] = f"{'; '.join(self.problems)}; used instead: {self.applied}"
        if self.apart:
            found["extremes"] = (
                f"{100 * self.apart:.2g} % of the pixels lie far from all others (marks, padding "
                "or a collimated border) and were left out of the grey scale"
            )
        check = "Check brightness and contrast"
        return tuple(InputWarning(code, f"{said}. {check}") for code, said in found.items())


def to_grey_scale(stored: np.ndarray, ds: Dataset, valid: np.ndarray) -> GreyScale:
    """Apply the modality and VOI transforms of a dataset to its (H, W) stored integers.

    Padding, where `valid` (H, W) is False, takes no part in finding the range.
    """
    values, after_modality, problems = apply_modality(stored, ds)
    everything = valid.all() or not valid.any()
    seen = values if everything else values[valid]
    for name, transform in _voi_transforms(values, ds):
        shown, problem = _attempt(transform)
        if shown is not None:
            problem = _what_hides(shown if everything else shown[valid], seen)
            if problem is None:
                return GreyScale(shown, name, problems)
        problems = (*problems, f"the {name} {problem}")
    bits = int(ds.BitsStored)
    if bits <= 8 and not after_modality and not ds.get("PixelRepresentation", 0):
        return GreyScale(values / np.float32(2**bits - 1), "full range", problems)
    return _spread(values, seen, problems)


def apply_modality(stored: np.ndarray, ds: Dataset) -> tuple[np.ndarray, bool, tuple[str, ...]]:
    """Apply the modality LUT, or slope and intercept.

    Returns:
        (H, W) values, whether anything was applied, and why something was not.
    """
    problems: tuple[str, ...] = ()
    signed, little = bool(ds.get("PixelRepresentation", 0)), is_little_endian(ds)
    for item in _items(ds, "ModalityLUTSequence"):
        found, problem = _attempt(partial(apply_lut, stored, item, signed=signed, little=little))
        if found is not None:
            return found[0], True, problems
        problems = (*problems, f"the modality LUT {problem}")
    slope, intercept = first_number(ds, "RescaleSlope"), first_number(ds, "RescaleIntercept")
    if slope == 0:
        problems = (*problems, "the rescale slope is 0")
    slope, intercept = slope or 1.0, intercept or 0.0
    if slope == 1.0 and intercept == 0.0:
        return stored, False, problems
    return stored.astype(np.float32) * slope + intercept, True, problems


def apply_lut(
    values: np.ndarray, item: Dataset, *, signed: bool, little: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Look values (H, W) up in a LUT; fractions are rounded.

    Args:
        item: LUT item with LUTDescriptor (entries, first value mapped, bits) and LUTData.
        signed: whether the first value mapped is a signed number.
        little: byte order of LUTData where it is raw bytes.

    Returns:
        (H, W) int32 table entries, and the same as float32 in [0, 1].
    """
    entries, first = _descriptor(item, signed)
    table = _table(item, entries, little)
    index = np.clip(np.rint(values).astype(np.int32) - first, 0, len(table) - 1)
    highest = int(table.max())
    exact = highest >= 256 and highest.bit_count() == 1  # 4096 is 12 bits, one too many
    white = 2 ** max(1, (highest - exact).bit_length()) - 1
    found = table[index]
    return found, np.minimum(found / np.float32(white), 1).astype(np.float32)


def window(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Apply a VOI window with one of `FUNCTIONS` to (H, W) values; float32 in [0, 1]."""
    values = np.asarray(values, dtype=np.float32)
    if function == "SIGMOID":
        exponent = np.clip(-4.0 * (values - center) / width, -80.0, 80.0)
        return 1.0 / (1.0 + np.exp(exponent))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1.0
    if width <= 0:
        return (values > center).astype(np.float32)
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def is_little_endian(ds: Dataset) -> bool:
    """Say whether a dataset was read as little endian, or made in memory."""
    return ds.original_encoding[1] is not False


def _voi_transforms(
    values: np.ndarray, ds: Dataset
) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Yield the file's ways to show the values, the preferred one first."""
    order = {"signed": values.min() < 0, "little": is_little_endian(ds)}
    for item in _items(ds, "VOILUTSequence"):
        yield "VOI LUT", lambda item=item: apply_lut(values, item, **order)[1]
    function = str(ds.get("VOILUTFunction") or "LINEAR").strip().upper()
    known = function in FUNCTIONS
    centers, widths = (read_numbers(ds, f"Window{k}").values for k in ("Center", "Width"))
    for center, width in zip_longest(centers, widths):
        name = "window " + " / ".join("?" if n is None else f"{n:g}" for n in (center, width))
        name += f" ({function})" if known else ""
        yield name, partial(_windowed, values, center, width, function)


def _windowed(
    values: np.ndarray, center: float | None, width: float | None, function: str
) -> np.ndarray:
    if center is None or width is None:
        raise _UnusableError("lacks a readable centre or width")
    if function not in FUNCTIONS:
        raise _UnusableError("has a VOI LUT function that is not one of the standard's")
    if width < 1 if function == "LINEAR" else width <= 0:
        raise _UnusableError("has no width")
    return window(values, center, width, function)


class _UnusableError(ValueError):
    """A transform that cannot be applied; its text says why."""


def _attempt(transform: Callable) -> tuple:
    """Return what a transform of the file gives and None, or None and why it gives nothing."""
    try:
        return transform(), None
    except _UnusableError as error:
        return None, str(error)
    except (ValueError, TypeError, AttributeError, LookupError):  # they may quote the file
        return None, "cannot be read"


def _what_hides(shown: np.ndarray, seen: np.ndarray) -> str | None:
    """Say why a transform is not to be used that leaves too little of an image to see."""
    some = np.ravel(shown)[:: max(1, shown.size // _GLANCE)]
    if some.max() <= some.min() and shown.max() <= shown.min():
        return "leaves a single grey level" if seen.max() > seen.min() else None
    little = little_seen(shown, limit=HIDDEN_LIMIT)
    return little and f"hides the image: {little}"


def _spread(values: np.ndarray, seen: np.ndarray, problems: tuple[str, ...]) -> GreyScale:
    found = spread_of(seen)
    applied = "smallest to largest value"
    if found.outermost:
        applied += " without the outermost thousandth"
    if found.high <= found.low:
        return GreyScale(np.zeros(values.shape, np.float32), applied, problems)
    share = (values.astype(np.float32) - found.low) / (found.high - found.low)
    return GreyScale(np.clip(share, 0.0, 1.0), applied, problems, found.apart)


class Spread(NamedTuple):
    """A range of grey values; what was left out of it."""

    low: float  # becomes black
    high: float  # becomes white
    apart: float  # share of the pixels in groups of values that were left out, in [0, 1]
    outermost: bool  # whether the outermost thousandth was left out


def spread_of(values: np.ndarray) -> Spread:
    """Find the range of the values, of any shape, that belong to the image."""
    low, high = float(values.min()), float(values.max())
    ordered = np.sort(np.ravel(values)[:: max(1, values.size // _SAMPLE)]).astype(np.float64)
    count = int(_OUTERMOST * ordered.size)
    kept = ordered[count : ordered.size - count]
    outermost = bool(0 < kept[-1] - kept[0] < _SHORTER * (high - low))
    if not outermost:
        kept = ordered
    image = _without_groups_apart(_without_groups_apart(kept))
    if image.size < kept.size or outermost:
        low, high = float(image[0]), float(image[-1])
    return Spread(low, high, 1 - image.size / kept.size, outermost)


def _without_groups_apart(ordered: np.ndarray) -> np.ndarray:
    """Return the wider of two groups of values that lie far apart, or everything."""
    low, high = ordered[0], ordered[-1]
    if high <= low or ordered.size < _FEW:
        return ordered
    counts = np.histogram(ordered, _STEPS, (low, high))[0]
    held = np.flatnonzero(counts > _STRAY * ordered.size)
    gaps = np.diff(held)
    if not gaps.size or gaps.max() <= _GAP:
        return ordered
    step, before = (high - low) / _STEPS, int(gaps.argmax())
    ends = low + step * (held[before] + 1), low + step * held[before + 1]
    lower, upper = np.searchsorted(ordered, ends)
    groups = ordered[:lower], ordered[upper:]
    few, many = sorted(groups, key=len)
    if few.size < _SMALL * ordered.size:
        return many if _width(many) > step / 4 else ordered
    narrow, wide = sorted(groups, key=_width)
    return wide if _width(wide) > 3 * _width(narrow) else ordered


def _width(group: np.ndarray) -> float:
    low, high = np.quantile(group, (0.01, 0.99))
    return float(high - low)


def _items(ds: Dataset, keyword: str) -> list[Dataset]:
    return [item for item in ds.get(keyword) or () if isinstance(item, Dataset)]


def _descriptor(item: Dataset, signed: bool) -> tuple[int, int]:
    """Return the number of entries and the first value mapped."""
    raw = item.LUTDescriptor
    values = np.frombuffer(raw, "<u2").tolist() if isinstance(raw, bytes) else list(raw)
    if len(values) != 3:
        raise ValueError("LUTDescriptor does not hold three values")
    entries, first = int(values[0]) & 0xFFFF, int(values[1])
    return entries or 2**16, first - 0x10000 if signed and first >= 0x8000 else first


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
