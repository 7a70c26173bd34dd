"""The training monitor in a real browser: state, curves, table, ledger, keys, a monkey."""

from __future__ import annotations

import pytest

from tests.widgets.monkeys import monkey
from tests.widgets.runs_made import Folder
from workbench.widgets.monitor import Monitor


@pytest.fixture
def made(tmp_path):
    folder = Folder(tmp_path / "ft")
    folder.begin()
    folder.checkpoint(50, ago=100)
    folder.checkpoint(100)
    return folder


@pytest.fixture
def opened(made, bare):
    widgets = []

    def page(**options):
        widget = Monitor(made.folder)
        widget.every = 3600
        widgets.append(widget)
        found = bare.live(widget, **options)
        found.set_default_timeout(90_000)  # a verdict waits for the disk, which others use
        found.wait_for_selector(".mon-state")
        found.widget = widget
        return found

    yield page
    for widget in widgets:
        widget.close()


def tiles(page) -> dict[str, str]:
    names = page.locator(".mon-tile dt").all_inner_texts()
    return dict(zip(names, page.locator(".mon-value").all_inner_texts(), strict=True))


def test_what_is_known_is_on_the_page(opened):
    page = opened()
    page.wait_for_selector(".mon-line")
    assert "Running" in page.inner_text(".mon-state")
    assert tiles(page) == {"Step": "100", "Time left": "3 min 20 s", "Speed": "0.5",
                           "Best macro-F1": "0.5", "Memory": "\u2013"}  # fmt: skip
    names = page.locator(".mon-name").all_text_contents()
    assert names == ["Loss (logarithmic)", "Validation macro-F1", "Learning rate"]
    assert page.locator(".mon-best-text").text_content() == "best 0.5, kept"
    assert page.get_attribute(".mon-progress", "aria-valuenow") == "50"
    assert "Trained on phantoms" in page.inner_text(".wb-notice")
    labels = [one.get_attribute("aria-label") for one in page.locator(".mon-chart").all()]
    assert labels[0].startswith("Loss from 0.1 at step 10 to 0.01 at step 100, 10 values")


def test_labelled_and_unlabelled_rows_are_two_lines(opened, made):
    for step in range(110, 160, 10):
        kinds = {"loss_labelled": 36 - step / 10, "loss_unlabelled": 0.001}
        made.log("log", step=step, loss=18.0, learning_rate=2e-3, epoch=step / 25, **kinds)
    page = opened()
    page.wait_for_selector(".mon-key")
    loss = page.locator(".mon-chart >> nth=0")
    assert loss.locator(".mon-line:is(polyline)").count() == 2
    assert loss.locator(".mon-key").all_text_contents() == [
        "Unlabelled (held to the base)", "Labelled",
    ]  # fmt: skip
    points = [line.get_attribute("points").split() for line in loss.locator("polyline").all()]
    assert [len(line) for line in points] == [5, 5]
    assert len({point.split(",")[1] for point in points[1]}) == 1  # what is kept does not move
    assert "epoch 6" in page.inner_text(".mon-tile >> nth=0")
    assert "Learning rate 0.002" in page.inner_text(".mon-reading")


def test_a_smoothed_loss_starts_where_the_loss_does_and_lies_within_it(opened):
    page = opened()
    page.wait_for_selector(".mon-line")
    page.fill("label:has-text('Smoothing') input", "0.9")
    lines = page.locator(".mon-chart >> nth=0").locator("polyline")
    raw, smooth = (
        [float(point.split(",")[1]) for point in lines.nth(at).get_attribute("points").split()]
        for at in (0, 1)
    )
    assert raw[0] == pytest.approx(smooth[0], abs=0.11)
    assert all(min(raw) <= height <= max(raw) for height in smooth)
    assert max(smooth) - min(smooth) < 0.8 * (max(raw) - min(raw))
    assert lines.nth(0).get_attribute("class") == "mon-line mon-faint"
    page.fill("label:has-text('Smoothing') input", "0")
    assert page.locator(".mon-faint").count() == 0


def test_values_stand_beside_the_pointer(opened):
    page = opened()
    page.wait_for_selector(".mon-line")
    assert page.locator(".mon-tip").count() == 0
    box = page.locator(".mon-chart >> nth=0").bounding_box()
    for share, step in ((0.99, "step 100"), (0.15, "step 20")):
        x, y = box["x"] + share * box["width"], box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        tip = page.locator(".mon-chart >> nth=0 >> .mon-tip")
        page.wait_for_function(
            "(words) => document.querySelector('.mon-tip-text')?.textContent === words", arg=step
        )
        found = tip.bounding_box()
        assert found["y"] >= box["y"] and found["y"] + found["height"] <= box["y"] + box["height"]
        assert found["x"] >= box["x"]
        assert found["x"] + found["width"] <= box["x"] + box["width"]
    page.mouse.move(box["x"] + box["width"] / 2, 2)
    page.wait_for_function("!document.querySelector('.mon-tip')")


def test_curves_grow_when_something_is_told(opened, made):
    page = opened()
    page.wait_for_selector(".mon-line")
    before = page.get_attribute(".mon-line >> nth=0", "points")
    made.checkpoint(150)
    page.widget.tick()
    page.wait_for_function(
        "(old) => document.querySelector('.mon-line').getAttribute('points') !== old", arg=before
    )
    assert tiles(page)["Step"] == "150"


def test_a_finished_run_shows_what_changed_in_words(opened, made):
    page = opened()
    page.wait_for_selector(".mon-line")
    made.finish()
    page.click("button:text-is('Refresh')")
    page.wait_for_selector(".mon-ledger table")
    assert "Finished" in page.inner_text(".mon-state")
    text = page.inner_text(".mon-ledger")
    for word in ("\u25b2 better", "\u25bc worse", "= no clear change", "nodule <b>F1</b>",
                 "<b>a note</b>", "not trained for"):  # fmt: skip
        assert word in text, word
    assert page.locator(".mon-ledger b").count() == 0


def test_a_run_that_has_stopped_says_what_to_do(opened, made):
    made.quiet(10_000)
    page = opened()
    page.wait_for_selector(".mon-words")
    assert "Silent" in page.inner_text(".mon-state")
    assert "continues from step 100" in page.inner_text(".mon-words")


def test_an_empty_folder_is_waited_for(opened, made):
    made.clear()
    page = opened()
    page.wait_for_selector(".mon-empty")
    assert "Waiting" in page.inner_text(".mon-state")
    made.begin()
    made.checkpoint(50)
    page.keyboard.press("Tab")
    page.click("button:text-is('Refresh')")
    page.wait_for_selector(".mon-line")


def test_keys_read_the_curve_step_by_step_and_show_a_table(opened):
    page = opened()
    page.wait_for_selector(".mon-line")
    page.focus(".mon-charts")
    page.keyboard.press("Home")
    assert page.inner_text(".mon-reading").startswith("Step 10: Loss 0.1")
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".mon-reading").startswith("Step 20: Loss 0.05")
    assert page.locator(".mon-cursor").count() == 3
    page.keyboard.press("Escape")
    assert page.inner_text(".mon-reading").startswith("Last logged step 100")
    page.keyboard.press("t")
    assert page.locator(".mon-table tbody tr").count() == 10
    last = page.inner_text(".mon-table tbody tr >> nth=0").split()
    assert last == ["100", "0.01", "1.0e-4", "0.5"]
    page.keyboard.press("l")
    assert page.locator(".mon-name").all_text_contents()[0] == "Loss"


@pytest.mark.parametrize("width", [1280, 900, 480])
def test_nothing_is_wider_than_the_page(opened, made, width):
    made.finish()
    page = opened(width=width)
    page.wait_for_selector(".mon-line")
    page.click("button[aria-label='Large, for a projector']")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_two_hundred_random_actions_do_no_harm(opened, made):
    page = opened()
    page.wait_for_selector(".mon-line")
    monkey(page, actions=200, seed=4,
           keys="ArrowLeft ArrowRight Home End t l r Escape Tab ?")  # fmt: skip
    page.wait_for_function("!document.querySelector('dialog').open")
    made.finish()
    page.widget.tick()
    page.wait_for_selector(".mon-ledger table")
