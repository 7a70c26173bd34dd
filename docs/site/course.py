"""The course as the notebooks state it: order, questions, minutes, neighbours.

Everything is read from the lessons themselves, so that no second list can disagree with them. A
lesson opens with its question as title and, below it, one block quote with its number, its time in
class, the lessons before and after it and the words of the glossary that it uses.

Does not know: how a lesson is run or shown.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"

_MINUTES = re.compile(r"\b(\d+) minutes in class\b")


@dataclass(frozen=True)
class Lesson:
    """One notebook of the course.

    Attributes:
        path: the notebook.
        title: its first line.
        minutes: of class time; None where the lesson does not say.
    """

    path: Path
    title: str
    minutes: int | None

    @property
    def stem(self) -> str:
        """Name of the file without its ending, e.g. "03_attention"."""
        return self.path.stem

    @property
    def number(self) -> str:
        """The two digits that put the lesson in its place."""
        return self.stem[:2]

    @property
    def name(self) -> str:
        """What the lesson is called in links, e.g. "03 attention"."""
        return self.stem.replace("_", " ")


def lessons(folder: Path = NOTEBOOKS) -> list[Lesson]:
    """Return the lessons of a folder in their order.

    Raises:
        InputError: the folder holds no notebook.
    """
    found = [_lesson(path) for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))]
    if not found:
        raise InputError(
            f"expected notebooks such as 00_start_here.ipynb in {folder}, found none; "
            "give the folder of the lessons"
        )
    return found


def _lesson(path: Path) -> Lesson:
    head = read(path).cells[0].source
    minutes = _MINUTES.search(head)
    title = head.splitlines()[0].removeprefix("# ")
    return Lesson(path, title, int(minutes[1]) if minutes else None)


def read(path: Path) -> Any:
    """Return a notebook."""
    import nbformat

    return nbformat.read(path, as_version=4)


def with_parameters(book: Any, **values: Any) -> Any:
    """Set parameters of a notebook that it has; others are left out.

    Args:
        book: a notebook; its parameters cell is changed in place.
        **values: texts or numbers by the name of the parameter.
    """
    for cell in book.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = "\n".join(
                _assigned(cell.source, statement, values)
                for statement in ast.parse(cell.source).body
            )
    return book


def _assigned(source: str, statement: ast.stmt, values: dict[str, Any]) -> str:
    name = statement.targets[0].id if isinstance(statement, ast.Assign) else ""
    if name in values:
        return f"{name} = {json.dumps(values[name])}"
    return ast.get_source_segment(source, statement) or ""
