"""The reader study in the browser: a radiograph, a report, and one key for the grade.

    workbench.widgets.StudyApp(study, reader="AB", images="m.parquet")

Blinding: `Shown` is all of a report that may leave this module, beside the reader's own comment and
counts; the statement about models is one and the same for all reports. It is made of the reader's
own list, which holds no origin, and of the pixels of a radiograph, without the name of its file or
any of its facts. The key is asked for one thing only, which radiograph belongs to an item, and
every radiograph has both reports.

The list of the reader decides the order, and with it the distance between two readings of one
radiograph: there is no way to jump in it, nor to go back further than the last grade, as the
instructions of the study say. Grades are in the file of the reader (`review.study_session`), so
another tab, process or day resumes at the same report. The clock of a report starts when it is
shown, after its image was read; a kernel that is started again starts that clock again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from workbench._store import file_stamp
from workbench.errors import InputError, RunError
from workbench.review.study import ReaderStudy, open_study
from workbench.review.study_session import GRADES, ReaderSession, StudyItem
from workbench.widgets._front import Sharing, quick, script, slow, styles, text_in
from workbench.widgets._worker import Job
from workbench.widgets.drafts import Drafts
from workbench.widgets.radiographs import FilmSource, film_source, pixels_of


class StudyApp(Sharing):
    """The list of one reader; grades that another tab gives appear by themselves.

    Args:
        study: a `wb.review.ReaderStudy`, its folder, or the file of the reader.
        reader: initials; those of the file when None.
        images: where films are: a manifest, its file, a mapping id -> radiograph, phantom or path,
            or a function of source and id; no films when None.
        notice: statement about the model whose words may be among the reports, shown with every
            report; that of the study when None.

    Raises:
        InputError: there is no such study, or images cannot be opened.
        OptionError: there is no such reader.
    """

    _esm = script("reader.js")
    _css = styles("film.css", "desk.css", "reader.css")

    def __init__(
        self,
        study: ReaderStudy | str | os.PathLike,
        *,
        reader: str | None = None,
        images: object = None,
        notice: str | None = None,
    ) -> None:
        self.desk = Reading(study, reader=reader, images=images)
        super().__init__(title=self.desk.session.title or "Reader study",
                         notice=notice or self.desk.session.notice)  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Return what is the same for every report, and the counts; the report comes by `show`."""
        with self._gate:
            self.desk.refresh()
            self._start()
        return {
            "reader": self.desk.reader,
            "instructions": self.desk.session.instructions,
            "grades": [{"key": name, "means": text} for name, text in GRADES.items()],
            **self._counts(),
        }

    @slow
    def show(self, message: Mapping, job: Job) -> dict[str, Any]:
        """Return the next report with its film, and start its clock; at the end, none."""
        with self._gate:
            shown = self.desk.show()
            found = None
            if shown is not None:
                found = {
                    "item": shown.item,
                    "text": shown.text,
                    "position": shown.position,
                    "film": shown.film,
                    "comment": self.desk.drafted(shown.item),
                }
            return {"report": found, **self._counts()}

    @quick
    def grade(self, message: Mapping) -> dict[str, Any]:
        """Write a grade: item, grade, comment."""
        item, grade, comment = (text_in(message, name) for name in ("item", "grade", "comment"))
        try:
            self.desk.grade(item, grade, comment=comment)
        finally:
            self.desk.refresh()
            self._turned()
        return {"said": f"grade {grade} written", **self._counts()}

    @quick
    def undo(self, message: Mapping) -> dict[str, Any]:
        """Take the last grade back: seen."""
        try:
            self.desk.undo(seen=text_in(message, "seen"))
        finally:
            self.desk.refresh()
            self._turned()
        return {"said": "grade taken back", **self._counts()}

    @quick
    def draft(self, message: Mapping) -> dict[str, Any]:
        """Keep a comment that is being typed: item, comment."""
        self.desk.draft(text_in(message, "item"), text_in(message, "comment"))
        return {"kept": True}

    def still(self) -> str:
        """Return the counts as HTML without scripts."""
        done, total = self.desk.done, self.desk.total
        return (
            f"<p><b>{escape(self.title)}</b>: {escape(self.desk.reader)} has graded {done:,} of "
            f"{total:,} reports.</p><p><b>{escape(self.notice)}</b></p>"
        )

    def _counts(self) -> dict[str, Any]:
        return {
            "turn": self._turn,
            "done": self.desk.done,
            "total": self.desk.total,
            "undoable": self.desk.undoable or "",
        }


@dataclass(frozen=True)
class Shown:
    """What a reader sees.

    Attributes:
        item: random name of the report.
        text: the report.
        position, total: in the reader's list, from 1.
        film: its pixels, as `films.pixels_of`; None where no images were given.
    """

    item: str
    text: str
    position: int
    total: int
    film: dict[str, Any] | None


class Reading:
    """One reader at a study.

    Args:
        study: a `ReaderStudy`, its folder, or the file of the reader where there is no key.
        reader: initials; those of the file when None.
        images: where films are, see `films`; None for none. Without the key (a reader's own file) a
            function or mapping of item names.

    Raises:
        InputError: there is no such study, or images cannot be opened.
        OptionError: there is no such reader.
    """

    def __init__(
        self,
        study: ReaderStudy | str | os.PathLike,
        *,
        reader: str | None = None,
        images: object = None,
    ) -> None:
        self.session, case_of = _open(study, reader)
        self._films: FilmSource | None = film_source(images, upright=self.session.upright)
        self._case_of = case_of
        self._drafts = Drafts(self.session.path.with_suffix(".drafts.jsonl"))
        self._seen = file_stamp(self.session.grades_path)

    @property
    def reader(self) -> str:
        """Initials."""
        return self.session.reader

    @property
    def done(self) -> int:
        """Reports that are graded."""
        return self.session.done

    @property
    def total(self) -> int:
        """Reports in the list."""
        return len(self.session.items)

    def refresh(self) -> bool:
        """Return whether the file of grades has changed since this was asked last."""
        before, self._seen = self._seen, file_stamp(self.session.grades_path)
        return before != self._seen

    def show(self) -> Shown | None:
        """Return the report that is next, its clock started; None when all are graded.

        Raises:
            InputError: its film cannot be read; nothing of the case is named.
        """
        item = self.session.due
        if item is None:
            return None
        film = self._film(item)
        self.session.next()
        return Shown(item.item, item.text, item.position, item.total, film)

    def grade(self, item: str, grade: str, *, comment: str = "") -> None:
        """Grade the report that is shown, and drop the draft.

        Args:
            item: its name.
            grade: one of `GRADES`.
            comment: free text.

        Raises:
            RunError: it is not the next one any more, as when another tab has graded it; or the
                file cannot be written.
            OptionError: there is no such grade.
        """
        due = self.session.due
        if due is None or due.item != item:
            raise RunError(
                "this report has been graded in another tab or process; nothing was written. "
                + ("The next one is shown now" if due else "All reports are graded")
            )
        self.session.grade(item, grade, comment=comment)
        self._drafts.keep(self.reader, (item,), {})

    @property
    def undoable(self) -> str | None:
        """The report whose grade can be taken back: the last one, once; None for none."""
        return self.session.just_graded

    def undo(self, *, seen: str | None = None) -> str:
        """Take the last grade back, so that its report is the next again; return its name.

        The comment stays as a draft.

        Args:
            seen: the report that the reader expects to get back; None does not ask.

        Raises:
            InputError: there is none, or the last grade was taken back already.
            RunError: the last grade was given elsewhere, or the file cannot be written.
        """
        last = self.undoable
        if last is None:
            raise InputError(
                "only the last grade can be changed, and there is none to take back now; grade "
                "the report that is shown"
            )
        if seen is not None and seen != last:
            raise RunError(
                "the last grade was given in another tab or process; nothing was taken back. Undo "
                "once more to take that one back"
            )
        comment = self.session.grades[last].get("comment", "")
        self.session.undo()
        self._drafts.keep(self.reader, (last,), {"comment": comment})
        return last

    def draft(self, item: str, comment: str) -> None:
        """Keep a comment that is not handed in yet.

        Raises:
            InputError: there is no such report, or the comment is too long.
            RunError: the file cannot be written.
        """
        if item not in {entry.item for entry in self.session.items}:
            raise InputError(f"no report {item!r} in the list of {self.reader}")
        self._drafts.keep(self.reader, (item,), {"comment": comment})

    def drafted(self, item: str) -> str:
        """Return the comment that was typed for a report and not handed in, or ""."""
        return self._drafts.of(self.reader).get((item,), {}).get("comment", "")

    def _film(self, item: StudyItem) -> dict[str, Any] | None:
        if self._films is None:
            return None
        try:
            return pixels_of(self._films(*self._case_of(item.item)))
        except Exception as error:
            # what is wrong names files and cases, which a reader must not see
            raise InputError(
                f"the film of report {item.position} cannot be read; ask whoever leads the study "
                f"to open it ({type(error).__name__})"
            ) from error


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


__all__ = ["GRADES", "Reading", "Shown"]
