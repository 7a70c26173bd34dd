"""A drawn phantom that went through a PNG file is still known to be one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from workbench.commands.phantom import save
from workbench.imaging import load_radiograph
from workbench.imaging.picture import PHANTOM_KEY
from workbench.phantom.case import phantom


@pytest.mark.parametrize(("domain", "view"), [("internal", "PA"), ("external", "AP")])
def test_saved_phantom_is_read_as_what_it_was(domain, view, tmp_path):
    case = phantom(11, domain=domain, size=128)
    record = save(case, tmp_path)
    image = load_radiograph(tmp_path / record["image"])
    assert (image.contract.domain, image.contract.modality) == ("phantom", "phantom")
    assert image.contract.view == view == case.image.contract.view
    assert np.abs(image.pixels - case.image.pixels).max() <= 0.5 / 255 + 1e-6


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
