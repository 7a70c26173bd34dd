"""The documentation: pages and names are there, links hold, nothing is loaded, search works."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

import workbench as wb
from docs.site.course import lessons
from docs.site.documentation import COURSE, TREE, documentation, generated, public_names, staged
from docs.site.explorers import CASES, EXPLORE, explorers
from tests.widgets.conftest import browser  # noqa: F401 (a fixture)
from workbench.cli import COMMANDS
from workbench.data import SOURCES, card
from workbench.saliency import METHODS

#: What of the tables of a page cannot be seen without scrolling sideways.
CUT = """[...document.querySelectorAll('.pst-scrollable-table-container')]
    .filter(one => one.scrollWidth > one.clientWidth).map(one => one.innerText.slice(0, 40))"""
INK = "one => getComputedStyle(one).color"
#: What a browser would fetch from somewhere else.
REMOTE = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b[^>]*rel="(?:stylesheet|icon|preload)"[^>]*href="(?:https?:)?//"""
    r"""|url\(\s*["']?(?:https?:)?//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> tuple[Path, list[str]]:
    """The documentation, made once (half a minute of Sphinx), and what Sphinx warned of."""
    out = tmp_path_factory.mktemp("site")
    return out, documentation(out)


@pytest.fixture(scope="module")
def pages(site) -> dict[str, str]:
    """Text of every page, by its place."""
    out, _ = site
    files = out.rglob("*.html")
    return {path.relative_to(out).as_posix(): path.read_text(encoding="utf-8") for path in files}


def test_sphinx_warns_of_nothing(site):
    assert site[1] == []


def test_every_page_is_there_and_loads_nothing(site, pages):
    wanted = {f"{page}.html" for part in TREE.values() for page in part} | {"index.html"}
    assert wanted <= set(pages)
    assert [name for name, html in pages.items() if REMOTE.search(html)] == []
    styles = {path.name: path.read_text(encoding="utf-8") for path in site[0].rglob("*.css")}
    assert [name for name, css in styles.items() if REMOTE.search(css)] == []


def test_links_hold(site, pages):
    out, broken = site[0], []
    known = {f"{COURSE}/{lesson.stem}.html" for lesson in lessons()}
    known |= {f"{EXPLORE}/{name}.html" for name in CASES}
    anchors = {name: set(re.findall(r'\bid="([^"]+)"', html)) for name, html in pages.items()}
    for name, html in pages.items():
        for link in re.findall(r'<a\b[^>]*\bhref="([^"]+)"', html):
            path, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:", path):
                continue
            place = os.path.normpath(Path(name).parent / path) if path else name
            there = place in known or (out / place).is_file()
            if not there or (anchor and anchor not in anchors.get(place, {anchor})):
                broken.append((name, link))
    assert broken == []


def test_every_public_name_is_described(pages):
    missing = []
    for module, owned in public_names().items():
        html = pages[f"docs/reference/{module}.html"]
        package = "workbench" if module == "workbench" else f"workbench.{module}"
        missing += [
            f"{package}.{name}"
            for name, value in owned.items()
            if not isinstance(value, ModuleType) and f'id="{package}.{name}"' not in html
        ]
    assert missing == []


def test_pages_that_the_code_writes_say_all_that_there_is():
    written = generated()
    listed = re.findall(r"^\| `(\w+)` \|", written["docs/methods"], flags=re.MULTILINE)
    assert listed == 2 * list(METHODS)
    # how often it points at the truth of both domains, and cost
    rows = re.findall(r"^\| `\w+` \|.*$", written["docs/methods"], flags=re.MULTILINE)
    cells = [[cell.strip() for cell in row.split("|")[2:6]] for row in rows[: len(METHODS)]]
    assert all(
        cost and all(re.match(r"[01]\.\d\d \(", hit) for hit in hits) for *hits, _, cost in cells
    )
    titles = re.findall(r"(?m)^## workbench ([\w-]+)$", written["docs/command_line"])
    assert titles == list(COMMANDS)
    assert all(f"## {card(name).title}" in written["docs/cards"] for name in SOURCES)


def test_a_link_leads_to_the_page_on_the_site():
    text = "[a](../notebooks/00_start_here.ipynb) [b](../README.md#start) [c](../tests) [d](app.md)"
    found, links = staged(text, Path("docs/start.md"))
    assert found == (
        f'<a href="../{COURSE}/00_start_here.html">a</a> [b](../index.md#start) c [d](app.md)'
    )
    assert links == {Path("docs/app.md")}


def test_an_explorer_without_python_has_maps_of_every_word(tmp_path):
    explorers(tmp_path, wb.load_model("mini"), only=("internal-nodule",), methods=("grad_cam",))
    page = tmp_path / "internal-nodule.html"
    html = page.read_text(encoding="utf-8")
    held = json.loads(re.search(r'id="held">(.*?)</script>', html)[1])
    assert held["state"]["settings"]["truth"]
    assert {one["key"][2] for one in held["maps"]} == {"grad_cam"}
    words = held["state"]["sides"][0]["passages"][0]["words"]
    asked = {tuple(one["key"][5:7]) for one in held["maps"]}
    assert {(word["start"], word["end"]) for word in words} <= asked
    assert not REMOTE.search(html) and page.stat().st_size < 3_000_000


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_a_browser_finds_a_word_and_asks_nobody(site, width, browser):  # noqa: F811
    """From a file, at the width of a telephone, a laptop and a projector."""
    asked, said = [], []
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("request", lambda one: asked.append(one.url))
    page.on("console", lambda one: said.append(one.text) if one.type == "error" else None)
    for name in ("index", "docs/methods", "docs/reference/saliency", "docs/command_line"):
        page.goto((site[0] / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        if width > 390:
            assert page.evaluate(CUT) == [], name
    page.emulate_media(color_scheme="dark")
    page.goto((site[0] / "search.html").as_uri() + "?q=randomisation")
    page.wait_for_selector("#search-results li a")
    found = page.locator("#search-results li a").all_inner_texts()
    assert page.locator("a .highlighted").first.evaluate(INK) == page.locator("body").evaluate(INK)
    page.close()
    assert any("saliency" in text.lower() for text in found)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert said == []
