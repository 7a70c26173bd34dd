"""Boxes that a model wrote against true ones: IoU, precision, recall, pointing, what is off.

    found = [model.boxes(case.image, answer) for case, answer in ...]
    wb.evaluation.score_boxes(found, cases)

A box of a finding can only match a true box of that finding; one without a name matches any. Pairs
are chosen one to one, as many at or above the limit as there can be. Boxes of findings of which the
truth says nothing, or not where they are, are left out and counted: unknown is not negative.
Unusable boxes (`WrittenBoxes.unusable`) are false positives. Boxes of texts have no score to rank
them by, so there is no average precision.

Sources: Everingham et al., IJCV 2010 (IoU at 0.5); Zhang et al., IJCV 2018 (pointing). Deviation:
pairs are the best assignment, as there is no order of confidence. The diagnosis is this project's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.optimize import linear_sum_assignment

from workbench._repr import plain, result
from workbench.cases import Case, boxes_of
from workbench.errors import InputError
from workbench.evaluation.intervals import Estimate, grouped_weights, ratio
from workbench.figures.estimates import plot_rates
from workbench.figures.page import card, notes_html
from workbench.figures.tables import frame_table
from workbench.findings import ABSENT, PRESENT
from workbench.phantom.case import Phantom
from workbench.reports.boxes import ORDERS, PICTURES, BoxConvention, WrittenBoxes, within

Truth = Case | Phantom | Mapping[str, np.ndarray]

#: Numbers that stand for the far edge somewhere; None for pixels.
_FULLS = (1, 100, 1000, 1023, None)
#: A reading is said to fit better from this gain in mean IoU on, reaching so much, over so many
#: true boxes; at most so many images are read again.
_GAIN, _LEAST, _FEWEST, _MOST = 0.2, 0.3, 3, 200


@dataclass(frozen=True)
class BoxRow:
    """Scores of one finding, or of "all".

    Attributes:
        true, written: boxes.
        recall, precision: shares of true and of written boxes that have a partner.
        iou: mean over true boxes of the best IoU with a written one; 0 where there is none.
        pointing: share of written boxes whose centre lies in a true one.
    """

    name: str
    true: int
    written: int
    recall: Estimate
    precision: Estimate
    iou: Estimate
    pointing: Estimate


@result()
class BoxScores:
    """Boxes of texts against true ones.

    Attributes:
        rows: "all" first, then findings; intervals by resampling patients.
        images: with a text.
        left_out: written boxes of which it is not known whether they are right.
        limit: IoU from which two boxes are partners.
        diagnosis: what looks systematically wrong; empty where nothing does.
    """

    rows: tuple[BoxRow, ...] = field(repr=False)
    images: int
    left_out: int
    limit: float
    diagnosis: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each finding: counts, and each score with low and high."""
        return pd.DataFrame([
            {"finding": row.name, "true": row.true, "written": row.written}
            | row.recall.flat("recall") | row.precision.flat("precision")
            | row.iou.flat("iou") | row.pointing.flat("pointing")
            for row in self.rows
        ]).set_index("finding")  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return plain(asdict(self))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw precision and recall with their intervals."""
        rates = [
            (f"{r.name}, {n}", getattr(r, n)) for r in self.rows for n in ("recall", "precision")
        ]
        return plot_rates(rates, ax, xlabel=f"share of boxes with a partner at IoU {self.limit:g}")

    def _repr_html_(self) -> str:
        head = f"<p>{self.images:,} images, {self.left_out:,} boxes of unknown truth left out</p>"
        return card(notes_html("Diagnosis", self.diagnosis) + head + frame_table(self.to_frame()))


def score_boxes(
    found: Sequence[WrittenBoxes], truth: Sequence[Truth], *, limit: float = 0.5, seed: int = 0
) -> BoxScores:
    """Score boxes of texts against true ones, and say which convention would fit much better.

    Args:
        found: of one text for each image, from `model.boxes`.
        truth: of the same images: cases, phantoms, or finding -> (n, 4) left, top, right, bottom in
            original pixels, an empty array for what is absent.
        limit: IoU from which two boxes are partners.
        seed: of the resampling.

    Raises:
        InputError: there are not as many of both, or none.

    >>> written = model.boxes(image, "Pleural effusion [10, 20, 90, 80].", convention="pixels")
    >>> wb.evaluation.score_boxes([written], [case]).images
    1
    """
    if len(found) != len(truth) or not found:
        raise InputError(
            f"expected as many texts as truths, one or more; got {len(found)} and {len(truth)}"
        )
    known = [_known(one) for one in truth]
    names = ["all", *sorted({name for boxes, _ in known for name in boxes})]
    counts = np.zeros((len(found), len(names), 6))
    left_out = 0
    for at, (own, (boxes, unsaid)) in enumerate(zip(found, known, strict=True)):
        left_out += _count(counts[at], names, own, boxes, unsaid, limit)
    patients = [getattr(one, "patient", "") for one in truth]
    weights = grouped_weights(patients, np.random.default_rng(seed))
    rows = []
    for at, name in enumerate(names):
        true, hit, written, right, overlap, inside = counts[:, at].T
        if at and not true.any() and not written.any():
            continue
        rows.append(BoxRow(
            name, int(true.sum()), int(written.sum()), ratio(hit, true, weights),
            ratio(right, written, weights), ratio(overlap, true, weights),
            ratio(inside, written, weights),
        ))  # fmt: skip
    pairs = [(own, _stacked(boxes)) for own, (boxes, _) in zip(found, known, strict=True)]
    told = tuple(_diagnose([pair for pair in pairs if len(pair[0].raw) and len(pair[1])]))
    return BoxScores(tuple(rows), len(found), left_out, limit, told)


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the IoU (N, M) of boxes (N, 4) and (M, 4), left, top, right, bottom."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(0).prod(-1)
    sizes = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    return shared / np.maximum(sizes[0][:, None] + sizes[1] - shared, 1e-12)


def _known(truth: Truth) -> tuple[dict[str, np.ndarray], bool]:
    """Return what is known, finding -> (n, 4), and whether something is somewhere unknown."""
    if isinstance(truth, Mapping):
        return {name: np.reshape(box, (-1, 4)).astype(float) for name, box in truth.items()}, False
    boxes = truth.boxes if isinstance(truth, Case) else boxes_of(truth.masks)
    absent = {n: np.zeros((0, 4)) for n, code in truth.labels.items() if code == ABSENT}
    present = {n for n, code in truth.labels.items() if code == PRESENT}
    return absent | dict(boxes), bool(present - set(boxes))


def _stacked(boxes: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros((0, 4)), *boxes.values()])


def _count(
    counts: np.ndarray, names: list[str], own: WrittenBoxes, truth: Mapping[str, np.ndarray],
    unsaid: bool, limit: float,
) -> int:  # fmt: skip
    """Fill (names, 6) true, hit, written, right, overlap, inside; return boxes left out."""
    true = _stacked(truth)
    of = np.array([name for name, boxes in truth.items() for _ in boxes], object)
    by = np.array(own.findings, object)
    may = (by[:, None] == of) | (by[:, None] == "")
    shared = np.where(may, overlaps(own.boxes, true), 0)
    first, second = linear_sum_assignment((shared >= limit) + 1e-3 * shared, maximize=True)
    keep = shared[first, second] >= limit
    right, hit = np.isin(np.arange(len(by)), first[keep]), np.isin(np.arange(len(of)), second[keep])
    middle = (own.boxes[:, :2] + own.boxes[:, 2:]) / 2
    inside = (middle[:, None] >= true[None, :, :2]) & (middle[:, None] <= true[None, :, 2:])
    inside = (inside.all(-1) & may).any(1)
    judged = np.array([name in truth or (not name and not unsaid) for name in by], bool) | right
    best = shared.max(0, initial=0)
    for at, name in enumerate(names):
        mine, written = (of == name) | (at == 0), ((by == name) | (at == 0)) & judged
        counts[at] = (
            mine.sum(), (hit & mine).sum(), written.sum(), (right & written).sum(),
            best[mine].sum(), (inside & written).sum(),
        )  # fmt: skip
    counts[0, 2] += own.unusable
    return int((~judged).sum())


Pairs = Sequence[tuple[WrittenBoxes, np.ndarray]]


def _diagnose(pairs: Pairs) -> Iterator[str]:
    """Yield what would fit much better: another reading of the numbers, or a shift."""
    pairs = pairs[:_MOST]
    total = sum(len(true) for _, true in pairs)
    if total < _FEWEST:
        return
    own = _fit(pairs, lambda one: one.boxes)
    best, what = own, ""
    for said, read in _readings(pairs):
        fit = _fit(pairs, read)
        if fit > best + 1e-3:
            best, what = fit, said
    if best >= max(own + _GAIN, _LEAST):
        yield (
            f"boxes fit much better when {what}: mean IoU {best:.2f} instead of {own:.2f} over "
            f"{total:,} true boxes, names aside; if that is how the model writes, say it with "
            "convention="
        )
        return
    away = np.concatenate([_away(one.boxes, true) for one, true in pairs])
    shift = np.median(away, 0) if len(away) >= _FEWEST else np.zeros(2)
    moved = _fit(pairs, lambda one: one.boxes - np.tile(shift, 2))
    if moved >= max(own + _GAIN / 2, _LEAST):
        yield (
            f"boxes are shifted by {shift[0]:+.0f} pixels across and {shift[1]:+.0f} down in the "
            f"median: moved back, mean IoU is {moved:.2f} instead of {own:.2f}"
        )


def _readings(pairs: Pairs) -> Iterator[tuple[str, Any]]:
    """Yield other readings of the numbers, those that change least first."""

    def read(convention: BoxConvention, sizes: bool = False) -> Any:
        def boxes(one: WrittenBoxes) -> np.ndarray:
            raw = np.where(np.isfinite(one.raw), one.raw, -1e9)
            if sizes:
                raw = np.hstack((raw[:, :2], raw[:, :2] + raw[:, 2:]))
            return within(convention.to_original(raw, one.image.size, one.processed),
                          one.image.size)[0]  # fmt: skip

        return boxes

    stated = pairs[0][0].convention
    assert stated is not None  # numbers were read
    made = [one.processed for one, _ in pairs]
    yield "the last two numbers are width and height", read(stated, sizes=True)
    others = []
    for full in _FULLS:
        for order in ORDERS:
            for of in PICTURES:
                if of == "processed" and any(
                    p is None or (full is None and p.pixels is None) for p in made
                ):
                    continue
                other = replace(stated, full=full, order=order, of=of)
                changed = [n for n in ("order", "full", "of")
                           if getattr(other, n) != getattr(stated, n)]  # fmt: skip
                others.append((len(changed), _words(other, changed), read(other)))
    yield from ((said, how) for n, said, how in sorted(others, key=lambda one: one[0]) if n)


def _words(convention: BoxConvention, changed: Sequence[str]) -> str:
    unit = "pixels" if convention.full is None else f"0 to {convention.full:g}"
    said = {
        "order": f"their order is read as {convention.order} (x and y swapped)",
        "full": f"their numbers are read as {unit}",
        "of": f"they are read as places in the {convention.of} picture",
    }
    return " and ".join(said[name] for name in changed)


def _fit(pairs: Pairs, read: Callable[[WrittenBoxes], np.ndarray]) -> float:
    """Return the mean over true boxes of the best IoU with any written one."""
    return float(np.mean(np.concatenate(
        [overlaps(read(one), true).max(0, initial=0) for one, true in pairs]
    )))  # fmt: skip


def _away(boxes: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return (n, 2): how far the nearest written box lies from each true one, in pixels."""
    if not len(boxes):
        return np.zeros((0, 2))
    middles = [(b[:, :2] + b[:, 2:]) / 2 for b in (boxes, true)]
    apart = middles[0][:, None] - middles[1]
    nearest = np.linalg.norm(apart, axis=-1).argmin(0)
    return apart[nearest, np.arange(len(true))]
