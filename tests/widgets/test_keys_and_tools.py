"""Keys without a click, wheel, right button and Reset, in a page of its own and in a notebook."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from tests.app.watching import PIXELS
from tests.widgets.conftest import OPEN
from tests.widgets.made_explorer import made_python, made_state, open_made
from tests.widgets.seeing import settled
from tests.widgets.test_explorer_page import asked, changes, chosen, ready, same
from workbench.radiograph import Radiograph
from workbench.widgets._front import script, styles
from workbench.widgets.reader import StudyApp

FOCUS = "document.activeElement?.className ?? ''"
TOGGLES = ("Model\u2019s view", "Invert", "Flip", "Pan")


@pytest.fixture
def page(bare):
    """An explorer that has its page to itself; nobody has clicked."""
    page = open_made(bare, alone=True)
    ready(page)
    return page


@pytest.fixture
def cell(bare):
    """An explorer in a page with other things, as in a notebook; nobody has clicked."""
    page = open_made(bare)
    ready(page)
    return page


def middle(page) -> tuple[float, float]:
    box = page.locator(".wbf-canvas").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def zoom(page) -> float:
    """Return the zoom that Python was told last."""
    page.wait_for_timeout(450)
    kept = asked(page, "keep")
    return kept[-1]["settings"]["view"]["zoom"] if kept else 1.0


# --- keys ----------------------------------------------------------------------------------------


def test_keys_work_at_once_in_a_page_of_its_own(page):
    changes(page, lambda: page.keyboard.press("i"))
    page.keyboard.press("Home")
    assert chosen(page) == ["There"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert chosen(page) == ["is", "a"]
    changes(page, lambda: page.keyboard.press("+"))
    page.keyboard.press("?")
    assert page.locator(".wb-dialog[open]").count() == 1


def test_keys_still_work_after_a_click_beside_everything(page):
    page.mouse.click(2, 2)
    page.evaluate("document.activeElement?.blur()")
    page.keyboard.press("f")
    assert page.get_attribute(".wbx-chip[data-finding='pneumothorax']", "aria-pressed") == "true"


def test_a_notebook_keeps_its_focus_and_its_keys(cell):
    assert cell.evaluate("document.activeElement === document.body")
    same(cell, lambda: cell.keyboard.press("i"))
    cell.click(".wb-title")
    changes(cell, lambda: cell.keyboard.press("i"))


def test_a_field_of_the_page_that_has_the_focus_keeps_it(bare):
    page = bare.page(alone=True)
    page.evaluate("""() => { const field = document.createElement("input");
        document.body.prepend(field); field.focus(); }""")
    esm, css = script("explorer.js"), styles("radiograph.css", "explorer.css")
    page.evaluate(OPEN, {"esm": esm, "css": css, "traits": {"title": "Explorer", "notice": ""},
                         "python": made_python(made_state()), "live": False})  # fmt: skip
    ready(page)
    same(page, lambda: page.keyboard.type("ivo"))
    assert page.input_value("body > input") == "ivo"


def test_letters_in_the_question_are_letters(page):
    page.keyboard.press("/")
    same(page, lambda: page.keyboard.type("if not, + 0?"))
    assert page.input_value(".wbx-ask input") == "if not, + 0?"


def test_a_menu_that_was_used_by_hand_gives_the_keys_back(page):
    menu = page.locator("label:has-text('Method') select")
    menu.focus()
    menu.press("ArrowDown")  # by keyboard the menu keeps them
    assert page.evaluate(FOCUS) == "wb-select"
    menu.dispatch_event("pointerdown")
    menu.select_option("attention")
    assert page.evaluate(FOCUS).startswith("wb ")
    page.keyboard.press("m")
    assert menu.input_value() != "attention"


def test_keys_do_nothing_behind_the_list_of_keys(page):
    page.keyboard.press("?")
    same(page, lambda: page.keyboard.press("i") or page.keyboard.press("+"))
    page.keyboard.press("Escape")
    changes(page, lambda: page.keyboard.press("i"))


# --- wheel and buttons ----------------------------------------------------------------------------


def test_a_notch_of_the_wheel_zooms_a_tenth_about_the_pointer_without_a_click(page):
    x, y = middle(page)
    page.mouse.move(x + 60, y + 40)
    page.mouse.wheel(0, -110)
    first = zoom(page)
    assert first == pytest.approx(1.1, abs=0.005)
    page.mouse.wheel(0, -11)  # a trackpad: in proportion
    assert zoom(page) / first == pytest.approx(1.1**0.1, abs=0.002)
    view = asked(page, "keep")[-1]["settings"]["view"]
    assert view["x"] > 0.5 and view["y"] > 0.5
    for _ in range(8):
        page.mouse.wheel(0, 400)
    assert zoom(page) == 1


@pytest.mark.parametrize(
    ("event", "factor"),
    [({"deltaY": -3, "deltaMode": 1}, 1.1), ({"deltaY": -5, "ctrlKey": True}, 1.1**0.45),
     ({"deltaY": -9000}, 1.1 ** (240 / 110)), ({"deltaY": 110}, 1)],
)  # fmt: skip
def test_lines_pinches_and_leaps_zoom_in_proportion(page, event, factor):
    page.locator(".wbf-canvas").dispatch_event("wheel", event | {"bubbles": True})
    assert zoom(page) == pytest.approx(factor, abs=0.01)


def test_a_notebook_scrolls_past_an_image_and_zooms_with_control_or_once_it_was_clicked(cell):
    cell.evaluate("document.body.style.paddingBottom = '2000px'")
    settled(cell)
    cell.mouse.move(*middle(cell))
    cell.mouse.wheel(0, 60)
    cell.wait_for_function("window.scrollY > 0")
    assert zoom(cell) == 1
    cell.evaluate("window.scrollTo(0, 0)")
    cell.mouse.move(*middle(cell))
    cell.keyboard.down("Control")
    cell.mouse.wheel(0, -110)
    cell.keyboard.up("Control")
    assert zoom(cell) == pytest.approx(1.1, abs=0.005)
    assert cell.evaluate("window.scrollY") == 0
    cell.mouse.click(*middle(cell))
    cell.mouse.wheel(0, -110)
    assert zoom(cell) == pytest.approx(1.21, abs=0.01)


def test_the_right_button_moves_and_opens_no_menu_in_or_beside_the_image(cell):
    cell.evaluate("""() => { window.menus = [];
        document.addEventListener("contextmenu", (event) => window.menus.push(event.target)); }""")
    changes(cell, lambda: cell.click("button[aria-label='Zoom in']"))
    x, y = middle(cell)
    before = cell.evaluate(PIXELS)
    for end in [(x + 30, y + 20), (x, 5)]:
        cell.mouse.move(x, y)
        cell.mouse.down(button="right")
        cell.mouse.move(*end, steps=3)
        cell.evaluate(
            """([x, y]) => document.elementFromPoint(x, y).dispatchEvent(
            new MouseEvent("contextmenu", {bubbles: true, cancelable: true}))""",
            end,
        )
        cell.mouse.up(button="right")
        assert cell.evaluate("window.menus.length") == 0
    settled(cell)
    assert cell.evaluate(PIXELS) != before
    assert cell.locator(".wbf-stage[data-jp-suppress-context-menu]").count() == 1
    cell.wait_for_timeout(100)
    cell.click(".wb-title", button="right")
    assert cell.evaluate("window.menus.length") == 1


@pytest.mark.parametrize("reset", ["button[aria-label='Reset the image']", "0"])
def test_reset_takes_back_everything_that_the_tools_changed(page, reset):
    start = page.evaluate(PIXELS)
    x, y = middle(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 50, y + 30, steps=3)
    page.mouse.up()
    for key in ("+", "+", "i", "v", "h", "[", "."):
        page.keyboard.press(key)
    page.click("button:text-is('Pan')")
    page.keyboard.press("Tab")
    settled(page)
    assert page.evaluate(PIXELS) != start
    if reset == "0":
        page.keyboard.press("0")
    else:
        page.click(reset)
    settled(page)
    assert page.evaluate(PIXELS) == start
    for name in TOGGLES:
        assert page.get_attribute(f"button:text-is('{name}')", "aria-pressed") == "false", name


def test_reset_and_the_next_image_take_invert_back_in_the_reader_study(bare, tmp_path):
    pairs = pd.DataFrame({"id": ["a", "b"], "model": "The lungs are clear.", "reference": "Clear."})
    study = wb.reader_study(pairs, readers=["AB"], out=tmp_path / "s")
    grey = np.random.default_rng(0).integers(0, 255, (24, 20), dtype=np.uint8)
    image = Radiograph.from_array(grey)
    page = bare.live(StudyApp(study, reader="AB", images=lambda *_: image), alone=True)
    page.wait_for_selector(".read-head:text-is('Report 1 of 4')")
    page.wait_for_function(f"() => ({PIXELS})(0)")
    pressed = "button:text-is('{}')[aria-pressed='true']"
    for key in ("i", "m", "0"):
        page.keyboard.press(key)
        assert page.locator(pressed.format("Invert")).count() == (key != "0")
    assert page.locator(pressed.format("Pan")).count() == 0
    page.keyboard.press("i")
    page.keyboard.press("a")
    page.wait_for_selector(".read-head:text-is('Report 2 of 4')")
    page.wait_for_function(
        "document.querySelectorAll('.desk-imagetools [aria-pressed=true]').length === 0"
    )


# --- window, flip, pixels, full screen ------------------------------------------------------------

#: Grey along the middle row of the radiograph.
ROW = """() => { const canvas = document.querySelector(".wbf-canvas");
    const { data } = canvas.getContext("2d").getImageData(0, canvas.height >> 1, canvas.width, 1);
    return Array.from({length: canvas.width}, (_, at) => data[4 * at]); }"""


def view(page) -> dict:
    """Return the view that Python was told last."""
    page.wait_for_timeout(450)
    return asked(page, "keep")[-1]["settings"]["view"]


def shown_window(page) -> tuple[str, float, float]:
    numbers = [float(field.input_value()) for field in page.locator(".wbf-number").all()]
    return page.locator("label:has-text('Window') select").input_value(), *numbers


def test_presets_numbers_and_drags_set_one_window(page):
    assert shown_window(page) == ("", 50, 100)
    pictures = {changes(page, lambda: page.keyboard.press("w")) for _ in range(3)}
    assert len(pictures) == 3
    name, level, width = shown_window(page)
    assert name == "bone" == view(page)["preset"]
    assert (level - width / 2, level + width / 2) == pytest.approx((25, 97), abs=2)  # of a ramp
    page.get_by_label("Level, %").fill("40")
    changes(page, lambda: page.keyboard.press("Tab"))
    assert shown_window(page) == ("own", 40, width)
    assert view(page)["centre"] == pytest.approx(0.4) and view(page)["preset"] == ""
    page.select_option("label:has-text('Window') select", "")
    assert shown_window(page) == ("", 50, 100)


def test_flip_mirrors_the_image_what_is_pointed_at_and_warns(page):
    told = page.locator(".wbf-told")
    for key in ("o", "v"):
        page.keyboard.press(key)
    settled(page)
    assert told.inner_text() == ""
    before = page.evaluate(ROW)
    changes(page, lambda: page.keyboard.press("h"))
    assert told.inner_text() == "\u26a0 Mirrored: left and right are swapped"
    other = np.abs(np.array(page.evaluate(ROW)[::-1]) - before) > 2
    assert other.sum() <= 2 and max(before) > 50  # both edges may fall on a pixel or beside it
    x, y = middle(page)
    page.mouse.move(x + 60, y)
    page.mouse.wheel(0, -240)
    assert view(page)["x"] < 0.5  # what lies under the pointer stays there
    page.click("button:text-is('Flip')")
    settled(page)
    assert told.inner_text() == ""


def test_pixels_one_to_one_and_double_click_fits_and_keeps_the_window(page):
    page.keyboard.press("w")
    page.keyboard.press("p")
    stage = page.locator(".wbf-canvas").bounding_box()
    fit = min(stage["width"] / 64, stage["height"] / 96)
    assert zoom(page) * fit == pytest.approx(1, abs=0.01)
    page.mouse.dblclick(*middle(page))
    found = view(page)
    assert (found["zoom"], found["x"], found["y"], found["preset"]) == (1, 0.5, 0.5, "lung")


def test_full_screen_keeps_the_tools_and_gives_the_image_the_room_of_the_words(page):
    wide = page.locator(".wbf-stage").bounding_box()["width"]
    page.keyboard.press("l")
    page.wait_for_function("document.fullscreenElement?.matches('.wb')")
    settled(page)
    assert page.locator(".wbf-stage").bounding_box()["width"] > 1.6 * wide
    assert not page.locator(".wbx-words").is_visible()
    assert page.get_by_label("Level, %").is_visible()
    page.click("button[aria-label='Full screen']")
    page.wait_for_function("!document.fullscreenElement")
    assert page.locator(".wbx-words").is_visible()


# --- what is offered ------------------------------------------------------------------------------


def test_truth_is_offered_where_there_are_outlines_only(bare):
    state = made_state()
    state["sides"][0]["truth"] = []
    page = open_made(bare, state=state, alone=True)
    ready(page)
    assert not page.is_visible("button:text-is('Truth')")
    page.keyboard.press("t")
    page.wait_for_timeout(400)
    assert not any(one["settings"]["truth"] for one in asked(page, "keep"))


def test_signs_of_findings_do_not_judge(page):
    said = page.locator(".wbx-code").all_inner_texts()
    assert said == ["+ present", "\u2212 absent"]
    texts = page.inner_text(".wbx-text-column")
    assert not set("\u2713\u2714\u2717\u2718\u2715\u2716\u2705\u274c\u00d7") & set(texts)
