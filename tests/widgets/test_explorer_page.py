"""The explorer's page in a real browser, with a Python that is a few lines of JavaScript."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.app.watching import PIXELS
from tests.widgets.made_explorer import TEXT, made_passage, made_state, open_made
from tests.widgets.monkeys import WINDOWED
from tests.widgets.seeing import settled
from tests.widgets.test_common_page import contrast

METHOD = ".wbx-bar-row label:has-text('Method') select"
COLOUR = "label:has-text('Colour words by') select"
KEYS = (
    "ArrowLeft ArrowRight ArrowUp ArrowDown Shift+ArrowRight Home End a c f F i m M o s t v "
    "+ - 0 [ ] , . Enter Tab Escape ? / Space x"
)


@pytest.fixture
def page(bare):
    page = open_made(bare)
    ready(page)
    return page


def ready(page):
    page.wait_for_selector(".wbx-maptitle")
    page.wait_for_function("document.querySelector('.wbf-canvas').width > 100")
    settled(page)


def changes(page, act, nth=0):
    """Do something and wait until the radiograph looks different."""
    settled(page)
    before = page.evaluate(PIXELS, nth)
    act()
    page.wait_for_function(f"(args) => ({PIXELS})(args[0]) !== args[1]", arg=[nth, before])
    settled(page)
    return page.evaluate(PIXELS, nth)


def same(page, act):
    settled(page)
    before = page.evaluate(PIXELS)
    act()
    settled(page)
    assert page.evaluate(PIXELS) == before


def asked(page, name):
    return page.evaluate("(name) => window.asked.filter((one) => one.ask === name)", name)


def chosen(page):
    return page.locator(".wbx-word[aria-selected='true']").all_inner_texts()


# --- choosing ------------------------------------------------------------------------------------


def test_first_stated_finding_is_shown_and_text_stays_text(page):
    assert chosen(page) == ["left", "effusion."]
    assert page.inner_text(".wbx-words") == TEXT
    assert "not <u>this</u> kind of radiograph" in page.inner_text(".wbx-passage .wb-warning")
    assert "made up, not for clinical use" in page.inner_text(".wb-notice")
    assert "much like others" in page.inner_text(".wbx-caution")
    assert page.locator(".wbx-words b, .wbx-image-facts i").count() == 0


def test_click_on_a_word_draws_its_map_without_waiting_for_python(page):
    page.evaluate("() => { window.python = () => {}; }")  # Python is deaf from now on
    first = changes(page, lambda: page.click(".wbx-word >> nth=0"))
    second = changes(page, lambda: page.click(".wbx-word >> nth=5"))
    assert first != second
    assert chosen(page) == ["No"]
    assert changes(page, lambda: page.click(".wbx-word >> nth=0")) == first


def test_sentences_phrases_and_the_whole_text_can_be_chosen(page):
    page.click(".wbx-word >> nth=1")
    page.click(".wbx-word >> nth=3", modifiers=["Shift"])
    assert chosen(page) == ["is", "a", "left"]
    box = [page.locator(".wbx-word").nth(n).bounding_box() for n in (5, 7)]
    page.mouse.move(box[0]["x"] + 3, box[0]["y"] + 5)
    page.mouse.down()
    page.mouse.move(box[1]["x"] + 3, box[1]["y"] + 5, steps=4)
    page.mouse.up()
    assert chosen(page) == ["No", "<b>pneumothorax</b>", "\U0001fac1"]
    page.dblclick(".wbx-word >> nth=0")
    assert chosen(page) == ["There", "is", "a", "left", "effusion."]
    page.click("button:text-is('Whole text')")
    assert len(chosen(page)) == len(TEXT.split())
    page.select_option("label:has-text('Click selects') select", "sentence")
    page.click(".wbx-word >> nth=6")
    assert chosen(page) == ["No", "<b>pneumothorax</b>", "\U0001fac1", "seen."]


def test_keys_alone_reach_words_sentences_findings_and_the_question(page):
    page.focus(".wbx-words")
    expectations = {
        "Home": ["There"],
        "ArrowRight": ["is"],
        "Shift+ArrowRight": ["is", "a"],
        "ArrowDown": TEXT.split()[5:],
        "End": ["seen."],
    }
    for key, expected in expectations.items():
        page.keyboard.press(key)
        assert chosen(page) == expected, key
    active = page.get_attribute(".wbx-words", "aria-activedescendant")
    assert page.inner_text(f"#{active}") == "seen."
    page.keyboard.press("f")
    assert chosen(page) == ["left", "effusion."]
    page.keyboard.press("f")
    assert page.get_attribute(".wbx-chip[data-finding='pneumothorax']", "aria-pressed") == "true"
    page.keyboard.press("/")
    assert (
        page.evaluate("document.activeElement.getAttribute('aria-label')")
        == "Question about the image"
    )
    page.keyboard.type("mo?")
    assert page.input_value(".wbx-ask input") == "mo?"
    assert page.input_value(METHOD) == "attention"


def test_every_control_has_a_name_and_can_be_reached(page):
    reached = set()
    page.focus(".wb-look button >> nth=0")
    for _ in range(60):
        name = page.evaluate("""() => { const e = document.activeElement; return e.closest(".wb")
            && (e.getAttribute("aria-label") || e.textContent || "").trim(); }""")
        reached.add(name)
        page.keyboard.press("Tab")
    assert "Show the keys" in reached
    unnamed = page.evaluate("""() => [...document.querySelectorAll(
          ".wb button, .wb input, .wb select, .wb [tabindex]")].filter((e) =>
            !(e.getAttribute("aria-label") || e.textContent.trim() ||
              e.closest("label")?.textContent.trim())).length""")
    assert unnamed == 0
    assert any("Radiograph radiograph" in (name or "") for name in reached)
    assert {"Report: words", "Whole text", "Ask", "PNG", "SVG", "HTML"} <= reached


# --- maps ----------------------------------------------------------------------------------------


def test_another_method_shows_progress_and_then_its_map_with_its_caution(page):
    changes(page, lambda: page.select_option(METHOD, "smoothgrad"))
    page.wait_for_selector(".wbx-work .wb-spinner")
    assert "16 images of 256" in page.inner_text(".wb-work-text")
    changes(page, lambda: page.evaluate("window.finish()"))
    assert page.inner_text(".wbx-maptitle") == "smoothgrad: said"
    assert "fails the randomisation check" in page.inner_text(".wbx-caution")
    assert page.locator(".wb-spinner").count() == 0


def test_a_slow_method_waits_to_be_asked_when_the_word_changes_and_remembers(page):
    page.select_option(METHOD, "occlusion")
    page.wait_for_function("() => Boolean(window.finish)")
    page.focus(".wbx-words")
    page.keyboard.press("Enter")  # it is on its way already
    assert page.evaluate("window.cancelled") == []
    page.evaluate("window.finish()")
    page.wait_for_selector(".wbx-maptitle")
    first = len(asked(page, "map"))
    page.click(".wbx-word >> nth=0")
    assert page.locator(".wbx-caption button:text-is('Compute')").count() == 1
    assert len(asked(page, "map")) == first
    page.keyboard.press("Enter")
    page.wait_for_function(
        f"window.asked.filter((one) => one.ask === 'map').length === {first + 1}"
    )
    page.evaluate("window.finish()")
    page.wait_for_selector(".wbx-maptitle")
    page.click(".wbx-chip[data-finding='pleural effusion']")
    page.wait_for_selector(".wbx-maptitle")
    assert len(asked(page, "map")) == first + 1


def test_cancel_takes_the_question_back_and_offers_it_again(page):
    page.select_option(METHOD, "kernel_shap")
    page.click(".wb-cancel")
    page.wait_for_selector(".wbx-caption button:text-is('Compute')")
    assert page.evaluate("window.cancelled.length") == 1
    assert page.locator(".wb-failure").count() == 0
    page.evaluate("window.hasty = true")
    page.click(".wbx-caption button:text-is('Compute')")
    page.wait_for_selector(".wbx-maptitle")


def test_a_late_map_is_not_shown_for_other_words(page):
    page.select_option(METHOD, "kernel_shap")
    page.wait_for_function("() => Boolean(window.finish)")
    page.evaluate("() => { window.late = window.finish; }")
    page.select_option(METHOD, "attention")
    page.wait_for_function(
        "document.querySelector('.wbx-maptitle')?.textContent.startsWith('attention')"
    )
    same(page, lambda: page.evaluate("window.late()"))
    assert page.inner_text(".wbx-maptitle").startswith("attention")


def test_failure_of_a_map_is_told_and_the_page_goes_on(page):
    page.evaluate("""() => { const before = window.python; window.python = (content, reply) =>
        content.ask !== "map" ? before(content, reply)
          : reply({id: content.id, failure: "no <i>gradient</i>", kind: "InputError"}); }""")
    page.select_option(METHOD, "grad_cam")
    page.wait_for_selector(".wb-failure")
    assert "no <i>gradient</i>" in page.inner_text(".wb-failure")
    page.select_option(METHOD, "attention")
    page.wait_for_selector(".wbx-maptitle")


def test_layers_are_offered_where_the_method_has_them_and_asked_for_once(page):
    layer = "label:has-text('Layer') select"
    page.select_option(layer, "2")
    page.wait_for_function("window.asked.some((one) => one.ask === 'rows' && one.layer === 2)")
    page.click(".wbx-word >> nth=0")
    page.click(".wbx-word >> nth=1")
    page.wait_for_function("window.asked.some((one) => one.ask === 'look' && one.layer === 2)")
    assert len(asked(page, "rows")) == 1
    page.select_option(METHOD, "relevancy")
    assert not page.is_visible(layer)


def test_sign_opacity_smooth_and_overlay_change_the_picture(page):
    page.evaluate("window.hasty = true")
    changes(page, lambda: page.select_option(METHOD, "occlusion"))
    page.wait_for_selector(".wbx-maptitle")
    settled(page)
    page.focus(".wbx-words")
    sign = "label:has-text('Sign') select"
    pictures = [page.evaluate(PIXELS)]
    for value in ("for", "against"):
        pictures.append(changes(page, lambda value=value: page.select_option(sign, value)))
    page.focus(".wbx-words")
    pictures.append(changes(page, lambda: page.keyboard.press("s")))
    pictures.append(changes(page, lambda: page.keyboard.press("o")))
    assert len(set(pictures)) == len(pictures)
    changes(page, lambda: page.keyboard.press("o"))
    changes(page, lambda: page.fill("input[type=range]", "0.2"))


# --- radiographs --------------------------------------------------------------------------------


def test_window_zoom_pan_invert_view_and_truth_change_the_radiograph(page):
    box = page.locator(".wbf-canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag():
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 60, y + 30, steps=3)
        page.mouse.up()

    changes(page, drag)
    changes(page, lambda: page.mouse.wheel(0, -240))
    changes(page, lambda: page.keyboard.press("ArrowLeft"))
    changes(page, lambda: page.click("button:text-is('Pan')") or drag())
    start = changes(page, lambda: page.keyboard.press("0"))
    for key in ("i", "v", "t"):
        changes(page, lambda key=key: page.keyboard.press(key))
        assert changes(page, lambda key=key: page.keyboard.press(key)) == start, key
    changes(page, lambda: page.click("button[aria-label='Zoom in']"))
    page.mouse.move(x, y)
    assert "%" in page.inner_text(".wbx-readout")


def test_wheel_over_a_radiograph_that_is_not_in_use_leaves_the_page_to_scroll(page):
    page.evaluate("document.activeElement.blur()")
    box = page.locator(".wbf-canvas").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    same(page, lambda: page.mouse.wheel(0, 5) or page.mouse.wheel(0, -5))


def test_sixteen_bit_radiographs_keep_their_levels(bare):
    import numpy as np

    from workbench.radiograph import Radiograph
    from workbench.widgets.radiographs import radiograph_of

    state = made_state(overlay=False)
    levels = np.full((96, 64), 1000, np.uint16)
    levels[:, 32:] = 1003
    state["sides"][0]["radiograph"] = radiograph_of(Radiograph.from_array(levels, bits=12))
    state["settings"]["view"] = {"centre": 1001.5 / 4095, "width": 3 / 4095, "crop": False}
    page = open_made(bare, state=state)
    ready(page)
    shades = page.evaluate("""() => { const canvas = document.querySelector(".wbf-canvas");
        const at = (share) => canvas.getContext("2d").getImageData(canvas.width * share,
          canvas.height / 2, 1, 1).data[0]; return [at(0.4), at(0.6)]; }""")
    assert shades[0] < 20 and shades[1] > 235


# --- words ---------------------------------------------------------------------------------------


def test_words_are_coloured_and_marked_by_what_the_image_contributed(page):
    page.select_option(COLOUR, "image")
    page.wait_for_selector(".wbx-words .wbx-for")
    styles = page.evaluate("""() => ["for", "against"].map((name) => { const style =
        getComputedStyle(document.querySelector(".wbx-words .wbx-" + name));
        return [style.backgroundColor, style.borderBottomStyle]; })""")
    assert styles[0][0] != styles[1][0]
    assert [style[1] for style in styles] == ["solid", "dashed"]
    assert page.get_attribute(".wbx-word >> nth=0", "title") == "\u22123.00 nats"
    assert "not whether it is true" in page.inner_text(".wbx-legend")
    page.keyboard.press("Tab")
    page.focus(".wbx-words")
    page.keyboard.press("c")
    assert page.get_attribute(".wbx-word >> nth=0", "title") == "token confidence 0.40"
    assert page.locator(".wbx-unsure").count() > 0
    page.keyboard.press("c")
    assert page.locator(".wbx-words .wbx-unsure").count() == 0
    assert page.input_value(COLOUR) == "attention"
    page.keyboard.press("c")
    assert page.input_value(COLOUR) == "none"
    assert len(asked(page, "ground")) == 1


def test_words_are_coloured_by_the_attention_of_the_chosen_ones(page):
    page.select_option(COLOUR, "attention")
    page.click(".wbx-word >> nth=2")
    titles = [page.get_attribute(f".wbx-word >> nth={at}", "title") for at in range(4)]
    assert titles == [f"{share}.0 % of the attention" for share in (1, 2, 0, 0)]
    assert page.locator(".wbx-words .wbx-for").count() == 2
    page.click(".wbx-word >> nth=1")
    assert page.get_attribute(".wbx-word >> nth=1", "title") == "0.0 % of the attention"
    assert "Where it looked, not why" in page.inner_text(".wbx-legend")


def test_a_question_is_answered_in_place_as_it_is_written(page):
    page.fill(".wbx-ask input", "Is there a <b>pneumothorax</b>?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".wbx-streaming")
    page.wait_for_function(
        "document.querySelector('.wbx-streaming').textContent === 'No pneumothorax.'"
    )
    page.fill(".wbx-ask input", "again?")
    page.keyboard.press("Enter")
    assert len(asked(page, "ask")) == 1
    page.evaluate("window.finish_text()")
    page.wait_for_selector(".wbx-kind-answer .wbx-word")
    assert "<b>pneumothorax</b>?" in page.inner_text(".wbx-kind-answer .wbx-question")
    assert page.locator(".wbx-streaming").count() == 0
    page.click(".wbx-kind-answer .wbx-word >> nth=0")
    assert page.locator(".wbx-kind-report .wbx-word[aria-selected='true']").count() == 0
    page.focus(".wbx-kind-report .wbx-words")
    page.keyboard.press("Enter")  # nothing is chosen in this text: the word at hand is
    assert page.locator(".wbx-kind-report .wbx-word[aria-selected='true']").count() >= 1
    assert page.locator(".wbx-kind-answer .wbx-word[aria-selected='true']").count() == 0


def test_a_finished_text_is_chosen_unless_something_was_chosen_meanwhile(page):
    for act in (lambda: None, lambda: page.click(".wbx-kind-report .wbx-word >> nth=1")):
        before = page.locator(".wbx-kind-answer").count()
        page.fill(".wbx-ask input", "Is there a pneumothorax?")
        page.keyboard.press("Enter")
        page.wait_for_selector(".wbx-streaming")
        act()
        page.evaluate("window.finish_text()")
        page.wait_for_function(
            "(n) => document.querySelectorAll('.wbx-kind-answer').length === n", arg=before + 1
        )
        settled(page)
        if not before:
            assert page.locator(".wbx-kind-report [aria-selected='true']").count() == 0
            assert page.locator(".wbx-kind-answer [aria-selected='true']").count() == 2
    assert chosen(page) == ["is"]
    assert page.locator(".wbx-kind-answer [aria-selected='true']").count() == 0
    page.wait_for_function("document.querySelector('.wbx-maptitle').textContent.includes('said')")
    kept = page.evaluate("window.asked.filter((one) => one.ask === 'look').at(-1)")
    assert kept["passage"] == 1
    assert kept["choice"] == {"start": 6, "end": 8}


def test_a_missing_report_is_written_when_the_page_opens(bare):
    page = open_made(bare, state=made_state(texts=False) | {"revision": 0})
    page.evaluate("window.python_state.sides[0].passages = []")
    page.wait_for_selector(".wbx-texts")
    page.wait_for_function("window.asked.some((one) => one.ask === 'write')")
    assert page.inner_text(".wbx-streaming") == "No pneumothorax."


TINTS = """(theme) => {
  const root = document.querySelector(".wb");
  root.dataset.theme = theme;
  const [paper, ink] = ["--paper", "--ink"].map((n) => getComputedStyle(root).getPropertyValue(n));
  const context = document.createElement("canvas").getContext("2d");
  const flat = (...colours) => {
    for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    return "#" + [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)]
      .map((part) => part.toString(16).padStart(2, "0")).join("");
  };
  const found = {paper: flat(paper), ink: flat(ink)};
  for (const kind of ["for", "against", "unsure"]) {
    const word = document.querySelector(".wbx-words .wbx-word:not([aria-selected='true'])");
    word.classList.add("wbx-" + kind);
    word.style.setProperty("--strength", "1");
    const style = getComputedStyle(word);
    found[kind] = {ground: flat(paper, style.backgroundColor), style: style.borderBottomStyle,
                   line: flat(paper, style.borderBottomColor)};
    word.classList.remove("wbx-" + kind);
  }
  return found;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_coloured_words_can_be_read_and_told_apart_without_colour(page, theme):
    found = page.evaluate(TINTS, theme)
    kinds = [found[kind] for kind in ("for", "against", "unsure")]
    assert len({kind["style"] for kind in kinds}) == 3
    assert min(contrast(found["ink"], kind["ground"]) for kind in kinds) >= 4.5
    assert min(contrast(kind["line"], found["paper"]) for kind in kinds) >= 3
    assert all(kind["ground"] != found["paper"] for kind in kinds)


def test_keys_list_begins_at_its_top(page):
    page.set_viewport_size({"width": 1280, "height": 500})
    page.click("button[aria-label='Large, for a projector']")
    page.click("button[aria-label='Show the keys']")
    dialog = page.locator(".wb-dialog")
    assert dialog.evaluate("(e) => [e.scrollTop, e.scrollHeight > e.clientHeight]") == [0, True]
    page.keyboard.press("Escape")


# --- comparing, keeping, saving ------------------------------------------------------------------


def test_two_radiographs_share_the_finding_and_the_view(bare):
    page = open_made(bare, state=made_state(sides=2))
    ready(page)
    assert page.locator(".wbf-canvas").count() == 2
    page.click(".wbx-texts >> nth=1 >> .wbx-chip[data-finding='pneumothorax']")
    pressed = page.locator(".wbx-chip[data-finding='pneumothorax'][aria-pressed='true']")
    assert pressed.count() == 2
    changes(page, lambda: page.click("button[aria-label='Zoom in']"), nth=1)


def test_two_reports_are_compared_finding_by_finding(bare):
    state = made_state(sides=2)
    effusion, _ = state["sides"][1]["passages"][0]["findings"]
    state["sides"][1]["passages"][0]["findings"] = [effusion | {"side": "right"}]
    page = open_made(bare, state=state, height=900)
    ready(page)
    assert page.inner_text(".wbx-differences summary") == "Findings: 2 stated, 2 differ"
    rows = page.locator(".wbx-stated tbody tr")
    cells = [rows.nth(n).locator("th, td").all_inner_texts() for n in range(2)]
    assert cells == [
        ["\u2260 pleural effusion", "+ present, left", "+ present, right"],
        ["\u2260 pneumothorax", "\u2212 absent", "not mentioned"],
    ]
    page.click(".wbx-stated button:has-text('pneumothorax')")
    pressed = page.locator(".wbx-texts .wbx-chip[data-finding='pneumothorax'][aria-pressed='true']")
    assert pressed.count() == 1
    page.click(".wbx-stated button:has-text('effusion')")
    pressed = page.locator(".wbx-texts [data-finding='pleural effusion'][aria-pressed='true']")
    assert pressed.count() == 2


def test_a_side_without_an_inside_says_so_in_one_sentence(bare):
    state = made_state(sides=2)
    state["sides"][0] |= {"closed": "It writes <i>texts</i> only.", "methods": [], "layers": 0}
    state["sides"][0]["passages"][0] |= {"rows": None}
    page = open_made(bare, state=state)
    page.wait_for_selector(".wbx-maptitle")
    panels = page.locator(".wbx-panel")
    assert "It writes <i>texts</i> only." in panels.nth(0).inner_text()
    page.select_option(METHOD, "relevancy")
    page.wait_for_function("window.asked.some((one) => one.ask === 'map')")
    page.select_option(COLOUR, "image")
    page.wait_for_function("window.asked.some((one) => one.ask === 'ground')")
    assert {one["side"] for one in asked(page, "map") + asked(page, "ground")} == {1}
    page.click(".wbx-texts >> nth=0 >> .wbx-word >> nth=2")
    assert "It writes <i>texts</i> only." in panels.nth(0).inner_text()
    assert page.locator(".wb-failure").count() == 0


def test_what_one_of_two_models_lacks_is_told_in_its_place(bare):
    page = open_made(bare, state=made_state(sides=2))
    ready(page)
    page.evaluate("""() => { const before = window.python; window.python = (content, reply) =>
        content.ask !== "map" || content.side ? before(content, reply) :
          reply({id: content.id, kind: "InputError", failure: "Rollout: not defined."}); }""")
    page.select_option(METHOD, "relevancy")
    page.wait_for_function("document.querySelectorAll('.wbx-maptitle').length === 1")
    assert "No map: Rollout: not defined." in page.locator(".wbx-panel").nth(0).inner_text()
    assert page.locator(".wb-failure").count() == 0


def test_two_methods_stand_side_by_side(page):
    page.select_option("label:has-text('Second map') select", "relevancy")
    page.wait_for_function("document.querySelectorAll('.wbx-maptitle').length === 2")
    titles = page.locator(".wbx-maptitle").all_inner_texts()
    assert titles[1] == "relevancy: said"
    page.click(".wbx-word >> nth=6")
    page.wait_for_function("window.asked.filter((one) => one.ask === 'map').length === 2")
    page.select_option("label:has-text('Second map') select", "")
    page.wait_for_function("document.querySelectorAll('.wbf-canvas').length === 1")


def test_what_is_chosen_is_kept_and_a_new_view_shows_it(page):
    page.click(".wbx-word >> nth=3")
    page.keyboard.press("t")
    page.wait_for_function("window.asked.some((one) => one.ask === 'keep' && one.settings.truth)")
    kept = asked(page, "keep")[-1]["settings"]
    assert kept["chosen"] == [{"passage": 1, "start": 11, "end": 15}]
    page.evaluate("(settings) => { window.python_state.settings = settings; }", kept)
    page.evaluate(
        "async () => { window.close_view(); await window.draw(document.getElementById('app')); }"
    )
    page.wait_for_selector(".wbx-maptitle")
    assert chosen(page) == ["left"]
    assert page.get_attribute("button:text-is('Truth')", "aria-pressed") == "true"


def test_a_text_written_in_another_view_appears(page):
    more = made_passage(3) | {"number": 7, "kind": "answer", "question": "Elsewhere?"}
    page.evaluate(
        """(more) => { window.python_state.sides[0].passages.push(more);
        window.python_state.revision = 5; window.reply({tell: "written", revision: 5}); }""",
        more,
    )
    page.wait_for_selector(".wbx-kind-answer")
    assert chosen(page) == ["left", "effusion."]


@pytest.mark.parametrize("ending", ["PNG", "SVG", "HTML"])
def test_pictures_and_pages_can_be_saved(page, ending):
    page.focus(".wbx-words")
    changes(page, lambda: page.keyboard.press("t"))
    with page.expect_download() as download:
        page.click(f"button:text-is('{ending}')")
    assert download.value.suggested_filename == f"explorer_radiograph_i_0_i_.{ending.lower()}"
    content = Path(download.value.path()).read_bytes()
    if ending == "PNG":
        assert content.startswith(b"\x89PNG") and len(content) > 20_000
    if ending == "SVG":
        text = content.decode()
        assert "made up, not for clinical use" in text and "<polyline" in text
        assert "attention: said" in text and 'href="data:image/png' in text
        assert 'aria-label="Scale from 0 to most"' in text and ">most</text>" in text
        assert "Sentence: " in text
        assert page.evaluate("(text) => new DOMParser().parseFromString(text, 'image/svg+xml')"
                             ".querySelector('parsererror') === null", text)  # fmt: skip


def test_python_that_is_busy_is_told_and_answers_later(bare):
    page = open_made(bare)
    page.evaluate("window.close_view()")
    page.evaluate("""async () => { window.python = (content) => { window.waiting ??= content.id; };
        const timeout = window.setTimeout;
        window.setTimeout = (act, time) => timeout(act, time > 5000 ? 50 : time);
        await window.draw(document.getElementById("app")); window.setTimeout = timeout; }""")
    assert "has not answered yet" in page.inner_text(".wb-failure")
    page.evaluate(
        "window.reply({id: window.waiting, answer: structuredClone(window.python_state)})"
    )
    page.wait_for_selector(".wbx-word")
    assert page.locator(".wb-failure").count() == 0


def test_narrow_and_large_pages_do_not_overflow(page):
    for width in (400, 900, 1600):
        page.set_viewport_size({"width": width, "height": 800})
        for _ in range(2):
            settled(page)
            wide = page.evaluate("document.documentElement.scrollWidth")
            too_wide = page.evaluate(
                """(width) => [...document.querySelectorAll(".wb *")].filter(
                (e) => e.getBoundingClientRect().right > width).map((e) => e.className)""",
                width,
            )
            assert wide <= width, too_wide
            page.click("button[aria-label='Large, for a projector']")


# --- a monkey ------------------------------------------------------------------------------------


def test_two_hundred_random_clicks_and_keys_leave_no_error(bare):
    page = open_made(bare)
    ready(page)
    page.evaluate("window.hasty = true")
    rng = random.Random(11)
    keys = KEYS.split()
    for _ in range(200):
        what = rng.random()
        if what < 0.45:
            size = page.viewport_size
            page.mouse.click(rng.uniform(5, size["width"] - 5), rng.uniform(5, size["height"] - 5))
        elif what < 0.8:
            page.keyboard.press(rng.choice(keys))
        elif what < 0.86:
            page.mouse.wheel(0, rng.uniform(-300, 300))
        elif what < 0.92:
            page.mouse.move(rng.uniform(0, 900), rng.uniform(0, 800))
            page.mouse.down()
            page.mouse.move(rng.uniform(0, 900), rng.uniform(0, 800))
            page.mouse.up()
        elif what < 0.96:
            page.set_viewport_size({"width": rng.choice([500, 900, 1400]), "height": 900})
        else:
            page.evaluate("window.hasty = !window.hasty; window.finish?.(); window.finish_text?.()")
    page.evaluate("window.hasty = true; document.querySelector('.wb-dialog').close()")
    page.evaluate(WINDOWED)
    page.evaluate("window.finish?.(); window.finish_text?.()")
    page.select_option(METHOD, "attention")
    page.click(".wbx-kind-report .wbx-word >> nth=2")
    page.wait_for_function(
        "document.querySelector('.wbx-maptitle')?.textContent.startsWith('attention')"
    )
    assert chosen(page)[:1] in (["a"], ["There"])
