"""Boxes in texts: every form that models write, and what is wrong with some."""

from __future__ import annotations

import time

import numpy as np
import pytest

import workbench as wb
from workbench.backends.families import find_boxes
from workbench.reports.boxes import BoxConvention, read_boxes


@pytest.fixture(scope="module")
def image():
    return wb.load_radiograph(np.zeros((100, 200), np.uint8) + np.arange(200, dtype=np.uint8))


def read(image, text, name="thousandths"):
    return read_boxes(text, image, find_boxes(name))


FORMS = {
    "<box>(100,200),(300,400)</box>": "",
    "<ref>nodule</ref><box>[[100, 200, 300, 400]]</box>": "nodule",
    "<box>100, 200, 300, 400</box>": "",
    "<|box|>(100,200),(300,400)<|/box|>": "",
    "<|object_ref_start|>the nodule<|object_ref_end|><|box_start|>(100,200),(300,400)<|box_end|>":
        "nodule",
    "There is a nodule at [100, 200, 300, 400].": "nodule",
    "the nodule(100,200),(300,400)": "nodule",  # special tokens are dropped by decoding
    "Clear left lung. Nodule: [100.0, 200., 3e2, +400]": "nodule",
    '```json\n[{"bbox_2d": [100, 200, 300, 400], "label": "pulmonary nodule"}]\n```': "nodule",
    '{"finding": "Nodule", "bbox": [100,200,300,400]}': "nodule",
    '[{"box": [[100, 200], [300, 400]], "label": "something else"}]': "",
    '[{"label": "nodule", "bbox_2d": [100, 200, 300, 400]},\n{"label": "nod': "nodule",
}  # fmt: skip


@pytest.mark.parametrize("text", FORMS)
def test_every_form_gives_the_same_box(image, text):
    found = read(image, text)
    np.testing.assert_allclose(found.boxes, [[20, 20, 60, 40]])
    assert found.findings == (FORMS[text],)
    assert "100" in text[slice(*found.spans[0])] and "400" in text[slice(*found.spans[0])]


def test_tokens_of_maira_2_are_bins_of_the_centre_crop(image):
    text = (
        "<obj>Small left pleural effusion.<box><x10><y20><x30><y40></box><box><x50><y0><x99><y99>"
        "</box></obj><obj>No pneumothorax.</obj>"
    )
    found = read(image, text, "maira-2")
    np.testing.assert_allclose(found.boxes, [[60.5, 20.5, 80.5, 40.5], [100.5, 0.5, 149.5, 99.5]])
    assert found.phrases == ("Small left pleural effusion.",) * 2
    assert found.findings == ("pleural effusion",) * 2


def test_several_boxes_belong_to_the_words_before_them(image):
    text = (
        "Effusion [0, 0, 100, 100] and [0, 200, 100, 300], cardiomegaly [1, 2, 300, 400]. The "
        "nodule is at [5, 5, 50, 50]. [1, 1, 9, 9]"
    )
    assert read(image, text).findings == (
        "pleural effusion", "pleural effusion", "cardiomegaly", "nodule", "",
    )  # fmt: skip


def test_order_unit_and_picture_are_those_of_the_convention(image):
    text = "[10, 20, 30, 40]"
    assert read(image, text, "pixels").boxes.tolist() == [[10, 20, 30, 40]]
    swapped = BoxConvention("mine", 100, order="yxyx")
    np.testing.assert_allclose(read_boxes(text, image, swapped).boxes, [[40, 10, 80, 30]])
    square = BoxConvention("mine", 100, of="square")  # 200 x 200, 50 rows of padding above
    np.testing.assert_allclose(read_boxes(text, image, square).boxes, [[20, 0, 60, 30]])


def test_what_is_wrong_is_said_and_nothing_is_lost_in_silence(image):
    text = (
        "[300, 400, 100, 200] [900, 100, 1200, 300] [1100, 0, 1200, 50] [nan, 1, 2, 3] "
        "[1e999, 0, -inf, 9] [7, 7, 7, 9] <box>(1,2)</box>"
    )
    found = read(image, text)
    np.testing.assert_allclose(found.boxes, [[20, 20, 60, 40], [180, 10, 200, 30]])
    assert found.unusable == 4 and len(found.raw) == 6
    said = " / ".join(found.notes)
    for words in (
        "1 marks of a box hold no four numbers", "numbers reach 1200, beyond 1000",
        "1 of 6 boxes had their corners reversed", "1 of 6 boxes reach out of the image",
        "4 of 6 boxes are unusable",
    ):  # fmt: skip
        assert words in said
    assert "fractions may have been meant" in read(image, "[0.1, 0.2, 0.3, 0.4]").notes[0]


def test_thousands_of_boxes_are_read_in_a_second(image):
    text = "<ref>nodule</ref>" + "<box>(10,20),(30,40)</box>" * 5000 + "[[[[((((" * 5000
    start = time.perf_counter()
    found = read(image, text)
    assert len(found) == 5000 and set(found.findings) == {"nodule"}
    assert time.perf_counter() - start < 3
    assert "first 60 of 5,000 boxes" in found.plot().get_title(loc="left")


def test_a_result_shows_itself_and_becomes_cells_of_a_manifest(image):
    found = read(image, "Nodule [100, 200, 300, 400]; mass [0, 0, 10, 10].")
    assert found.to_cells()[0] == {
        "x": 20.0, "y": 20.0, "width": 40.0, "height": 20.0, "finding": "nodule", "label": "Nodule",
    }  # fmt: skip
    frame = found.to_frame()
    assert frame.loc[0, ["left", "top", "right", "bottom"]].tolist() == [20, 20, 60, 40]
    patches = found.plot(truth={"nodule": np.array([[1.0, 2, 3, 4]])}).patches
    assert len(patches) == 6  # each box once in black
    assert "<img" in found._repr_html_() and len(read(image, "no box")) == 0
