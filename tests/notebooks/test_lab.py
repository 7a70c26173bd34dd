"""`make lab` opens a copy of the first lesson, with the kernel of the environment."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.lab.__main__ import copy_lessons

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 90


def made(target: str, *settings: str) -> list[str]:
    """Return the command that a target would run."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    folder = Path(sys.prefix)
    asked = ["make", "-n", "-o", f"{folder}/.installed-demo", target, f"VENV={folder}", *settings]
    # within `make test`, make would speak of the make that called it
    own = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    own.pop("MFLAGS", None)
    done = subprocess.run(asked, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    return shlex.split(done.stdout.strip().splitlines()[-1])


def wait_for(condition, server: subprocess.Popen):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if server.poll() is not None:
            pytest.fail(f"the server ended with {server.returncode}")
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail(f"nothing came within {PATIENCE} s")


@pytest.fixture
def lab(tmp_path) -> Iterator[tuple[dict, subprocess.Popen, Path]]:
    """The server that `make lab` starts, on a machine whose user has another "python3" kernel."""
    other = tmp_path / "data" / "kernels" / "python3"
    other.mkdir(parents=True)
    spec = {"argv": ["/nowhere/python", "{connection_file}"], "display_name": "Another"}
    (other / "kernel.json").write_text(json.dumps(spec | {"language": "python"}))
    own = {
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1" if "JUPYTER_PREFER_ENV_PATH" in makefile() else "0",
    }
    copy_lessons(ROOT / "out" / "lab")
    command = [*made("lab"), "--no-browser", "--allow-root", "--port=0", "--port-retries=0"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | own, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        runtime = tmp_path / "runtime"
        info = wait_for(lambda: next(runtime.glob("jpserver-*.json"), None), server)
        yield json.loads(info.read_text()), server, runtime
    finally:
        server.terminate()
        server.wait(PATIENCE)


def makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")


def ask(server: dict, path: str, body: dict | None = None) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server['port']}/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"token {server['token']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def test_make_lab_opens_the_first_lesson():
    assert made("lab")[1:4] == ["-m", "jupyterlab", "out/lab/notebooks/00_start_here.ipynb"]


# --- copies --------------------------------------------------------------------------------------


@pytest.fixture
def course(tmp_path) -> Path:
    """A repository with two lessons and what they read."""
    for name in ("notebooks/00_a.ipynb", "notebooks/01_b.ipynb", "data_manifests/x/rows.csv"):
        path = tmp_path / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"first {name}")
    return tmp_path / "repository"


def test_lessons_are_copied_with_what_they_read_and_stay_as_they_are(course, tmp_path):
    before = {path: path.read_bytes() for path in course.rglob("*") if path.is_file()}
    found = copy_lessons(tmp_path / "lab", root=course)
    assert len(found.written) == 3 and not found.kept
    assert (tmp_path / "lab" / "data_manifests" / "x" / "rows.csv").is_file()
    (tmp_path / "lab" / "notebooks" / "00_a.ipynb").write_text("outputs")
    assert {path: path.read_bytes() for path in course.rglob("*") if path.is_file()} == before


def test_a_copy_that_was_changed_is_kept_and_the_others_follow(course, tmp_path):
    lab = tmp_path / "lab" / "notebooks"
    copy_lessons(lab.parent, root=course)
    (lab / "00_a.ipynb").write_text("mine")
    assert copy_lessons(lab.parent, root=course).kept == ["notebooks/00_a.ipynb"]
    for name in ("00_a", "01_b"):
        (course / "notebooks" / f"{name}.ipynb").write_text("second")
    found = copy_lessons(lab.parent, root=course)
    assert (lab / "00_a.ipynb").read_text() == "mine"
    assert (lab / "00_a.newer.ipynb").read_text() == "second"
    assert (lab / "01_b.ipynb").read_text() == "second"
    assert (found.written, found.beside) == (["notebooks/01_b.ipynb"], ["00_a.newer.ipynb"])
    again = copy_lessons(lab.parent, root=course)
    assert (again.kept, again.written, again.beside) == (["notebooks/00_a.ipynb"], [], [])


def test_a_copy_that_was_removed_comes_back(course, tmp_path):
    lab = tmp_path / "lab"
    copy_lessons(lab, root=course)
    (lab / "notebooks" / "00_a.ipynb").unlink()
    assert copy_lessons(lab, root=course).written == ["notebooks/00_a.ipynb"]


def test_copies_are_ignored_by_git_and_survive_make_clean():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and the repository")
    asked = ["git", "check-ignore", "-q", "out/lab/notebooks/00_start_here.ipynb"]
    assert subprocess.run(asked, cwd=ROOT, check=False).returncode == 0
    cleaned = makefile().split("\nclean:")[1].split("\n\n")[0]
    assert "! -name lab" in cleaned and "rm -rf out" not in cleaned


# --- the server ----------------------------------------------------------------------------------


def test_make_lab_asks_the_network_for_no_news_and_no_newer_version():
    from jupyterlab.handlers.announcements import NeverCheckForUpdate
    from jupyterlab.labapp import LabApp

    app = LabApp()
    app.parse_command_line(made("lab")[4:])
    assert app.news_url is None
    assert app.check_for_updates_class is NeverCheckForUpdate


def test_make_lab_does_not_ask_whether_it_may_send_news(monkeypatch):
    from jupyterlab_server.config import get_page_config

    assert "JUPYTER_CONFIG_PATH := $(CURDIR)/docs/lab" in makefile()
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(ROOT / "docs" / "lab"))
    disabled = get_page_config([])["disabledExtensions"]
    assert "@jupyterlab/apputils-extension:announcements" in disabled


def test_the_lesson_is_there_and_its_kernel_is_the_environments(lab):
    from jupyter_client import BlockingKernelClient

    server, process, runtime = lab
    listed = wait_for(lambda: names(server), process)
    assert "00_start_here.ipynb" in listed
    lesson = ask(server, "api/contents/00_start_here.ipynb")["content"]
    kernel = ask(server, "api/kernels", {"name": lesson["metadata"]["kernelspec"]["name"]})
    client = BlockingKernelClient(connection_file=str(runtime / f"kernel-{kernel['id']}.json"))
    client.load_connection_file()
    client.start_channels(hb=False)  # on a busy machine a heart may beat late
    try:
        client.wait_for_ready(timeout=PATIENCE)
        code = {"prefix": "__import__('sys').prefix"}
        answer = client.execute("", user_expressions=code, reply=True, timeout=PATIENCE)
    finally:
        client.stop_channels()
    prefix = answer["content"]["user_expressions"]["prefix"]["data"]["text/plain"]
    assert prefix == repr(sys.prefix)


def names(server: dict) -> list[str]:
    try:
        return [item["name"] for item in ask(server, "api/contents")["content"]]
    except OSError:
        return []
