"""A drawn phantom that went through a PNG file is still known to be one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from workbench.commands.phantom import save
from workbench.imaging import load_radiograph
from workbench.imaging.load import mask_name, masks_beside
from workbench.imaging.picture import PHANTOM_KEY
from workbench.phantom.case import phantom
from workbench.phantom.ct.volume import CREDIT


@pytest.mark.parametrize(("domain", "view"), [("internal", "PA"), ("external", "AP")])
def test_saved_phantom_is_read_as_what_it_was(domain, view, tmp_path):
    case = phantom(11, domain=domain, size=128)
    record = save(case, tmp_path)
    image = load_radiograph(tmp_path / record["image"])
    assert (image.contract.domain, image.contract.modality) == ("phantom", "phantom")
    assert image.contract.view == view == case.image.contract.view
    assert np.abs(image.pixels - case.image.pixels).max() <= 0.5 / 255 + 1e-6


def test_every_view_of_a_ct_phantom_has_a_file_with_its_view_and_credit(tmp_path):
    for view, known in (("PA", "PA"), ("AP", "AP"), ("LATERAL", "lateral")):
        case = phantom(11, domain="ct", findings=[], view=view, size=64)
        path = tmp_path / save(case, tmp_path)["image"]
        for contract in (case.image.contract, load_radiograph(path).contract):
            assert contract.view == known
            assert ("lateral-view" in contract.codes) == (view == "LATERAL")
        with Image.open(path) as picture:
            assert picture.info["Copyright"] == CREDIT
    assert len(list(tmp_path.glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("mark", "domain", "view"),
    [(None, "radiograph", "unknown"), ("seed 1, view from above", "phantom", "unknown")],
)
def test_a_file_is_a_phantom_only_if_it_says_so(mark, domain, view, tmp_path):
    notes = PngImagePlugin.PngInfo()
    if mark:
        notes.add_text(PHANTOM_KEY, mark)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", pnginfo=notes)
    contract = load_radiograph(tmp_path / "a.png").contract
    assert (contract.domain, contract.view) == (domain, view)


# --- the masks beside a phantom -------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """A phantom with two findings, and the path of its image."""
    case = phantom(7, findings=["pleural effusion", "support device"], size=128)
    return case, tmp_path / save(case, tmp_path)["image"]


def test_masks_beside_a_phantom_are_those_that_were_written(saved):
    case, path = saved
    found = masks_beside(path, load_radiograph(path))
    assert set(found) == set(case.masks)
    for finding, mask in found.items():
        assert mask.dtype == bool
        assert np.array_equal(mask, case.masks[finding]), finding


def test_a_copy_without_masks_has_none(saved, tmp_path):
    _, path = saved
    (tmp_path / "other").mkdir()
    copy = tmp_path / "other" / path.name
    copy.write_bytes(path.read_bytes())
    assert masks_beside(copy, load_radiograph(copy)) == {}


def test_masks_follow_an_image_that_is_renamed_with_them(saved):
    case, path = saved
    renamed = path.with_name("case.v2 [1].png")
    path.rename(renamed)
    for finding in case.masks:
        path.with_name(mask_name(path.name, finding)).rename(
            path.with_name(mask_name(renamed.name, finding))
        )
    assert set(masks_beside(renamed, load_radiograph(renamed))) == set(case.masks)


def test_a_mask_that_does_not_fit_or_cannot_be_read_is_left_out_and_told(saved, caplog):
    case, path = saved
    first, second = case.masks
    Image.new("L", (64, 64), 255).save(path.with_name(mask_name(path.name, first)))
    assert list(masks_beside(path, load_radiograph(path))) == [second]
    path.with_name(mask_name(path.name, second)).write_bytes(b"\x89PNG cut short")
    assert masks_beside(path, load_radiograph(path)) == {}
    assert "64x64 pixels and the image 128x128" in caplog.text
    assert "cut short" in caplog.text


def test_an_image_that_is_no_phantom_has_no_truth(saved):
    _, path = saved
    plain = Image.open(path)
    plain.info.clear()
    plain.save(path)
    assert masks_beside(path, load_radiograph(path)) == {}
