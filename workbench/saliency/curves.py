"""Deletion and insertion: does the target follow the map when the film is taken away or put back?

Paper: Petsiuk et al., RISE, BMVC 2018, arXiv 1806.07421.
Deviations: the target is a log-probability or a difference of two, so areas are in its units and
not in [0, 1]; beside each curve stands one in random order, and the gain over it is what counts.

Does not know: how maps are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench._repr import short_repr
from workbench.errors import OptionError
from workbench.saliency.gradients import baseline_pixels
from workbench.trace import ImageMap

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


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
    """Return a curve.

    Args:
        scorer: the target.
        image_map: whose order is tried.
        kind: "deletion" or "insertion".
        steps: parts of the curve; it has one point more.
        fill: what the film is replaced by; see `baseline_pixels`.
        seed: of the random order.

    Raises:
        OptionError: there is no step, or fill is unknown.
    """
    if steps < 1:
        raise OptionError(f"a curve needs steps >= 1, got {steps}")
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
