"""The reader study in the browser: a radiograph, a report, and one key for the grade.

    workbench.widgets.StudyApp(study, reader="AB", images="m.parquet")

Blinding: what `show` returns is all of a report that may leave this module, beside the reader's own
comment and counts; the statement about models is one and the same for all reports. It is made of
the reader's own list, which contains no origin, and of the pixels of a radiograph, without the name
of its file or any of its facts. The key is asked for one thing only, which radiograph belongs to an
item, and every radiograph has both reports.

The list of the reader decides the order, and with it the distance between two readings of one
radiograph: there is no way to jump in it, nor to go back further than the last grade, as the
instructions of the study say. Grades are in the file of the reader (`review.study_session`), so
another tab, process or day resumes at the same report. The clock of a report starts when it is
shown, after its image was read; a kernel that is started again starts that clock again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from workbench._store import file_stamp
from workbench.errors import InputError, RunError
from workbench.review.readings import FINDINGS
from workbench.review.study import ReaderStudy, open_study
from workbench.review.study_session import GRADES, ReaderSession, StudyItem, check_boxes
from workbench.widgets._front import Drafts, Sharing, quick, script, slow, styles, text_in
from workbench.widgets._worker import Job
from workbench.widgets.radiographs import image_source, pixels_of


class StudyApp(Sharing):
    """The list of one reader; grades that another tab gives appear by themselves.

    Args:
        study: a `wb.review.ReaderStudy`, its folder, or the file of the reader where there is no
            key.
        reader: initials; those of the file when None.
        images: where radiographs are, see `radiographs.image_source`; None for none. Without the
            key a function or mapping of item names.

    Raises:
        InputError: there is no such study, or images cannot be opened.
        OptionError: there is no such reader.

    >>> wb.review.StudyApp("study/readers/AB.json", images=manifest).state()["reader"]
    'AB'
    """

    _esm = script("reader.js")
    _css = styles("radiograph.css", "desk.css", "reader.css")

    def __init__(
        self,
        study: ReaderStudy | str | os.PathLike,
        *,
        reader: str | None = None,
        images: object = None,
    ) -> None:
        self.session, self._case_of = _open(study, reader)
        self._radiographs = image_source(images, upright=self.session.upright)
        self._drafts = Drafts(self.session.path.with_suffix(".drafts.jsonl"))
        self._seen = file_stamp(self.session.grades_path)
        title = self.session.title or "Reader study"
        super().__init__(title=title, notice=self.session.notice)

    def state(self) -> dict[str, Any]:
        """Return what is the same for every report, and the counts; the report comes by `show`."""
        with self._gate:
            self._news()
            self._start()
        return {
            "reader": self.session.reader,
            "instructions": self.session.instructions,
            "findings": FINDINGS,
            "grades": [{"key": name, "means": text} for name, text in GRADES.items()],
            **self._counts(),
        }

    @slow
    def show(self, message: Mapping, job: Job) -> dict[str, Any]:
        """Return the next report with its radiograph, and start its clock; at the end, none."""
        with self._gate:
            due, found = self.session.due, None
            if due is not None:
                draft = self._drafts.of(self.session.reader).get((due.item,), {})
                found = {
                    "item": due.item,
                    "text": due.text,
                    "position": due.position,
                    "radiograph": self._radiograph(due),
                    "comment": draft.get("comment", ""),
                    "boxes": draft.get("boxes", ""),
                }
                self.session.next()
            return {"report": found, **self._counts()}

    @quick
    def grade(self, message: Mapping) -> dict[str, Any]:
        """Write a grade, and drop the draft: item, grade, comment, boxes."""
        item, grade = text_in(message, "item"), text_in(message, "grade")
        typed = _typed(message)
        due = self.session.due
        try:
            if due is None or due.item != item:
                raise RunError(
                    "this report has been graded in another tab or process; nothing was written. "
                    + ("The next one is shown now" if due else "All reports are graded")
                )
            self.session.grade(item, grade, comment=typed["comment"], boxes=typed["boxes"])
            self._keep(item)
        finally:
            self._news()
            self._turned()
        return {"said": f"grade {grade} written", **self._counts()}

    @quick
    def undo(self, message: Mapping) -> dict[str, Any]:
        """Take the last grade back, what was typed stays a draft: seen, the report it is of."""
        last = self.session.just_graded
        try:
            if last is None:
                raise InputError(
                    "only the last grade can be changed, and there is none to take back now; grade "
                    "the report that is shown"
                )
            if text_in(message, "seen") != last:
                raise RunError(
                    "the last grade was given in another tab or process; nothing was taken back. "
                    "Undo once more to take that one back"
                )
            given = self.session.grades[last]
            self.session.undo()
            self._keep(last, **{name: given.get(name, "") for name in ("comment", "boxes")})
        finally:
            self._news()
            self._turned()
        return {"said": "grade taken back", **self._counts()}

    @quick
    def draft(self, message: Mapping) -> dict[str, Any]:
        """Keep what is typed and drawn: item, comment, boxes."""
        item = text_in(message, "item")
        if item not in {entry.item for entry in self.session.items}:
            raise InputError(f"no report {item!r} in the list of {self.session.reader}")
        self._keep(item, **_typed(message))
        return {"kept": True}

    def still(self) -> str:
        """Return the counts as HTML without scripts."""
        session = self.session
        return (
            f"<p><b>{escape(self.title)}</b>: {escape(session.reader)} has graded "
            f"{session.done:,} of {len(session.items):,} reports.</p>"
            f"<p><b>{escape(self.notice)}</b></p>"
        )

    def _news(self) -> bool:
        """Return whether the file of grades has changed since this was asked last."""
        before, self._seen = self._seen, file_stamp(self.session.grades_path)
        return before != self._seen

    def _counts(self) -> dict[str, Any]:
        return {
            "turn": self._turn,
            "done": self.session.done,
            "total": len(self.session.items),
            "undoable": self.session.just_graded or "",
        }

    def _keep(self, item: str, **typed: str) -> None:
        self._drafts.keep(self.session.reader, (item,), typed)

    def _radiograph(self, item: StudyItem) -> dict[str, Any] | None:
        if self._radiographs is None:
            return None
        try:
            return pixels_of(self._radiographs(*self._case_of(item.item)))
        except Exception as error:
            # what is wrong names files and cases, which a reader must not see
            raise InputError(
                f"the radiograph of report {item.position} cannot be read; tell the person who "
                f"leads the study ({type(error).__name__})"
            ) from error


def _typed(message: Mapping) -> dict[str, str]:
    """Return the comment of a message, and its boxes where there are any."""
    boxes = check_boxes(text_in({"boxes": "", **message}, "boxes"))
    return {"comment": text_in(message, "comment"), "boxes": boxes}


def _open(
    study: ReaderStudy | str | os.PathLike, reader: str | None
) -> tuple[ReaderSession, Callable[[str], tuple[str, str]]]:
    """Return a reader's list, and the function from item to source and id of its case."""
    if isinstance(study, (str, os.PathLike)):
        path = Path(study)
        if path.is_file():
            session = ReaderSession(path)
            if reader is not None and reader != session.reader:
                raise InputError(f"{path.name} is the file of {session.reader}, not of {reader}")
            return session, lambda item: ("", item)
        study = open_study(path)
    if not isinstance(study, ReaderStudy):
        raise InputError(
            "expected a reader study, its folder or the file of a reader; got "
            f"{type(study).__name__}"
        )
    if reader is None:
        raise InputError(f"whose list? reader= must be one of: {', '.join(study.readers)}")
    return study.session(reader), study.case_of
