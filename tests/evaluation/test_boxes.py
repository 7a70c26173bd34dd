"""Boxes of texts against true ones: counts, unknown is not negative, and what is off."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.backends.families import find_boxes
from workbench.cases import Case, boxes_of, phantom_case, row_case
from workbench.data import Manifest
from workbench.data.frames import conform
from workbench.errors import InputError
from workbench.evaluation.boxes import overlaps
from workbench.reports.boxes import BoxConvention, read_boxes

SIZE = (90, 150)
IMAGE = wb.load_radiograph(np.zeros(SIZE, np.uint8) + np.arange(150, dtype=np.uint8))
PIXELS = find_boxes("pixels")


def read(text: str, convention=PIXELS):
    return read_boxes(text, IMAGE, convention)


def test_iou_by_hand():
    one = np.array([[0.0, 0, 10, 10]])
    others = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [2, 2, 7, 7]])
    np.testing.assert_allclose(overlaps(one, others), [[1, 1 / 3, 0, 0.25]])


def test_counts_by_hand_with_names_unnamed_and_unusable():
    truth = {
        "nodule": np.array([[10.0, 10, 20, 20], [50, 50, 60, 60]]),
        "cardiomegaly": np.array([[30.0, 30, 90, 80]]),
        "pneumothorax": np.zeros((0, 4)),
    }
    text = (
        "Nodule [10, 10, 20, 20], effusion [0, 0, 5, 5], pneumothorax [1, 1, 9, 9]. "
        '{"box": [32, 30, 90, 80]} Nodule [70, 70, 70, 80] and cardiomegaly [50, 50, 60, 60].'
    )
    row = wb.evaluation.score_boxes([read(text)], [truth])
    frame = row.to_frame()
    assert row.left_out == 1  # nothing is known of an effusion
    assert frame.loc["all", ["true", "written"]].tolist() == [3, 5]
    assert frame.loc["all", "recall"] == pytest.approx(2 / 3)
    assert frame.loc["all", "precision"] == pytest.approx(2 / 5)
    assert frame.loc["all", "pointing"] == pytest.approx(3 / 5)
    assert frame.loc["all", "iou"] == pytest.approx((1 + 100 / 2900 + 58 / 60) / 3)
    assert frame.loc["nodule", ["true", "written", "recall", "precision"]].tolist() == [
        2,
        1,
        0.5,
        1,
    ]
    assert frame.loc["pneumothorax", ["true", "written", "precision"]].tolist() == [0, 1, 0]
    assert np.isnan(frame.loc["pneumothorax", "recall"])


def test_two_boxes_never_share_a_partner():
    truth = {"nodule": np.array([[10.0, 10, 20, 20]])}
    found = wb.evaluation.score_boxes([read("Nodule [10,10,20,20] and [10,10,20,21]")], [truth])
    assert found.to_frame().loc["all", "precision"] == 0.5


def test_a_finding_without_a_place_is_unknown():
    case = Case("a", "p", {"nodule": "present", "fracture": "absent"}, {}, load=lambda: IMAGE)
    found = wb.evaluation.score_boxes(
        [read("Nodule [1,1,9,9]. Fracture [1,1,9,9]. {[1,1,5,5]}")], [case]
    )
    assert (found.left_out, found.rows[0].written) == (2, 1)


def test_phantoms_and_their_own_boxes_are_perfect_and_intervals_are_by_patients():
    cases = [phantom_case(seed, add="nodule") for seed in range(3)]
    texts = [
        ". ".join(
            f"{name.capitalize()} {PIXELS.write(boxes, (256, 256)).replace('] [', '] and [')}"
            for name, boxes in case.boxes.items()
        )
        for case in cases
    ]
    images = [case.image for case in cases]
    found = [read_boxes(t, i, PIXELS) for t, i in zip(texts, images, strict=True)]
    row = wb.evaluation.score_boxes(found, cases).rows[0]
    assert row.true == row.written > 3
    assert "fracture" not in wb.evaluation.score_boxes(found, cases).to_frame().index
    assert row.recall.value == row.precision.value == row.recall.low == 1
    assert row.iou.value > 0.999


#: What was meant, what it was read as, and words of the diagnosis.
MISREAD = {
    "swapped": (BoxConvention("m", 1000, order="yxyx"), find_boxes("thousandths"), "swapped"),
    "pixels": (PIXELS, find_boxes("thousandths"), "numbers are read as pixels"),
    "bins": (BoxConvention("m", 100), find_boxes("thousandths"), "read as 0 to 100"),
    "padded": (BoxConvention("m", 1, of="square", digits=3), find_boxes("fractions"), "square"),
}


@pytest.mark.parametrize("how", MISREAD)
def test_another_convention_that_fits_much_better_is_named(how):
    meant, taken, words = MISREAD[how]
    rng = np.random.default_rng(5)
    truths, found = [], []
    for _ in range(8):
        low = rng.uniform([5, 5], [90, 50])
        box = np.concatenate((low, low + rng.uniform([20, 10], [50, 35])))[None]
        truths.append({"nodule": box})
        found.append(read(f"Nodule {meant.write(box, SIZE)}", taken))
    (said,) = wb.evaluation.score_boxes(found, truths).diagnosis
    assert words in said and "instead of" in said
    right = [read(f"Nodule {meant.write(t['nodule'], SIZE)}", meant) for t in truths]
    assert not wb.evaluation.score_boxes(right, truths).diagnosis


def test_width_and_height_and_a_shift_are_named():
    truths = [{"nodule": np.array([[10.0 + n, 20, 40 + n, 60]])} for n in range(6)]
    sizes = [read(f"[{10 + n}, 20, 30, 40]") for n in range(6)]
    assert "width and height" in wb.evaluation.score_boxes(sizes, truths).diagnosis[0]
    moved = [read(f"[{22 + n}, 28, {52 + n}, 68]") for n in range(6)]
    (said,) = wb.evaluation.score_boxes(moved, truths).diagnosis
    assert "shifted by +12 pixels across and +8 down" in said


def test_boxes_of_a_case_are_those_drawn_else_those_around_its_masks(tmp_path):
    mask = np.zeros((20, 30), bool)
    mask[2:5, 4:9] = mask[10:15, 20:28] = True
    mask[19, 0] = True
    parts = boxes_of({"nodule": mask | (np.indices(mask.shape).sum(0) < 0)})["nodule"]
    assert parts.tolist() == [[4, 2, 9, 5], [20, 10, 28, 15], [0, 19, 1, 20]]
    cell = '[{"finding":"nodule","height":4.5,"width":3.5,"x":1.5,"y":2}]'
    frame = pd.DataFrame([{"source": "s", "image_id": "a", "path": "a.png", "boxes": cell}])
    case = row_case(Manifest(conform(frame), root=tmp_path), 0)
    assert case.marked["nodule"].tolist() == [[1.5, 2, 5, 6.5]]


def test_the_result_shows_itself_and_wrong_counts_are_refused():
    found = wb.evaluation.score_boxes([read("Nodule [1,1,9,9]")], [{"nodule": [[1, 1, 9, 9]]}])
    assert "nodule" in found._repr_html_() and found.to_dict()["rows"][0]["name"] == "all"
    assert found.plot().get_xlabel().endswith("IoU 0.5")
    with pytest.raises(InputError, match="as many texts as truths, one or more; got 1 and 0"):
        wb.evaluation.score_boxes([read("")], [])
