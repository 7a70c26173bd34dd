"""Where the images of a run are: named, kept in the run, moved, or nowhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import workbench as wb
from workbench import interface
from workbench.errors import InputError
from workbench.runs.record import kept_places, read_record

FAST = {"max_new_tokens": 2, "tasks": ["report"]}


@pytest.fixture
def apart(tmp_path, lab) -> Path:
    """A manifest in one folder, and its images in another."""
    images = tmp_path / "images"
    (tmp_path / "tables").mkdir()
    shutil.move(lab.draw(images, 3), tmp_path / "tables" / "films.csv")
    return tmp_path / "tables" / "films.csv"


@pytest.fixture
def unloaded(monkeypatch) -> None:
    """No model may be loaded."""

    def load(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(interface, "load_model", load)


def root_of(out: Path) -> Path:
    return kept_places(read_record(out), out)[0]


@pytest.mark.parametrize("relative", [False, True])
def test_a_run_resumes_with_the_root_that_it_began_with(
    apart, model, tmp_path, monkeypatch, relative
):
    monkeypatch.chdir(tmp_path)
    root = Path("images") if relative else tmp_path / "images"
    assert wb.run(apart, model=model, out="r", root=root, **FAST).done == 3
    monkeypatch.chdir(apart.parent)
    again = wb.run(apart, model=model, out=tmp_path / "r", **FAST)
    assert again.done == 3
    assert root_of(tmp_path / "r") == tmp_path / "images"


def test_without_a_root_that_of_the_manifest_is_kept(films, model, tmp_path):
    wb.run(films, model=model, out=tmp_path / "r", **FAST)
    assert root_of(tmp_path / "r") == films.parent.resolve()


def test_folders_that_moved_together_are_found_beside_each_other(apart, model, tmp_path):
    wb.run(apart, model=model, out=tmp_path / "r", root=tmp_path / "images", **FAST)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("r", "images", "tables"):
        shutil.move(tmp_path / name, moved / name)
    assert wb.run(moved / "tables" / "films.csv", model=model, out=moved / "r", **FAST).done == 3
    assert root_of(moved / "r") == moved / "images"
    queue = wb.review.queue(moved / "r")
    assert queue.root == moved / "images"
    assert queue.case("film-1").radiograph().pixels.shape == (90, 110)


def test_a_root_that_is_named_again_is_taken_and_kept(apart, model, tmp_path):
    wb.run(apart, model=model, out=tmp_path / "r", root=tmp_path / "images", **FAST)
    shutil.copytree(tmp_path / "images", tmp_path / "copy")
    wb.run(apart, model=model, out=tmp_path / "r", root=tmp_path / "copy", **FAST)
    assert root_of(tmp_path / "r") == tmp_path / "copy"
    shutil.rmtree(tmp_path / "copy")
    assert root_of(tmp_path / "r") == tmp_path / "images"


def test_a_root_that_is_gone_gives_way_to_the_folder_of_the_manifest(apart, model, tmp_path):
    wb.run(apart, model=model, out=tmp_path / "r", root=tmp_path / "images", **FAST)
    for image in (tmp_path / "images").iterdir():
        shutil.move(image, apart.parent / image.name)
    assert wb.run(apart, model=model, out=tmp_path / "r", **FAST).done == 3
    assert root_of(tmp_path / "r") == apart.parent


@pytest.mark.parametrize("named", [None, "tables"])
def test_a_manifest_without_one_image_is_refused_before_the_model(apart, tmp_path, unloaded, named):
    root = None if named is None else tmp_path / named
    with pytest.raises(InputError, match=r"none of its 3 rows has an image in .*tables.*root="):
        wb.run(apart, out=tmp_path / "r", root=root, **FAST)
    assert not (tmp_path / "r").exists()


def test_first_rows_without_an_image_are_said_and_the_others_run(films, model, tmp_path, caplog):
    root = tmp_path / "some"
    shutil.copytree(films.parent, root)
    (root / "0.png").unlink()
    found = wb.run(films, model=model, out=tmp_path / "r", root=root, **FAST)
    assert (found.done, found.failed) == (7, 1)
    assert "the first 1 rows have no image" in caplog.text
    assert "paths of a manifest start at its root" in found.errors()["error"].iloc[0]
    assert "0.png" not in found.errors()["error"].iloc[0]


def test_a_record_with_a_root_of_another_kind_is_damaged(films, model, tmp_path):
    wb.run(films, model=model, out=tmp_path / "r", **FAST)
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    record["sessions"][0]["root"] = ["/"]
    (tmp_path / "r" / "run.json").write_text(json.dumps(record))
    with pytest.raises(wb.RunError, match="damaged"):
        wb.run(films, model=model, out=tmp_path / "r", **FAST)


def test_a_run_from_before_roots_were_kept_is_read(films, model, tmp_path):
    wb.run(films, model=model, out=tmp_path / "r", **FAST)
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    del record["sessions"][0]["root"], record["sessions"][0]["manifest_folder"]
    (tmp_path / "r" / "run.json").write_text(json.dumps(record))
    assert wb.run(films, model=model, out=tmp_path / "r", **FAST).done == 8
