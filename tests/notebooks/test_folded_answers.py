"""Answers to exercises are folded in every page that a lesson becomes, as a browser reads it."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import pytest

from docs.site.course import Lesson, lessons, read
from docs.site.execute import Executed
from docs.site.pages import lesson_page
from tests.widgets.conftest import browser  # noqa: F401 (a fixture)
from workbench.commands.demo import to_html

COURSE = lessons()
every_lesson = pytest.mark.parametrize("lesson", COURSE, ids=lambda lesson: lesson.stem)

#: In the browser: every folded piece, whether it is open, what it holds, and what of it shows.
ASK = """() => [...document.querySelectorAll("details")].map((one) => ({
  summary: one.querySelector("summary").textContent, open: one.open,
  items: one.querySelectorAll("li").length,
  showing: [...one.querySelectorAll("li")].filter((item) => item.checkVisibility()).length,
}))"""


class Folded(HTMLParser):
    """Words of a page inside and outside closed <details>."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.inside, self.outside, self.depth = "", "", 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "details":
            self.depth += "open" not in dict(attrs)

    def handle_endtag(self, tag):
        if tag == "details":
            self.depth -= 1

    def handle_data(self, data):
        if self.depth:
            self.inside += data
        else:
            self.outside += data


def plain(markdown: str) -> str:
    """The letters of a text, without what marks it up."""
    return re.sub(r"[^a-z]", "", re.sub(r"\]\([^)]*\)", "", markdown).lower())


def answers(lesson: Lesson) -> list[str]:
    """The first letters of each answer of a lesson."""
    source = next(c.source for c in read(lesson.path).cells if "<details>" in c.source)
    folded = source.split("</summary>")[1].split("</details>")[0]
    items = re.split(r"^\d+\. ", folded, flags=re.MULTILINE)[1:]
    return [plain(item.replace("\n", " "))[:40] for item in items]


@cache
def pages(lesson: Lesson) -> dict[str, str]:
    """What `workbench demo` and `make site` write of a lesson, its cells not run."""
    bare = to_html(read(lesson.path), title=lesson.title)
    with TemporaryDirectory() as folder:
        kept = Path(folder) / "lesson.html"
        kept.write_text(bare, encoding="utf-8")
        done = Executed(lesson, kept, 0.0, fresh=True)
        return {"demo": bare, "site": lesson_page(done, COURSE, notice="a notice")}


@every_lesson
def test_answers_lie_inside_what_is_folded(lesson):
    expected = answers(lesson)
    assert len(expected) >= 2
    for writer, html in pages(lesson).items():
        found = Folded(html)
        assert found.depth == 0, writer
        for answer in expected:
            assert answer in plain(found.inside), writer
            assert answer not in plain(found.outside), writer


@pytest.mark.parametrize(
    "folded",
    [
        "<details><summary>More</summary>\n\n1. first\n2. second\n\n</details>\n\nBehind.",
        "<details>\n<summary>More</summary>\n\nfirst\n\n```python\nsecond\n```\n</details>\n\nBehind.",
        "- item\n\n  <details><summary>More</summary>\n\n  first\n  second</details>\n\nBehind.",
        "Before <details><summary>More</summary> first **and** second </details>\n\nBehind.",
    ],
)
def test_whatever_stands_between_the_marks_is_folded(folded):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(folded)])
    found = Folded(to_html(book, title="page").split("<main>")[1])
    assert found.depth == 0
    assert "first" in found.inside and "second" in found.inside
    assert "Behind." in found.outside and "Behind." not in found.inside


def test_a_picture_that_a_cell_carries_is_inside_the_page():
    cell = nbformat.v4.new_markdown_cell("![a dot](attachment:dot.png)")
    cell["attachments"] = {"dot.png": {"image/png": "aGVsbG8="}}
    html = to_html(nbformat.v4.new_notebook(cells=[cell]), title="page")
    assert "data:image/png;base64,aGVsbG8=" in html


def test_a_browser_shows_no_answer_before_somebody_asks(browser):  # noqa: F811
    page = browser.new_page()
    for lesson in COURSE:
        for writer, html in pages(lesson).items():
            page.set_content(html, wait_until="domcontentloaded")
            folded = [one for one in page.evaluate(ASK) if one["summary"] == "What to expect"]
            assert len(folded) == 1, (lesson.stem, writer)
            assert folded[0]["items"] == len(answers(lesson)), (lesson.stem, writer)
            assert not folded[0]["open"] and not folded[0]["showing"], (lesson.stem, writer)
    page.close()
