"""Notebooks keep the rules of a lesson, and every cell runs."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from docs.site.__main__ import KEPT
from docs.site.course import lessons
from docs.site.execute import executed
from docs.site.kernels import forked_kernels
from workbench.commands._app_site import WIDGET
from workbench.commands.demo import execute_to_html, to_html
from workbench.errors import WorkbenchError

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

#: Lessons that train or count: every claim is checked, on fewer chests than `make site` takes.
SMALLER = {
    "03": {"SIDE_SEEDS": [1, 2, 3]},
    "04": {"OTHER_SEEDS": [1, 2]},
    "05": {
        "CASES": [["pneumothorax", 4, "ct"], ["pleural effusion", 7, "internal"]],
        "TABLE_CASES": 4,
        "MANIFEST_CASES": 4,
    },
    "08": {"COUNT_CASES": 6},
    "09": {"COUNT": 24, "READ": 12},
    "10": {"EACH": 8, "HELD": 4, "EPOCHS": 1, "UNLABELLED": 8, "UNSEEN": 8},
    "11": {"COUNT": 6},
}

#: Anything that would make a browser ask the network: sources, imports, style sheets.
REMOTE = re.compile(
    r"""(?:src|data|srcset)\s*=\s*["']?\s*(?:https?:)?//"""
    r"""|<link[^>]+href\s*=\s*["']?\s*(?:https?:)?//"""
    r"""|url\(\s*["']?(?:https?:)?//|@import|import\s*\(\s*["']""",
    flags=re.IGNORECASE,
)

#: What a picture says of itself to those who cannot see it.
DESCRIBED = re.compile(r"""alt=["'](?:Figure|Map|Radiograph)\b[^:]*: \S""")


def read(path: Path):
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def prose(path: Path) -> str:
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def test_notebooks_are_numbered_without_gaps():
    numbers = [int(path.stem[:2]) for path in NOTEBOOKS]
    assert numbers == list(range(len(NOTEBOOKS)))
    assert NOTEBOOKS[0].name == "00_start_here.ipynb"


@every_notebook
def test_is_valid_and_carries_no_outputs(path):
    nbformat.validate(read(path))
    for cell in code_cells(path):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert set(cell.metadata) <= {"tags"}


@every_notebook
def test_first_code_cell_holds_the_parameters(path):
    first, *others = code_cells(path)
    assert first.metadata.get("tags") == ["parameters"]
    assert not any("parameters" in cell.metadata.get("tags", []) for cell in others)
    for statement in ast.parse(first.source).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)


@every_notebook
def test_cells_are_short_and_define_nothing(path):
    for cell in code_cells(path):
        assert len(cell.source.splitlines()) <= 15, cell.source
        defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        assert not any(isinstance(node, defined) for node in ast.walk(ast.parse(cell.source)))


@every_notebook
def test_asks_one_question_claims_with_asserts_and_ends_with_an_exercise(path):
    cells = read(path).cells
    title = cells[0].source.splitlines()[0]
    assert title.startswith("# ")
    assert title.endswith("?")
    assert sum("assert " in cell.source for cell in code_cells(path)) >= 3
    sections = re.findall(r"^## (.+)$", prose(path), flags=re.MULTILINE)
    assert "Exercise" in sections[-1]


@every_notebook
def test_every_code_cell_is_introduced(path):
    cells = read(path).cells
    for before, cell in pairwise(cells):
        if cell.cell_type == "code" and before.cell_type == "code":
            after_parameters = "parameters" in before.metadata.get("tags", [])
            assert after_parameters or "assert " in cell.source, cell.source


@every_notebook
def test_runs_and_becomes_one_page_that_needs_no_network(path):
    lesson = lessons()[int(path.stem[:2])]
    parameters = SMALLER.get(lesson.number, {})
    done = executed(lesson, KEPT, again=True, MODEL="mini", **parameters)  # `make site` finds it
    html = done.page.read_text(encoding="utf-8")
    assert REMOTE.findall(html) == []
    assert "data:image/png;base64," in html
    pictures = re.findall(r"<img [^>]*>", html)
    assert all(DESCRIBED.search(tag) for tag in pictures)
    assert read(path).cells[0].source.splitlines()[0][2:].rstrip("?") in html


def shown(data: dict) -> str:
    output = nbformat.v4.new_output("display_data", data)
    cell = nbformat.v4.new_code_cell("widget", outputs=[output])
    return to_html(nbformat.v4.new_notebook(cells=[cell]), title="page")


def test_a_widget_is_shown_by_its_own_picture_and_a_bare_one_not_at_all():
    widget = {WIDGET: {"model_id": "a" * 32}, "text/plain": "nothing done yet"}
    assert "<p>a still</p>" in shown(widget | {"text/html": "<p>a still</p>"})
    assert "nothing done yet" not in shown(widget)


@pytest.mark.parametrize("number, widget", [(0, "wb.explore("), (9, "wb.review.app(")])
def test_a_lesson_shows_an_app(number, widget):
    assert sum(cell.source.startswith(widget) for cell in code_cells(NOTEBOOKS[number])) == 1


@pytest.fixture
def run_cell(tmp_path):
    """Runs a notebook of one cell; returns where its page is."""

    def run(code: str, kernel=None) -> Path:
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        nbformat.write(book, tmp_path / "one.ipynb")
        page = tmp_path / "page.html"
        execute_to_html(tmp_path / "one.ipynb", page, title="one", kernel=kernel)
        return page

    return run


def test_a_failing_cell_is_named(run_cell, tmp_path):
    with pytest.raises(WorkbenchError, match=r"one\.ipynb failed: ZeroDivisionError"):
        run_cell("1 / 0")
    assert not (tmp_path / "page.html").exists()


def test_a_forked_kernel_that_dies_fails_its_lesson_and_leaves_nothing_to_the_next(run_cell):
    set_ = "import os, workbench\nos.environ['LEFT'] = workbench.LEFT = LEFT = 'here'"
    with pytest.raises(WorkbenchError, match=r"one\.ipynb"):
        run_cell(f"{set_}\nos.kill(os.getpid(), 9)", forked_kernels())
    run_cell(set_, forked_kernels())
    found = "'LEFT' in os.environ, 'LEFT' in globals(), hasattr(workbench, 'LEFT')"
    page = run_cell(f"import os, workbench\nprint({found})", forked_kernels())
    assert "False False False" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://cdn.example/x.js"></script>',
        "<img src='//cdn.example/x.png'>",
        '<link rel="stylesheet" href="https://cdn.example/x.css">',
        "<style>body { background: url(https://cdn.example/x.png) }</style>",
        '<script type="module">await import("https://cdn.example/x.mjs")</script>',
    ],
)
def test_a_remote_request_would_be_seen(tag):
    assert REMOTE.search(tag)
