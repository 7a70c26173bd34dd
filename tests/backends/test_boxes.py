"""Boxes that models write: each family's geometry, there and back; conventions are data."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
import transformers as tf

import workbench as wb
from tests.backends.families import FAMILIES, llava
from workbench.backends.families import _registry, box_conventions, find_boxes
from workbench.backends.transformers_vlm import Vlm
from workbench.backends.vlm_processor import load_processor
from workbench.errors import OptionError
from workbench.reports.boxes import ORDERS, PICTURES, read_boxes

SIZES = ((96, 96), (60, 180), (171, 64))


def image(size) -> wb.Radiograph:
    return wb.load_radiograph(np.zeros(size, np.uint8) + np.arange(size[1], dtype=np.uint8))


def reader(directory) -> Vlm:
    """Return a checkpoint without its weights: what its processor does is all that counts."""
    config = tf.AutoConfig.from_pretrained(directory)
    with torch.device("meta"):
        network = tf.AutoModelForImageTextToText.from_config(config)
    return Vlm(network, load_processor(directory))


def padded(directory):
    """As `llava`, whose processor pads to a square here instead of cutting."""
    made = llava(directory)
    processor = load_processor(made)
    processor.image_processor.do_pad = True
    processor.save_pretrained(made)
    return made


@pytest.fixture(scope="module", params=[*FAMILIES, "padded"])
def pictures(request, tmp_path_factory):
    """Return what the processor of a family makes of each size of image."""
    make = FAMILIES.get(request.param, padded)
    vlm = reader(make(tmp_path_factory.mktemp(request.param) / "model"))
    return request.param, {size: vlm._picture(size) for size in SIZES}


def test_a_box_comes_back_through_what_the_model_sees(pictures):
    """Within half a processed pixel, or half a step of the numbers where those are coarser."""
    family, found = pictures
    for (size, made), (name, convention) in product(found.items(), box_conventions().items()):
        rng = np.random.default_rng(2)
        if convention.full is None and convention.of == "processed" and made.pixels is None:
            with pytest.raises(OptionError, match=r"processed=\(rows, columns\)"):
                convention.picture(size, made)
            continue
        frame = convention.picture(size, made)
        corners = np.sort(rng.uniform(0, 1, (12, 2, 2)), 1) * frame.geometry.size
        boxes = frame.geometry.to_original(corners).reshape(-1, 4)
        boxes = boxes.clip(0, [size[1], size[0]] * 2)
        keep = (boxes[:, 2:] - boxes[:, :2] > 4).all(1)
        text = convention.write(boxes[keep], size, made)
        again = read_boxes(text, image(size), convention, made)
        assert len(again) == keep.sum() > 3 and not again.unusable and not again.notes, name
        seen = np.array((made.pixels or (42, 42))[::-1], float)
        step = 10.0**-convention.digits
        full = convention.full or np.array(frame.pixels[::-1], float)
        tolerance = frame.geometry.size / np.array(frame.geometry.scale[::-1])
        tolerance = tolerance * np.maximum(0.5 / seen, 0.5 * step / full) + 1e-6
        away = np.abs(again.boxes - boxes[keep])
        assert np.all(away <= np.tile(tolerance, 2)), (family, name, size)


#: What each processor shows of a wide image (60, 180): left, top, right, bottom.
EXPECTED = {"llava": (60, 0, 120, 60), "padded": (0, -60, 180, 120)}


def test_the_processed_picture_lies_where_the_processor_puts_it(pictures):
    """Against the places of pixels known from the processor's own rule."""
    family, found = pictures
    geometry = found[(60, 180)].geometry
    box = geometry.box_to_original((0, 0, geometry.size, geometry.size))
    expected = EXPECTED.get(family, (0, 0, 180, 60))
    pixel = (expected[2] - expected[0]) / 42
    assert np.abs(np.subtract(box, expected)).max() < 0.3 * pixel
    assert (found[(60, 180)].pixels is None) == (
        family in ("llava_next", "llava_onevision", "idefics3", "internvl", "aya_vision")
    )
    if family.startswith("qwen"):
        assert found[(60, 180)].pixels == (28, 112)


def test_every_convention_is_whole_and_names_its_source():
    models = [one for e in _registry("boxes.yaml").values() for one in e.get("models", ())]
    assert len(models) == len(set(models))
    for name, entry in _registry("boxes.yaml").items():
        found = find_boxes(name)
        assert found.order in ORDERS and found.of in PICTURES
        assert bool(entry.get("models") or entry.get("families")) == ("source" in entry)
        assert not found.source or "read 20" in found.source
        known = {"families", "models", "read", "note", *found.__dataclass_fields__}
        assert set(entry) <= known


def test_a_convention_is_found_by_hub_id_then_family_and_can_be_said():
    assert find_boxes(None, "krauthammerlab/radvlm", family="llava_onevision").name == "radvlm"
    assert find_boxes(None, "me/mine", family="qwen2_5_vl").name == "qwen2.5-vl"
    assert find_boxes(None, "me/mine", family="gemma3") is None
    assert find_boxes("thousandths", family="qwen2_5_vl").full == 1000
    with pytest.raises(OptionError, match=r"convention of boxes 'qwen2.5'; did you mean"):
        find_boxes("qwen2.5")


def test_a_model_reads_its_boxes_and_says_what_is_ambiguous():
    mini, shown = wb.load_model("mini"), wb.phantom(seed=3, size=256)
    assert len(mini.boxes(shown, "Clear lungs.")) == 0
    with pytest.raises(
        OptionError, match=r"1 boxes, and how mini writes boxes is not known.*thousandths"
    ) as caught:
        mini.boxes(shown, "A nodule at [100, 200, 300, 400].")
    assert "fractions" not in str(caught.value)
    found = mini.boxes(shown, "A nodule at [100, 200, 300, 400].", convention="thousandths")
    np.testing.assert_allclose(found.boxes, [[25.6, 51.2, 76.8, 102.4]])
    assert found.findings == ("nodule",)
    marked = mini.boxes(shown, "<loc0000><loc0512><loc1023><loc1023> pleural effusion")
    assert marked.convention.name == "paligemma" and marked.findings == ("pleural effusion",)
    np.testing.assert_allclose(marked.boxes, [[128.1, 0, 256, 256]], atol=0.1)


def test_an_endpoint_is_told_the_size_that_its_server_makes():
    pytest.importorskip("openai")
    served = wb.load_model("http://127.0.0.1:9/v1", name="Qwen/Qwen2.5-VL-7B-Instruct")
    text = '[{"bbox_2d": [28, 14, 56, 42], "label": "nodule"}]'
    with pytest.raises(OptionError, match=r"not known here; give processed=\(rows, columns\)"):
        served.boxes(image((100, 200)), text)
    found = served.boxes(image((100, 200)), text, processed=(56, 112))
    np.testing.assert_allclose(found.boxes, [[50, 25, 100, 75]])
