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

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from workbench.errors import InputError, OptionError
from workbench.saliency.curves import Curve, deletion, insertion
from workbench.saliency.priors import centre_prior, lung_prior
from workbench.trace import ImageMap

__all__ = [
    "PARTS",
    "RANDOMISED_LIMIT",
    "Curve",
    "box_mask",
    "centre_prior",
    "completeness",
    "deletion",
    "energy",
    "insertion",
    "lung_prior",
    "overlap",
    "pointing",
    "randomised",
    "similarity",
]

#: A map passes the randomisation check while the size of its rank correlation stays below this.
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
    """Return the share of each cell under a mask, above 0 wherever a pixel of it lies.

    Raises:
        InputError: the mask is of another size, or nothing of it was seen.
    """
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

    A cell belongs to the mask when half of it is covered; where no cell is, every touched one. A
    map without any spread has no greatest cells and overlaps nothing.
    """
    cover = _cover(image_map, mask)
    if np.ptp(image_map.values) == 0:
        return 0.0
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
    if getattr(model.network, "is_quantized", False):
        raise InputError("quantised weights cannot be randomised; load the model without quantize")
    modules = {
        "language": (model.decoder, model.head),
        "projector": (model.projector,),
        "vision": (model.vision,),
    }
    chosen = [
        parameter
        for part in parts
        for module in modules[part]
        for parameter in module.parameters()
        if parameter.ndim > 1
    ]
    with model.exclusive(), model.other_weights():
        kept = [parameter.detach().clone() for parameter in chosen]
        try:
            with torch.no_grad():
                for number, parameter in enumerate(chosen):
                    _fill_with_noise(parameter, seed * 100_003 + number)
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(chosen, kept, strict=True):
                    parameter.copy_(value)


def _fill_with_noise(parameter: torch.Tensor, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(parameter.shape, generator=generator)
    value = parameter.float()
    parameter.copy_((noise * value.std().cpu() + value.mean().cpu()).to(parameter))
