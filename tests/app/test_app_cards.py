"""What the start page shows of images and folders: names that name nobody, and small pictures."""

from __future__ import annotations

import base64
import io
import time
from importlib.resources import files

import numpy as np
import pytest
from jinja2 import Environment, FileSystemLoader
from PIL import Image

from workbench.commands._app_site import READING, SIDE, UNREADABLE, Cards, Site


def pictured(card) -> Image.Image:
    head, _, data = card.picture.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def written(path, height: int, width: int):
    grey = np.random.default_rng(0).integers(0, 255, (height, width), dtype=np.uint8)
    Image.fromarray(grey).save(path)
    return str(path)


def test_each_image_has_its_name_and_a_small_picture_in_order(tmp_path):
    paths = [written(tmp_path / f"chest_{n}.png", 300 + n, 900) for n in range(3)]
    cards = Cards(paths)
    found = cards.ready(60)
    cards.close()
    assert [card.name for card in found] == ["chest_0.png", "chest_1.png", "chest_2.png"]
    for card in found:
        picture = pictured(card)
        assert max(picture.size) == SIDE and picture.mode == "L"
        assert picture.info == {}  # the pixels, and nothing else of the file


def test_a_name_that_may_name_somebody_is_not_shown(tmp_path):
    (card,) = Cards([written(tmp_path / "Mustermann_Erika_19500101.png", 90, 90)]).ready(60)
    assert card.name.startswith("image-") and "Muster" not in card.name


def test_without_images_the_phantom_is_shown():
    (card,) = Cards([]).ready(60)
    assert card.name == "phantom seed 7 (internal)"
    assert pictured(card).size == (SIDE, SIDE)


def test_an_image_that_cannot_be_read_leaves_the_others(tmp_path):
    broken = tmp_path / "Mustermann.png"
    broken.write_bytes(b"\x89PNG, but not really")
    cards = Cards([str(broken), written(tmp_path / "chest.png", 90, 90)])
    assert [card.name for card in cards.ready(60)] == [UNREADABLE.name, "chest.png"]


def test_the_page_does_not_wait_for_a_slow_image(tmp_path, monkeypatch):
    from workbench.commands import _app_site

    def slow(path, upright):
        time.sleep(1)
        raise OSError("gone")

    monkeypatch.setattr(_app_site, "_image", slow)
    cards = Cards(["a", "b"])
    began = time.monotonic()
    assert cards.ready(0.1) == [READING, READING]
    assert time.monotonic() - began < 0.8
    cards.close()


@pytest.mark.parametrize(
    ("given", "kind", "shows"),
    [({"run": "/data/ward/first", "reviewer": "AB"}, "reviewer", "first, AB"),
     ({"study": "/s/blinded", "reader": "CD"}, "reader", "blinded, CD"),
     ({"training": "/t/fracture"}, "monitor", "fracture"), ({}, "reviewer", "")],
)  # fmt: skip
def test_a_page_says_which_folder_and_person_it_is_about(given, kind, shows):
    (page,) = [page for page in Site(**given).pages if page.kind == kind]
    assert page.shows == shows


@pytest.mark.parametrize(
    ("whole", "said"),
    [(False, "The suspected errors of a run one"), (True, "Every report of a run")],
)
def test_the_start_says_whether_the_whole_run_is_listed(whole, said):
    pages = FileSystemLoader(str(files("workbench") / "commands" / "app_pages"))
    start = Environment(loader=pages).get_template("start.html")
    assert said in start.render(site=Site(run="/r", whole=whole), cards=[READING], notice="")
