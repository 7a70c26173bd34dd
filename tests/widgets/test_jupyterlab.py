"""Explorer and reviewer in a real JupyterLab, as in class: run all, click, ask, judge, reload.

The explorer also in Jupyter Notebook 7 and Voila.

Needs Chromium. Nothing leaves 127.0.0.1, and the console has no error. Pictures are kept in
`out/artefacts`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest

from tests.app.watching import PIXELS, Watched, watched
from tests.widgets.runs_made import judged_run

#: Seconds within which anything must have happened, also on a busy machine.
PATIENCE = 240

METHOD = ".wbx-bar-row label:has-text('Method') select"
#: What the status bar says once a kernel is connected and waits.
IDLE = "text=/Python 3 .* \\| Idle$/"
#: Parts of JupyterLab that are left out: news from elsewhere, and its debugger, which writes an
#: error of its own to the console where a kernel restarts while it asks that kernel something.
LEFT_OUT = {
    "@jupyterlab/apputils-extension:announcements": True,
    "@jupyterlab/debugger-extension": True,
}
#: What the pages themselves complain of, with any notebook: Voila that its icons are out of reach.
OWN_ERRORS = {
    "notebook": ("reading 'schema'",),
    "voila": ("ERR_NAME_NOT_RESOLVED", "getter for the shared module"),
}
#: What the page of Voila loads from elsewhere.
ICONS = "https://cdn.jsdelivr.net/npm/@fortawesome/fontawesome-free"
#: Notebook -> its cells.
LESSONS = {
    "explore": (
        "import workbench as wb",
        "model = wb.load_model('mini')\ncase = wb.phantom(seed=7, findings=['pleural effusion'])",
        "wb.explore(model, case)",
    ),
    "judge": (
        "import workbench as wb",
        "wb.review.app('run', manifest='run/manifest.parquet', reviewer='AB')",
    ),
}


@pytest.fixture
def lab(tmp_path, request) -> Iterator[dict]:
    """A server with folders of its own, notebooks and a run: its module, port and token.

    JupyterLab, unless a test names another module.
    """
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True)
    judged_run(home / "run")
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for name, codes in LESSONS.items():
        cells = [nbformat.v4.new_code_cell(code) for code in codes]
        book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec})
        nbformat.write(book, home / f"{name}.ipynb")
    said = {"module": getattr(request, "param", "jupyterlab"), "port": free_port()}
    said["token"] = "for-this-test"
    config = tmp_path / "config" / "labconfig"
    config.mkdir(parents=True)
    (config / "page_config.json").write_text(json.dumps({"disabledExtensions": LEFT_OUT}))
    own = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("DATA", "CONFIG")}
    own |= {"JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"), "IPYTHONDIR": str(tmp_path / "ipy")}
    own |= {f"JUPYTERLAB_{name}_DIR": str(tmp_path / "lab") for name in ("SETTINGS", "WORKSPACES")}
    own |= {"JUPYTER_PREFER_ENV_PATH": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command(said), cwd=home, env=os.environ | own, stdout=log, stderr=log
        )
    try:
        started(server, said, tmp_path / "log")
        yield said
    finally:
        server.terminate()
        server.wait(PATIENCE)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def command(said: dict) -> list[str]:
    found = [sys.executable, "-m", said["module"], "--no-browser", f"--port={said['port']}"]
    if said["module"] == "voila":
        return [*found, "explore.ipynb"]
    found += ["--allow-root", "--port-retries=0", "--ip=127.0.0.1"]
    # The server itself asks nobody for news either.
    found += ["--LabApp.news_url=None", "--LabApp.extension_manager=readonly"]
    found += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    return [*found, f"--IdentityProvider.token={said['token']}"]


def started(server: subprocess.Popen, said: dict, log: Path) -> None:
    """Wait until the server answers."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", said["port"]), timeout=1):
            return
        time.sleep(0.1)
    pytest.fail(f"{said['module']} did not answer within {PATIENCE} s")


def kernels(said: dict) -> list[dict] | None:
    """Return the server's kernels, None where it does not answer."""
    address = f"http://127.0.0.1:{said['port']}/api/kernels?token={said['token']}"
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            return json.load(answer)
    except OSError:
        return None


def menu(page, name: str, entry: str) -> None:
    page.click(f".lm-MenuBar-itemLabel:text-is('{name}')")
    page.click(f".lm-Menu-itemLabel:text-is('{entry}')")


def shown(page, words: str) -> None:
    """Wait until the map of some words is there."""
    page.wait_for_function(
        "(words) => document.querySelector('.wbx-maptitle')?.textContent.includes(words)", arg=words
    )


def connected(page, said: dict) -> None:
    """Wait until the notebook has its kernel and the kernel waits."""
    status = said["module"] == "jupyterlab"  # Notebook 7 has no status bar
    if status:
        page.wait_for_selector(IDLE)
    until = time.monotonic() + PATIENCE
    while [one["execution_state"] for one in kernels(said) if one["connections"]] != ["idle"]:
        assert time.monotonic() < until, "no idle kernel"
        page.wait_for_timeout(100)
    if status:
        page.wait_for_selector(IDLE)


def open_and_run(seen: Watched, said: dict, name: str) -> None:
    page = seen.page
    page.on("dialog", lambda dialog: dialog.accept())
    place = {"jupyterlab": "lab/tree", "notebook": "notebooks"}[said["module"]]
    page.goto(f"http://127.0.0.1:{said['port']}/{place}/{name}.ipynb?token={said['token']}")
    connected(page, said)  # before that, Run All is dropped silently, or asks which kernel
    menu(page, "Run", "Run All Cells")


def save_and_reload(page, said: dict) -> None:
    """Save the notebook, whose outputs would be gone otherwise, and load the page again."""
    with page.expect_response(
        lambda answer: answer.request.method == "PUT" and ".ipynb" in answer.url
    ):
        menu(page, "File", "Save Notebook")
    page.reload()
    connected(page, said)


def middle(page) -> tuple[float, float]:
    """Return the middle of the radiograph."""
    box = page.locator(".wbf-canvas").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def judged(page, count: int) -> None:
    """Wait until the bar says how many were judged."""
    page.wait_for_function(
        "(text) => document.querySelector('.desk-count')?.textContent.includes(text)",
        arg=f"AB: {count} of 6 judged",
    )


def test_click_method_question_and_reload_in_jupyterlab(lab, browser):
    with watched(browser) as seen:
        page = seen.page
        open_and_run(seen, lab, "explore")
        shown(page, "attention: ")
        page.locator(".wbx").scroll_into_view_if_needed()
        seen.keep("lab_explorer")
        cells = page.locator(".jp-Cell").count()
        assert page.evaluate("!document.activeElement.closest('.wb')")  # the notebook keeps it
        x, y = middle(page)
        page.mouse.move(x, y)
        page.mouse.down(button="right")
        page.mouse.move(x + 40, y + 20, steps=3)
        page.mouse.up(button="right")
        page.click(".wbx .wb-title")
        for key in ("a", "b", "d", "d", "0"):  # outside the app they make and delete cells
            page.keyboard.press(key)
        assert page.locator(".lm-Menu").count() == 0
        assert page.locator(".jp-Cell").count() == cells
        seen.image_changes(lambda: page.click(".wbx-kind-report .wbx-word >> nth=3"))
        seen.keep("lab_word")
        seen.image_changes(lambda: page.select_option(METHOD, "relevancy"))
        shown(page, "relevancy: ")
        page.fill(".wbx-ask input", "Is there a pneumothorax?")
        page.keyboard.press("Enter")
        page.wait_for_selector(".wbx-kind-answer .wbx-word")
        answer = page.inner_text(".wbx-kind-answer .wbx-words")
        assert "pneumothorax" in answer
        page.click(".wbx-kind-report .wbx-word >> nth=5")
        words = page.locator(".wbx-word[aria-selected='true']").all_inner_texts()
        title = f"relevancy: log-probability of \u201c{words[0]}\u201d"
        shown(page, title)
        seen.keep("lab_answer")
        radiograph = seen.radiograph()
        save_and_reload(page, lab)
        shown(page, title)
        assert page.inner_text(".wbx-kind-answer .wbx-words") == answer
        assert page.locator(".wbx-word[aria-selected='true']").all_inner_texts() == words
        page.wait_for_function(f"(radiograph) => ({PIXELS})(0) === radiograph", arg=radiograph)
        seen.image_changes(lambda: page.click(".wbx-kind-report .wbx-word >> nth=3"))
        seen.keep("lab_reloaded")
        assert [one["execution_state"] for one in kernels(lab)] == ["idle"]
        assert seen.errors == []
        assert seen.foreign(lab["port"]) == []


def test_three_verdicts_survive_a_reload_and_a_new_kernel_in_jupyterlab(lab, browser):
    with watched(browser) as seen:
        page = seen.page
        open_and_run(seen, lab, "judge")
        judged(page, 0)
        page.locator(".rev-finding").scroll_into_view_if_needed()
        page.click(".rev-finding")
        for at, key in enumerate("125"):
            page.keyboard.press(key)
            judged(page, at + 1)
        seen.keep("lab_reviewer")
        save_and_reload(page, lab)
        judged(page, 3)
        facts = page.inner_text(".rev-facts")
        menu(page, "Kernel", "Restart Kernel and Clear Outputs of All Cells\u2026")
        page.click(".jp-Dialog-button.jp-mod-warn")
        page.wait_for_function("() => !document.querySelector('.desk-count')")
        connected(page, lab)
        menu(page, "Run", "Run All Cells")
        judged(page, 3)
        assert page.inner_text(".rev-facts") == facts
        assert seen.errors == []
        assert seen.foreign(lab["port"]) == []


@pytest.mark.parametrize("lab", ["notebook", "voila"], indirect=True)
def test_a_word_has_its_map_in_notebook_7_and_in_voila(lab, browser):
    with watched(browser) as seen:
        if lab["module"] == "voila":
            seen.page.goto(f"http://127.0.0.1:{lab['port']}/")
        else:
            open_and_run(seen, lab, "explore")
        shown(seen.page, "attention: ")
        seen.image_changes(lambda: seen.page.click(".wbx-kind-report .wbx-word >> nth=3"))
        seen.keep(f"{lab['module']}_explorer")
        asked, own = seen.foreign(lab["port"]), OWN_ERRORS[lab["module"]]
        assert [text for text in seen.errors if not any(part in text for part in own)] == []
        assert [url for url in asked if not (lab["module"] == "voila" and ICONS in url)] == []
