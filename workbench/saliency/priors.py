"""Fixed maps that know nothing of the image: what any method must beat.

Does not know: models, findings.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np

from workbench.trace import ImageMap

_DRAWN = 48


def centre_prior(like: ImageMap) -> ImageMap:
    """Return the fixed map that is greatest in the middle of the image."""
    rows, columns = (np.linspace(-1, 1, n) for n in like.grid)
    values = np.exp(-2 * (rows[:, None] ** 2 + columns[None] ** 2))
    return _fixed(like, values, "centre prior")


def lung_prior(like: ImageMap) -> ImageMap:
    """Return the fixed map of where lungs are: the share of 48 phantoms with lung there, in [0, 1].

    The phantoms are of seeds 0 to 47, whatever the image.
    """
    return _fixed(like, _mean_lungs(like.grid), "lung prior")


@cache
def _mean_lungs(grid: tuple[int, int]) -> np.ndarray:
    from workbench.phantom.case import phantom

    size = 128
    lungs = np.zeros((size, size))
    for seed in range(_DRAWN):
        anatomy = phantom(seed, findings=[], size=size).anatomy
        lungs += anatomy["left lung"] | anatomy["right lung"]
    lungs /= _DRAWN
    rows, columns = (np.linspace(0, size, n + 1).astype(int) for n in grid)
    # A grid finer than the drawing repeats its pixels.
    return np.array(
        [
            [lungs[a : max(b, a + 1), c : max(d, c + 1)].mean() for c, d in pairwise(columns)]
            for a, b in pairwise(rows)
        ]
    )


def _fixed(like: ImageMap, values: np.ndarray, name: str) -> ImageMap:
    return ImageMap(
        values, like.geometry, like.image, name, like.target, layer="no layer", head="no head"
    )
