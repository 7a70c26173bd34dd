"""Occlusion from coarse to fine: windows where the score moves, interpolation where it does not.

All windows of `occlusion` make a lattice. A sparse part of it is scored first: every seventh
window of a slanted lattice, so that windows fall on and between patches alike, in both directions.
Then, a few at a time, windows are added
where the scores around them differ most and the nearest scored window is far, until the budget is
spent. What was not scored is interpolated, and the map is spread from windows to cells exactly as
the full method does. Differences are weighed, and interpolated, on a scale that is linear for falls
of ordinary size and logarithmic beyond (arcsinh), so that one strong lesion does not hide
everything else.

Does not know: words (`target`).
Interpolation: linear radial basis functions (Wendland, Scattered Data Approximation, 2005), by
scipy. The rule of where to look next is this project's own.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from workbench.errors import OptionError
from workbench.saliency.gradients import Attribution, baseline_pixels
from workbench.saliency.perturbation import Windows
from workbench.saliency.scorer import Scorer

#: One window in so many is scored first.
COARSE = 7

#: Columns that the coarse lattice moves from one row to the next: windows are 2.2 apart or more.
SLANT = 2

#: Scored neighbours that say how much the score moves at a place.
NEIGHBOURS = 5


def adaptive_occlusion(
    scorer: Scorer,
    grid: tuple[int, int],
    *,
    budget: int = 200,
    stride: int | None = None,
    window: int | None = None,
    fill: str = "mean",
    batch_size: int = 16,
) -> Attribution:
    """Return what `occlusion` returns, from a limited number of forward passes.

    Args:
        scorer: the target.
        grid: rows and columns of patches.
        budget: images to score at most, the film itself included.
        stride: step of the window in model pixels; when None half a patch, or a whole one where
            the budget would not last for the coarse pass.
        window, fill: see `occlusion`.
        batch_size: images in one forward pass, and windows added before looking again.

    Returns:
        one value for every cell; score "forwards".

    Raises:
        OptionError: stride or window do not fit, or the budget is below the coarse pass.
    """
    windows = Windows.of(scorer, grid, stride, window)
    first = coarse_windows(windows.cells)
    if stride is None and budget < len(first) + 1:
        windows = Windows.of(scorer, grid, scorer.base.shape[-1] // grid[0], window)
        first = coarse_windows(windows.cells)
    if budget < len(first) + 1:
        raise OptionError(
            f"the coarse pass alone needs {len(first) + 1} forward passes, the budget is {budget}; "
            "raise the budget or the stride"
        )
    start = scorer.forwards
    blank = baseline_pixels(scorer, fill)
    with scorer.model.exclusive():
        whole = float(scorer.scores(scorer.base)[0])

        def fall(chosen: list[tuple[int, int]]) -> list[float]:
            changed = scorer.base.repeat(len(chosen), 1, 1, 1)
            for image, cell in zip(changed, chosen, strict=True):
                rows, columns = windows.box(*cell)
                image[0, rows, columns] = blank[0, 0, rows, columns]
            return (whole - scorer.scores(changed, batch_size=batch_size)).tolist()

        known = dict(zip(first, fall(first), strict=True))
        limit = min(budget - 1, windows.cells**2)
        while len(known) < limit:
            more = next_windows(known, windows.cells, min(batch_size, limit - len(known)))
            known |= dict(zip(more, fall(more), strict=True))
    values = windows.spread(interpolated(known, windows.cells))
    forwards = float(scorer.forwards - start)
    return Attribution(torch.from_numpy(values).float(), {"forwards": forwards})


def coarse_windows(cells: int) -> list[tuple[int, int]]:
    """Return every seventh window, so slanted that no line of windows is without one for long.

    Args:
        cells: windows along each side.
    """
    middle = cells // 2 * (1 + SLANT)
    return [
        (row, column)
        for row in range(cells)
        for column in range(cells)
        if (column + SLANT * row - middle) % COARSE == 0
    ]


def next_windows(
    known: dict[tuple[int, int], float], cells: int, count: int
) -> list[tuple[int, int]]:
    """Return the windows to score next: far from any scored one, where scores around differ.

    Args:
        known: scored windows.
        cells: windows along each side.
        count: how many.
    """
    places = np.array(list(known), float)
    falls = np.array(list(known.values()))
    every = np.indices((cells, cells)).reshape(2, -1).T
    apart, near = cKDTree(places).query(every, k=range(1, min(NEIGHBOURS, len(places)) + 1))
    moved = np.ptp(np.arcsinh(falls / _ordinary(falls))[near], axis=1)
    # 1e-9: where nothing moves at all, distance still decides.
    worth = (moved + 1e-9) * apart[:, 0] ** 2
    chosen: list[tuple[int, int]] = []
    crowded: list[tuple[int, int]] = []
    for index in np.argsort(-worth, kind="stable"):
        cell = (int(every[index, 0]), int(every[index, 1]))
        if cell in known:
            continue
        touches = any(max(abs(cell[0] - r), abs(cell[1] - c)) <= 1 for r, c in chosen)
        (crowded if touches else chosen).append(cell)
        if len(chosen) == count:
            break
    return (chosen + crowded)[:count]


def interpolated(known: dict[tuple[int, int], float], cells: int) -> np.ndarray:
    """Return (cells, cells): scored windows as they are, the others between their neighbours."""
    places = np.array(list(known), float)
    falls = np.array(list(known.values()))
    every = np.indices((cells, cells)).reshape(2, -1).T.astype(float)
    scale = 3 * _ordinary(falls)
    smooth = RBFInterpolator(places, np.arcsinh(falls / scale), kernel="linear")(every)
    filled = scale * np.sinh(smooth).reshape(cells, cells)
    filled[tuple(places.astype(int).T)] = falls
    return filled


def _ordinary(falls: np.ndarray) -> float:
    """Return the median size of the falls, above 0."""
    return float(np.median(np.abs(falls))) or float(np.abs(falls).max()) or 1.0
