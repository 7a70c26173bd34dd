"""The reader study in the browser: a film, a report, and one key for the grade.

    workbench.widgets.ReaderStudy(study, reader="AB", images="films.parquet")

Blinding: every message to the page is made of `reading.Shown`, the reader's own comment and counts;
the statement about models is one and the same for all reports.

Does not know: who wrote a text, which case it is, what comes after (`reading`).
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from workbench.review.study_session import GRADES
from workbench.widgets._assets import script, styles
from workbench.widgets._front import Sharing, quick, slow, text_in
from workbench.widgets.reading import Reading


class ReaderStudy(Sharing):
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
        self, study: Any, *, reader: str | None = None, images: Any = None,
        notice: str | None = None,
    ) -> None:  # fmt: skip
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
    def show(self, message: Mapping, job: Any) -> dict[str, Any]:
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


__all__ = ["ReaderStudy"]
