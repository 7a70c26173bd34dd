"""The reader study in a real browser: grades by key, one step back, resuming, a monkey."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from tests.widgets.asking import press_ahead, slowly, watch_ahead
from tests.widgets.monkeys import monkey
from workbench.radiograph import Radiograph
from workbench.review import ReaderSession
from workbench.review.study_session import GRADES
from workbench.widgets.reader import StudyApp

CASES = 5
NOTICE = "Trained on phantoms, not for real radiographs."


@pytest.fixture
def study(tmp_path):
    keys = [f"secret-case-{n}" for n in range(CASES)]
    pairs = pd.DataFrame(
        {
            "id": keys,
            "model": [f"<b>The lungs are clear</b>, one {n}." for n in range(CASES)],
            "reference": [f"<i>No effusion</i>, two {n}." for n in range(CASES)],
        }
    )
    title = "Chests, <b>blinded</b>"
    return wb.reader_study(pairs, readers=["AB"], out=tmp_path / "s", title=title)


@pytest.fixture
def opened(study, bare):
    """Opens a page on a new widget, as after a kernel restart."""

    def radiograph(source, case):
        grey = np.random.default_rng(int(case[-1])).integers(0, 255, (24, 20), dtype=np.uint8)
        return Radiograph.from_array(grey, source="secret-file.dcm")

    def page(**options):
        widget = StudyApp(study, reader="AB", images=radiograph)
        widget.notice = NOTICE
        found = bare.live(widget, **options)
        found.set_default_timeout(90_000)  # a verdict waits for the disk, which others use
        found.wait_for_function("document.querySelector('.read-head').textContent !== ''")
        found.click(".read-instructions")
        return found

    return page


def at(page, number: int) -> None:
    """Wait until a report is shown."""
    page.wait_for_function(
        "(text) => document.querySelector('.read-head').textContent.startsWith(text)",
        arg=f"Report {number} of 1",
    )


def grades(study) -> list[str]:
    session = ReaderSession(study.reader_file("AB"))
    found = session.grades
    return [found[i.item]["grade"] for i in session.items if i.item in found]


def test_three_grades_by_keyboard_undo_and_reload(opened, study):
    page = opened()
    session = study.session("AB")
    at(page, 1)
    assert page.inner_text(".read-text") == session.items[0].text
    for number, key in enumerate("abc", start=2):
        page.keyboard.press(key)
        at(page, number)
    assert grades(study) == ["A", "B", "C"]
    assert "AB: 3 of 11 graded" in page.inner_text(".desk-count")
    page.keyboard.press("z")
    at(page, 3)
    assert grades(study) == ["A", "B"]
    page.keyboard.press("z")
    page.wait_for_function("document.querySelector('.wb-news').textContent.startsWith('Only')")
    assert grades(study) == ["A", "B"]
    again = opened()
    at(again, 3)
    assert again.inner_text(".read-text") == session.items[2].text
    assert again.is_disabled("button:text-is('Undo')")


def test_the_page_says_what_the_study_says_and_nothing_of_cases(opened):
    page = opened()
    at(page, 1)
    assert page.inner_text(".wb-title") == "Chests, <b>blinded</b>"
    assert NOTICE in page.inner_text(".wb-notice")
    assert [one.split() for one in page.locator(".desk-verdict").all_inner_texts()] == [
        [key, *means.split()] for key, means in GRADES.items()
    ]
    html = page.locator("#app").evaluate("(one) => one.outerHTML").lower()
    for word in ("secret", "reference", "repeat", "washout"):
        assert word not in html, word


def test_reports_are_text(opened):
    page = opened()
    at(page, 1)
    assert page.inner_text(".read-text").startswith("<")
    assert page.locator(".read-text *").count() == 0


def test_a_note_is_kept_and_goes_with_the_grade(opened, study):
    page = opened()
    at(page, 1)
    page.keyboard.press("n")
    page.keyboard.type("bad cd")
    page.keyboard.press("Escape")
    page.wait_for_function("document.querySelector('.wb-news').textContent.includes('kept')")
    assert grades(study) == []
    again = opened()
    at(again, 1)
    assert again.input_value(".read-note") == "bad cd"
    again.click("button:has-text('unacceptable')")
    at(again, 2)
    session = study.session("AB")
    assert session.grades[session.items[0].item]["comment"] == "bad cd"
    assert again.input_value(".read-note") == ""


def test_a_second_tab_does_not_grade_the_same_report(opened, study):
    one, two = opened(), opened()
    at(one, 1)
    at(two, 1)
    one.keyboard.press("a")
    at(one, 2)
    two.keyboard.press("d")
    two.wait_for_selector(".wb-failure")
    assert "graded in another tab or process" in two.inner_text(".wb-failure")
    at(two, 2)
    assert grades(study) == ["A"]


def slow_page(opened, name: str = "grade"):
    """Open a page that waits a second before it asks Python for something."""
    page = opened()
    at(page, 1)
    slowly(page, name)
    return page


def test_keys_pressed_while_a_grade_is_written_wait_for_their_reports(opened, study):
    page = slow_page(opened)
    watch_ahead(page)
    for key in "abc":
        page.keyboard.press(key)
    at(page, 2)
    assert grades(study) == ["A"]  # what was pressed ahead is seen before it is written
    at(page, 4)
    assert grades(study) == ["A", "B", "C"]
    assert [words[0] for words in page.evaluate("window.ahead")] == ["B", "C"]


def test_keys_pressed_while_the_next_image_is_read_wait_too(opened, study):
    page = slow_page(opened, "show")
    page.keyboard.press("d")
    page.wait_for_function("document.querySelector('.read-text').textContent.startsWith('Read')")
    page.keyboard.press("c")
    at(page, 3)
    assert grades(study) == ["D", "C"]


def test_undo_pressed_while_a_grade_is_written_takes_that_one_back(opened, study):
    page = slow_page(opened)
    page.keyboard.press("a")
    page.keyboard.press("z")
    page.wait_for_function("document.querySelector('.wb-news').textContent.includes('taken back')")
    at(page, 1)
    assert grades(study) == []
    page.keyboard.press("a")
    page.keyboard.press("b")
    page.keyboard.press("z")  # of what waits, the last: it was never written
    at(page, 2)
    page.wait_for_timeout(1500)
    assert grades(study) == ["A"]


def test_a_grade_pressed_ahead_can_be_replaced_or_taken_back_while_it_is_seen(opened, study):
    page = slow_page(opened)
    press_ahead(page, "d")
    page.keyboard.press("a")
    page.keyboard.press("b")
    at(page, 3)
    assert grades(study) == ["A", "D"]
    press_ahead(page, "z")
    page.keyboard.press("a")
    page.keyboard.press("b")
    at(page, 4)
    page.wait_for_function("document.querySelector('.wb-news').textContent.includes('Taken back')")
    page.wait_for_timeout(1500)
    assert grades(study) == ["A", "D", "A"]


def test_a_note_begun_while_a_grade_is_written_is_the_next_reports(opened, study):
    page = slow_page(opened)
    page.keyboard.press("a")
    page.keyboard.press("n")
    page.keyboard.type("bad cd")
    at(page, 2)
    page.wait_for_function("document.querySelector('.read-note').value === 'bad cd'")
    page.keyboard.type("ab")
    page.wait_for_timeout(1000)
    assert page.input_value(".read-note") == "bad cdab"
    assert grades(study) == ["A"]
    session = study.session("AB")
    assert session.grades[session.items[0].item]["comment"] == ""


def test_a_grade_that_fails_takes_those_behind_it_along(opened, study, monkeypatch):
    page = slow_page(opened)

    def fails(self, item, grade, *, comment=""):
        raise wb.errors.RunError("the disk is full")

    monkeypatch.setattr("workbench.widgets.reader.ReaderSession.grade", fails)
    page.keyboard.press("a")
    page.keyboard.press("b")
    page.wait_for_selector(".wb-failure")
    monkeypatch.undo()
    page.wait_for_timeout(1500)
    at(page, 1)
    assert grades(study) == []
    assert (
        page.locator(".desk-leaving, .desk-ahead, .desk-verdict[aria-pressed='true']").count() == 0
    )
    page.keyboard.press("c")
    at(page, 2)
    assert grades(study) == ["C"]


def test_a_second_tab_shows_by_itself_what_the_first_one_graded(opened, study, monkeypatch):
    monkeypatch.setattr(StudyApp, "every", 0.2)
    one, two = opened(), opened()
    at(two, 1)
    two.keyboard.press("n")
    two.keyboard.type("typed here")
    one.keyboard.press("a")
    at(two, 2)
    assert "AB: 1 of 11 graded" in two.inner_text(".desk-count")
    assert two.input_value(".read-note") == ""
    two.keyboard.press("Escape")
    two.keyboard.press("b")
    at(one, 3)
    one.keyboard.press("z")  # the last grade is the other tab's
    at(two, 2)
    assert grades(study) == ["A"]


def test_the_end_is_said_and_takes_no_more_grades(opened, study):
    page = opened()
    total = len(study.session("AB").items)
    for number in range(1, total + 1):
        at(page, number)
        page.keyboard.press("b")
    page.wait_for_function("document.querySelector('.read-text').textContent.startsWith('All')")
    page.keyboard.press("a")
    assert page.is_disabled(".desk-verdict >> nth=0")
    page.keyboard.press("z")
    at(page, total)
    assert grades(study) == ["B"] * (total - 1)


def test_a_radiograph_that_fails_is_told_and_the_study_goes_on_later(study, bare):
    widget = StudyApp(study, reader="AB", images={})
    page = bare.live(widget)
    page.wait_for_selector(".wb-failure")
    assert "the radiograph of report 1 cannot be read" in page.inner_text(".wb-failure")
    assert page.is_disabled(".desk-verdict >> nth=0")
    assert "the reason stands above" in page.inner_text(".read-text")
    assert "secret" not in page.content()


@pytest.mark.parametrize("width", [1280, 900, 480])
def test_nothing_is_wider_than_the_page(opened, width):
    page = opened(width=width)
    at(page, 1)
    page.click("button[aria-label='Large, for a projector']")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_two_hundred_random_actions_do_no_harm(opened, study):
    page = opened()
    at(page, 1)
    monkey(page, actions=200, seed=9, keys="a b c d z n f i m Escape Tab ? + - 0 ArrowUp Control+z")
    page.wait_for_function("!document.querySelector('dialog').open")
    given = len(grades(study))
    page.wait_for_function(
        "(text) => document.querySelector('.desk-count').textContent.includes(text)",
        arg=f"{given} of 11 graded",
    )
    lines = (study.folder / "readers" / "AB.grades.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert all(record["what"] in ("grade", "undo") for record in records)
    whats = [record["what"] for record in records]
    assert ("undo", "undo") not in pairwise(whats)


def test_a_box_is_drawn_by_keys_and_goes_with_the_grade(opened, study):
    page = opened()
    at(page, 1)
    page.wait_for_function("document.querySelector('.wbf-canvas').width > 0")
    page.keyboard.press("x")
    for key in ("Enter", "Shift+ArrowRight", "ArrowLeft", "Enter", "Control+z"):
        page.keyboard.press(key)
    page.select_option("select[aria-label='Finding of box 1']", "nodule")
    page.keyboard.press("Escape")
    page.wait_for_function("document.querySelector('.wb-news').textContent.includes('kept')")
    again = opened()
    again.wait_for_function("document.querySelectorAll('.desk-box').length === 1")
    again.keyboard.press("b")
    at(again, 2)
    assert again.locator(".desk-box").count() == 0
    cell = study.to_frame()["boxes"].iloc[0]
    (box,) = json.loads(cell)
    assert box["finding"] == "nodule" and 0 < box["x"] < box["x"] + box["width"] < 20
    assert study.to_frame()["boxes"].tolist()[1:] == [""] * 10
