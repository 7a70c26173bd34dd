"""How two values are compared: exactly, within a tolerance, by relative error, tie-aware.

Every measure returns a `ParityRow` that names no case and no array yet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np

from workbench.errors import CheckpointError

#: Stands where one of two sequences has come to its end.
_NOTHING = object()


@dataclass(frozen=True)
class ParityRow:
    """One comparison.

    Attributes:
        case: checkpoint, image and case, e.g. "A_tiny/grad_300x400/q1".
        max_abs_diff: the difference in the unit of `measure`; None where none could be computed.
        tolerance: what is allowed; None where nothing is demanded.
        measure: "max abs", "relative rms", "places", "exact", ...
    """

    case: str
    array: str
    max_abs_diff: float | None
    tolerance: float | None
    ok: bool
    measure: str = "max abs"
    note: str = ""


def outcome(
    value: float | None, tolerance: float | None, ok: bool, measure: str = "max abs", note: str = ""
) -> ParityRow:
    """Return a comparison; a difference that is not finite becomes None."""
    finite = value is not None and math.isfinite(value)
    return ParityRow("", "", value if finite else None, tolerance, ok, measure, note)


def failed(note: str, case: str = "", array: str = "") -> ParityRow:
    """Return a comparison that could not be made."""
    return ParityRow(case, array, None, 0.0, False, "none", note)


@contextmanager
def errors_as_rows(rows: list[ParityRow], case: str, array: str) -> Iterator[None]:
    """Add a failed row where a block raises, whatever it raises."""
    try:
        yield
    except Exception as error:  # of whatever was recorded, or of a model that does not fit
        usual = isinstance(error, CheckpointError)
        note = str(error) if usual else f"{type(error).__name__}: {error}"
        rows.append(failed(note, case, array))


def informative(value: float | None, note: str = "", measure: str = "max abs") -> ParityRow:
    """Return a comparison that demands nothing."""
    return outcome(value, None, True, measure, f"informative{note}")


def close(ours, theirs, atol: float, rtol: float = 0.0) -> ParityRow:
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
    return outcome(float(difference.max()), worst, ok)


def mostly_close(ours, theirs, atol: float, small: float, fraction: float) -> ParityRow:
    """Compare element by element; more than `small` apart may be at most `fraction` of them."""
    base = close(ours, theirs, atol)
    if not base.ok:
        return base
    apart = float((np.abs(np.asarray(ours) - np.asarray(theirs)) > small).mean())
    return replace(base, ok=apart <= fraction, note=f"{100 * apart:.1f} % differ")


def relative_rms(ours, theirs, tolerance: float, least_cosine: float | None = None) -> ParityRow:
    """Compare by root mean square error over root mean square, and optionally by cosine."""
    ours, theirs = np.asarray(ours, np.float64).ravel(), np.asarray(theirs, np.float64).ravel()
    if ours.shape != theirs.shape:
        return failed(f"{ours.size} values, expected {theirs.size}")
    norm = float(np.linalg.norm(theirs))
    error = float(np.linalg.norm(ours - theirs)) / norm if norm else float("inf")
    cosine = float(ours @ theirs) / (norm * float(np.linalg.norm(ours)) or 1.0)
    ok = error <= tolerance and (least_cosine is None or cosine >= least_cosine)
    note = "" if least_cosine is None else f"cosine {cosine:.4f}, at least {least_cosine} wanted"
    return outcome(error, tolerance, ok, "relative rms", note)


def _places_apart(ours: Sequence, theirs: Sequence) -> list[int]:
    """Return the places at which two sequences differ, those that only one has included."""
    pairs = zip_longest(ours, theirs, fillvalue=_NOTHING)
    return [place for place, (one, two) in enumerate(pairs) if one != two]


def same_sequence(ours: Sequence, theirs: Sequence) -> ParityRow:
    """Compare ids or pieces: the value is how many places differ."""
    apart, note = _places_apart(ours, theirs), ""
    if apart:
        note = f"first difference at {apart[0]}; {len(ours)} values, expected {len(theirs)}"
    return outcome(float(len(apart)), 0.0, not apart, "places", note)


def agreement(ours: Sequence, theirs: Sequence) -> ParityRow:
    """Report how many leading places agree, and demand nothing."""
    apart, longest = _places_apart(ours, theirs), max(len(ours), len(theirs))
    count = apart[0] if apart else longest
    note = f": the first {count} of {len(theirs)} agree"
    return informative(float(longest - count), note, "places")


def same(ours: object, theirs: object) -> ParityRow:
    """Compare two values or texts: the value is their distance for numbers, else 0 or 1."""
    equal = ours == theirs
    distance = float(not equal)
    if isinstance(ours, (int, float)) and isinstance(theirs, (int, float)):
        distance = float(abs(ours - theirs))
    note = "" if equal else f"got {_short(ours)}, expected {_short(theirs)}"
    return outcome(distance, 0.0, bool(equal), "exact", note)


def top_values(logits: np.ndarray, ids: np.ndarray, rtol: float, atol: float) -> ParityRow:
    """Check that `ids` are the largest entries of each row, in order, ties within a tolerance.

    `ids` are (T, k) or (T,), the reference's, largest first. Our (T, V) logit there may lie below
    our own k-th largest by the tolerance.
    """
    ids = np.asarray(ids).reshape(len(ids), -1).astype(np.int64)
    if len(logits) < len(ids):
        return failed(f"{len(logits)} positions, expected {len(ids)}")
    if not ids.size or ids.min() < 0 or ids.max() >= logits.shape[-1]:
        return failed(f"the reference's ids are not all in [0, {logits.shape[-1]})")
    rows = np.asarray(logits[: len(ids)], np.float64)
    order = np.argsort(-rows, axis=-1, kind="stable")[:, : ids.shape[1]]
    ours = np.take_along_axis(rows, order, axis=-1)
    found = close(np.take_along_axis(rows, ids, axis=-1), ours, atol, rtol)
    swapped = int((order != ids).sum())
    note = f"{swapped} of {ids.size} ids differ" if swapped else ""
    return replace(found, measure="logit of the id", note=note)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
