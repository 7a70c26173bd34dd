"""Counterfactual: put a region back to normal, and see what the report then says.

A map claims that a place matters; here the place is changed and the claim tested. For a phantom the
truth is known: it is drawn again without the finding. In any other radiograph the region is painted
over, which is a guess at what lies behind it and can be a finding of its own: smooth skin over a
nodule is right, smooth skin over a collapsed lung is not.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter
from scipy.sparse import csr_array, diags_array, eye_array, kronsum
from scipy.sparse.linalg import spsolve

from workbench._repr import short_repr
from workbench.backends.levels import READER, needs
from workbench.errors import InputError, OptionError, check_one_of
from workbench.figures.numbers import fixed
from workbench.figures.saliency import draw_pair
from workbench.figures.tables import html_table
from workbench.findings import standard_name
from workbench.generation import Generation
from workbench.phantom import Phantom
from workbench.radiograph import Radiograph
from workbench.reports import label, sentences
from workbench.saliency.scorer import Scorer, Target, make_target
from workbench.trace import Selection, Trace

#: Ways to paint a region over; noise has the mean and the spread of the image.
FILLS = ("inpaint", "blur", "noise")

#: What can be written twice: methods of a model.
TASKS = ("report", "differential")


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """A radiograph, the same without a finding, and what a model reports of both.

    Attributes:
        before, after: the report of the image as it was, and of the changed image.
        region: boolean (H, W), what was changed.
        how: "phantom truth", "inpaint", "blur" or "noise".
        target: what the scores are of.
        score_before, score_after: of both images, natural log units.
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
    def codes(self) -> dict[str, tuple[str, str]]:
        """finding -> (code before, code after), of every finding that either report names."""
        first, second = label(self.before.text), label(self.after.text)
        names = dict.fromkeys(row.finding for row in (*first.rows, *second.rows))
        return {name: (first.code(name), second.code(name)) for name in names}

    @property
    def changes(self) -> dict[str, tuple[str, str]]:
        """finding -> (code before, code after), where they differ."""
        return {name: codes for name, codes in self.codes.items() if codes[0] != codes[1]}

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding named in either report: code before, after, changed."""
        rows = [(name, *codes, name in self.changes) for name, codes in self.codes.items()]
        return pd.DataFrame(rows, columns=["finding", "before", "after", "changed"])

    def plot(self) -> Figure:
        """Draw both images, what is said differently of each, and the findings that changed."""
        told, same = _told_apart(self.before.text, self.after.text)
        changed = (f"{name}: {old} \u2192 {new}" for name, (old, new) in self.changes.items())
        moved = "fell" if self.effect >= 0 else "rose"
        before, after = (fixed(s, 1, sign=True) for s in (self.score_before, self.score_after))
        return draw_pair(
            (self.image.pixels, self.changed.pixels),
            (f"before: target {before}", f"after: {after}, {moved} by {abs(self.effect):.1f}"),
            told,
            region=self.region,
            headline="; ".join(changed) or "no finding changed its code",
            note=(
                f"{self.target} \u00b7 outline: the region put back to normal by {self.how} "
                f"\u00b7 {same} sentence{'s' if same != 1 else ''} alike in both"
            ),
        )

    def _repr_html_(self) -> str:
        rows = [(name, *codes) for name, codes in self.changes.items()]
        return (
            f"<p><b>{escape(self.how)}</b>: {escape(self.target)} fell by {self.effect:.2f}</p>"
            f"<p>before: {escape(self.before.text)}</p><p>after: {escape(self.after.text)}</p>"
            + html_table(["finding", "before", "after"], rows)
        )


@needs(READER)
def counterfactual(
    trace: Trace,
    phrase: str | Selection | None = None,
    *,
    finding: str | None = None,
    phantom: Phantom | None = None,
    mask: np.ndarray | None = None,
    contrast: str | None = None,
    fill: str = "inpaint",
) -> Counterfactual:
    """Put a region back to normal and let the model report again.

    Args:
        phrase, contrast: what is scored instead of the finding; see `explain`.
        finding: what is taken away from the phantom, and, without a phrase, what is scored.
        phantom: the phantom behind the trace; it is drawn again without the finding.
        mask: boolean (H, W), the region to paint over instead; see `checks.box_mask` for boxes.
        fill: "inpaint" (the smoothest surface that meets the edge of the region), "blur" or
            "noise".

    Raises:
        OptionError: neither or both of phantom and mask, an unknown fill, or a trace of anything
            but a report or a differential.
        InputError: the trace is of another image, or the mask is empty or of another size.

    >>> found = wb.saliency.counterfactual(trace, finding="pleural effusion", phantom=case)
    >>> found.region.shape
    (256, 256)
    """
    trace.need_model()
    if trace.generation.task not in TASKS:
        raise OptionError(
            f"a counterfactual is told as a report or a differential, and the trace is of a "
            f"{trace.generation.task}; trace one of those"
        )
    if phantom is not None and mask is None:
        region, changed, how = _redrawn(trace, phantom, finding)
    elif mask is not None and phantom is None:
        region, how = np.asarray(mask) > 0, fill
        changed = painted(trace.image, region, fill)
    else:
        raise OptionError("give either the phantom and its finding, or a mask of the image")
    target = make_target(trace, phrase, contrast, finding=finding if phrase is None else None)
    scorer = Scorer(trace, target)
    pixels = scorer.model.processor(changed, trace.layout.geometry.fit)[None]
    before, after = float(scorer.scores(scorer.base)[0]), scorer.of_image(pixels)
    # the same kind of text with the same decoding settings, seed included
    write = getattr(trace.need_model(), trace.generation.task)
    again = write(changed, settings=trace.generation.settings)
    return Counterfactual(
        trace.generation, again, trace.image, changed, region, how, target.name, before, after
    )


def _told_apart(before: str, after: str) -> tuple[list[list[str]], int]:
    """Return the lines of each text that the other does not have, and how many both have."""
    both = [[" ".join(s.text.split()) for s in sentences(text)] for text in (before, after)]
    same = [sentence for sentence in both[0] if sentence in both[1]]
    told = []
    for own in both:
        lines = textwrap.wrap(" ".join(s for s in own if s not in same) or "(the same words)", 56)
        told.append(lines if len(lines) <= 6 else [*lines[:5], lines[5][:50] + " ..."])
    return told, len(same)


def _redrawn(
    trace: Trace, phantom: Phantom, finding: str | None
) -> tuple[np.ndarray, Radiograph, str]:
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


@needs(READER)
def rests_on(trace: Trace, target: Target, region: np.ndarray, *, seed: int = 0) -> bool | None:
    """Tell whether what a model says rests on a region, boolean (H, W) of the image.

    It does where the target is likelier than its contrast, painting the region over turns that
    round in every way of `FILLS`, and painting as much of the image elsewhere, the region moved to
    a place drawn by `seed`, does in none. None where the region cannot be moved off itself.

    >>> target = wb.saliency.finding_target(trace, "pleural effusion")
    >>> wb.saliency.rests_on(trace, target, case.masks["pleural effusion"]) in (True, False, None)
    True
    """
    elsewhere = _moved(region, np.random.default_rng(seed))
    if elsewhere is None:
        return None
    scorer, fit = Scorer(trace, target), trace.layout.geometry.fit

    def likelier(image: Radiograph) -> bool:
        return scorer.of_image(scorer.model.processor(image, fit)[None]) > 0

    return (
        likelier(trace.image)
        and not any(likelier(painted(trace.image, region, fill)) for fill in FILLS)
        and all(likelier(painted(trace.image, elsewhere, fill)) for fill in FILLS)
    )


def _moved(region: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Return the region at another place where it does not touch itself; None where none is."""
    (top, bottom), (left, right) = ((at.min(), at.max() + 1) for at in np.nonzero(region))
    rows, columns = region.shape[0] - (bottom - top), region.shape[1] - (right - left)
    for y, x in zip(rng.integers(0, rows + 1, 64), rng.integers(0, columns + 1, 64), strict=True):
        moved = np.roll(region, (y - top, x - left), (0, 1))
        if not (moved & region).any():
            return moved
    return None


def painted(image: Radiograph, region: np.ndarray, fill: str) -> Radiograph:
    """Return a radiograph whose region, boolean (H, W), is painted over by one of `FILLS`.

    Raises:
        InputError: the region is empty, all of the image, or of another size.
        OptionError: the fill is unknown.
    """
    pixels = image.pixels
    if region.shape != pixels.shape or not region.any() or region.all():
        raise InputError(
            f"the mask must be {pixels.shape}, like the image, and cover a part of it; got "
            f"{region.shape} with {int(region.sum())} pixels"
        )
    check_one_of("fill", fill, FILLS)
    if fill == "inpaint":
        changed = inpaint(pixels, region)
    elif fill == "blur":
        soft = gaussian_filter(pixels, 0.08 * max(pixels.shape), mode="nearest")
        changed = np.where(region, soft, pixels)
    else:
        grain = np.random.default_rng(0).standard_normal(pixels.shape, np.float32)
        changed = np.where(region, pixels.mean() + pixels.std() * grain, pixels)
    return Radiograph(np.clip(changed, 0, 1), image.contract)


def inpaint(pixels: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Fill a region with the surface that has no bumps of its own (Laplace's equation).

    In the region, boolean (H, W) and not everywhere True, every pixel becomes the mean of its
    neighbours, float32.
    """
    filled = np.array(pixels, np.float32)
    edges = [(max(at.min() - 1, 0), at.max() + 2) for at in np.nonzero(region)]
    around = tuple(slice(*edge) for edge in edges)
    inside, part = region[around], filled[around]
    lines = (eye_array(n, k=1) + eye_array(n, k=-1) for n in inside.shape[::-1])
    neighbours = csr_array(kronsum(*lines))[inside.ravel()]
    matrix = diags_array(neighbours.sum(1)) - neighbours[:, inside.ravel()]
    known = neighbours[:, ~inside.ravel()] @ part[~inside].astype(float)
    part[inside] = np.asarray(spsolve(matrix.tocsc(), known))
    return filled
