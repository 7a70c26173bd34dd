"""The explorer in a real JupyterLab, as in class: run all, click, change, ask.

Needs Chromium. Nothing leaves 127.0.0.1, and the console has no error. Pictures are kept in
`out/artefacts`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.app.watching import Watched, watched

#: Seconds within which anything must have happened, also on a busy machine.
PATIENCE = 240

METHOD = ".wbx-bar-row label:has-text('Method') select"
#: What the status bar says once a kernel is connected and waits.
IDLE = "text=/Python 3 .* \\| Idle$/"
CELLS = (
    "import workbench as wb",
    "model = wb.load_model('mini')\ncase = wb.phantom(seed=7, findings=['pleural effusion'])",
    "wb.explore(model, case)",
)


@pytest.fixture
def lab(tmp_path) -> Iterator[dict]:
    """JupyterLab with folders of its own and a notebook; what its server says of itself."""
    home = tmp_path / "home"
    home.mkdir()
    cells = [nbformat.v4.new_code_cell(code) for code in CELLS]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec})
    nbformat.write(book, home / "lesson.ipynb")
    config = tmp_path / "config" / "labconfig"
    config.mkdir(parents=True)
    silent = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (config / "page_config.json").write_text(json.dumps(silent))
    own = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("DATA", "CONFIG")}
    own |= {"JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"), "IPYTHONDIR": str(tmp_path / "ipy")}
    own |= {f"JUPYTERLAB_{name}_DIR": str(tmp_path / "lab") for name in ("SETTINGS", "WORKSPACES")}
    own |= {"JUPYTER_PREFER_ENV_PATH": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    # The server itself asks nobody for news either.
    quiet = ["--LabApp.news_url=None", "--LabApp.extension_manager=readonly"]
    quiet += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0"]
    command += ["--port-retries=0", "--ip=127.0.0.1", "--IdentityProvider.token=for-this-test"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, *quiet], cwd=home, env=os.environ | own, stdout=log, stderr=log
        )
    try:
        yield started(server, tmp_path)
    finally:
        server.terminate()
        server.wait(PATIENCE)


def started(server: subprocess.Popen, folder: Path) -> dict:
    """Return what the server says of itself, once it answers."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert server.poll() is None, (folder / "log").read_text()
        for path in (folder / "runtime").glob("jpserver-*.json"):
            said = json.loads(path.read_text())
            if kernels(said) is not None:
                return said
        time.sleep(0.1)
    pytest.fail(f"JupyterLab did not answer within {PATIENCE} s")


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
    page.wait_for_selector(IDLE)
    until = time.monotonic() + PATIENCE
    while [one["execution_state"] for one in kernels(said) if one["connections"]] != ["idle"]:
        assert time.monotonic() < until, "no idle kernel"
        page.wait_for_timeout(100)
    page.wait_for_selector(IDLE)


def open_and_run(seen: Watched, said: dict) -> None:
    page = seen.page
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"http://127.0.0.1:{said['port']}/lab/tree/lesson.ipynb?token={said['token']}")
    connected(page, said)  # before that, Run All is dropped silently, or asks which kernel
    menu(page, "Run", "Run All Cells")
    shown(page, "attention: ")


def test_click_method_and_question_in_jupyterlab(lab, browser):
    with watched(browser) as seen:
        page = seen.page
        open_and_run(seen, lab)
        page.locator(".wbx").scroll_into_view_if_needed()
        seen.keep("lab_explorer")
        seen.film_changes(lambda: page.click(".wbx-kind-report .wbx-word >> nth=3"))
        seen.keep("lab_word")
        seen.film_changes(lambda: page.select_option(METHOD, "relevancy"))
        shown(page, "relevancy: ")
        page.fill(".wbx-ask input", "Is there a pneumothorax?")
        page.keyboard.press("Enter")
        page.wait_for_selector(".wbx-kind-answer .wbx-word")
        answer = page.inner_text(".wbx-kind-answer .wbx-words")
        assert "pneumothorax" in answer
        page.click(".wbx-kind-report .wbx-word >> nth=5")
        words = page.locator(".wbx-word[aria-selected='true']").all_inner_texts()
        shown(page, f"relevancy: log-probability of \u201c{words[0]}\u201d")
        seen.keep("lab_answer")
        assert [one["execution_state"] for one in kernels(lab)] == ["idle"]
        assert seen.errors == []
        assert seen.foreign(lab["port"]) == []
