"""What `workbench app` is asked for, without a server: options, pages, the private folder."""

from __future__ import annotations

import ast
import importlib.util
import json
import stat
import sys
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from workbench.cli import main
from workbench.commands import app
from workbench.commands._app_site import (
    OPENERS,
    SETTINGS,
    Site,
    notebook,
    open_page,
    own_names,
    site_folder,
)
from workbench.errors import InputError

NASTY = "\"); __import__('os').mkdir('pwned') #'\n<script>alert(1)</script>.png"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "-1"], "a whole number from 0 to 65535"),
        (["--port", "65536"], "a whole number from 0 to 65535"),
        (["--port", "http"], "a whole number from 0 to 65535"),
        (["--tabs", "0"], "a whole number from 1 to 1000"),
        (["--class", "0"], "a whole number from 1 to 1000"),
        (["--allow-host", "films.example.org"], "--allow-host needs --public"),
        (["--public", "--allow-host", "films.example.org:80"], "without port or path"),
        (["--public", "--allow-host", "*"], "without port or path"),
        (["--study", "somewhere"], "--study and --reader belong together"),
        (["--reader", "AB"], "--study and --reader belong together"),
        (["--reviewer", "AB"], "--reviewer needs --run"),
        (["--whole"], "--whole needs --run"),
        (["--root", "somewhere"], "--root needs --manifest or --run"),
    ],
)
def test_wrong_usage_is_said(arguments, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["app", *arguments])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_a_class_that_memory_does_not_hold_is_told_how_many_fit(monkeypatch, capsys):
    memory = SimpleNamespace(available=2e9)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    assert main(["app", "--no-browser", "--class", "8"]) == 1
    assert "take about 4.0 GB" in (said := capsys.readouterr().err)
    assert "--class 3 would fit" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--image", "nowhere.png"], "nowhere.png: there is no such file"),
        (["--run", "nowhere"], "nowhere: no run in this folder"),
        (["--study", "nowhere", "--reader", "AB"], "nowhere: no such folder of a study"),
        (["--manifest", "nowhere.csv"], "nowhere.csv: no such manifest"),
        (["--manifest", __file__, "--root", "nowhere"], "nowhere: no such folder; expected"),
        (["--training", "nowhere"], "nowhere: no such folder; it is there once the training"),
    ],
)
def test_what_is_not_there_is_named_before_anything_starts(arguments, says, capsys):
    assert main(["app", "--no-browser", *arguments]) == 1
    said = capsys.readouterr().err.strip()
    assert says in said and len(said.splitlines()) == 1


def test_without_voila_the_install_command_is_said(monkeypatch, capsys):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "voila" else there(name, *a)
    )
    assert main(["app", "--no-browser"]) == 1
    assert "pip install 'cxr-llava-workbench[app]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("password", "says"),
    [(None, "WORKBENCH_APP_PASSWORD"), ("", "has 0 characters"), ("elevenchars", "at least 12")],
)
def test_public_is_refused_without_a_good_password(password, says, monkeypatch, capsys):
    monkeypatch.setattr(app.sys, "stdin", SimpleNamespace(isatty=lambda: False))
    if password is None:
        monkeypatch.delenv(app.PASSWORD, raising=False)
    else:
        monkeypatch.setenv(app.PASSWORD, password)
    assert main(["app", "--public", "--no-browser"]) == 1
    said = capsys.readouterr().err
    assert says in said
    assert "elevenchars" not in said
    assert app.PASSWORD not in app.os.environ


def test_public_asks_twice_in_a_terminal(monkeypatch):
    typed = iter(["four unrelated words", "four unrelated words", "one long word", "another"])
    monkeypatch.setattr(app.sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(app.getpass, "getpass", lambda prompt: next(typed))
    monkeypatch.delenv(app.PASSWORD, raising=False)
    assert app._password() == "four unrelated words"
    with pytest.raises(InputError, match="the two passwords differ"):
        app._password()


def test_a_page_is_there_or_says_what_it_needs():
    bare, whole = Site(), Site(run="r", study="s", reader="AB", training="t")
    assert [(page.kind, page.needs) for page in bare.pages] == [
        ("explorer", ""),
        ("reviewer", "--run DIR"),
        ("reader", "--study DIR --reader NAME"),
        ("monitor", "--training DIR"),
    ]
    assert all(page.ready for page in whole.pages)
    assert {page.kind for page in whole.pages} == set(OPENERS)


def test_each_image_has_a_page_which_does_not_name_its_file():
    site = Site(images=("/films/DOE_JANE.dcm", "/films/ROE_RICHARD.dcm"))
    pages = [page for page in site.pages if page.kind == "explorer"]
    assert [(page.name, page.number) for page in pages] == [("explorer-1", 0), ("explorer-2", 1)]
    assert "DOE" not in repr(pages)


def test_a_page_that_is_not_there_cannot_be_had():
    for name in ("reviewer", "settings", "../settings", ""):
        with pytest.raises(InputError, match="has no page"):
            Site().page(name)


def test_settings_come_back_as_they_were():
    site = Site(images=[NASTY, "b"], run=NASTY, reviewer=NASTY, model=NASTY)
    with site_folder(site) as folder:
        assert Site(**json.loads((folder / SETTINGS).read_text())) == site


def test_what_a_user_chose_is_not_in_the_code_of_a_page():
    sites = [Site(), Site(model=NASTY, images=(NASTY,), run=NASTY, reviewer=NASTY, study=NASTY,
                          reader=NASTY, training=NASTY)]  # fmt: skip
    codes = [
        [[cell["source"] for cell in notebook(page)["cells"]] for page in site.pages]
        for site in sites
    ]
    assert codes[0] == codes[1]
    for page in codes[0]:
        assert len(ast.parse("\n".join(page)).body) == 2


def test_the_folder_is_closed_to_others_and_vanishes(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt), site_folder(Site(run="/somewhere")) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert files == dict.fromkeys([SETTINGS, "explorer.ipynb", "reviewer.ipynb"], 0o600)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_names_of_this_computer():
    assert own_names() == {"localhost", "127.0.0.1", "::1"}
    assert own_names() < own_names(network=True)


@pytest.mark.parametrize(
    ("site", "name", "says"),
    [
        (Site(images=("/nowhere/film.png",)), "explorer", "film.png: no such file"),
        (Site(model="/nowhere/model"), "explorer", "/nowhere/model"),
        (Site(run="/nowhere/run", reviewer="AB"), "reviewer", "no run in this folder"),
        (Site(), "reviewer", "has no page"),
    ],
)
def test_a_page_that_cannot_be_opened_says_why(site, name, says, tmp_path, monkeypatch):
    shown = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("IPython.display.display", lambda data, **o: shown.append((data, o)))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / SETTINGS).write_text(json.dumps(asdict(site)))
    open_page(name)
    ((data, options),) = shown
    assert says in data["text/plain"]
    assert options["metadata"] == {"workbench": {"failure": True}}


def test_what_nobody_expected_is_said_without_its_words(tmp_path, monkeypatch):
    shown = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("IPython.display.display", lambda data, **o: shown.append(data))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(OPENERS, "explorer", lambda site, page: 1 / 0)
    (tmp_path / SETTINGS).write_text(json.dumps(asdict(Site())))
    open_page("explorer")
    assert "Unexpected ZeroDivisionError" in shown[0]["text/plain"]
    assert "division by zero" not in shown[0]["text/plain"]
