"""The reviewer in a real browser: verdicts by key, undo, resuming, two tabs, a monkey."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from tests.widgets.asking import slowly, watch_ahead
from tests.widgets.monkeys import monkey
from workbench.data import Manifest
from workbench.data.frames import conform
from workbench.radiograph import Radiograph
from workbench.review import Annotations, queue
from workbench.review.verdicts import VERDICTS
from workbench.widgets.reviewer import Reviewer
from workbench.widgets.reviewing import Reviewing

EFFUSION = "pleural effusion"
HOSTILE = "<img src=x onerror=window.hit=1> There is a left pleural effusion. No nodule."


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    texts = {
        f"radiograph-{n}": "There is a pleural effusion. The heart is normal." for n in range(6)
    }
    texts["radiograph-0"] = HOSTILE
    rows = {"id": list(texts), "text": list(texts.values()), "source": "made", "task": "report"}
    rows |= {"status": "done", "mean_logprob": [-0.1 * n for n in range(6)], "tokens": 9}
    pd.DataFrame(rows).to_parquet(folder / "results.parquet")
    table = pd.DataFrame({"image_id": list(texts), EFFUSION: "absent"})
    table["study_id"] = table["patient_id"] = table["image_id"]
    reports = ["No pleural effusion.", None, *["The lungs are clear. No effusion."] * 4]
    table = table.assign(source="made", licence="own", report_findings=reports)
    return queue(folder, manifest=Manifest(conform(table, sort=False)))


@pytest.fixture
def opened(made, bare, tmp_path):
    """Opens a page on a new widget, as after a kernel restart; verdicts are in one file."""

    def radiograph(source, case):
        grey = np.random.default_rng(int(case[-1])).integers(0, 4000, (40, 32), dtype=np.uint16)
        return Radiograph.from_array(grey, bits=12)

    def page(**options):
        notes = Annotations(tmp_path / "annotations.jsonl")
        widget = Reviewer(Reviewing(made, reviewer="AB", notes=notes), radiographs=radiograph)
        found = bare.live(widget, **options)
        found.set_default_timeout(90_000)  # a verdict waits for the disk, which others use
        found.wait_for_selector(".rev-finding")
        found.click(".rev-finding")
        return found

    page.notes = Annotations(tmp_path / "annotations.jsonl")
    return page


def count(page, text: str) -> None:
    """Wait until the bar says so."""
    page.wait_for_function(
        "(text) => document.querySelector('.desk-count').textContent.includes(text)", arg=text
    )


def test_three_verdicts_by_keyboard_undo_and_reload(opened):
    page = opened()
    first = page.inner_text(".rev-facts")
    for at, key in enumerate("125"):
        page.keyboard.press(key)
        count(page, f"AB: {at + 1} of 6 judged")
    names = list(VERDICTS)
    assert [a.verdict for a in opened.notes.current()] == [names[0], names[1], names[4]]
    assert page.inner_text(".rev-facts") != first
    page.keyboard.press("z")
    count(page, "2 of 6 judged")
    assert page.inner_text(".wb-news").startswith("Taken back: unclear")
    here = page.inner_text(".rev-facts")
    again = opened()
    count(again, "2 of 6 judged")
    assert again.inner_text(".rev-facts") == here
    again.keyboard.press("k")
    again.wait_for_selector(".desk-verdict[aria-pressed='true']")
    assert "reference wrong" in again.inner_text(".desk-verdict[aria-pressed='true']")
    assert "\u2713" in again.inner_text(".desk-verdict[aria-pressed='true']")


def test_what_is_typed_is_kept_and_keys_are_letters_there(opened):
    page = opened()
    page.keyboard.press("c")
    page.keyboard.type("125 z s")
    page.keyboard.press("Escape")
    page.wait_for_function("document.querySelector('.wb-news').textContent.includes('kept')")
    assert len(opened.notes) == 0
    again = opened()
    assert again.input_value(".rev-comment") == "125 z s"
    again.keyboard.press("1")
    count(again, "1 of 6 judged")
    assert again.input_value(".rev-comment") == ""
    (found,) = opened.notes.current()
    assert found.comment == "125 z s"


def test_the_grid_is_walked_by_arrows_and_judges_nothing(opened):
    page = opened()
    page.keyboard.press("g")
    page.wait_for_function(
        "[...document.querySelectorAll('.rev-small')].filter((i) => i.naturalWidth === 32).length"
        " === 6"
    )
    alts = page.eval_on_selector_all(".rev-small", "(found) => found.map((one) => one.alt)")
    assert sorted(alts) == [f"Radiograph radiograph-{n}" for n in range(6)]
    focused = "document.activeElement.querySelector('.rev-small')?.alt"
    seen = [page.evaluate(focused)]
    for key in ("ArrowRight", "End", "ArrowLeft"):
        page.keyboard.press(key)
        seen.append(page.evaluate(focused))
    assert seen == [alts[n] for n in (0, 1, 5, 4)]
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.wait_for_selector(".rev-facts")
    assert alts[4].split()[1] in page.inner_text(".rev-facts")
    assert not page.is_visible(".rev-small") and len(opened.notes) == 0
    page.keyboard.press("1")
    count(page, "1 of 6 judged")


def test_no_word_of_a_verdict_is_cut_on_a_phone(opened):
    page = opened(width=390)
    cut = """[...document.querySelectorAll('.desk-verdict-name')].filter((one) => {
        const range = document.createRange(), text = one.firstChild;
        return [...text.data.matchAll(/\\w+/g)].some((word) => {
            range.setStart(text, word.index);
            range.setEnd(text, word.index + word[0].length);
            return range.getClientRects().length > 1;
        });
    }).map((one) => one.textContent)"""
    assert page.evaluate(cut) == []


def test_a_view_is_saved_found_again_and_forgotten(opened):
    page = opened()
    page.select_option(".rev-filters select >> nth=2", "to judge")
    page.click("text=Save view")
    page.wait_for_selector("text=Forget view")
    again = opened()
    again.select_option(".rev-filters select >> nth=3", "without a verdict of mine")
    again.wait_for_selector("text=Forget view")
    assert again.input_value(".rev-filters select >> nth=2") == "to judge"
    again.click("text=Forget view")
    again.wait_for_selector(".rev-filters select:disabled")


def test_a_corrected_reference_is_written_with_the_verdict(opened):
    page = opened()
    page.keyboard.press("e")
    page.fill(".rev-report", "A small left effusion.")
    page.click("summary:has-text('Severity')")
    page.select_option(".rev-more select >> nth=0", "critical")
    page.check(".rev-errors input[name='fabricated']")
    page.click(".rev-finding")
    page.keyboard.press("2")
    count(page, "1 of 6 judged")
    (found,) = opened.notes.current()
    assert (found.report, found.severity, found.errors) == (
        "A small left effusion.", "critical", ("fabricated",),
    )  # fmt: skip
    page.keyboard.press("k")
    page.wait_for_function(
        "document.querySelector('.rev-report').value === 'A small left effusion.'"
    )


def test_texts_are_text_and_what_is_in_question_is_said_in_words(opened):
    page = opened()
    page.click(".rev-item:has-text('radiograph-0')")
    page.wait_for_function("document.querySelector('.rev-pane').textContent.includes('<img')")
    assert page.evaluate("window.hit") is None
    assert page.locator(".rev-pane img").count() == 0
    marked = page.locator(".rev-pane >> nth=0").locator(".rev-asked")
    assert marked.inner_text().startswith("pleural effusion")
    assert marked.locator(".rev-tag").inner_text() == "present, left"
    assert "absent" in page.locator(".rev-pane >> nth=1").locator(".rev-tag").inner_text()
    assert "not for clinical use" in page.inner_text(".wb-notice").lower()


def test_a_second_tab_is_told_and_nothing_is_written_over(opened):
    one, two = opened(), opened()
    one.keyboard.press("1")
    count(one, "1 of 6 judged")
    two.keyboard.press("5")
    two.wait_for_selector(".wb-failure")
    assert "in another tab or process you have said 'model wrong'" in two.inner_text(".wb-failure")
    count(two, "1 of 6 judged")
    assert two.locator(".desk-verdict[aria-pressed='true']").inner_text().startswith("1")
    assert [a.verdict for a in opened.notes.standing()] == ["model wrong"]
    one.keyboard.press("4")
    count(one, "2 of 6 judged")
    two.keyboard.press("r")
    count(two, "2 of 6 judged")


def test_a_second_tab_shows_by_itself_what_the_first_one_judged(opened, monkeypatch):
    monkeypatch.setattr(Reviewer, "every", 0.2)
    one, two = opened(), opened()
    two.keyboard.press("c")
    two.keyboard.type("typed here")
    one.keyboard.press("1")
    count(two, "1 of 6 judged")
    two.wait_for_selector(".desk-verdict[aria-pressed='true']:has-text('model wrong')")
    assert two.input_value(".rev-comment") == "typed here"
    assert two.locator(".rev-item:has-text('model wrong')").count() == 1
    one.keyboard.press("z")
    count(two, "0 of 6 judged")


def test_what_another_reviewer_says_appears_after_ones_own_verdict(opened, made, monkeypatch):
    monkeypatch.setattr(Reviewer, "every", 0.2)
    page = opened()
    other = Reviewing(made, reviewer="CD", notes=opened.notes)
    first = int(page.inner_text(".rev-place").split()[0].replace(",", "")) - 1
    other.judge(first, "reference wrong", comment="an old one")
    page.wait_for_function("document.querySelector('.rev-others').textContent.includes('Another')")
    assert "reference wrong" not in page.inner_text(".rev-others")
    page.keyboard.press("1")
    count(page, "1 of 6 judged")
    page.keyboard.press("k")
    page.wait_for_function("document.querySelector('.rev-others').textContent.includes('an old')")
    other.judge(first, "unclear", comment="changed")
    page.wait_for_function("document.querySelector('.rev-others').textContent.includes('changed')")


def test_keys_pressed_while_a_verdict_is_written_wait_for_their_entries(opened):
    page = opened()
    slowly(page, "judge")
    watch_ahead(page)
    for key in "125":
        page.keyboard.press(key)
    count(page, "1 of 6 judged")
    assert [a.verdict for a in opened.notes.current()] == ["model wrong"]
    count(page, "3 of 6 judged")
    assert "reference wrong" in page.evaluate("window.ahead")[0]
    names = list(VERDICTS)
    assert [a.verdict for a in opened.notes.current()] == [names[0], names[1], names[4]]
    page.keyboard.press("3")
    page.keyboard.press("z")
    page.wait_for_function("document.querySelector('.wb-news').textContent.startsWith('Taken')")
    count(page, "3 of 6 judged")
    page.keyboard.press("4")
    page.keyboard.press("k")
    page.wait_for_selector(".desk-verdict[aria-pressed='true']:has-text('both right')")
    count(page, "4 of 6 judged")


def test_a_note_begun_while_a_verdict_is_written_is_the_next_entrys(opened):
    page = opened()
    slowly(page, "judge")
    page.keyboard.press("1")
    page.keyboard.press("c")
    page.keyboard.type("s 25")
    count(page, "1 of 6 judged")
    page.wait_for_function("document.querySelector('.rev-comment').value === 's 25'")
    (found,) = opened.notes.current()
    assert found.comment == ""


def test_two_views_of_one_widget_show_the_same(opened):
    page = opened()
    page.evaluate(
        "async () => { const more = document.createElement('div');"
        "document.body.append(more); await window.draw(more); }"
    )
    page.wait_for_function("document.querySelectorAll('.rev-finding').length === 2")
    page.keyboard.press("3")
    page.wait_for_function(
        "[...document.querySelectorAll('.desk-count')].every((one) => "
        "one.textContent.includes('1 of 6'))"
    )


def test_filters_skip_and_the_ends(opened):
    page = opened()
    page.keyboard.press("s")
    page.wait_for_function("document.querySelector('.wb-news').textContent.startsWith('Skipped')")
    assert page.locator(".rev-item:has-text('skipped')").count() == 1
    page.keyboard.press("1")
    count(page, "1 of 6 judged")
    page.select_option("select >> nth=2", "judged")
    count(page, "1 of 1 judged here; 1 of 6 in all")
    page.select_option("select >> nth=2", "to judge")
    count(page, "0 of 5 judged here")


def test_the_radiograph_is_drawn_and_inverted(opened):
    page = opened()
    page.wait_for_selector(".wbf-canvas:visible")
    grey = (
        "() => { const canvas = document.querySelector('.wbf-canvas');"
        "const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
        "let sum = 0; for (let at = 0; at < data.length; at += 4) sum += data[at]; return sum; }"
    )
    page.wait_for_function(f"({grey})() > 0")
    before = page.evaluate(grey)
    page.keyboard.press("i")
    page.wait_for_function(f"({grey})() !== {before}")


def test_the_list_is_shown_and_hidden_by_a_key(opened):
    page = opened(width=1280)
    assert page.is_visible(".rev-list")
    page.keyboard.press("q")
    assert not page.is_visible(".rev-list")
    narrow = opened(width=900)
    assert not narrow.is_visible(".rev-list")
    narrow.keyboard.press("q")
    assert narrow.is_visible(".rev-list")
    assert narrow.get_attribute("button:text-is('List')", "aria-pressed") == "true"


def test_a_long_list_is_turned_over_in_parts(opened, monkeypatch):
    from workbench.widgets import reviewer

    whole = reviewer.listing
    monkeypatch.setattr(reviewer, "listing", lambda desk, **given: whole(desk, rows=4, **given))
    page = opened()
    assert page.locator(".rev-item").count() == 4
    page.click("button:has-text('2 more')")
    page.wait_for_function("document.querySelectorAll('.rev-item').length === 2")
    page.click(".rev-item >> nth=1")
    page.wait_for_function("document.querySelector('.rev-place').textContent === '6 of 6'")
    page.click("button:has-text('2 more')")
    page.wait_for_function("document.querySelectorAll('.rev-item').length === 4")


@pytest.mark.parametrize("width", [1280, 900, 480])
def test_nothing_is_wider_than_the_page(opened, width):
    page = opened(width=width)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.click("button[aria-label='Large, for a projector']")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_every_control_has_a_name(opened):
    page = opened()
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, select, textarea, input, canvas')].filter((one) =>"
        "!(one.innerText || one.getAttribute('aria-label') || one.labels?.length)).length"
    )
    assert nameless == 0


def test_two_hundred_random_actions_do_no_harm(opened):
    page = opened(width=1280, height=900)
    keys = "1 2 3 4 5 z s u c e d q r j k f i m Escape Tab ArrowLeft ArrowRight ? + - 0 Control+z"
    monkey(page, actions=200, seed=20, keys=keys)
    page.wait_for_function("!document.querySelector('dialog').open")
    page.click(".wb-title")
    page.keyboard.press("r")
    page.select_option("select >> nth=2", "all")
    page.select_option("select >> nth=1", "")
    page.select_option("select >> nth=0", "")
    count(page, f"AB: {len(opened.notes)} of 6 judged")
    assert opened.notes.torn == 0


def on_page(page, x: float, y: float) -> tuple[float, float]:
    """Return where a pixel of the radiograph is on the page; the middles of both are one."""
    box = page.locator(".wbf-canvas").bounding_box()
    scale = min(box["width"] / 32, box["height"] / 40) * page.zoom
    across, down = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    return across + (x - 16) * scale, down + (y - 20) * scale


def drag(page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*on_page(page, *start))
    page.mouse.down()
    page.mouse.move(*on_page(page, *end), steps=3)
    page.mouse.up()


def drawn(found) -> list[list[float]]:
    names = ("x", "y", "width", "height")
    return [[box[name] for name in names] for box in json.loads(found)]


def test_boxes_are_dragged_moved_named_undone_and_kept(opened):
    """At two zooms a dragged box is stored in pixels of the original, within one of them."""
    page = opened()
    page.wait_for_function("document.querySelector('.wbf-canvas').width > 0")
    page.zoom = 1
    page.keyboard.press("x")
    drag(page, (5, 8), (15, 20))
    page.keyboard.press("+")
    page.keyboard.press("+")
    page.zoom = 1.25**2
    page.wait_for_function("document.querySelectorAll('.desk-box').length === 1")
    drag(page, (18, 12), (24, 30))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")  # a third one in the middle
    page.keyboard.press("Delete")
    page.select_option("select[aria-label='Finding of box 1']", "nodule")
    page.select_option("select[aria-label='Finding of box 2']", "")
    page.wait_for_function("document.querySelector('.wb-news').textContent.includes('kept')")
    again = opened()
    again.wait_for_function("document.querySelectorAll('.desk-box').length === 2")
    again.keyboard.press("1")
    count(again, "1 of 6 judged")
    (found,) = opened.notes.current()
    np.testing.assert_allclose(drawn(found.boxes), [[5, 8, 10, 12], [19, 13, 6, 19]], atol=1)
    assert [box["finding"] for box in json.loads(found.boxes)] == ["nodule", ""]
    again.keyboard.press("z")
    count(again, "0 of 6 judged")
    again.wait_for_function("document.querySelectorAll('.desk-box').length === 2")
    again.click("button[aria-label='Delete box 1']")
    again.wait_for_function("document.querySelectorAll('.desk-box').length === 1")
    again.click("button:text-is('Undo box')")
    again.wait_for_function("document.querySelectorAll('.desk-box').length === 2")
