"""What all pages share, in a real browser: questions, failures, progress, theme, size, keys."""

from __future__ import annotations

import pytest

from workbench.widgets import _front as _assets
from workbench.widgets._front import styles

COUNTER = """import { Front, button, frame, make, put } from "./common.js";

export function render({ model, el }) {
  const front = new Front(model);
  const [title, notice] = [model.get("title"), model.get("notice")];
  const app = frame(el, { title, notice, keys: [["+", "more"]] });
  const shown = make("output", { class: "shown" }, "nothing");
  const ask = (name, content) => {
    const asked = front.ask(name, content, {
      piece: (text) => put(shown, text), progress: (value) => work.progress(value) });
    const work = app.follow(asked, "Counting");
    asked.then((answer) => { shown.textContent = answer.text; app.say("counted"); }, app.fail);
  };
  put(app.tools, button("Count", () => ask("count", {})), button("Fail", () => ask("fail", {})));
  put(app.body, shown);
  front.on("changed", (message) => { shown.textContent = message.text; });
  front.ask("state", {}, { patience: 300 })
    .then((state) => { shown.textContent = state.text; }, app.fail);
  return () => { front.close(); app.close(); };
}
"""

PYTHON = """
if (content.ask === "state") reply({id: content.id, answer: {text: "zero"}});
if (content.ask === "fail") reply({id: content.id, failure: "no <b>image</b>", kind: "InputError"});
if (content.ask === "count") window.counting = content.id;
if (content.cancel) reply({id: content.cancel, cancelled: true});
"""

TRAITS = {"title": "Counter <i>", "notice": "not for clinical use"}


@pytest.fixture
def counter(tmp_path, monkeypatch):
    for name in ("common.js", "common.css"):
        (tmp_path / name).write_text((_assets.STATIC / name).read_text())
    (tmp_path / "counter.js").write_text(COUNTER)
    monkeypatch.setattr(_assets, "STATIC", tmp_path)
    _assets.script.cache_clear()
    yield _assets.script("counter.js")
    _assets.script.cache_clear()


def test_notice_and_title_are_text(bare, counter):
    page = bare(counter, styles(), TRAITS, python=PYTHON)
    assert page.inner_text(".wb-title") == "Counter <i>"
    assert "not for clinical use" in page.inner_text(".wb-notice")


def test_state_fills_a_new_view_and_tell_reaches_two(bare, counter):
    page = bare(counter, styles(), TRAITS, python=PYTHON)
    page.wait_for_function("document.querySelector('.shown').textContent === 'zero'")
    page.evaluate(
        "async () => { const more = document.createElement('div');"
        "document.body.append(more); await window.draw(more); }"
    )
    page.evaluate("window.reply({tell: 'changed', text: 'new'})")
    assert page.locator(".shown").all_inner_texts() == ["new", "new"]


def test_pieces_progress_and_answer(bare, counter):
    page = bare(counter, styles(), TRAITS, python=PYTHON)
    page.click("text=Count >> nth=-1")
    page.wait_for_selector(".wb-work")
    page.evaluate("window.reply({id: window.counting, piece: ' and one'})")
    assert page.inner_text(".shown").endswith("and one")
    page.evaluate("window.reply({id: window.counting, progress: {done: 1, total: 4, text: 'a'}})")
    assert page.evaluate("document.querySelector('.wb-progress').value") == 0.25
    page.evaluate("window.reply({id: window.counting, answer: {text: 'four'}})")
    page.wait_for_selector(".wb-work", state="detached")
    assert page.inner_text(".shown") == "four"
    assert page.inner_text(".wb-news") == "counted"


def test_cancel_ends_the_work_without_a_complaint(bare, counter):
    page = bare(counter, styles(), TRAITS, python=PYTHON)
    page.click("button:text-is('Count')")
    page.click(".wb-cancel")
    page.wait_for_selector(".wb-work", state="detached")
    assert page.evaluate("window.sent.at(-1).cancel === window.counting")
    assert page.locator(".wb-failure").count() == 0


def test_failure_is_shown_as_text_and_can_be_closed(bare, counter):
    page = bare(counter, styles(), TRAITS, python=PYTHON)
    page.click("button:text-is('Fail')")
    assert "no <b>image</b>" in page.inner_text(".wb-failure")
    page.click(".wb-failure button")
    assert page.locator(".wb-failure").count() == 0


def test_python_that_does_not_answer_is_told(bare, counter):
    page = bare(counter, styles(), TRAITS, python="")
    assert "Run the cell again" in page.inner_text(".wb-failure")


def test_answers_to_others_are_left_alone(bare, counter):
    page = bare(counter, styles(), TRAITS, python=PYTHON)
    page.wait_for_function("document.querySelector('.shown').textContent === 'zero'")
    for message in ("{id: 1, answer: {text: 'x'}}", "null", "3", "{tell: 'unknown'}", "{}"):
        page.evaluate(f"window.reply({message})")
    assert page.inner_text(".shown") == "zero"


def test_closed_view_takes_its_questions_back(bare, counter):
    page = bare(counter, styles(), TRAITS, python=PYTHON)
    page.click("button:text-is('Count')")
    page.wait_for_function("window.counting")
    page.evaluate("window.close_view()")
    assert page.evaluate("window.sent.at(-1).cancel === window.counting")
    assert page.locator(".wb").count() == 0


@pytest.mark.parametrize("dark", [False, True])
def test_theme_follows_the_page_and_a_choice_is_kept(bare, counter, dark):
    page = bare(counter, styles(), TRAITS, python=PYTHON, dark=dark)
    theme = "document.querySelector('.wb').dataset.theme"
    first = page.evaluate(theme)
    assert first == ("dark" if dark else "light")
    page.click("button[aria-label='Dark colours']")
    second = page.evaluate(theme)
    assert {first, second} == {"dark", "light"}
    page.evaluate(
        "async () => { const more = document.createElement('div');"
        "document.body.prepend(more); await window.draw(more); }"
    )
    assert page.evaluate(theme) == second
    page.evaluate("document.body.setAttribute('data-jp-theme-light', 'false')")
    assert page.evaluate(theme) == second


def test_projector_size_is_larger_and_text_is_never_small(bare, counter):
    page = bare(counter, styles(), TRAITS, python=PYTHON)
    size = "parseFloat(getComputedStyle(document.querySelector('.wb')).fontSize)"
    desk = page.evaluate(size)
    page.click("button[aria-label='Large, for a projector']")
    assert desk >= 16
    assert page.evaluate(size) >= 24


def test_question_mark_shows_the_keys_and_keys_stay_inside(bare, counter):
    page = bare(counter, styles(), TRAITS, python=PYTHON)
    page.evaluate(
        "window.heard = 0; document.addEventListener('keydown', () => { window.heard += 1; })"
    )
    page.focus("button:text-is('Count')")
    page.keyboard.press("?")
    assert "more" in page.inner_text(".wb-dialog")
    page.keyboard.press("Escape")
    assert page.evaluate("document.querySelector('.wb-dialog').open") is False
    assert page.evaluate("window.heard") == 0
    page.keyboard.press("Control+e")  # a shortcut of the notebook, which goes on
    assert page.evaluate("window.heard") == 2


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_of_the_tokens_meets_aa(bare, counter, theme):
    page = bare(counter, styles(), TRAITS, python=PYTHON, dark=theme == "dark")
    pairs = [("ink", "paper"), ("ink", "panel"), ("ink", "control"), ("muted", "paper"),
             ("muted", "panel"), ("on-accent", "accent"), ("ink", "chosen"), ("ink", "good-ground"),
             ("warn", "warn-ground"), ("bad", "bad-ground"), ("good", "good-ground"),
             ("ink", "against-ground")]  # fmt: skip
    names = {name for pair in pairs for name in pair} | {"edge", "focus"}
    values = page.evaluate(
        "(names) => Object.fromEntries(names.map((name) => [name, getComputedStyle("
        "document.querySelector('.wb')).getPropertyValue('--' + name).trim()]))",
        sorted(names),
    )
    ratios = {pair: contrast(values[pair[0]], values[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}
    assert (
        min(contrast(values["edge"], values["paper"]), contrast(values["focus"], values["paper"]))
        >= 3
    )


def contrast(first: str, second: str) -> float:
    """WCAG 2.1 contrast of two colours #rrggbb."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
