"""Do the maps tell the truth? Scores of an ImageMap against masks, boxes, and the model itself.

Against the truth (cells of the map's own grid, so a map is never blamed for being coarse):
- pointing: the greatest cell touches the mask (Zhang et al., IJCV 2018, arXiv 1608.00507; the
  paper's tolerance of 15 pixels is one cell here);
- energy: share of the positive sum that lies inside (Wang et al., Score-CAM, CVPRW 2020,
  arXiv 1910.01279);
- overlap: IoU of the mask with as many of the greatest cells as the mask has.

Against the model:
- completeness: does the sum equal what the target changed by (Sundararajan et al. 2017);
- randomisation: see `workbench.saliency.randomisation`;
- deletion and insertion: does the score fall when the image is taken away from the greatest cell
  on, and rise when it is put back (Petsiuk et al., RISE, BMVC 2018, arXiv 1806.07421). The target
  is a log-probability or a difference of two, so areas are in its units and not in [0, 1]; beside
  each curve stands one in random order, and the gain over it is what counts.

Baselines that any method must beat: a fixed map of where lungs are, a fixed map of the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from scipy.stats import spearmanr

from workbench._repr import short_repr
from workbench.errors import InputError, OptionError
from workbench.figures.saliency import draw_curve
from workbench.phantom import phantom
from workbench.saliency.gradients import baseline_pixels
from workbench.saliency.scorer import Scorer
from workbench.trace import ImageMap

#: Phantoms behind the lung prior.
_DRAWN = 48


def box_mask(shape: tuple[int, int], boxes: list[tuple[float, float, float, float]]) -> np.ndarray:
    """Return a boolean (H, W) mask of boxes (left, top, right, bottom) in original pixels.

    Raises:
        InputError: a box covers no pixel of the image.
    """
    mask = np.zeros(shape, bool)
    for left, top, right, bottom in boxes:
        rows, columns = (
            slice(max(int(np.floor(first)), 0), max(int(np.ceil(last)), 0))
            for first, last in ((top, bottom), (left, right))
        )
        if not mask[rows, columns].size:
            raise InputError(
                f"box {(left, top, right, bottom)} covers no pixel of an image of {shape}; "
                "expected (left, top, right, bottom) in pixels"
            )
        mask[rows, columns] = True
    return mask


def _cover(image_map: ImageMap, mask: np.ndarray) -> np.ndarray:
    """Return the share of each cell under a mask, above 0 wherever a pixel of it lies."""
    cover = image_map.cells_of(mask)
    # Sampling inside cells can step over a line that is one pixel wide; pixels are counted there.
    counted = np.minimum(_pixels_in_cells(image_map, np.asarray(mask) > 0), 1)
    cover = np.where(cover > 0, cover, counted)
    if not cover.any():
        raise InputError(
            "the mask covers nothing that the model saw; check its size and the crop of the image"
        )
    return cover


def _pixels_in_cells(image_map: ImageMap, mask: np.ndarray) -> np.ndarray:
    """Return the area of the mask's pixels whose middle lies in each cell, in cells."""
    geometry, (rows, columns) = image_map.geometry, image_map.grid
    middles = np.argwhere(mask)[:, ::-1] + 0.5
    x, y = geometry.to_model(middles).T / geometry.size
    area = np.prod(geometry.scale) / geometry.size**2 * rows * columns
    count, *_ = np.histogram2d(y, x, bins=(rows, columns), range=((0, 1), (0, 1)))
    return count * area


def pointing(image_map: ImageMap, mask: np.ndarray) -> bool:
    """Return whether the greatest cell touches the mask; a map without any spread points nowhere.

    `mask`, here and below, is boolean (H, W) of the original's size.

    Raises:
        InputError: the mask is empty, of another size, or lies outside what the model saw.
    """
    cover = _cover(image_map, mask)
    if np.ptp(image_map.values) == 0:
        return False
    return bool(cover[image_map.peak_cell] > 0)


def energy(image_map: ImageMap, mask: np.ndarray) -> float:
    """Return the share of the positive sum that lies inside the mask, in [0, 1]; 0 without any."""
    cover = _cover(image_map, mask)
    positive = np.maximum(image_map.values, 0)
    total = positive.sum(dtype=np.float64)
    return float((positive * cover).sum(dtype=np.float64) / total) if total > 0 else 0.0


def _inside(image_map: ImageMap, mask: np.ndarray) -> np.ndarray:
    """Return the cells that are half covered by a mask; where none is, those that it touches."""
    cover = _cover(image_map, mask)
    return cover >= 0.5 if (cover >= 0.5).any() else cover > 0


def overlap(image_map: ImageMap, mask: np.ndarray) -> float:
    """Return IoU of the mask's cells with as many of the greatest cells, in [0, 1].

    A cell belongs to the mask when half of it is covered; where no cell is, every touched one. A
    map without any spread has no greatest cells and overlaps nothing.
    """
    inside = _inside(image_map, mask)
    if np.ptp(image_map.values) == 0:
        return 0.0
    order = np.argsort(-image_map.values, axis=None, kind="stable")[: inside.sum()]
    chosen = np.zeros(inside.shape, bool)
    chosen.flat[order] = True
    return float((chosen & inside).sum() / (chosen | inside).sum())


def at_quantile(image_map: ImageMap, mask: np.ndarray, quantile: float) -> tuple[float, float]:
    """Return IoU and F1, in [0, 1], of the mask with the cells above a quantile of the map.

    The cells of the mask are those of `overlap`, which takes as many cells as the mask has: there
    the size of the truth is given away, here it is not. Every map of one grid marks equally many
    cells: those that tie for the last places share them, each counting for an equal part of a cell.
    A map without any spread marks nothing.
    """
    inside, values = _inside(image_map, mask), image_map.values
    if np.ptp(values) == 0:
        return 0.0, 0.0
    count = values.size - 1 - int(quantile * (values.size - 1))
    last = np.sort(values, axis=None)[-count] if count else np.inf
    above, tied = values > last, values == last
    share = (count - above.sum()) / max(tied.sum(), 1)
    both = float((above & inside).sum() + share * (tied & inside).sum())
    either = count + int(inside.sum()) - both
    return both / either, 2 * both / (both + either)


def completeness(image_map: ImageMap) -> float:
    """Return |sum - difference| / |difference| of a map that promises to be complete.

    Raises:
        InputError: the map's method makes no such promise.
    """
    if "difference" not in image_map.scores:
        raise InputError(
            f"{image_map.method} does not promise that its values sum to the target's difference; "
            "completeness is for integrated gradients"
        )
    return abs(image_map.scores["delta"]) / max(abs(image_map.scores["difference"]), 1e-12)


def similarity(first: ImageMap, second: ImageMap) -> float | None:
    """Return the rank correlation (Spearman) of two maps on one grid; None where one is constant.

    Raises:
        InputError: the grids differ.
    """
    if first.grid != second.grid:
        raise InputError(
            f"maps of {first.grid} and {second.grid} cells cannot be compared; use one resolution"
        )
    if np.ptp(first.values) == 0 or np.ptp(second.values) == 0:
        return None
    found = cast("Any", spearmanr(first.values.ravel(), second.values.ravel()))
    return float(found.statistic)


def centre_prior(like: ImageMap) -> ImageMap:
    """Return the fixed map that is greatest in the middle of the image."""
    rows, columns = (np.linspace(-1, 1, n) for n in like.grid)
    values = np.exp(-2 * (rows[:, None] ** 2 + columns[None] ** 2))
    return _fixed(like, values, "centre prior")


def lung_prior(like: ImageMap) -> ImageMap:
    """Return the fixed map of where lungs are: the share of phantoms 0 to 47 with lung there."""
    return _fixed(like, _mean_lungs(like.grid), "lung prior")


@cache
def _mean_lungs(grid: tuple[int, int]) -> np.ndarray:
    size = 128
    drawn = (phantom(seed, findings=[], size=size).anatomy for seed in range(_DRAWN))
    lungs = np.mean([one["left lung"] | one["right lung"] for one in drawn], axis=0)
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


@dataclass(frozen=True, eq=False)
class Curve:
    """How the target changes while the image is taken away, or put back, from the greatest cell on.

    Attributes:
        kind: "deletion" or "insertion".
        share: (steps,) share of cells changed, 0 to 1.
        scores, random_scores: (steps,) the target, by the map and in random order.
    """

    kind: str
    method: str
    target: str
    share: np.ndarray
    scores: np.ndarray
    random_scores: np.ndarray

    __repr__ = short_repr

    @property
    def area(self) -> float:
        """Mean score along the curve: low is good for deletion, high for insertion."""
        return float(np.trapezoid(self.scores, self.share))

    @property
    def gain(self) -> float:
        """How much better than random order, in units of the target; above 0 is better."""
        random = float(np.trapezoid(self.random_scores, self.share))
        return random - self.area if self.kind == "deletion" else self.area - random

    def to_frame(self) -> pd.DataFrame:
        """Return one row per step: share, score, random_score."""
        return pd.DataFrame(
            {"share": self.share, "score": self.scores, "random_score": self.random_scores}
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the curve beside that of random order."""
        below = (self.kind == "deletion") == (self.gain >= 0)
        title = (
            f"{self.kind.capitalize()} by {self.method}:\n"
            f"on average {abs(self.gain):.1f} {'below' if below else 'above'} random order"
            f"{'' if self.gain >= 0 else ' (worse)'}"
        )
        done = "taken away" if self.kind == "deletion" else "put back"
        return draw_curve(
            self.share, self.scores, self.random_scores,
            method=self.method, title=title, done=done, note=self.target, ax=ax,
        )  # fmt: skip


def deletion(
    scorer: Scorer, image_map: ImageMap, *, steps: int = 20, fill: str = "blur", seed: int = 0
) -> Curve:
    """Take the image away from the greatest cell on, in so many steps.

    `fill` is what it is replaced by, see `baseline_pixels`; `seed` is of the random order.

    Raises:
        OptionError: there is no step, or fill is unknown.
    """
    return _curve("deletion", scorer, image_map, steps, fill, seed)


def insertion(
    scorer: Scorer, image_map: ImageMap, *, steps: int = 20, fill: str = "blur", seed: int = 0
) -> Curve:
    """Put the image back onto a blurred copy from the greatest cell on; see `deletion`."""
    return _curve("insertion", scorer, image_map, steps, fill, seed)


def _curve(
    kind: str, scorer: Scorer, image_map: ImageMap, steps: int, fill: str, seed: int
) -> Curve:
    if steps < 1:
        raise OptionError(f"a curve needs steps >= 1, got {steps}")
    order = np.argsort(-image_map.values, axis=None, kind="stable")
    shuffled = np.random.default_rng(seed).permutation(len(order))
    share = np.linspace(0, 1, steps + 1)
    counts = np.rint(share * len(order)).astype(int)
    whole, blank = scorer.base, baseline_pixels(scorer, fill)
    start, end = (whole, blank) if kind == "deletion" else (blank, whole)
    images = []
    for sequence in (order, shuffled):
        for count in counts:
            changed = np.zeros(image_map.grid, bool)
            changed.flat[sequence[:count]] = True
            mask = _to_pixels(torch.from_numpy(changed), whole.shape[-1])
            images.append(torch.where(mask.to(whole.device), end, start))
    scores = scorer.scores(torch.cat(images)).numpy()
    return Curve(
        kind, image_map.method, image_map.target, share, scores[: steps + 1], scores[steps + 1 :]
    )


def _to_pixels(mask: torch.Tensor, side: int) -> torch.Tensor:
    """Return a (side, side) mask of the cells' pixels."""
    rows = torch.arange(side) * mask.shape[0] // side
    columns = torch.arange(side) * mask.shape[1] // side
    return mask[rows][:, columns]
