"""The explorer's page with its own Python and a model behind it, and the page it saves."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

import workbench as wb
from tests.backends.families import FAMILIES
from tests.widgets.conftest import FINDING
from tests.widgets.monkeys import monkey
from tests.widgets.seeing import settled

KEYS = (
    "ArrowLeft ArrowRight ArrowUp ArrowDown Shift+ArrowRight Home End a c f F i m M o s t v "
    "+ - 0 [ ] , . Enter Tab Escape ? / Space"
)


def radiograph(page) -> np.ndarray:
    """The radiograph as it looks, RGBA."""
    data = page.evaluate("document.querySelector('.wbf-canvas').toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGBA"))


def title(page, words):
    page.wait_for_function(
        "(words) => document.querySelector('.wbx-maptitle')?.textContent.includes(words)", arg=words
    )
    settled(page)


def test_report_map_method_question_and_reload_with_a_model(bare, mini, case):
    widget = wb.explore(mini, case)
    page = bare.live(widget)
    page.set_default_timeout(60_000)
    title(page, "attention: ")
    text = widget.sides[0].passages[0].trace.text
    assert page.inner_text(".wbx-words") == text
    page.click(".wbx-chip[data-finding='pneumothorax']")
    title(page, "No pneumothorax")
    page.keyboard.press("o")
    settled(page)  # the map is gone with the next frame
    bare_radiograph = radiograph(page).astype(int)
    page.keyboard.press("o")
    page.click(f".wbx-chip[data-finding='{FINDING}']")
    title(page, "pleural effusion")
    seen = radiograph(page).astype(int)
    # The overlay is strongest where the package's own map is.
    found = wb.saliency.explain(
        widget.sides[0].passages[0].trace, finding=FINDING, method="attention"
    )
    tint = np.abs(seen - bare_radiograph).sum(-1)
    row, column = np.unravel_index(tint.argmax(), tint.shape)
    edge = min(tint.shape)  # the square image stands in the middle
    inside = np.array([row, column]) - (np.array(tint.shape) - edge) / 2
    assert np.abs(inside * found.grid[0] / edge - 0.5 - np.array(found.peak_cell)).max() <= 1.5
    page.select_option(".wbx-bar-row label:has-text('Method') select", "rollout")
    title(page, "rollout")
    assert "fails the randomisation check" in page.inner_text(".wbx-caution")
    page.fill(".wbx-ask input", "Is there a pneumothorax?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".wbx-kind-answer .wbx-word")
    answer = page.inner_text(".wbx-kind-answer .wbx-words")
    assert "pneumothorax" in answer
    page.click(".wbx-kind-report .wbx-word >> nth=4")
    page.wait_for_function("window.sent.filter((one) => one.ask === 'keep').at(-1)"
                           "?.settings.chosen[0]?.passage === 1")  # fmt: skip
    again = bare.live(widget, dark=True)
    again.wait_for_selector(".wbx-maptitle")
    assert again.inner_text(".wbx-kind-answer .wbx-words") == answer
    assert again.locator(".wbx-kind-report .wbx-word[aria-selected='true']").count() == 1
    assert again.input_value(".wbx-bar-row label:has-text('Method') select") == "rollout"


def test_two_hundred_random_clicks_and_keys_leave_python_answering(bare, mini, case, caplog):
    widget = wb.explore(mini, case)
    page = bare.live(widget)
    page.set_default_timeout(60_000)
    title(page, "attention: ")
    monkey(page, actions=200, seed=12, keys=KEYS)
    for job in widget.worker.jobs:
        job.cancel()
    page.select_option("label:has-text('Click selects') select", "word")
    page.select_option(".wbx-bar-row label:has-text('Method') select", "attention")
    page.click(".wbx-kind-report .wbx-word >> nth=2")
    title(page, "attention: is")
    assert widget.worker.wait(60)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_saved_page_works_without_python(bare, mini, case, tmp_path):
    widget = wb.explore(mini, case, against="rollout")
    saved = widget.save(tmp_path / "page.html").read_text(encoding="utf-8")
    page = bare.page(dark=True)
    page.set_content(saved)
    title(page, "attention: ")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(12, 14, 18)"
    first = radiograph(page)
    page.click(".wbx-word >> nth=2")
    title(page, "attention: is")
    assert (radiograph(page) != first).any()
    assert "mean of all layers" in page.inner_text(".wbx-details")
    assert "trained on phantoms" in page.inner_text(".wb-notice")
    assert page.locator(".wbx-ask").count() == 0
    page.click("button:text-is('Truth')")
    page.focus(".wbx-words")
    for key in ("ArrowRight", "f", "c", "c", "m", "v", "i", "Enter"):
        page.keyboard.press(key)
    assert page.locator(".wb-failure").count() == 0


def test_two_families_live_and_saved(bare, mini, case, tmp_path):
    llava = wb.load_model(FAMILIES["llava"](tmp_path / "llava"), dtype="float32")
    widget = wb.explore(mini, case, against=llava)
    for side in widget.sides:
        side.add("report", side.model.report(side.image, max_new_tokens=12))
    page = bare.live(widget)
    page.set_default_timeout(60_000)
    both = """(words) => [...document.querySelectorAll('.wbx-maptitle')]
        .filter((one) => one.textContent.startsWith(words)).length === 2"""
    page.wait_for_function(both, arg="attention")
    page.select_option(".wbx-bar-row label:has-text('Method') select", "relevancy")
    page.wait_for_function(both, arg="relevancy")
    page.select_option(".wbx-bar-row label:has-text('Method') select", "rollout")
    second = page.locator(".wbx-panel").nth(1)
    second.locator("text=No map: the vision tower of llava is no one stack").wait_for()
    assert page.locator(".wb-failure").count() == 0
    page = bare.page()
    second = page.locator(".wbx-panel").nth(1)
    page.set_content(widget.save(tmp_path / "two.html").read_text(encoding="utf-8"))
    second.locator("text=No map: This map is not in the saved page").wait_for()
    page.select_option(".wbx-bar-row label:has-text('Method') select", "attention")
    page.wait_for_function(both, arg="attention")
    settled(page)
    titles = page.locator(".wbx-maptitle").all_inner_texts()
    page.click(".wbx-texts >> nth=1 >> .wbx-word >> nth=0")
    settled(page)
    now = page.locator(".wbx-maptitle").all_inner_texts()
    assert (now[0] == titles[0], now[1] == titles[1]) == (True, False)
    assert page.locator(".wbx-differences summary").count() == 1
    assert page.locator(".wb-failure").count() == 0
