"""Counterfactual: put a region back to normal, and see what the report then says.

A map claims that a place matters; here the place is changed and the claim tested. For a phantom the
truth is known: the same chest is drawn again without the finding. In any other film the region is
painted over, which is a guess at what lies behind it and can be a finding of its own: smooth skin
over a nodule is right, smooth skin over a collapsed lung is not.

Does not know: whether a change of the text is a change for the better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve

from workbench._repr import short_repr
from workbench.errors import InputError, OptionError
from workbench.findings import standard_name
from workbench.generation import Generation
from workbench.radiograph import Radiograph
from workbench.reports import label
from workbench.saliency.scorer import Scorer
from workbench.saliency.target import Target, stated_target
from workbench.trace import Trace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FILLS = ("inpaint", "blur")

#: What can be told twice: methods of a model.
TASKS = ("report", "differential")


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """A film, the same film without a finding, and what a model says of both.

    Attributes:
        before: the report of the film as it was.
        after: the report of the changed film.
        image: the film as it was.
        changed: the changed film.
        region: boolean (H, W), what was changed.
        how: "phantom truth", "inpaint" or "blur".
        target: what the scores are of.
        score_before: score of the target for the film as it was, natural log units.
        score_after: the same for the changed film.
    """

    before: Generation
    after: Generation
    image: Radiograph
    changed: Radiograph
    region: np.ndarray
    how: str
    target: str
    score_before: float
    score_after: float

    __repr__ = short_repr

    @property
    def effect(self) -> float:
        """How much the target fell when the region was put back to normal, natural log units."""
        return self.score_before - self.score_after

    @property
    def changes(self) -> Mapping[str, tuple[str, str]]:
        """finding -> (code before, code after), where they differ."""
        first, second = label(self.before.text), label(self.after.text)
        names = dict.fromkeys(row.finding for row in (*first.rows, *second.rows))
        return {
            name: (first.code(name), second.code(name))
            for name in names
            if first.code(name) != second.code(name)
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding named in either report: code before, after, changed."""
        import pandas as pd

        first, second = label(self.before.text), label(self.after.text)
        names = list(dict.fromkeys(row.finding for row in (*first.rows, *second.rows)))
        before, after = ([labels.code(name) for name in names] for labels in (first, second))
        return pd.DataFrame(
            {
                "finding": names,
                "before": before,
                "after": after,
                "changed": [a != b for a, b in zip(before, after, strict=True)],
            }
        )

    def plot(self) -> Figure:
        """Draw both films, both reports and what changed."""
        from workbench.saliency.figure import plot_counterfactual

        return plot_counterfactual(self)

    def _repr_html_(self) -> str:
        from workbench.figures.tables import html_table

        rows = [(name, *codes) for name, codes in self.changes.items()]
        return (
            f"<p><b>{escape(self.how)}</b>: {escape(self.target)} fell by {self.effect:.2f}</p>"
            f"<p>before: {escape(self.before.text)}</p><p>after: {escape(self.after.text)}</p>"
            + html_table(["finding", "before", "after"], rows)
        )


def counterfactual(
    trace: Trace,
    *,
    finding: str | None = None,
    phantom: Any = None,
    mask: np.ndarray | None = None,
    phrase: str | None = None,
    contrast: str | None = None,
    fill: str = "inpaint",
) -> Counterfactual:
    """Put a region back to normal and let the model report again.

    Args:
        trace: a run with its model.
        finding: what is taken away from the phantom, and, without a phrase, what is scored.
        phantom: the drawn case behind the trace; it is drawn again without the finding.
        mask: boolean (H, W), the region to paint over instead; see `checks.box_mask` for boxes.
        phrase, contrast: what is scored instead of the finding; see `explain`.
        fill: "inpaint" (the smoothest surface that meets the edge of the region) or "blur".

    Raises:
        OptionError: neither or both of phantom and mask, an unknown fill, or a trace of anything
            but a report or a differential.
        InputError: the trace is of another image, or the mask is empty or of another size.
    """
    model = trace.need_model()
    _check_task(trace)
    if (phantom is None) == (mask is None):
        raise OptionError("give either the phantom and its finding, or a mask of the film")
    if phantom is not None:
        region, changed, how = _redrawn(trace, phantom, finding)
    else:
        region, changed, how = _painted(trace, mask, fill)
    named = finding if phrase is None else None
    target = stated_target(trace, phrase, finding=named, contrast=contrast)
    scores = _scores(trace, target, changed)
    return Counterfactual(
        before=trace.generation,
        after=_again(model, trace, changed),
        image=trace.image,
        changed=changed,
        region=region,
        how=how,
        target=target.name,
        score_before=scores[0],
        score_after=scores[1],
    )


def _check_task(trace: Trace) -> None:
    task = trace.generation.task
    if task not in TASKS:
        raise OptionError(
            f"a counterfactual is told as a report or a differential, and the trace is of a "
            f"{task}; trace one of those"
        )


def _again(model: Any, trace: Trace, changed: Radiograph) -> Generation:
    """Write the same kind of text with the same decoding settings, seed included."""
    return getattr(model, trace.generation.task)(changed, settings=trace.generation.settings)


def _redrawn(trace: Trace, phantom: Any, finding: str | None) -> tuple[np.ndarray, Radiograph, str]:
    if finding is None:
        raise OptionError("name the finding to take away, e.g. finding='pneumothorax'")
    there, here = trace.image.pixels, phantom.image.pixels
    if there.shape != here.shape or not np.allclose(there, here, atol=1 / 255):
        raise InputError(
            f"the trace is of {trace.image.contract.source!r}, the phantom is "
            f"{phantom.image.contract.source!r}; give the phantom that was traced"
        )
    name = standard_name(finding)
    without = phantom.without(name)
    return phantom.masks[name], without.image, "phantom truth"


def _painted(trace: Trace, mask: np.ndarray, fill: str) -> tuple[np.ndarray, Radiograph, str]:
    region = np.asarray(mask) > 0
    pixels = trace.image.pixels
    if region.shape != pixels.shape or not region.any() or region.all():
        raise InputError(
            f"the mask must be {pixels.shape}, like the film, and cover a part of it; got "
            f"{region.shape} with {int(region.sum())} pixels"
        )
    if fill not in FILLS:
        raise OptionError(f"fill must be one of {', '.join(FILLS)}; got {fill!r}")
    painted = inpaint(pixels, region) if fill == "inpaint" else _blurred(pixels, region)
    contract = trace.image.contract
    return region, Radiograph(np.clip(painted, 0, 1), contract), fill


def _blurred(pixels: np.ndarray, region: np.ndarray) -> np.ndarray:
    soft = gaussian_filter(pixels, 0.08 * max(pixels.shape), mode="nearest")
    return np.where(region, soft, pixels)


def inpaint(pixels: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Fill a region with the surface that has no bumps of its own (Laplace's equation).

    Args:
        pixels: (H, W).
        region: boolean (H, W), not everywhere True.

    Returns:
        (H, W) float32; equal to `pixels` outside; every inner pixel is the mean of its neighbours.
    """
    rows, columns = np.nonzero(region)
    number = np.full(region.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    entries, known = [], np.zeros(len(rows))
    neighbours = np.zeros(len(rows))
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        r, c = rows + down, columns + right
        inside = (r >= 0) & (r < region.shape[0]) & (c >= 0) & (c < region.shape[1])
        neighbours += inside
        own = np.flatnonzero(inside)
        other = number[r[own], c[own]]
        free = other >= 0
        entries.append((own[free], other[free]))
        known[own[~free]] += pixels[r[own[~free]], c[own[~free]]]
    first, second = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    size = len(rows)
    matrix = coo_matrix((-np.ones(len(first)), (first, second)), shape=(size, size)).tocsc()
    matrix.setdiag(neighbours)
    filled = np.array(pixels, np.float32)
    filled[rows, columns] = spsolve(matrix, known)
    return filled


def _scores(trace: Trace, target: Target, changed: Radiograph) -> tuple[float, float]:
    model = trace.need_model()
    scorer = Scorer(trace, target)
    fit = trace.layout.geometry.fit
    pixels = model.processor(changed, fit)[None]
    with scorer.model.exclusive():
        first = scorer.scores(scorer.base)
        second = scorer.scores(pixels)
    return float(first[0]), float(second[0])
