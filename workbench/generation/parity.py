"""Parity: does this implementation reproduce recorded outputs of the published pipeline?

`compare` runs a directory of reference vectors against the code as users run it (reader, processor,
model, tokenizer, template, engine, stream) and gives one row per array. Nothing passes in silence:
what is missing, unreadable or cannot be compared is a failed row, and a directory with nothing to
compare is not ok.

Each recorded array is compared on its own: what follows the image starts from the recorded pixels,
so a difference in one place shows in one row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from workbench._repr import short_repr
from workbench.errors import CheckpointError

if TYPE_CHECKING:
    import pandas as pd

#: Stands where one of two sequences has come to its end.
_NOTHING = object()


@dataclass(frozen=True)
class ParityRow:
    """One comparison.

    Attributes:
        case: checkpoint, image and case, e.g. "A_tiny/grad_300x400/q1".
        array: name of the array or field.
        max_abs_diff: the difference in the unit of `measure`; None where none could be computed.
        tolerance: what is allowed; None where nothing is demanded.
        measure: "max abs", "relative rms", "places", "exact", ...
        note: what a person should know, empty when all is well.
    """

    case: str
    array: str
    max_abs_diff: float | None
    tolerance: float | None
    ok: bool
    measure: str = "max abs"
    note: str = ""


@dataclass(frozen=True)
class ParityReport:
    """All comparisons of one directory, one row per array."""

    rows: tuple[ParityRow, ...]
    directory: str

    __repr__ = short_repr

    @property
    def ok(self) -> bool:
        """True when there is at least one row and every row is ok."""
        return bool(self.rows) and not self.misses

    @property
    def misses(self) -> tuple[ParityRow, ...]:
        """The rows that are not ok."""
        return tuple(row for row in self.rows if not row.ok)

    def to_dict(self) -> dict:
        """Return {"ok", "directory", "rows"} as plain values for JSON."""
        rows = [vars(row).copy() for row in self.rows]
        return {"ok": self.ok, "directory": self.directory, "rows": rows}

    def to_frame(self) -> pd.DataFrame:
        """Return one row per comparison with the columns of `ParityRow`."""
        import pandas as pd

        columns = list(ParityRow.__dataclass_fields__)
        return pd.DataFrame([vars(row) for row in self.rows], columns=columns)

    def __str__(self) -> str:
        verdict = "all agree" if self.ok else f"{len(self.misses)} do not agree"
        if not self.rows:
            verdict = "nothing to compare"
        return f"{self.directory}: {len(self.rows)} comparisons, {verdict}"


def compare(directory: str | Path, *, progress: bool = False) -> ParityReport:
    """Compare this implementation with recorded outputs, the float32 and the bfloat16 set.

    Args:
        directory: holds `checkpoints/`, `golden/` and `images/`, or is one of the checkpoints.
        progress: show a progress bar.

    Raises:
        CheckpointError: the directory does not exist or has neither of the two forms.
    """
    directory = Path(directory)
    rows: list[ParityRow] = []
    for checkpoint, golden in tqdm(_find_sets(directory), unit="checkpoint", disable=not progress):
        name = checkpoint.name
        if not checkpoint.is_dir():
            rows.append(failed("no such folder in checkpoints/", name, "checkpoint"))
        elif not golden.is_dir():
            note = f"no recorded outputs: expected golden/{name} beside checkpoints/"
            rows.append(failed(note, name, "golden"))
        else:
            from workbench.generation.recorded import compare_set  # imports torch

            rows += compare_set(checkpoint, golden)
    return ParityReport(tuple(rows), directory.resolve().name)


def _find_sets(directory: Path) -> list[tuple[Path, Path]]:
    """Return the folder of each checkpoint and that of its vectors; one of them may be missing."""
    if not directory.is_dir():
        raise CheckpointError(f"no directory {directory}; give a folder with reference vectors")
    if (directory / "config.json").is_file():
        checkpoint = directory.resolve()
        return [(checkpoint, checkpoint.parent.parent / "golden" / checkpoint.name)]
    names = {
        path.name
        for part in ("checkpoints", "golden")
        for path in directory.glob(f"{part}/*")
        if path.is_dir() and not path.name.startswith(".")
    }
    if not names:
        raise CheckpointError(
            f"{directory} holds no reference vectors: expected the folders checkpoints/, golden/ "
            "and images/, or one checkpoint with its config.json"
        )
    return [(directory / "checkpoints" / n, directory / "golden" / n) for n in sorted(names)]


# How two values are compared; these rows name no case and no array yet.


def outcome(
    value: float | None, tolerance: float | None, ok: bool, measure: str = "max abs", note: str = ""
) -> ParityRow:
    """Return a comparison; a difference that is not finite becomes None."""
    finite = value is not None and math.isfinite(value)
    return ParityRow("", "", value if finite else None, tolerance, ok, measure, note)


def failed(note: str, case: str = "", array: str = "") -> ParityRow:
    """Return a comparison that could not be made."""
    return ParityRow(case, array, None, 0.0, False, "none", note)


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
