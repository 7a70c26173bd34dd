"""Figures of cases: outlines lie on their masks, and silence about a finding is not a mistake."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot as plt

from workbench.errors import InputError
from workbench.figures import COLOURS, draw_masks, draw_verdicts, plot_case
from workbench.findings import PHANTOM_FINDINGS


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def box_mask(top: int, left: int) -> np.ndarray:
    mask = np.zeros((37, 53), dtype=bool)
    mask[top : top + 7, left : left + 11] = True
    return mask


PIXELS = np.linspace(0, 1, 37 * 53, dtype=np.float32).reshape(37, 53)


def words(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_every_drawable_finding_has_its_own_colour():
    assert set(COLOURS) == set(PHANTOM_FINDINGS)
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_outline_lies_on_its_mask_and_is_named():
    ax = draw_masks(PIXELS, {"nodule": box_mask(5, 30), "pneumothorax": np.zeros((37, 53), bool)})
    (outline,) = ax.collections
    (path,) = outline.get_paths()
    left, top = path.vertices.min(axis=0)
    right, bottom = path.vertices.max(axis=0)
    assert (left, top, right, bottom) == (29.5, 4.5, 40.5, 11.5)
    assert words(ax) == ["nodule"]


def test_names_on_one_side_do_not_cover_each_other():
    masks = {name: box_mask(10, 2) for name in ("nodule", "consolidation", "atelectasis")}
    ax = draw_masks(PIXELS, masks)
    heights = sorted(text.get_position()[1] for text in ax.texts)
    assert min(np.diff(heights)) >= 37 / 22 - 1e-6


def test_image_keeps_its_grey_levels():
    (picture,) = draw_masks(PIXELS * 0.5, {}).images
    assert picture.get_clim() == (0, 1)
    assert np.array_equal(picture.get_array(), PIXELS * 0.5)


def test_mask_of_another_shape_is_an_error():
    with pytest.raises(InputError, match=r"mask of nodule is \(3, 5\), the image \(37, 53\)"):
        draw_masks(PIXELS, {"nodule": np.ones((3, 5), bool)})


@pytest.mark.parametrize(
    ("true", "stated", "word"),
    [
        ("present", "present", "correct"),
        ("absent", "absent", "correct"),
        ("absent", "present", "false alarm"),
        ("present", "absent", "missed"),
        ("present", "not mentioned", "missed"),
        ("absent", "not mentioned", "open"),
        ("absent", "uncertain", "open"),
        ("present", "uncertain", "open"),
    ],
)
def test_verdicts(true, stated, word):
    ax = draw_verdicts([("nodule", true, stated)], ax=plt.figure().add_subplot())
    assert words(ax)[3:] == ["nodule", true, stated, word]


def test_no_verdicts_is_an_error():
    with pytest.raises(InputError, match="verdicts are empty"):
        draw_verdicts([], ax=plt.figure().add_subplot())


def test_case_shows_text_verdicts_and_footer_and_leaves_the_style_alone(tmp_path):
    before = dict(plt.rcParams)
    figure = plot_case(
        PIXELS,
        {"nodule": box_mask(5, 30)},
        text="A nodule. Costs $5 and $6.",
        verdicts=[("nodule", "present", "present")],
        title="What it says",
        footer="small print",
    )
    assert dict(plt.rcParams) == before
    shown = [text for ax in figure.axes for text in words(ax)] + [
        t.get_text() for t in figure.texts
    ]
    for text in ("What it says", "A nodule. Costs $5 and $6.", "correct", "small print"):
        assert text in shown
    figure.savefig(tmp_path / "case.png")
