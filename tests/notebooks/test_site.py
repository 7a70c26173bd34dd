"""`make site`: pages that load nothing, can be read, and are made once."""

from __future__ import annotations

import io
import os
import re
import shutil
from base64 import b64encode
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from docs.site.__main__ import build, main
from docs.site.alt_text import LONGEST, describe
from docs.site.course import lessons, with_parameters
from docs.site.execute import executed
from docs.site.pages import THUMBNAIL, linked, markdown, section, slug, style, thumbnail
from docs.site.screenshots import PAGES, SIZES, screenshots
from workbench.errors import InputError, WorkbenchError

#: Anything that would make a browser ask the network: sources, imports, style sheets.
REMOTE = re.compile(
    r"""(?:src|data|srcset|poster)\s*=\s*["']?\s*(?:https?:)?//"""
    r"""|<link[^>]+href\s*=\s*["']?\s*(?:https?:)?//"""
    r"""|url\(\s*["']?(?:https?:)?//|@import|import\s*\(\s*["']|<iframe|<script[^>]+src""",
    flags=re.IGNORECASE,
)

TITLES = """
import matplotlib.pyplot as plt
figure, axes = plt.subplots(1, 2)
axes[0].plot([1, 2], label="first")
axes[0].legend()
axes[0].set(title="one & two", xlabel="steps")
"""
OWN = """
from workbench.figures.style import new_figure
new_figure().add_subplot().set_title("drawn by the workbench")
"""


def notebook(path: Path, *cells: str, title: str, head: str = "") -> None:
    book = nbformat.v4.new_notebook()
    parameters = nbformat.v4.new_code_cell('MODEL = "mini"\nSEED = 10_000  # kept')
    parameters.metadata["tags"] = ["parameters"]
    book.cells = [nbformat.v4.new_markdown_cell(f"# {title}\n\n> {head}"), parameters]
    book.cells += [nbformat.v4.new_code_cell(cell.strip()) for cell in cells]
    nbformat.write(book, path)


def small_course(folder: Path, first: str = "", second: str = "") -> Path:
    """Write two lessons, an instructor's page and a glossary."""
    folder.mkdir(parents=True)
    end = "print('MODEL is', MODEL)"
    head = "**Lesson 00** · 20 minutes in class · next: [01 b](01_b.ipynb)"
    notebook(folder / "00_a.ipynb", first, end, title="A: is it <so>?", head=head)
    head = "30 minutes in class [w](glossary.md#a-word)"
    notebook(folder / "01_b.ipynb", second, title="B: why?", head=head)
    (folder / "README.md").write_text(
        "# Teach\n\n## Paths\n\n[b](01_b.ipynb), then to [the log](../LOG.md).\n\n## More\n\nNo.\n"
    )
    (folder / "glossary.md").write_text("# Glossary\n\n### a word\n\nA word. [a](#a-word)\n")
    return folder


@pytest.fixture
def course(tmp_path) -> Path:
    return small_course(tmp_path / "notebooks")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Pages of two lessons with figures."""
    folder = tmp_path_factory.mktemp("site")
    course = small_course(folder / "notebooks", TITLES + "figure", OWN)
    build(folder / "pages", kept=folder / "kept", notebooks=course)
    return folder / "pages"


# --- pages ---------------------------------------------------------------------------------------


def test_pages_load_nothing_and_links_stay_on_the_site(site):
    pages = {path.name: path.read_text(encoding="utf-8") for path in site.glob("*.html")}
    assert sorted(pages) == [
        "00_a.html",
        "01_b.html",
        "glossary.html",
        "index.html",
        "instructor.html",
    ]
    for name, html in pages.items():
        assert REMOTE.findall(html) == [], name
        assert html.count("<h1") == 1 and '<html lang="en">' in html
        for path, anchor in re.findall(r'<a\b[^>]*href="([^"#:]*)(?:#([^"]*))?"', html):
            if path != "../index.html":  # the documentation
                target = pages[path or name]
                assert not anchor or f'id="{anchor}"' in target


def test_lessons_know_their_neighbours_and_the_index_knows_all(site):
    first, second = ((site / f"{n}.html").read_text(encoding="utf-8") for n in ("00_a", "01_b"))
    assert first.count('rel="next" href="01_b.html"') == 2
    assert 'rel="prev"' not in first
    assert second.count('rel="prev" href="00_a.html"') == 2
    index = (site / "index.html").read_text(encoding="utf-8")
    assert "A: is it &lt;so&gt;?" in index
    assert "0 h 50 min" in index
    assert "then to the log" in index and "No." not in index


def test_every_page_with_words_of_a_model_says_what_the_model_is(site):
    for name in ("00_a", "01_b", "index"):
        html = (site / f"{name}.html").read_text(encoding="utf-8")
        assert "trained on phantoms, not for real radiographs" in html
        assert "not for clinical use" in html


def test_figures_are_described_by_their_own_words(site):
    first, second = ((site / f"{n}.html").read_text(encoding="utf-8") for n in ("00_a", "01_b"))
    described = 'alt="Figure: one &amp; two. Axes: steps. Series: first"'
    assert first.count(described) == first.count("<img ") == 2
    assert second.count('alt="Figure: drawn by the workbench"') == second.count("<img ") == 1


def test_a_figure_without_words_is_described_by_its_heading(course, tmp_path):
    bare = "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    notebook(course / "02_c.ipynb", bare, title="C: a bare one?")
    page = executed(lessons(course)[2], tmp_path / "kept").page
    assert 'alt="Figure: C: a bare one?"' in page.read_text(encoding="utf-8")


def test_describe_joins_cuts_and_says_nothing_of_nothing():
    from matplotlib.figure import Figure

    figure = Figure()
    assert describe(figure) == ""
    axes = figure.subplots(1, 2)
    axes[0].set_title("same\nwords", loc="left")
    axes[1].set_title("same words")
    figure.suptitle("above.")
    assert describe(figure) == "above.; same words"
    axes[1].set_xlabel("long " * LONGEST)
    assert len(describe(figure)) <= LONGEST
    assert describe(figure).endswith("long ...")


# --- running -------------------------------------------------------------------------------------


def test_a_lesson_runs_once_and_again_when_it_changed(course, tmp_path):
    kept = tmp_path / "kept"
    first = executed(lessons(course)[0], kept)
    again = executed(lessons(course)[0], kept)
    assert (first.fresh, again.fresh) == (True, False)
    assert again.page == first.page and again.seconds == first.seconds
    notebook(course / "00_a.ipynb", "print('changed')", title="A: is it so?")
    changed = executed(lessons(course)[0], kept)
    assert changed.fresh
    assert "changed" in changed.page.read_text(encoding="utf-8")
    assert not first.page.exists()
    assert executed(lessons(course)[0], kept, again=True).fresh


def test_another_model_is_another_run_and_stands_in_the_parameters(course, tmp_path):
    before = (course / "00_a.ipynb").read_bytes()
    executed(lessons(course)[0], tmp_path / "kept")
    other = executed(lessons(course)[0], tmp_path / "kept", MODEL="other")
    assert other.fresh
    assert "MODEL is other" in other.page.read_text(encoding="utf-8")
    assert (course / "00_a.ipynb").read_bytes() == before


def test_a_failed_lesson_is_named_and_keeps_what_was_made(course, tmp_path):
    notebook(course / "01_b.ipynb", "1 / 0", title="B: why?")
    with pytest.raises(WorkbenchError, match=r"01_b\.ipynb failed: ZeroDivisionError"):
        build(tmp_path / "site", kept=tmp_path / "kept", notebooks=course)
    assert (tmp_path / "site" / "00_a.html").is_file()
    assert [path.name[:4] for path in (tmp_path / "kept").glob("*")] == ["00_a", "00_a"]


def test_the_command_says_which_lessons_there_are(capsys, tmp_path):
    assert main(["--only", "77", "--out", str(tmp_path)]) == 1
    assert "no lesson 77; there are 00 to" in capsys.readouterr().err


def test_parameters_are_set_and_the_others_stay_as_they_are_written():
    book = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell('MODEL = "mini"\nSEED = 10_000')
    cell.metadata["tags"] = ["parameters"]
    book.cells = [cell, nbformat.v4.new_code_cell('MODEL = "untouched"')]
    with_parameters(book, MODEL='a "b"', NEW=1)
    assert book.cells[0].source == 'MODEL = "a \\"b\\""\nSEED = 10_000'
    assert book.cells[1].source == 'MODEL = "untouched"'


def test_a_folder_without_lessons_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected notebooks such as 00_start_here\.ipynb"):
        lessons(tmp_path)


# --- text ----------------------------------------------------------------------------------------


def test_headings_can_be_linked_to_as_on_code_hosts():
    assert slug("Wilson's interval") == "wilsons-interval"
    assert slug("PA and <em>AP</em>") == "pa-and-ap"
    assert '<h3 id="a-word">a word</h3>' in markdown("### a word")


@pytest.mark.parametrize(
    "address, expected",
    [
        ("03_attention.ipynb", '<a href="03_attention.html">x</a>'),
        ("glossary.md#token", '<a href="glossary.html#token">x</a>'),
        ("README.md", '<a href="instructor.html">x</a>'),
        ("#here", '<a href="#here">x</a>'),
        ("https://doi.org/1", '<a href="https://doi.org/1">x</a>'),
        ("../LOG.md", "x"),
    ],
)
def test_links_lead_to_pages_or_nowhere(address, expected):
    assert linked(f'<a href="{address}">x</a>') == expected


def test_a_missing_section_is_named():
    assert section("# A\n\n## B\n\nb\n\n## C\n", "B") == "## B\n\nb\n\n"
    with pytest.raises(InputError, match="expected a heading '## D'"):
        section("## B\n", "D")


# --- legible -------------------------------------------------------------------------------------


def colours(scheme: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\}", style(), flags=re.DOTALL)[:2]
    pairs = re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light if scheme == "light" else dark)
    return dict(pairs)


def luminance(colour: str) -> float:
    values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    """Ratio of WCAG 2.2, from 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_measured_as_wcag_does():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_by_aa(scheme):
    found = colours(scheme)
    grounds = {
        "ground": ("ink", "soft", "link"),
        "panel": ("ink", "link", "code-key", "code-text", "code-number", "code-note"),
        "mark-ground": ("ink",),
    }
    for ground, words in grounds.items():
        for word in words:
            assert contrast(found[word], found[ground]) >= 4.5, (word, ground)
    assert contrast(found["mark"], found["mark-ground"]) >= 3


def test_nothing_is_set_smaller_than_the_back_row_reads():
    rules = style().split("@media (max-width")[0]
    base = int(re.search(r"html \{ font-size: (\d+)px", rules)[1])
    assert base >= 18
    rems = [float(size) for size in re.findall(r"font-size: ([\d.]+)rem", rules)]
    ems = [float(size) for size in re.findall(r"font-size: ([\d.]+)em\b", rules)]
    assert min(rems) * base >= 18
    assert min(ems) * min(1, *(size for size in rems if size > 0.9)) * base >= 18
    assert not re.search(r"font-size: \d+px", rules.replace(f"html {{ font-size: {base}px", ""))


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="x.js"></script>',
        "<img src='//cdn.example/x.png'>",
        '<link rel="stylesheet" href="https://cdn.example/x.css">',
        "<style>body { background: url(https://cdn.example/x.png) }</style>",
        '<iframe srcdoc="">',
    ],
)
def test_a_remote_request_would_be_seen(tag):
    assert REMOTE.search(tag)


def test_the_lessons_are_found_where_they_are(root):
    found = lessons()
    assert [lesson.number for lesson in found] == [f"{n:02}" for n in range(len(found))]
    assert found[0].path == root / "notebooks" / "00_start_here.ipynb"
    assert shutil.which("make") is None or "site:" in (root / "Makefile").read_text()


def test_the_index_shows_the_first_figure_of_a_lesson_small():
    figure = io.BytesIO()
    Image.new("RGBA", (1000, 400)).save(figure, "PNG")
    shown = f'<img alt="" src="data:image/png;base64,{b64encode(figure.getvalue()).decode()}">'
    small = thumbnail(f"<p>before</p>{shown}")
    assert f'width="{THUMBNAIL[0] // 2}" height="{THUMBNAIL[0] // 5}"' in small
    assert len(small) < 5_000
    assert thumbnail("<p>no figure</p>") == ""


def test_pictures_are_taken_of_pages_that_are_there_at_every_width(tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "course").mkdir(parents=True)
    for page in ("index", "course/index"):
        (site / f"{page}.html").touch()
    browser = tmp_path / "bin" / "chromium"
    browser.parent.mkdir()
    place = 'case $one in --screenshot=*) : > "${one#*=}";; esac'
    browser.write_text(f"#!/bin/sh\nfor one; do {place}; done")
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", str(browser.parent), prepend=os.pathsep)
    made = {path.name for path in screenshots(site, tmp_path / "pictures")}
    assert made == {f"{page}-{width}.png" for page in ("index", "course-index") for width in SIZES}
    assert {"index", "course/index"} < set(PAGES)
    monkeypatch.setenv("PATH", "")
    assert screenshots(site, tmp_path / "none") == []
