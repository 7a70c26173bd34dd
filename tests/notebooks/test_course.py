"""The lessons, the instructor's page and the glossary are one course."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.site.course import NOTEBOOKS, Lesson, lessons, read
from docs.site.pages import markdown, section, slug

COURSE = lessons()
GLOSSARY = (NOTEBOOKS / "glossary.md").read_text(encoding="utf-8")
README = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")
TERMS = re.findall(r"^### (.+)$", GLOSSARY, flags=re.MULTILINE)
every_lesson = pytest.mark.parametrize("lesson", COURSE, ids=lambda lesson: lesson.stem)

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def prose(lesson: Lesson) -> str:
    cells = read(lesson.path).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def code(lesson: Lesson) -> list[str]:
    return [cell.source for cell in read(lesson.path).cells if cell.cell_type == "code"]


def head(lesson: Lesson) -> str:
    """The block quote below the title, on one line."""
    lines = read(lesson.path).cells[0].source.splitlines()
    return " ".join(line.removeprefix("> ") for line in lines if line.startswith(">"))


def table_row(lesson: Lesson) -> list[str]:
    rows = [line for line in README.splitlines() if line.startswith(f"| {lesson.number} |")]
    assert len(rows) == 1, f"the instructor's page needs one row for {lesson.stem}"
    return [cell.strip() for cell in rows[0].strip("|").split("|")]


# --- every lesson --------------------------------------------------------------------------------


@every_lesson
def test_opens_with_its_place_in_the_course(lesson):
    at = COURSE.index(lesson)
    assert f"**Lesson {lesson.number}**" in head(lesson)
    assert lesson.minutes is not None and 10 <= lesson.minutes <= 40
    for word, neighbour in (("before", at - 1), ("next", at + 1)):
        said = re.search(rf"{word}: \[([^\]]+)\]\(([^)]+)\)", head(lesson))
        if 0 <= neighbour < len(COURSE):
            expected = COURSE[neighbour]
            assert said and said.groups() == (expected.name, expected.path.name)
        else:
            assert said is None


@every_lesson
def test_says_what_to_look_for_and_what_to_take_home(lesson):
    text = prose(lesson)
    assert text.index("**What to look for") < text.index("## What to take home")
    assert text.index("## What to take home") < text.index("## Exercise")


@every_lesson
def test_every_exercise_has_a_folded_answer(lesson):
    text = prose(lesson)
    exercise, folded = text[text.index("## Exercise") :].split("<details>")
    answers, behind = folded.split("</details>")
    asked = re.findall(r"^\d+\. ", exercise, flags=re.MULTILINE)
    answered = re.findall(r"^\d+\. ", answers, flags=re.MULTILINE)
    assert "<summary>" in answers
    assert len(asked) == len(answered) >= 2
    after = COURSE[COURSE.index(lesson) + 1 :]
    assert not after or f"({after[0].path.name})" in behind


@every_lesson
def test_its_words_are_in_the_glossary(lesson):
    words = re.findall(r"\[([^\]]+)\]\(glossary\.md#([^)]+)\)", head(lesson))
    assert "**Words:**" in head(lesson)
    assert len(words) >= 4
    for word, anchor in words:
        assert word in TERMS
        assert slug(word) == anchor


@every_lesson
def test_only_the_parameters_name_a_model(lesson):
    parameters, *others = code(lesson)
    assert 'MODEL = "mini"' in parameters
    assert not any('"mini"' in cell or "'mini'" in cell for cell in others)


@every_lesson
def test_claims_about_learning_ask_whether_the_model_learned_it(lesson):
    cells = "\n".join(code(lesson))
    if re.search(r"\bif (?:not )?trained\b|\bnot trained or\b", cells):
        assert re.search(r'^trained = (?:\w+\.)?card\.domain == "phantom"$', cells, re.MULTILINE)
        assert "was not trained on phantoms" in cells


# --- links ---------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    return set(re.findall(r' id="([^"]+)"', markdown(path.read_text(encoding="utf-8"))))


def broken(text: str, folder: Path, own: set[str]) -> list[str]:
    found = []
    for address in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        path, _, anchor = address.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = folder / path
        there = not path or target.exists()
        if not there or (anchor and anchor not in (anchors(target) if path else own)):
            found.append(address)
    return found


@every_lesson
def test_links_of_a_lesson_lead_somewhere(lesson):
    assert broken(prose(lesson), NOTEBOOKS, set()) == []


@pytest.mark.parametrize("name", ["README.md", "glossary.md"])
def test_links_of_a_text_lead_somewhere(name):
    path = NOTEBOOKS / name
    assert broken(path.read_text(encoding="utf-8"), NOTEBOOKS, anchors(path)) == []


def test_a_broken_link_would_be_seen():
    text = "[a](nowhere.ipynb) [b](glossary.md#nothing) [c](glossary.md#token) [d](https://a.b/c)"
    assert broken(text, NOTEBOOKS, set()) == ["nowhere.ipynb", "glossary.md#nothing"]


# --- glossary ------------------------------------------------------------------------------------


def test_terms_are_in_order_and_there_once():
    assert sorted(TERMS, key=str.casefold) == TERMS
    assert len({slug(term) for term in TERMS}) == len(TERMS) >= 60


def test_every_term_says_whose_word_it_is_and_is_short():
    _, *entries = re.split(r"^### .+$", GLOSSARY, flags=re.MULTILINE)
    for term, entry in zip(TERMS, entries, strict=True):
        text = " ".join(entry.split())
        assert re.match(r"\*(?:Radiology|Machine learning|Both|This workbench)\.?\*", text), term
        assert 5 <= len(text.split()) <= 60, term


# --- instructor's page ---------------------------------------------------------------------------


@every_lesson
def test_the_instructors_page_agrees_with_the_lesson(lesson):
    number, link, asks, finds, minutes, needs, runs = table_row(lesson)
    assert f"({lesson.path.name})" in link
    assert asks and finds and runs
    assert minutes == f"{lesson.minutes}"
    assert all(other < number for other in re.findall(r"\d\d", needs))


def test_paths_hold_lessons_that_exist_and_fit_their_time():
    paths = section(README, "Paths")
    assert re.findall(r"^### (.+)$", paths, flags=re.MULTILINE) == [
        "One-hour class",
        "Half-day workshop",
        "Self-study",
    ]
    minutes = {lesson.path.name: lesson.minutes for lesson in COURSE}
    for name, longest in (("One-hour class", 60), ("Half-day workshop", 240)):
        part = paths.split(f"### {name}\n")[1].split("\n### ")[0]
        spans = re.findall(r"^\| (\d+)-(\d+) \| (.+) \|$", part, flags=re.MULTILINE)
        ends = [int(end) for _, end, _ in spans]
        assert [int(start) for start, _, _ in spans] == [0, *ends[:-1]]
        assert ends[-1] <= longest
        for start, end, what in spans:
            named = re.findall(r"\]\(([^)]+\.ipynb)\)", what)
            assert not named or int(end) - int(start) <= max(minutes[link] for link in named)
    studied = re.findall(r"\b\d\d\b", paths.split("### Self-study\n")[1].split("\n\nSomebody")[0])
    assert studied == [lesson.number for lesson in COURSE]


@pytest.mark.parametrize("words", ["Phantoms are not patients", "Nothing here is for clinical use"])
def test_the_instructors_page_says_what_must_be_said(words):
    assert words in README
