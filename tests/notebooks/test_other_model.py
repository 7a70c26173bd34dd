"""Every lesson runs with a model that has learned nothing, and says that it has not.

With a model of another family those run whose cells differ for it; the others have the same cells.
"""

from __future__ import annotations

import shutil

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from docs.site.course import ROOT, Lesson, lessons, read, with_parameters
from docs.site.execute import BESIDE, INLINE
from tests.backends.families import FAMILIES
from tests.notebooks.test_notebooks import SMALLER


def code(lesson: Lesson) -> str:
    cells = read(lesson.path).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


ABOUT_A_MODEL = [lesson for lesson in lessons() if "MODEL = " in code(lesson)]
OTHER_CELLS = [lesson for lesson in ABOUT_A_MODEL if lesson.number in ("02", "05")]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One process for all lessons, whose variables are cleared in between."""
    place = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / BESIDE, place / BESIDE)
    (place / "notebooks").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", INLINE)
        patch.setenv("PYTHONPATH", str(ROOT))
        manager, client = start_new_kernel(cwd=str(place / "notebooks"))
    client.stop_channels()
    yield manager
    manager.shutdown_kernel(now=True)


def ran(lesson: Lesson, model: str, kernel) -> str:
    """Run a lesson and return all that it shows."""
    parameters = {"MODEL": model} | SMALLER.get(lesson.number, {})
    book = with_parameters(read(lesson.path), **parameters)
    book.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    NotebookClient(book, km=kernel, timeout=600).execute()
    return "\n".join(str(cell.get("outputs", "")) for cell in book.cells)


@pytest.fixture(scope="module")
def llava(tmp_path_factory) -> str:
    return str(FAMILIES["llava"](tmp_path_factory.mktemp("course") / "llava", size=112))


@pytest.mark.parametrize("lesson", OTHER_CELLS, ids=lambda lesson: lesson.stem)
def test_needs_nothing_that_only_this_architecture_has(lesson, llava, kernel):
    shown = ran(lesson, llava, kernel)
    if lesson.number == "02":
        assert "llava has other parts than a CXR-LLaVA: the default model takes" in shown
    else:
        assert "llava was not trained on phantoms: what mini learned is not claimed" in shown


@pytest.mark.parametrize("lesson", ABOUT_A_MODEL, ids=lambda lesson: lesson.stem)
def test_needs_nothing_that_only_mini_has(lesson, tiny, kernel):
    shown = ran(lesson, tiny, kernel)
    if "trained = " in code(lesson):
        assert "A_tiny was not trained on phantoms: what mini learned is not claimed" in shown
    assert "trained on phantoms, not for real radiographs" not in shown


def test_no_lesson_is_left_out():
    assert {lesson.number for lesson in ABOUT_A_MODEL} == {lesson.number for lesson in lessons()}
