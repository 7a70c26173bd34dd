"""The range of grey values that an image without a window is spread over.

The smallest and the largest value of an image are often no part of it: a hot or dead pixel, a lead
marker, padding that no tag declares, a collimated border. Two rules leave such values out. The
outermost thousandth of the pixels at each end goes where that shortens the range by a tenth. Of two
groups of values that lie further apart than half of the range, the one goes that holds few pixels,
else the narrower one.

Does not know: DICOM, polarity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Share of the pixels at each end that may be left out, and how much that must shorten the range.
_OUTERMOST, _SHORTER = 0.001, 0.9
#: Groups of values: steps of the range, steps without pixels that part two groups, share of the
#: pixels at which a step counts as without, share of the pixels below which a group is few.
_STEPS, _GAP, _STRAY, _SMALL = 64, 32, 0.001, 0.1
#: Pixels below which groups mean nothing, and pixels that are looked at.
_FEW, _SAMPLE = 100, 1 << 16


@dataclass(frozen=True)
class Spread:
    """A range of grey values.

    Attributes:
        low, high: the values that become black and white.
        apart: share of the pixels in groups of values that were left out, in [0, 1].
        outermost: whether the outermost thousandth was left out.
    """

    low: float
    high: float
    apart: float = 0.0
    outermost: bool = False


def spread_of(values: np.ndarray) -> Spread:
    """Find the range of the values that belong to the image.

    Args:
        values: numbers of any shape, at least one.
    """
    low, high = float(values.min()), float(values.max())
    ordered = np.sort(np.ravel(values)[:: max(1, values.size // _SAMPLE)]).astype(np.float64)
    kept = _without_outermost(ordered)
    outermost = bool(0 < kept[-1] - kept[0] < _SHORTER * (high - low))
    if not outermost:
        kept = ordered
    image = _without_groups_apart(_without_groups_apart(kept))
    if image.size < kept.size or outermost:
        low, high = float(image[0]), float(image[-1])
    return Spread(low, high, 1 - image.size / kept.size, outermost)


def _without_outermost(ordered: np.ndarray) -> np.ndarray:
    count = int(_OUTERMOST * ordered.size)
    return ordered[count : ordered.size - count]


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
