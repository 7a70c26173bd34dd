"""The app as a person meets it, in Chromium: the start, its four pages, and errors."""

from __future__ import annotations

import json

import psutil
import pytest

from tests.app.serving import PATIENCE, App, serving
from tests.app.watching import Watched, watched
from tests.widgets.conftest import browser  # noqa: F401 (a fixture)
from tests.widgets.runs_made import Folder, judged_run
from tests.widgets.seeing import SCREENS, hidden, scrolls
from workbench.commands.phantom import save
from workbench.phantom.case import phantom
from workbench.review.study import reader_study
from workbench.review.verdicts import VERDICTS

pytest.importorskip("voila", reason="needs voila (the app extra)")

METHOD = ".wbx-bar-row label:has-text('Method') select"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of six radiographs with its manifest, and the radiographs beside it."""
    return judged_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def study(tmp_path_factory, run):
    """A study of the run, with one reader and two reports of each radiograph."""
    folder = tmp_path_factory.mktemp("study") / "made"
    given = {"manifest": run / "manifest.parquet", "readers": ["CD"], "repeats": 0}
    return reader_study(run, out=folder, **given)


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A training run that is half done."""
    found = Folder(tmp_path_factory.mktemp("training") / "made")
    found.begin()
    found.checkpoint(100)
    return found


@pytest.fixture(scope="module")
def app(tmp_path_factory, run, study, training) -> App:
    given = ("--run", str(run), "--reviewer", "AB", "--manifest", str(run / "manifest.parquet"))
    given += ("--study", str(study.folder), "--reader", "CD", "--training", str(training.folder))
    with serving(tmp_path_factory.mktemp("app"), *given) as running:
        yield running


@pytest.fixture
def seen(app, browser) -> Watched:  # noqa: F811
    """A page that has logged in; in the end there was no error, and nobody else was asked."""
    with watched(browser) as found:
        found.page.goto(app.url)
        yield found
        assert found.errors == []
        assert found.foreign(app.port) == []
        assert len(found.asked) > 2


def drawn(seen: Watched) -> None:
    seen.page.wait_for_selector("body.drawn .wb-title")
    assert seen.page.inner_text(".top .use") == "Not for clinical use"
    assert seen.page.inner_text(".wb-notice").strip(" \u26a0")


def test_a_word_a_method_and_a_question(seen):
    page = seen.page
    page.click("text=Explorer")
    assert page.wait_for_selector(".step:visible").inner_text().strip()
    drawn(seen)
    page.wait_for_selector(".wbx-maptitle")
    assert "not for real radiographs" in page.inner_text(".wb-notice")
    words = page.locator(".wbx-words").first
    assert "effusion" in words.inner_text().lower()
    first = seen.image_changes(lambda: page.click(".wbx-word >> nth=0"))
    second = seen.image_changes(lambda: page.click(".wbx-word:has-text('effusion') >> nth=0"))
    assert first != second
    seen.image_changes(lambda: page.select_option(METHOD, "relevancy"))
    page.wait_for_function(
        "() => document.querySelector('.wbx-maptitle')?.textContent.startsWith('relevancy')"
    )
    page.fill(".wbx-ask input", "Is there a pneumothorax?")
    page.click("button:text-is('Ask')")
    # the second text, once it is whole
    answer = page.wait_for_selector(".wbx-passage:nth-of-type(2) .wbx-words").inner_text()
    assert "pneumothorax" in answer.lower() or answer.lower().startswith(("no", "yes"))
    title = page.wait_for_selector(".wbx-maptitle:text-matches('pneumothorax.{0,2}$')")
    assert title.inner_text().startswith("relevancy")
    seen.keep("app_explorer")


def count(page, text: str) -> None:
    page.wait_for_function(
        "(text) => document.querySelector('.desk-count')?.textContent.includes(text)", arg=text
    )


def test_by_keyboard_to_three_verdicts_which_survive_a_reload(app, seen, run):
    page = seen.page
    assert page.url == f"{app.origin}/"
    ready = page.locator(".card.ready h2").all_inner_texts()
    assert ready == ["Explorer", "Reviewer", "Reader study", "Training monitor"]
    about = page.locator(".card .about").all_inner_texts()
    assert about == ["phantom seed 7 (internal)", f"{run.name}, AB", "made, CD", "made"]
    seen.keep("app_start")
    page.focus(".card.ready h2 a >> nth=1")
    page.keyboard.press("Enter")
    drawn(seen)
    assert page.title() == "Reviewer - CXR-LLaVA Workbench"
    count(page, "AB: 0 of 6 judged")
    for at, key in enumerate("125"):
        page.keyboard.press(key)
        count(page, f"AB: {at + 1} of 6 judged")
    here = page.inner_text(".rev-facts")
    lines = (run / "annotations.jsonl").read_text().splitlines()
    names = list(VERDICTS)
    assert [json.loads(line)["verdict"] for line in lines] == [names[0], names[1], names[4]]
    before = app.processes()
    assert before
    page.reload()
    drawn(seen)
    count(page, "AB: 3 of 6 judged")
    assert page.inner_text(".rev-facts") == here
    seen.radiograph()
    seen.keep("app_reviewer")
    assert psutil.wait_procs(before, timeout=PATIENCE)[1] == []
    page.click(".home")
    page.wait_for_selector(".card.ready")


def test_two_grades_survive_the_death_of_their_process(app, seen, study):
    page = seen.page
    processes = {process.pid for process in app.processes()}
    page.click("text=Reader study")
    drawn(seen)
    assert study.key["notice"] in page.inner_text(".wb-notice")
    page.wait_for_selector(".read-head:text-is('Report 1 of 12')")
    seen.radiograph()
    for at, key in enumerate("ab"):
        page.keyboard.press(key)
        page.wait_for_selector(f".read-head:text-is('Report {at + 2} of 12')")
    seen.radiograph()
    seen.keep("app_reader")
    text = page.inner_text(".read-text")
    for process in app.processes():
        if process.pid not in processes:
            process.kill()
    assert "process of this page has ended" in page.wait_for_selector(".gone").inner_text()
    seen.keep("app_gone")
    page.click(".gone button")
    drawn(seen)
    page.wait_for_selector(".read-head:text-is('Report 3 of 12')")
    assert page.inner_text(".read-text") == text
    assert page.locator(".gone").count() == 0
    session = study.session("CD")
    assert [record["grade"] for record in session.grades.values()] == ["A", "B"]
    assert [error for error in seen.errors if "404" not in error] == []
    seen.errors.clear()  # the browser itself reports that the process was not found


def test_two_tabs_of_one_reviewer_show_the_same(app, seen, run):
    """Each tab has a process of its own; what one writes, the other shows by itself."""
    page, other = seen.page, seen.page.context.new_page()
    for tab in (page, other):
        tab.goto(f"{app.origin}/page/reviewer")
        tab.wait_for_selector("body.drawn .rev-finding")
    done = int(page.inner_text(".desk-count").split()[1]) + 1
    page.keyboard.press("u")
    page.keyboard.press("1")
    count(other, f"AB: {done} of 6 judged")
    before = len((run / "annotations.jsonl").read_text().splitlines())
    page.keyboard.press("z")
    count(other, f"AB: {done - 1} of 6 judged")
    other.keyboard.press("u")
    other.keyboard.press("1")
    count(page, f"AB: {done} of 6 judged")
    assert len((run / "annotations.jsonl").read_text().splitlines()) == before + 2
    other.close()


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> list[str]:
    """Files of `workbench phantom`: one with a finding, its masks beside it, and one without."""
    folder = tmp_path_factory.mktemp("phantoms")
    cases = [phantom(7, findings=["pleural effusion"]), phantom(8, findings=[])]
    return [str(folder / save(case, folder)["image"]) for case in cases]


def test_images_of_ones_own_fit_the_screen_and_show_their_truth(browser, phantoms, tmp_path):  # noqa: F811
    with serving(tmp_path / "app", "--image", *phantoms) as own, watched(browser) as seen:
        page = seen.page
        page.goto(own.url)
        assert page.locator(".card .about").all_inner_texts() == [
            "phantom_internal_7.png", "phantom_internal_8.png",
        ]  # fmt: skip
        sizes = page.locator(".card .look").evaluate_all("(all) => all.map((e) => e.naturalWidth)")
        assert sizes == [160, 160]
        seen.keep("app_images")
        page.click("text=Explorer, image 1")
        drawn(seen)
        page.wait_for_selector(".wbx-below > .wbx-details")
        seen.image_changes(lambda: page.keyboard.press("t"))
        seen.image_changes(lambda: page.click("button:text-is('Truth')"))
        for width, height in SCREENS:
            page.set_viewport_size({"width": width, "height": height})
            assert hidden(page, ".wbx-maptitle", ".wbf-stage", ".wbx-scale", ".wbx-words") == []
            assert not scrolls(page)
        page.goto(f"{own.origin}/page/explorer-2")
        drawn(seen)
        page.wait_for_selector(".wbx-maptitle")
        assert not page.is_visible("button:text-is('Truth')")
        assert seen.errors == []


def test_the_monitor_follows_a_training(seen, training):
    page = seen.page
    page.click("text=Training monitor")
    drawn(seen)
    page.wait_for_selector(".wb :text-is('100')")
    seen.keep("app_monitor")
    training.checkpoint(200)
    page.wait_for_selector(".wb :text-is('200')")


def test_a_page_whose_process_is_too_slow_is_loaded_once_more(seen):
    """The widget manager of Jupyter gives up on a busy process after some seconds."""
    page = seen.page
    page.route("**/voila/static/voila.js", lambda route: route.fulfill(body=""))
    gave_up = "document.getElementById('room').append('Error displaying widget: model not found')"
    page.click("text=Training monitor")
    for _ in range(2):
        page.wait_for_selector(".step:visible:text-is('Drawing the page')")
        page.wait_for_load_state()
        page.evaluate("window.old = true")
        page.evaluate(gave_up)
        page.wait_for_function("() => !window.old || document.querySelector('.problem')")
    assert "answers too slowly" in page.wait_for_selector(".problem").inner_text()
    assert page.locator(".step:visible").count() == 0
    seen.keep("app_slow")


def test_errors_say_what_to_do(app, browser, tmp_path):  # noqa: F811
    folder = tmp_path / "<img src=x onerror=window.hit=1>"
    folder.mkdir()
    with (
        serving(tmp_path / "app", "--run", str(folder)) as other,
        watched(browser, color_scheme="dark") as seen,
    ):
        seen.page.goto(other.url)
        missing = seen.page.locator(".card.missing h2").all_inner_texts()
        assert missing == ["Reader study", "Training monitor"]
        seen.page.click("text=Reviewer")
        said = seen.page.wait_for_selector(".failure:visible").inner_text()
        assert "This page could not be opened." in said
        assert "expected what `workbench run --out` wrote" in said
        assert seen.page.evaluate("window.hit") is None
        assert seen.page.locator(".step:visible").count() == 0
        seen.keep("app_failure")
        assert seen.errors == []
        assert seen.foreign(other.port) == []
        seen.page.goto(f"{other.origin}/nowhere")
        assert "No such page" in seen.page.inner_text("h1")
        seen.keep("app_nowhere")
        seen.page.context.clear_cookies()
        seen.page.goto(f"{other.origin}/page/nowhere")
        seen.page.fill("#key", "wrong")
        seen.page.keyboard.press("Enter")
        assert "That is not the key" in seen.page.wait_for_selector("[role='alert']").inner_text()
        seen.keep("app_login")
        seen.page.fill("#key", other.token)
        seen.page.keyboard.press("Enter")
        assert "No such page" in seen.page.wait_for_selector("h1:text('No')").inner_text()
        assert seen.page.url == f"{other.origin}/page/nowhere"
