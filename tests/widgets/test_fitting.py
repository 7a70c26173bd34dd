"""Every app fits a laptop and a projector: what belongs together is seen without scrolling."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from tests.widgets.made_explorer import made_passage, made_state, open_made
from tests.widgets.seeing import SCREENS, at_each, box, hidden, scrolls, settled
from workbench.data import Manifest
from workbench.data.frames import conform
from workbench.radiograph import Radiograph
from workbench.review import Annotations, queue
from workbench.widgets.radiographs import model_view_of, radiograph_of
from workbench.widgets.reader import StudyApp
from workbench.widgets.reviewer import Reviewer
from workbench.widgets.reviewing import Reviewing

LONG = "There is a left pleural effusion of moderate size with adjacent atelectasis. " * 40
SHAPES = {"square": (96, 96), "tall": (900, 120), "wide": (120, 900)}
MAP = (".wbx-maptitle", ".wbf-stage", ".wbx-scale", ".wbx-below > .wbx-details")
#: How a page is opened, before it gets the other sizes.
FIRST = {"width": SCREENS[0][0], "height": SCREENS[0][1]}


def radiograph(shape: str) -> Radiograph:
    grey = np.random.default_rng(3).integers(0, 255, SHAPES[shape], dtype=np.uint8)
    return Radiograph.from_array(grey, source=f"{shape}.png")


def explorer(bare, *, shape="square", texts=(), **options):
    state = made_state(**options.pop("settings", {}))
    side = state["sides"][0]
    image = radiograph(shape)
    side |= {"radiograph": radiograph_of(image), "seen": model_view_of(image, image.geometry(64))}
    side["passages"] += [made_passage() | more for more in texts]
    page = open_made(bare, state=state, **FIRST, **options)
    page.wait_for_selector(".wbx-details")
    page.wait_for_function("document.querySelector('.wbf-canvas').width > 100")
    return page


def long_passage() -> dict:
    """A text of forty sentences, and a question of the greatest length before it."""
    words = [{"start": at, "end": at + 4, "probability": 0.9} for at in range(0, 2000, 9)]
    return {"number": 2, "kind": "answer", "question": "Is there an effusion? " * 22,
            "text": LONG, "words": words, "sentences": [[0, 76]], "findings": []}  # fmt: skip


@pytest.mark.parametrize("alone", [True, False], ids=["page", "notebook"])
def test_image_caution_caption_scale_and_words_are_seen_together(bare, alone):
    page = explorer(bare, alone=alone)
    page.wait_for_selector(".wbx-caution")
    for screen in at_each(page):
        assert hidden(page, *MAP, ".wbx-caution", ".wbx-words", ".wbx-ask") == [], screen
        assert not scrolls(page), screen
        assert box(page, ".wbx-caution")["y"] < box(page, ".wbf-stage")["y"], screen
        assert box(page, ".wbf-stage")["height"] > 0.38 * screen[1], screen


def test_a_second_map_leaves_the_words_in_sight(bare):
    page = explorer(bare, alone=True)
    page.evaluate("window.hasty = true")
    page.select_option("label:has-text('Second map') select", "smoothgrad")
    page.wait_for_function("document.querySelectorAll('.wbx-maptitle').length === 2")
    page.wait_for_function("document.querySelectorAll('.wbx-scale').length === 2")
    for screen in at_each(page, [*SCREENS, (900, 780)]):
        assert hidden(page, *MAP, ".wbx-caution", ".wbx-words", ".wbx-ask") == [], screen
        assert not scrolls(page), screen
        stages = [one.bounding_box() for one in page.locator(".wbf-stage").all()]
        assert stages[0]["y"] == stages[1]["y"], screen
        assert stages[0]["height"] == stages[1]["height"] > 0.3 * screen[1], screen


@pytest.mark.parametrize("shape", SHAPES)
def test_images_of_any_shape_and_long_texts_fit(bare, shape):
    page = explorer(bare, shape=shape, texts=[long_passage()], alone=True)
    page.wait_for_selector(".wbx-passage:nth-of-type(2)", state="attached")
    last = page.locator(".wbx-kind-answer .wbx-word").last
    for screen in at_each(page):
        assert hidden(page, *MAP, ".wbx-ask") == [], screen
        assert not scrolls(page), screen
        last.scroll_into_view_if_needed()
        seen = (*MAP, ".wbx-ask", ".wbx-kind-answer .wbx-word:last-of-type")
        assert hidden(page, *seen) == [], screen


def test_a_failure_takes_room_from_the_image_only(bare):
    page = explorer(bare, alone=True)
    page.evaluate("""() => { const before = window.python; window.python = (content, reply) =>
        content.ask !== "map" ? before(content, reply) : reply({id: content.id, kind: "InputError",
          failure: "This method needs gradients, which the model does not give. ".repeat(6)}); }""")
    page.select_option("label:has-text('Second map') select", "relevancy")
    page.wait_for_selector(".wb-failure")
    for screen in at_each(page):
        assert hidden(page, *MAP, ".wb-failure", ".wbx-words") == [], screen
        assert not scrolls(page), screen


def test_two_sides_fit_with_both_their_texts(bare):
    state = made_state(sides=2)
    page = open_made(bare, state=state, width=1440, height=900, alone=True)
    page.wait_for_function("document.querySelectorAll('.wbx-below > .wbx-details').length === 2")
    assert hidden(page, *MAP, ".wbx-words", ".wbx-differences summary") == []


def test_where_there_is_no_room_the_page_scrolls(bare):
    page = explorer(bare, alone=True)
    for screen in at_each(page, [(1280, 480), (700, 900)]):
        settled(page)
        assert page.locator(".wb-fit").count() == 0, screen
        assert box(page, ".wbf-stage")["height"] > 150, screen
    page.set_viewport_size(FIRST)
    page.wait_for_selector(".wb-fit")
    page.click("button[aria-label='Large, for a projector']")
    page.wait_for_selector(".wb:not(.wb-fit)")


# --- reviewer and reader -------------------------------------------------------------------------

TEXTS = {"short": "There is a pleural effusion.", "long": LONG}
REFERENCES = {"short": "No pleural effusion.", "long": LONG, "missing": None}


@pytest.fixture
def reviewer(bare, tmp_path):
    def opened(text, reference, shape):
        pd.DataFrame(
            {"id": ["one", "two"], "text": TEXTS[text], "source": "made", "task": "report",
             "status": "done", "mean_logprob": [-0.1, -0.2], "tokens": 9}
        ).to_parquet(tmp_path / "results.parquet")  # fmt: skip
        table = pd.DataFrame({"image_id": ["one", "two"], "pleural effusion": "absent"})
        table["study_id"] = table["patient_id"] = table["image_id"]
        table = table.assign(source="made", licence="own", report_findings=REFERENCES[reference])
        found = queue(tmp_path, manifest=Manifest(conform(table, sort=False)))
        notes = Annotations(tmp_path / "annotations.jsonl")
        widget = Reviewer(
            Reviewing(found, reviewer="AB", notes=notes), radiographs=lambda *_: radiograph(shape)
        )
        page = bare.live(widget, **FIRST, alone=True)
        page.wait_for_selector(".rev-finding")
        page.wait_for_function("document.querySelector('.wbf-canvas').width > 100")
        return page

    return opened


@pytest.mark.parametrize(
    ("text", "reference", "shape"),
    [("short", "short", "square"), ("long", "long", "tall"), ("short", "missing", "wide")],
)
def test_image_its_tools_and_both_texts_are_seen_together(reviewer, text, reference, shape):
    page = reviewer(text, reference, shape)
    wanted = (".wbf-stage", ".desk-imagetools button", ".rev-pane", ".desk-verdict", ".rev-comment")
    for screen in at_each(page):
        assert hidden(page, *wanted, ".rev-why", ".rev-list") == [], screen
        assert not scrolls(page), screen
        model, known = (one.bounding_box() for one in page.locator(".rev-pane").all())
        assert model["y"] == known["y"], screen
        assert model["x"] + model["width"] <= known["x"], screen
        assert box(page, ".wbf-stage")["height"] > 0.3 * screen[1], screen
    page.keyboard.press("e")
    page.wait_for_selector(".rev-report:focus")
    for screen in at_each(page):
        settled(page)
        page.locator(".rev-report").scroll_into_view_if_needed()
        seen = (".rev-report", ".desk-verdict", ".desk-imagetools button")
        assert hidden(page, *seen) == [], screen


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("shape", ["square", "tall"])
def test_image_report_and_grades_are_seen_together(bare, tmp_path, text, shape):
    pairs = pd.DataFrame({"id": ["a", "b"], "model": TEXTS[text], "reference": TEXTS[text]})
    study = wb.reader_study(pairs, readers=["AB"], out=tmp_path / "s")
    widget = StudyApp(study, reader="AB", images=lambda *_: radiograph(shape))
    if text == "long":
        widget.session.instructions = "Grade as if you had to sign it. " * 30
    page = bare.live(widget, **FIRST, alone=True)
    page.wait_for_selector(".read-head:text-is('Report 1 of 4')")
    page.wait_for_function("document.querySelector('.wbf-canvas').width > 100")
    wanted = (".wbf-stage", ".desk-imagetools button", ".read-head", ".desk-verdict", ".read-note")
    for screen in at_each(page):
        assert hidden(page, *wanted, ".wb-news") == [], screen
        assert not scrolls(page), screen
        assert box(page, ".wbf-stage")["height"] > 0.35 * screen[1], screen
