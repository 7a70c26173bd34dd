"""What people say about entries of a queue: verdicts, stored beside the run and never overwritten.

    notes = wb.review.open_annotations("runs/first")
    notes.add(entry, verdict="model wrong", severity="significant", reviewer="AB")
    notes.undo(reviewer="AB")
    notes.agreement()

`annotations.jsonl` in the folder of the run only grows, is private (0600), and stands several
reviewers, processes and tabs at once. A later verdict of the same person about the same entry
replaces the earlier one; taking one back is a record too. So the file tells the whole history.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from workbench._repr import result
from workbench._store import JsonLines
from workbench.data.frames import save_frame
from workbench.errors import InputError, OptionError, check_one_of
from workbench.figures.tables import frame_table
from workbench.findings import CODES, SIDES, standard_name
from workbench.hallucination.taxonomy import KINDS as ERROR_KINDS
from workbench.review.kappa import MISSING, Agreement, agreement
from workbench.review.study_session import check_boxes, check_text
from workbench.runs.record import now

if TYPE_CHECKING:
    from workbench.review.error_queue import ErrorQueue
    from workbench.runs.result import RunResult

FILE = "annotations.jsonl"
VERDICTS = {
    "model wrong": "the reference is right and the model is not",
    "reference wrong": "the model is right and the reference, label or report, is not",
    "label extraction wrong": "the report is right; the step from text to labels misread it",
    "both right": "they do not contradict each other",
    "unclear": "it cannot be decided from what is here",
}
SEVERITIES = {
    "minor": "no consequence for the patient",
    "significant": "could change what is done",
    "critical": "could harm if acted upon",
}
#: Names of verdicts in files of earlier versions.
_RENAMED = {"labeler wrong": "label extraction wrong"}
_ENTRY = ("id", "source", "kind", "finding", "said", "reference")
_SHORT = 20
#: A row of `ErrorQueue.to_frame()`.
Entry = pd.Series | Mapping[str, object]


@result(eq=True)
class Annotation:
    """One verdict of one person about one entry.

    Attributes:
        n: 32 random hexadecimal digits; names the record.
        id, source, kind, finding: the entry.
        said, reference: codes at the time of the verdict.
        verdict: one of `VERDICTS`.
        reviewer: initials.
        time: UTC, ISO 8601.
        severity: one of `SEVERITIES`, or "".
        errors: in what way the report errs, of `hallucination.taxonomy.KINDS`.
        true, side: what the reviewer takes for true, or "".
        comment: free text.
        report: the report as it should be, or "".
        boxes: drawn on the radiograph, as a cell of a manifest: JSON in original pixels, or "".

    >>> verdict.verdict, verdict.reviewer
    ('unclear', 'AB')
    """

    n: str
    id: str
    source: str
    kind: str
    finding: str
    said: str
    reference: str
    verdict: str
    reviewer: str
    time: str
    severity: str = ""
    errors: tuple[str, ...] = ()
    true: str = ""
    side: str = ""
    comment: str = ""
    report: str = ""
    boxes: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The entry: source, id, kind, finding."""
        return (self.source, self.id, self.kind, self.finding)


class Annotations:
    """The annotations of a run, in a file that the first one makes."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self._lines = JsonLines(path)

    @property
    def torn(self) -> int:
        """Lines that were cut off, or are no record, and are passed over."""
        return self._read()[1]

    def add(
        self,
        entry: Entry | None = None,
        *,
        verdict: str,
        reviewer: str,
        severity: str = "",
        errors: Sequence[str] = (),
        true: str = "",
        side: str = "",
        comment: str = "",
        report: str = "",
        boxes: str | Sequence[Mapping[str, object]] = "",
        **named: str,
    ) -> Annotation:
        """Write a verdict.

        Args:
            entry: a row of `ErrorQueue.to_frame()`; or name it: id="radiograph-17",
                finding="nodule", kind=..., source=...
            verdict, reviewer, severity, errors, true, side, comment, report: see `Annotation`;
                `true` decides the corrected reference, `report` serves fine-tuning.
            boxes: x, y, width, height in pixels of the radiograph, and a finding or none, of each.
            **named: id, source, kind, finding, said, reference.

        Raises:
            OptionError: a word that is not allowed; the message lists those that are.
            InputError: no id, or no initials.
            RunError: the file cannot be written.
        """
        target = _target(entry, named)
        check_one_of("verdict", verdict, VERDICTS)
        check_one_of("severity", severity, ("", *SEVERITIES))
        check_one_of("true", true, ("", *CODES))
        check_one_of("side", side, ("", *SIDES))
        errors = (errors,) if isinstance(errors, str) else tuple(errors)
        for name in errors:
            check_one_of("errors", name, ERROR_KINDS)
        who = check_initials(reviewer)
        check_text("comment", comment)
        check_text("report", report)
        found = Annotation(
            uuid.uuid4().hex, **target, verdict=verdict, reviewer=who, time=now(),
            severity=severity, errors=errors, true=true, side=side, comment=comment, report=report,
            boxes=check_boxes(boxes),
        )  # fmt: skip
        self._lines.add({"what": "verdict", **asdict(found)})
        return found

    def undo(self, *, reviewer: str, n: str | None = None) -> Annotation:
        """Take back a verdict of one's own, the last that stands when `n` is None.

        Raises:
            InputError: there is nothing of this reviewer to take back.
        """
        who = check_initials(reviewer)
        own = [item for item in self.standing() if item.reviewer == who and n in (None, item.n)]
        if not own:
            raise InputError(f"{who} has no verdict{'' if n is None else f' {n}'} to take back")
        self._lines.add({"what": "undo", "n": own[-1].n, "reviewer": who, "time": now()})
        return own[-1]

    def standing(self) -> list[Annotation]:
        """Return all verdicts that were not taken back, in the order they were given."""
        return self._read()[0]

    def current(self) -> list[Annotation]:
        """Return the last standing verdict of each reviewer about each entry, oldest first."""
        last: dict[tuple, Annotation] = {}
        for item in self.standing():
            last.pop((item.reviewer, item.key), None)
            last[item.reviewer, item.key] = item
        return list(last.values())

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each current verdict, columns as in `Annotation`."""
        names = [field.name for field in fields(Annotation)]
        rows = [asdict(item) | {"errors": "|".join(item.errors)} for item in self.current()]
        return pd.DataFrame(rows, columns=names)

    def agreement(self, *, seed: int = 0) -> Agreement:
        """Measure how far reviewers agree on the verdict, entries that two or more have judged.

        Raises:
            InputError: fewer than two reviewers have judged anything.
        """
        found = self.current()
        who = sorted({item.reviewer for item in found})
        if len(who) < 2:
            raise InputError(
                f"{len(who)} reviewers have given verdicts; agreement needs two or more"
            )
        keys = {key: at for at, key in enumerate(dict.fromkeys(item.key for item in found))}
        table = np.full((len(keys), len(who)), MISSING)
        for item in found:
            table[keys[item.key], who.index(item.reviewer)] = list(VERDICTS).index(item.verdict)
        several = (table != MISSING).sum(axis=1) > 1
        return agreement(table[several], categories=tuple(VERDICTS), raters=who, seed=seed)

    def save(self, path: str | os.PathLike) -> Path:
        """Write the current verdicts as CSV whose cells no spreadsheet runs, or as Parquet."""
        return save_frame(self.to_frame(), path)

    def _read(self) -> tuple[list[Annotation], int]:
        """Return the verdicts that stand, and how many lines are no record."""
        records, torn = self._lines.read()
        given, undone = [], set()
        for record in records:
            n = record.get("n")
            if record.get("what") == "undo" and isinstance(n, str):
                undone.add(n)
            elif record.get("what") == "verdict" and (found := _verdict(record)):
                given.append(found)
            else:
                torn += 1
        return [item for item in given if item.n not in undone], torn

    def __len__(self) -> int:
        return len(self.current())

    def _repr_html_(self) -> str:
        return frame_table(self.to_frame().drop(columns=["n", "report"]))


def open_annotations(run: str | os.PathLike[str] | RunResult | ErrorQueue) -> Annotations:
    """Open the annotations of a run: of its folder, its result, or a queue of it.

    Raises:
        InputError: there is no such folder.

    >>> wb.review.open_annotations(run).to_frame()["verdict"].tolist()
    ['unclear']
    """
    folder = run if isinstance(run, (str, os.PathLike)) else getattr(run, "folder", None)
    if folder is None or not Path(folder).is_dir():
        raise InputError(
            "annotations are stored in the folder of a run; give the folder that `workbench run "
            "--out` wrote, or use Annotations(path) for a file of your own"
        )
    return Annotations(Path(folder) / FILE)


def check_initials(reviewer: str) -> str:
    """Return initials without blanks around them; `InputError` where they are none."""
    text = reviewer.strip() if isinstance(reviewer, str) else ""
    if not text or len(text) > _SHORT or not text.isprintable():
        raise InputError(f"reviewer must be initials of 1 to {_SHORT} characters, got {reviewer!r}")
    return text


_ANNOTATION = TypeAdapter(Annotation)


def _verdict(record: Mapping[str, object]) -> Annotation | None:
    """Return the verdict in a record; None where a text is missing, is none, or is not allowed."""
    try:
        found = _ANNOTATION.validate_python(record)
    except ValidationError:
        return None
    found = replace(found, verdict=_RENAMED.get(found.verdict, found.verdict))
    return found if found.verdict in VERDICTS else None


def _target(entry: Entry | None, named: Mapping[str, str]) -> dict[str, str]:
    wrong = set(named) - set(_ENTRY)
    if wrong:
        raise OptionError(f"unknown argument {min(wrong)!r}; an entry has {', '.join(_ENTRY)}")
    given = {} if entry is None else entry
    values = {name: named.get(name, given.get(name)) for name in _ENTRY}
    target = {name: "" if value is None else str(value) for name, value in values.items()}
    if not target["id"]:
        raise InputError("an annotation needs an entry of the queue, or id=")
    if target["finding"]:
        target["finding"] = standard_name(target["finding"])
    return target
