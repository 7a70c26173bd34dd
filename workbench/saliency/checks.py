"""Do the maps tell the truth? Scores of an ImageMap against masks, boxes, and the model itself.

Against the truth (cells of the map's own grid, so a map is never blamed for being coarse):
- pointing: the greatest cell touches the mask (Zhang et al., IJCV 2018, arXiv 1608.00507; the
  paper's tolerance of 15 pixels is one cell here);
- energy: share of the positive sum that lies inside (Wang et al., Score-CAM, CVPRW 2020,
  arXiv 1910.01279);
- overlap: IoU of the mask with as many of the greatest cells as the mask has.

Against the model:
- completeness: does the sum equal what the target changed by (Sundararajan et al. 2017);
- randomisation: does the map change when the weights are replaced by noise (Adebayo et al., NeurIPS
  2018, arXiv 1810.03292); one that does not is a picture of the image, not of the model;
- deletion and insertion: does the score fall when the film is taken away from the greatest cell on,
  and rise when it is put back (Petsiuk et al., BMVC 2018, arXiv 1806.07421).

Baselines that any method must beat: a fixed map of where lungs are, a fixed map of the middle.
Does not know: methods.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import spearmanr

from workbench.errors import InputError, OptionError
from workbench.generation.kvcache import PrefixCache
from workbench.saliency.gradients import baseline_pixels
from workbench.trace import ImageMap

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: A map passes the randomisation check while its mean rank correlation stays below this.
RANDOMISED_LIMIT = 0.5

#: Parts whose weights can be replaced by noise, from the output back to the input.
PARTS = ("language", "projector", "vision")


def box_mask(shape: tuple[int, int], boxes: list[tuple[float, float, float, float]]) -> np.ndarray:
    """Return a boolean (H, W) mask of boxes (left, top, right, bottom) in original pixels.

    Raises:
        InputError: a box is empty or does not touch the image.
    """
    mask = np.zeros(shape, bool)
    for left, top, right, bottom in boxes:
        rows = slice(max(int(np.floor(top)), 0), max(int(np.ceil(bottom)), 0))
        columns = slice(max(int(np.floor(left)), 0), max(int(np.ceil(right)), 0))
        if not mask[rows, columns].size:
            raise InputError(
                f"box {(left, top, right, bottom)} covers no pixel of an image of {shape}; "
                "expected (left, top, right, bottom) in pixels"
            )
        mask[rows, columns] = True
    return mask


def _cover(image_map: ImageMap, mask: np.ndarray) -> np.ndarray:
    cover = image_map.cells_of(mask)
    if not cover.any():
        raise InputError(
            "the mask covers nothing that the model saw; check its size and the crop of the image"
        )
    return cover


def pointing(image_map: ImageMap, mask: np.ndarray) -> bool:
    """Return whether the greatest cell touches the mask; a map without any spread points nowhere.

    Args:
        image_map: the map.
        mask: boolean (H, W) of the original's size.

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
    total = image_map.positive.sum(dtype=np.float64)
    return float((image_map.positive * cover).sum(dtype=np.float64) / total) if total > 0 else 0.0


def overlap(image_map: ImageMap, mask: np.ndarray) -> float:
    """Return IoU of the mask's cells with as many of the greatest cells, in [0, 1].

    A cell belongs to the mask when half of it is covered; where no cell is, every touched one.
    """
    cover = _cover(image_map, mask)
    inside = cover >= 0.5 if (cover >= 0.5).any() else cover > 0
    order = np.argsort(-image_map.values, axis=None, kind="stable")[: inside.sum()]
    chosen = np.zeros(inside.size, bool)
    chosen[order] = True
    chosen = chosen.reshape(inside.shape)
    return float((chosen & inside).sum() / (chosen | inside).sum())


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
    difference = image_map.scores["difference"]
    return abs(image_map.scores["delta"]) / max(abs(difference), 1e-12)


def similarity(first: ImageMap, second: ImageMap) -> float:
    """Return the rank correlation (Spearman) of two maps on one grid; 0 where one is constant.

    Raises:
        InputError: the grids differ.
    """
    if first.grid != second.grid:
        raise InputError(
            f"maps of {first.grid} and {second.grid} cells cannot be compared; use one resolution"
        )
    if np.ptp(first.values) == 0 or np.ptp(second.values) == 0:
        return 0.0
    return float(spearmanr(first.values.ravel(), second.values.ravel()).statistic)


@contextmanager
def randomised(model: Any, parts: tuple[str, ...] = PARTS, *, seed: int = 0) -> Iterator[None]:
    """Replace a model's weight matrices by noise of the same mean and spread, then put them back.

    Args:
        model: a `ChestXrayModel`; nothing else may use it meanwhile.
        parts: "language" (with its head), "projector", "vision".
        seed: of the noise.

    Raises:
        OptionError: a part is unknown.
        InputError: the weights are quantised.
    """
    if unknown := set(parts) - set(PARTS):
        raise OptionError(f"parts are {', '.join(PARTS)}; got {sorted(unknown)[0]!r}")
    engine = model.responder.engine
    network = engine.model
    if getattr(network, "is_quantized", False):
        raise InputError("quantised weights cannot be randomised; load the model without quantize")
    modules = {
        "language": (network.llama, network.lm_head),
        "projector": (network.mm_projector,),
        "vision": (network.vision_tower,),
    }
    chosen = [
        parameter
        for part in parts
        for module in modules[part]
        for parameter in module.parameters()
        if parameter.ndim > 1
    ]
    with engine.exclusive():
        kept = [parameter.detach().clone() for parameter in chosen]
        prefixes, engine.prefixes = engine.prefixes, PrefixCache()
        try:
            with torch.no_grad():
                for number, parameter in enumerate(chosen):
                    _fill_with_noise(parameter, seed * 100_003 + number)
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(chosen, kept, strict=True):
                    parameter.copy_(value)
            engine.prefixes = prefixes


def _fill_with_noise(parameter: torch.Tensor, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(parameter.shape, generator=generator)
    value = parameter.float()
    parameter.copy_((noise * value.std().cpu() + value.mean().cpu()).to(parameter))


@dataclass(frozen=True, eq=False)
class Curve:
    """How the target changes while the film is taken away, or put back, from the greatest cell on.

    Attributes:
        kind: "deletion" or "insertion".
        method: of the map.
        target: of the map.
        share: (steps,) share of cells changed, 0 to 1.
        scores: (steps,) the target.
        random_scores: (steps,) the same in random order.
    """

    kind: str
    method: str
    target: str
    share: np.ndarray
    scores: np.ndarray
    random_scores: np.ndarray

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
        import pandas as pd

        return pd.DataFrame(
            {"share": self.share, "score": self.scores, "random_score": self.random_scores}
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the curve beside that of random order."""
        from workbench.saliency.figure import plot_curve

        return plot_curve(self, ax)


def deletion(scorer: Any, image_map: ImageMap, **options: Any) -> Curve:
    """Take the film away from the greatest cell on; see `_curve` for the options."""
    return _curve(scorer, image_map, "deletion", **options)


def insertion(scorer: Any, image_map: ImageMap, **options: Any) -> Curve:
    """Put the film back onto a blurred copy from the greatest cell on."""
    return _curve(scorer, image_map, "insertion", **options)


def _curve(
    scorer: Any,
    image_map: ImageMap,
    kind: str,
    *,
    steps: int = 20,
    fill: str = "blur",
    seed: int = 0,
) -> Curve:
    """Return a curve of `steps` + 1 points; `fill` as in `baseline_pixels`; `seed` of the order."""
    values = image_map.values.ravel()
    order = np.argsort(-values, kind="stable")
    shuffled = np.random.default_rng(seed).permutation(len(order))
    share = np.linspace(0, 1, steps + 1)
    counts = np.rint(share * len(order)).astype(int)
    film, blank = scorer.base, baseline_pixels(scorer, fill)
    start, end = (film, blank) if kind == "deletion" else (blank, film)
    images = []
    for sequence in (order, shuffled):
        for count in counts:
            changed = np.zeros(len(order), bool)
            changed[sequence[:count]] = True
            mask = torch.from_numpy(changed.reshape(image_map.grid))
            images.append(torch.where(_to_pixels(mask, film.shape[-1]).to(film.device), end, start))
    scores = scorer.scores(torch.cat(images)).numpy()
    return Curve(
        kind, image_map.method, image_map.target, share, scores[: steps + 1], scores[steps + 1 :]
    )


def _to_pixels(mask: torch.Tensor, side: int) -> torch.Tensor:
    """Return a (side, side) mask of the cells' pixels."""
    rows = torch.arange(side) * mask.shape[0] // side
    columns = torch.arange(side) * mask.shape[1] // side
    return mask[rows][:, columns]


def centre_prior(like: ImageMap) -> ImageMap:
    """Return the fixed map that is greatest in the middle of the image."""
    rows, columns = (np.linspace(-1, 1, n) for n in like.grid)
    values = np.exp(-2 * (rows[:, None] ** 2 + columns[None] ** 2))
    return _fixed(like, values, "centre prior")


def lung_prior(like: ImageMap) -> ImageMap:
    """Return the fixed map of where lungs are: the mean lung field of 48 phantoms.

    The phantoms are of seeds 0 to 47, whatever the image.
    """
    return _fixed(like, _mean_lungs(like.grid), "lung prior")


@cache
def _mean_lungs(grid: tuple[int, int]) -> np.ndarray:
    from workbench.phantom.case import phantom

    size = 128
    lungs = np.zeros((size, size))
    for seed in range(48):
        anatomy = phantom(seed, findings=[], size=size).anatomy
        lungs += anatomy["left lung"] | anatomy["right lung"]
    rows = np.linspace(0, size, grid[0] + 1).astype(int)
    columns = np.linspace(0, size, grid[1] + 1).astype(int)
    return np.array(
        [
            [lungs[a:b, c:d].mean() for c, d in itertools.pairwise(columns)]
            for a, b in itertools.pairwise(rows)
        ]
    )


def _fixed(like: ImageMap, values: np.ndarray, name: str) -> ImageMap:
    return ImageMap(
        values, like.geometry, like.image, name, like.target, layer="no layer", head="no head"
    )
