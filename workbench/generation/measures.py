"""How two arrays are compared: exactly, within a tolerance, by relative error, tie-aware.

Does not know: what the arrays are; `parity` chooses the measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Difference:
    """The outcome of one comparison.

    Attributes:
        value: the difference in the unit of `measure`; NaN where there is nothing to compare.
        tolerance: what is allowed; None where nothing is demanded.
        ok: whether the difference is within it.
        measure: "max abs", "relative rms", "exact", ...
        note: what a person should know, empty when all is well.
    """

    value: float
    tolerance: float | None
    ok: bool
    measure: str = "max abs"
    note: str = ""


def failed(note: str) -> Difference:
    """Return a comparison that could not be made."""
    return Difference(float("nan"), 0.0, False, "none", note)


def close(ours, theirs, atol: float, rtol: float = 0.0) -> Difference:
    """Compare element by element: |ours - theirs| <= atol + rtol * |theirs|.

    The tolerance given back is that of the element that is nearest to (or farthest beyond) it.
    """
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        return failed(f"shape {ours.shape}, expected {theirs.shape}")
    if not ours.size:
        return failed("the array is empty")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return failed("values that are not finite")
    difference = np.abs(ours - theirs)
    allowed = atol + rtol * np.abs(theirs)
    ok = bool((difference <= allowed).all())
    worst = float(allowed.flat[int(np.argmax(difference - allowed))])
    return Difference(float(difference.max()), worst, ok)


def mostly_close(ours, theirs, atol: float, small: float, fraction: float) -> Difference:
    """Compare element by element; more than `small` apart may be at most `fraction` of them."""
    base = close(ours, theirs, atol)
    if not base.ok:
        return base
    apart = float((np.abs(np.asarray(ours) - np.asarray(theirs)) > small).mean())
    note = f"{100 * apart:.1f} % differ"
    return Difference(base.value, atol, apart <= fraction, "max abs", note)


def relative_rms(ours, theirs, tolerance: float, least_cosine: float | None = None) -> Difference:
    """Compare by root mean square error over root mean square, and optionally by cosine."""
    ours, theirs = np.asarray(ours, np.float64).ravel(), np.asarray(theirs, np.float64).ravel()
    if ours.shape != theirs.shape:
        return failed(f"{ours.size} values, expected {theirs.size}")
    norm = float(np.linalg.norm(theirs))
    error = float(np.linalg.norm(ours - theirs)) / norm if norm else float("inf")
    cosine = float(ours @ theirs) / (norm * float(np.linalg.norm(ours)) or 1.0)
    ok = error <= tolerance and (least_cosine is None or cosine >= least_cosine)
    note = "" if least_cosine is None else f"cosine {cosine:.4f}, at least {least_cosine} wanted"
    return Difference(error, tolerance, ok, "relative rms", note)


def same_sequence(ours: Sequence, theirs: Sequence) -> Difference:
    """Compare ids or pieces: the value is how many places differ."""
    ours, theirs = list(ours), list(theirs)
    wrong = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b]
    count = len(wrong) + abs(len(ours) - len(theirs))
    note = ""
    if count:
        first = wrong[0] if wrong else min(len(ours), len(theirs))
        note = f"first difference at {first}; {len(ours)} values, expected {len(theirs)}"
    return Difference(float(count), 0.0, count == 0, "places", note)


def same(ours, theirs) -> Difference:
    """Compare two values or texts: the value is 0 or 1."""
    equal = ours == theirs
    note = "" if equal else f"got {_short(ours)}, expected {_short(theirs)}"
    return Difference(float(not equal), 0.0, bool(equal), "exact", note)


def same_numbers(ours: float, theirs: float) -> Difference:
    """Compare two whole numbers: the value is their distance."""
    if isinstance(theirs, (int, float)) and isinstance(ours, (int, float)):
        note = "" if ours == theirs else f"got {ours}, expected {theirs}"
        return Difference(float(abs(ours - theirs)), 0.0, ours == theirs, "exact", note)
    return same(ours, theirs)


def top_values(logits: np.ndarray, ids: np.ndarray, rtol: float, atol: float) -> Difference:
    """Check that `ids` are the largest entries of each row, in order, ties within a tolerance.

    Args:
        logits: (T, V) ours.
        ids: (T, k) or (T,) the reference's, largest first.
        rtol, atol: how far our logit at the reference's id may lie below our own k-th largest.
    """
    ids = np.asarray(ids).reshape(len(ids), -1).astype(np.int64)
    if len(logits) < len(ids):
        return failed(f"{len(logits)} positions, expected {len(ids)}")
    if not ids.size or ids.min() < 0 or ids.max() >= logits.shape[-1]:
        return failed(f"the reference's ids are not all in [0, {logits.shape[-1]})")
    rows = np.asarray(logits[: len(ids)], np.float64)
    ours = -np.sort(-rows, axis=-1)[:, : ids.shape[1]]
    reached = np.take_along_axis(rows, ids, axis=-1)
    outcome = close(reached, ours, atol, rtol)
    swapped = int((np.argsort(-rows, axis=-1, kind="stable")[:, : ids.shape[1]] != ids).sum())
    note = f"{swapped} of {ids.size} ids differ" if swapped else ""
    return Difference(outcome.value, outcome.tolerance, outcome.ok, "logit of the id", note)


def agreement(ours: Sequence, theirs: Sequence) -> Difference:
    """Say how many leading places agree, and demand nothing."""
    count = 0
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            break
        count += 1
    longest = max(len(ours), len(theirs))
    note = f"informative: the first {count} of {len(theirs)} agree"
    return Difference(float(longest - count), None, True, "places", note)


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
