"""What a reader sees and does: the next text, a grade, nothing else.

    session = ReaderSession("study/readers/AB.json")
    item = session.next()
    session.grade(item.item, "B")

The file of a reader contains texts, in the order to read them, under random names. It has no key,
and neither does this module: who wrote a text cannot be asked here. Grades are stored in a file of
their own that only grows, beside the file of the reader; a later grade of one report replaces the
earlier one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

from workbench._store import JsonLines, read_json
from workbench.data.mapping import from_cell, to_cell
from workbench.errors import InputError, OptionError, check_one_of
from workbench.findings import standard_name
from workbench.model.licence import RESEARCH_NOTICE
from workbench.runs.record import now

#: Of Lee et al., Eur Radiol 2025; A and B count as success.
GRADES = {
    "A": "acceptable without change",
    "B": "acceptable with minor revision",
    "C": "needs major revision",
    "D": "unacceptable",
}
SUCCESS = ("A", "B")
FORMAT = 1
_LONG = 20_000
#: Boxes that one person can draw at once.
_BOXES = 200


def _hundredths(value: float) -> float:
    near = round(value, 2)
    return int(near) if near == int(near) else near


_Edge = Annotated[float, Field(ge=0, lt=1e6), AfterValidator(_hundredths)]
_Side = Annotated[float, Field(gt=0, lt=1e6), AfterValidator(_hundredths)]


class _Box(BaseModel, extra="forbid", strict=True):
    x: _Edge
    y: _Edge
    width: _Side
    height: _Side
    finding: str = ""


_DRAWN = TypeAdapter(list[_Box])


@dataclass(frozen=True)
class StudyItem:
    """One report to grade, under a random name; its position counts from 1."""

    item: str
    text: str
    position: int
    total: int


class ReaderSession:
    """The list of one reader.

    Attributes:
        reader: initials.
        title, instructions, notice: of the study; the notice is about the model behind it.
        upright: whether the model got the images turned as their files say.
        items: the reports, in order.
        grades_path: the file of grades, which is made by the first one.

    Raises:
        InputError: no such file, or it is not one.

    >>> session = wb.review.ReaderSession("study/readers/CD.json")
    >>> session.grade(session.next().item, "A", seconds=12)
    >>> session.done
    1
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        try:
            content = read_json(self.path)
            entries = [(entry["item"], entry["text"]) for entry in content["items"]]
            self.reader = str(content["reader"])
            self.title = str(content.get("title", ""))
            self.instructions = str(content.get("instructions", ""))
            self.notice = str(content.get("notice", RESEARCH_NOTICE))
            self.upright = content.get("upright") is True
            texts = all(isinstance(text, str) for entry in entries for text in entry)
            known = content["format"] == FORMAT and texts
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise InputError(
                f"{self.path.name}: expected the file of a reader, which `wb.reader_study` wrote "
                "to the folder readers"
            )
        self.items = tuple(
            StudyItem(item, text, at, len(entries)) for at, (item, text) in enumerate(entries, 1)
        )
        self.grades_path = self.path.with_suffix(".grades.jsonl")
        self._lines = JsonLines(self.grades_path)
        self._shown: tuple[str, float] | None = None

    @property
    def grades(self) -> dict[str, dict]:
        """Item -> its standing record (grade, seconds, comment, boxes, time), the last one last."""
        records, _ = self._lines.read()
        known = {item.item for item in self.items}
        found: dict[str, list[dict]] = {}
        for record in records:
            key = record.get("item")
            if key not in known:
                continue
            if record.get("what") == "undo":
                del found.setdefault(key, [])[-1:]
            elif record.get("grade") in GRADES:
                found[key] = [*found.pop(key, []), record]
        return {key: history[-1] for key, history in found.items() if history}

    @property
    def done(self) -> int:
        """Reports that are graded."""
        return len(self.grades)

    @property
    def due(self) -> StudyItem | None:
        """The first report that is not graded; None at the end. Its clock is not started."""
        graded = self.grades
        return next((item for item in self.items if item.item not in graded), None)

    @property
    def just_graded(self) -> str | None:
        """The report of the last record, where that is a grade that stands; None elsewhere."""
        records = self._lines.read()[0]
        if not records or records[-1].get("what") != "grade":
            return None
        last = records[-1].get("item")
        return last if last in self.grades else None

    def next(self) -> StudyItem | None:
        """Return the first report that is not graded, and start its clock; None at the end."""
        item = self.due
        if item is not None and (self._shown is None or self._shown[0] != item.item):
            self._shown = (item.item, time.monotonic())
        return item

    def grade(
        self, item: str, grade: str, *, seconds: float | None = None, comment: str = "",
        boxes: str | Sequence[Mapping[str, object]] = "",
    ) -> None:  # fmt: skip
        """Give a report, by its name, one of `GRADES`, a comment and boxes (see `check_boxes`).

        `seconds` are those it took; since `next` showed it when None, unknown where it did not.

        Raises:
            InputError: there is no such report in this list, or the comment is too long.
            OptionError: no such grade, or negative seconds.
            RunError: the file of grades cannot be written.
        """
        if item not in {entry.item for entry in self.items}:
            raise InputError(f"no report {item!r} in the list of {self.reader}")
        check_one_of("grade", grade, GRADES)
        if seconds is not None and not 0 <= seconds < float("inf"):
            raise OptionError(f"seconds must be 0 or more, got {seconds!r}")
        check_text("comment", comment)
        if seconds is None and self._shown is not None and self._shown[0] == item:
            seconds = time.monotonic() - self._shown[1]
        taken = None if seconds is None else round(float(seconds), 2)
        record = {"item": item, "grade": grade, "seconds": taken, "comment": comment}
        record["boxes"] = check_boxes(boxes)
        self._lines.add({"what": "grade", **record, "time": now()})

    def undo(self) -> str | None:
        """Take the last standing grade back; return its report, None where there is no grade."""
        last = next(reversed(self.grades), None)
        if last is not None:
            self._lines.add({"what": "undo", "item": last, "time": now()})
        return last


def check_boxes(boxes: str | Sequence[Mapping[str, object]]) -> str:
    """Return boxes that a person drew as a cell of a manifest, in original pixels; "" for none.

    Raises:
        InputError: they are none: not JSON, without a size, outside, or of an unknown finding.
    """
    found = from_cell(boxes) if isinstance(boxes, str) else [dict(box) for box in boxes]
    if len(found) > _BOXES:
        raise InputError(f"at most {_BOXES} boxes can be drawn; got {len(found)}")
    try:
        drawn = _DRAWN.validate_python(found)
    except ValidationError as error:
        raise InputError(
            "boxes must be a list of x, y, width, height in pixels of the radiograph, with a "
            f"finding or none; got {found!r:.200}"
        ) from error
    for box in drawn:
        if box.finding:
            standard_name(box.finding)
    return to_cell([box.model_dump(exclude_unset=True) for box in drawn]) or ""


def check_text(name: str, text: object) -> None:
    """Raise `InputError` for what is no text that a person would type."""
    if not isinstance(text, str) or len(text) > _LONG:
        raise InputError(f"{name} must be a text of at most {_LONG:,} characters")
