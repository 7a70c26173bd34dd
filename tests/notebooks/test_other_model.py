"""Every lesson runs with a model that has learned nothing, and says that it has not.

With a model of another family those run whose cells differ for it; the others have the same cells.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from nbclient import NotebookClient

from docs.site.course import ROOT, Lesson, lessons, read, with_parameters
from docs.site.execute import BESIDE, INLINE
from docs.site.kernels import forked_kernels
from tests.backends.families import FAMILIES
from tests.notebooks.test_notebooks import SMALLER


def code(lesson: Lesson) -> str:
    cells = read(lesson.path).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


ABOUT_A_MODEL = [lesson for lesson in lessons() if "MODEL = " in code(lesson)]
OTHER_CELLS = [lesson for lesson in ABOUT_A_MODEL if lesson.number in ("02", "05")]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of the lessons, beside it what they read."""
    shutil.copytree(ROOT / BESIDE, tmp_path / BESIDE)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setenv("MPLBACKEND", INLINE)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path / "notebooks"


def ran(lesson: Lesson, model: str, place: Path) -> str:
    """Run a lesson and return all that it shows."""
    parameters = {"MODEL": model} | SMALLER.get(lesson.number, {})
    book = with_parameters(read(lesson.path), **parameters)
    client = NotebookClient(book, timeout=600, resources={"metadata": {"path": str(place)}})
    client.km = forked_kernels()
    client.execute()
    return "\n".join(str(cell.get("outputs", "")) for cell in book.cells)


@pytest.fixture(scope="module")
def llava(tmp_path_factory) -> str:
    return str(FAMILIES["llava"](tmp_path_factory.mktemp("course") / "llava", size=112))


@pytest.mark.parametrize("lesson", OTHER_CELLS, ids=lambda lesson: lesson.stem)
def test_needs_nothing_that_only_this_architecture_has(lesson, llava, place):
    shown = ran(lesson, llava, place)
    if lesson.number == "02":
        assert "llava has other parts than a CXR-LLaVA: the default model takes" in shown
    else:
        assert "llava was not trained on phantoms: what mini learned is not claimed" in shown


@pytest.mark.parametrize("lesson", ABOUT_A_MODEL, ids=lambda lesson: lesson.stem)
def test_needs_nothing_that_only_mini_has(lesson, tiny, place):
    shown = ran(lesson, tiny, place)
    if "trained = " in code(lesson):
        assert "A_tiny was not trained on phantoms: what mini learned is not claimed" in shown
    assert "trained on phantoms, not for real radiographs" not in shown


def test_no_lesson_is_left_out():
    assert {lesson.number for lesson in ABOUT_A_MODEL} == {lesson.number for lesson in lessons()}
