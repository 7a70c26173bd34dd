"""A CT phantom from two sides: lesions and places of one view are found in the other."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb
from tests.app.watching import PIXELS
from tests.widgets.made_explorer import made_state, open_made
from tests.widgets.seeing import SCREENS, hidden, scrolls, settled
from tests.widgets.test_explorer_page import asked, changes, ready
from workbench.widgets.explorer_side import lateral_of
from workbench.widgets.radiographs import model_view_of, outlines_of, radiograph_of

SIZE = 128
CHIP = ".wbx-chip[title*='both views']"
#: Grey along a column of the second radiograph.
COLUMN = """(x) => { const canvas = document.querySelectorAll(".wbf-canvas")[1];
    const context = canvas.getContext("2d");
    const { data } = context.getImageData(Math.round(x * canvas.width), 0, 1, canvas.height);
    return Array.from({length: canvas.height}, (_, at) => data[4 * at]); }"""


@pytest.fixture(scope="module")
def front():
    return wb.phantom(11, domain="ct", findings=["nodule", "pleural effusion"], size=SIZE)


def open_two(bare, front, *, width=1280, height=720, **settings):
    state = made_state(lateral=True, truth=True, overlay=False, **settings)
    image = front.image
    state["sides"][0] |= {
        "radiograph": radiograph_of(image),
        "seen": model_view_of(image, image.geometry(64)),
        "truth": outlines_of(front.masks),
    }
    state["lateral"] = lateral_of(front)
    page = open_made(bare, state=state, alone=True, width=width, height=height)
    page.wait_for_selector(CHIP)
    ready(page)
    return page


def place(page, nth: int, point) -> tuple[float, float]:
    """Return where a point (x, y) of a radiograph is on the page."""
    box = page.locator(".wbf-canvas").nth(nth).bounding_box()
    scale = min(box["width"], box["height"]) / SIZE
    return tuple(
        box[first] + box[long] / 2 + (at - SIZE / 2) * scale
        for first, long, at in zip("xy", ("width", "height"), point, strict=True)
    )


def middle_of(mask) -> np.ndarray:
    return np.argwhere(mask).mean(0)[::-1] + 0.5


def lit(page) -> list[str]:
    return page.locator(f"{CHIP}[aria-pressed='true']").all_inner_texts()


def test_a_lesion_that_is_pointed_at_lights_up_in_both_views_and_a_click_keeps_it(bare, front):
    page = open_two(bare, front)
    at = place(page, 0, middle_of(front.masks["nodule"]))
    other = changes(page, lambda: page.mouse.move(*at), nth=1)
    assert lit(page) == ["nodule"]
    page.mouse.click(*at)
    page.mouse.move(5, 5)
    assert lit(page) == ["nodule"]
    page.mouse.click(*at)
    changes(page, lambda: page.mouse.move(5, 5), nth=1)
    assert lit(page) == [] and page.evaluate(PIXELS, 1) != other
    # the same from the side, and by keys
    side = front.seen_from("LATERAL")
    changes(page, lambda: page.mouse.move(*place(page, 1, middle_of(side.masks["nodule"]))))
    assert lit(page) == ["nodule"]
    page.mouse.move(5, 5)
    page.focus(f"{CHIP}:text-is('pleural effusion')")
    changes(page, lambda: page.keyboard.press("Enter"))
    assert lit(page) == ["pleural effusion"]


@pytest.mark.parametrize("flip", [False, True])
def test_a_place_of_one_view_is_a_line_in_the_other(bare, front, flip):
    page = open_two(bare, front, view={"flip": flip, "zoom": 1.0})
    page.click("button:text-is('Truth')")
    settled(page)
    before = np.array(page.evaluate(COLUMN, 0.5))
    x, y = np.array([40.0, 61.0])
    changes(page, lambda: page.mouse.move(*place(page, 0, (SIZE - x if flip else x, y))), nth=1)
    changed = np.flatnonzero(np.abs(np.array(page.evaluate(COLUMN, 0.5)) - before) > 20)
    a, b, c = front.lines_in(front.seen_from("LATERAL")) @ (x, y, 1)
    row = -(a * SIZE / 2 + c) / b
    box = page.locator(".wbf-canvas").nth(1).bounding_box()
    expected = box["height"] / 2 + (row - SIZE / 2) * min(box["width"], box["height"]) / SIZE
    assert changed.size and abs(changed.mean() - expected) < 2


@pytest.mark.parametrize("screen", [SCREENS[0], SCREENS[-1]], ids=str)
def test_both_views_their_lesions_and_the_words_are_seen_together(bare, front, screen):
    page = open_two(bare, front, width=screen[0], height=screen[1])
    assert hidden(page, ".wbf-stage", CHIP, ".wbf-window", ".wbx-words", ".wbx-ask") == []
    assert not scrolls(page)
    stages = [one.bounding_box() for one in page.locator(".wbf-stage").all()]
    assert stages[0]["y"] == stages[1]["y"] and stages[0]["height"] == stages[1]["height"]
    assert min(one["height"] for one in stages) > 0.3 * screen[1]
    changes(page, lambda: page.keyboard.press("+"), nth=1)  # one zoom for both
    page.click("button:text-is('Lateral')")
    page.wait_for_function("document.querySelectorAll('.wbf-canvas').length === 1")


def test_the_side_is_asked_for_when_it_is_wanted_and_offered_where_there_is_one(bare):
    state = made_state()
    page = open_made(bare, state=state | {"lateral": None}, alone=True)
    ready(page)
    assert not page.is_visible("button:text-is('Lateral')")
    page = open_made(bare, state=state | {"lateral": {}}, alone=True)
    ready(page)
    page.click("button:text-is('Lateral')")  # this Python does not know how
    page.wait_for_selector(".wb-failure")
    assert asked(page, "lateral")
    assert page.get_attribute("button:text-is('Lateral')", "aria-pressed") == "false"
