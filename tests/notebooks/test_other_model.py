"""Every lesson runs with a model that has learned nothing, and says that it has not."""

from __future__ import annotations

import pytest

from docs.site.course import Lesson, lessons, read
from docs.site.execute import executed
from tests.notebooks.test_notebooks import SMALLER


def code(lesson: Lesson) -> str:
    cells = read(lesson.path).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


ABOUT_A_MODEL = [lesson for lesson in lessons() if "MODEL = " in code(lesson)]


@pytest.mark.parametrize("lesson", ABOUT_A_MODEL, ids=lambda lesson: lesson.stem)
def test_needs_nothing_that_only_mini_has(lesson, tiny, tmp_path):
    parameters = SMALLER.get(lesson.number, {})
    html = executed(lesson, tmp_path, MODEL=tiny, **parameters).page.read_text(encoding="utf-8")
    if "trained = " in code(lesson):
        assert "A_tiny was not trained on phantoms: what mini learned is not claimed" in html
    assert "trained on phantoms, not for real radiographs" not in html


def test_no_lesson_is_left_out():
    assert {lesson.number for lesson in ABOUT_A_MODEL} == {lesson.number for lesson in lessons()}
