"""Pages of the course: lessons, instructor's page, glossary and index, without a script.

Nothing is fetched: styles stand in the page, fonts are the reader's own. Links between notebooks
and texts become links between pages.

Does not know: how a lesson is run.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from functools import cache
from html import escape
from io import BytesIO
from pathlib import Path

from PIL import Image

from docs.site.course import Lesson
from docs.site.execute import Executed
from workbench.errors import InputError
from workbench.figures.page import html_page

TITLE = "Reading a reader of chest radiographs"
#: Texts beside the notebooks and the pages that they become.
TEXTS = {"README.md": "instructor.html", "glossary.md": "glossary.html"}
NOT_CLINICAL = "For teaching and research only, not for clinical use."

#: Width and height that a thumbnail fits into, in pixels; shown at half of it, so sharp anywhere.
THUMBNAIL = (320, 200)

_FIGURE = re.compile(r'<img\b[^>]*?src="data:image/png;base64,([^"]+)"')
_LINK = re.compile(r'<a\b([^>]*?)href="([^"]*)"([^>]*)>(.*?)</a>', re.DOTALL)
_HEADING = re.compile(r"<h([1-6])>(.*?)</h\1>", re.DOTALL)


def slug(heading: str) -> str:
    """Return the anchor of a heading, as code hosts make it."""
    words = re.sub(r"<[^>]+>", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def markdown(text: str) -> str:
    """Return Markdown as HTML; headings can be linked to."""
    import mistune

    html = str(mistune.create_markdown(escape=False, plugins=["table"])(text))
    return _HEADING.sub(lambda m: f'<h{m[1]} id="{escape(slug(m[2]))}">{m[2]}</h{m[1]}>', html)


def linked(html: str) -> str:
    """Point links at pages of the site, and take off those to files that have no page there."""
    return _LINK.sub(_link, html)


def _link(found: re.Match) -> str:
    path, _, anchor = found[2].partition("#")
    if re.match(r"[a-z]+:", path):
        return found[0]
    if path.startswith("../"):
        return found[4]
    page = TEXTS.get(path, re.sub(r"\.ipynb$", ".html", path))
    address = f"{page}#{anchor}" if anchor else page
    return f'<a{found[1]}href="{address}"{found[3]}>{found[4]}</a>'


def lesson_page(done: Executed, lessons: Sequence[Lesson], *, notice: str) -> str:
    """Return an executed lesson in the dress of the course.

    Args:
        done: the lesson with its plain page.
        lessons: the whole course, for the neighbours.
        notice: what the model says of itself.

    Raises:
        InputError: the plain page is not built as expected.
    """
    at = [lesson.stem for lesson in lessons].index(done.lesson.stem)
    before = lessons[at - 1] if at else None
    after = lessons[at + 1] if at + 1 < len(lessons) else None
    html = linked(done.page.read_text(encoding="utf-8"))
    pieces = {
        "</head>": f"<style>{style()}</style></head>",
        "<main>": f'{_top(before, after)}<main id="text">{_notice(notice)}',
        "</main>": f"</main>{_end(before, after)}",
    }
    for mark, piece in pieces.items():
        if html.count(mark) != 1:
            raise InputError(
                f"expected {mark} once in the page of {done.lesson.path.name}, found it "
                f"{html.count(mark)} times; nbconvert's template has changed"
            )
        html = html.replace(mark, piece)
    return html


def text_page(source: Path) -> str:
    """Return one of `TEXTS` as a page."""
    body = linked(markdown(source.read_text(encoding="utf-8")))
    title = re.search(r"<h1[^>]*>(.*?)</h1>", body)
    return _page(re.sub(r"<[^>]+>", "", title[1]) if title else source.stem, body)


def index_page(done: Sequence[Executed], *, model: str, notice: str, paths: str) -> str:
    """Return the page that the course starts from.

    Args:
        done: the executed lessons in their order.
        model: name of the model that they were run with.
        notice: what it says of itself.
        paths: Markdown about the ways through the course.
    """
    minutes = sum(item.lesson.minutes or 0 for item in done)
    body = f"""<h1>{TITLE}</h1>
<p>{len(done)} lessons about models that write reports: what such a model sees, why it says what it
says, and how to find out when it is wrong. Each asks one question, answers it by an experiment on
phantoms, whose truth is known because they are made, and ends with an exercise and its answer.</p>
{_notice(notice)}
<p><a href="{TEXTS["README.md"]}">Teaching guide</a>: paths, times, answers to questions of
students. <a href="{TEXTS["glossary.md"]}">Glossary</a>: words of radiology and of machine learning,
each for people of the other field.</p>
<h2 id="lessons">Lessons</h2>
<table class="course-lessons"><thead><tr><th scope="col"></th><th></th><th scope="col">Question</th>
<th scope="col">In class</th><th scope="col">Runs</th></tr></thead>
<tbody>{"".join(_row(item) for item in done)}</tbody></table>
<p>{minutes // 60} h {minutes % 60} min of class time in all. “Runs” is how long all
cells took when this page was made, with the model <code>{escape(model)}</code>
on this machine.</p>
{linked(markdown(paths))}"""
    return _page(TITLE, body)


def _row(item: Executed) -> str:
    lesson = item.lesson
    time = f"{item.seconds:.0f} s" if item.seconds < 100 else f"{item.seconds / 60:.1f} min"
    link = f'<a href="{lesson.stem}.html">{escape(lesson.title)}</a>'
    small = thumbnail(item.page.read_text(encoding="utf-8"))
    return (
        f"<tr><td>{lesson.number}</td><td>{small}</td><td>{link}</td>"
        f'<td class="number">{lesson.minutes or "?"} min</td><td class="number">{time}</td></tr>'
    )


def thumbnail(html: str) -> str:
    """Return the first figure of a page, made small, as an image; nothing where there is none."""
    if (found := _FIGURE.search(html)) is None:
        return ""
    figure = Image.open(BytesIO(b64decode(found[1]))).convert("RGB")
    figure.thumbnail(THUMBNAIL)
    kept = BytesIO()
    figure.save(kept, "JPEG", quality=80)
    width, height = (side // 2 for side in figure.size)
    source = f"data:image/jpeg;base64,{b64encode(kept.getvalue()).decode()}"
    return f'<img alt="" width="{width}" height="{height}" src="{source}">'


def section(text: str, heading: str) -> str:
    """Return a section of a Markdown text with its heading.

    Raises:
        InputError: the text has no such heading of the second level.
    """
    found = re.search(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    if found is None:
        raise InputError(f"expected a heading '## {heading}' in the instructor's page, found none")
    return found[0]


@cache
def style() -> str:
    """Return the style of every page."""
    return (Path(__file__).resolve().parent / "style.css").read_text(encoding="utf-8")


def _page(title: str, body: str) -> str:
    return html_page(title, style(), f'{_top(None, None)}<main id="text">{body}</main>')


def _notice(notice: str) -> str:
    said = notice.strip().removesuffix("Not for clinical use.").strip().rstrip(".")
    return f'<p class="course-notice">The model in these pages: {escape(said)}. {NOT_CLINICAL}</p>'


def _top(before: Lesson | None, after: Lesson | None) -> str:
    """Return the line of links above a page."""
    links = [
        '<a class="course-skip" href="#text">To the text</a>',
        '<strong><a href="index.html">The course</a></strong>',
        '<a href="../index.html">Documentation</a>',
        *_neighbours(before, after),
        f'<a href="{TEXTS["glossary.md"]}">Glossary</a>',
    ]
    return f'<nav class="course-top" aria-label="Course">{"".join(links)}</nav>'


def _end(before: Lesson | None, after: Lesson | None) -> str:
    links = "".join(_neighbours(before, after))
    return f'<nav class="course-end" aria-label="Neighbouring lessons">{links}</nav>'


def _neighbours(before: Lesson | None, after: Lesson | None) -> list[str]:
    links = []
    if before:
        links.append(f'<a rel="prev" href="{before.stem}.html">← {escape(before.name)}</a>')
    if after:
        links.append(f'<a rel="next" href="{after.stem}.html">{escape(after.name)} →</a>')
    return links
