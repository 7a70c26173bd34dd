"""ImageMap: values by hand on tiny grids, in the pixels of the file that was read."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from tests.privacy.planting import plain_dicom
from workbench.errors import InputError
from workbench.figures import maps
from workbench.model.licence import NOT_CLINICAL
from workbench.radiograph import InputContract, Radiograph, fit_geometry
from workbench.trace import ImageMap

NAN = np.nan
SQUARE = [[1, 2], [3, 4]]


def made(values=SQUARE, *, size=(6, 4), side=4, fit="crop", **facts) -> ImageMap:
    pixels = np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(size)
    image = Radiograph(pixels, InputContract(source="drawn", original_size=size, fit=fit))
    geometry = fit_geometry(*size, side, fit)
    return ImageMap(values, geometry, image, "attention", "the word", **facts)


# ------------------------------------------------------------------ to the original


def test_cells_over_a_crop():
    assert np.array_equal(
        made().to_original(smooth=False),
        [[NAN] * 4, *[[1, 1, 2, 2]] * 2, *[[3, 3, 4, 4]] * 2, [NAN] * 4],
        equal_nan=True,
    )
    wide = made(size=(4, 6)).to_original(smooth=False)
    assert np.array_equal(
        wide, [*[[NAN, 1, 1, 2, 2, NAN]] * 2, *[[NAN, 3, 3, 4, 4, NAN]] * 2], equal_nan=True
    )


def test_cells_over_a_padded_image():
    assert np.array_equal(
        made(size=(2, 4), fit="pad").to_original(smooth=False), [[1, 1, 2, 2], [3, 3, 4, 4]]
    )
    assert np.array_equal(
        made(size=(4, 2), fit="pad").to_original(smooth=False),
        [[1, 2], [1, 2], [3, 4], [3, 4]],
    )


def test_smoothed_over_a_crop():
    # Middles of cells lie at 1 and 3 of 4 pixels; nothing is known beyond the outer middles.
    drawn = made().to_original()
    across = np.array([0, 0.25, 0.75, 1])
    wanted = 1 + across[None] + 2 * across[:, None]
    np.testing.assert_allclose(drawn[1:5], wanted, atol=1e-6)
    assert np.isnan(drawn[[0, 5]]).all()
    assert drawn.dtype == np.float32


def test_smoothed_over_a_padded_image():
    drawn = made(size=(2, 4), fit="pad").to_original()
    across = np.array([0, 0.25, 0.75, 1])
    np.testing.assert_allclose(drawn, [1.5 + across, 2.5 + across], atol=1e-6)


def test_rows_are_rows_and_columns_are_columns():
    tall = made([[1], [2], [3]], size=(3, 3), side=3).to_original(smooth=False)
    assert np.array_equal(tall, [[1] * 3, [2] * 3, [3] * 3])
    wide = made([[1, 2, 3]], size=(3, 3), side=3).to_original(smooth=False)
    assert np.array_equal(wide, [[1, 2, 3]] * 3)


sizes = st.tuples(st.integers(5, 43), st.integers(5, 43))
fits = st.sampled_from(("crop", "pad"))


@settings(max_examples=40, deadline=None)
@given(sizes, fits, st.booleans())
def test_a_flat_map_is_flat_wherever_the_model_looked(size, fit, smooth):
    drawn = made(np.full((3, 5), 7.0), size=size, side=30, fit=fit).to_original(smooth=smooth)
    assert drawn.shape == size
    if fit == "pad":
        assert (drawn == 7).all()
    else:
        left, top, right, bottom = fit_geometry(*size, 30, fit).crop_box
        y, x = np.indices(size) + 0.5
        inside = (x > left) & (x < right) & (y > top) & (y < bottom)
        near = np.minimum.reduce([abs(x - left), abs(x - right), abs(y - top), abs(y - bottom)])
        sure = near > 1e-6
        assert np.array_equal(np.isfinite(drawn)[sure], inside[sure])
        assert (drawn[np.isfinite(drawn)] == 7).all()


# ------------------------------------------------------------------ boxes and peaks


def test_boxes_and_peak_by_hand():
    crop = made()
    assert crop.grid == (2, 2)
    assert crop.cell_box(0, 0) == (0, 1, 2, 3) and crop.cell_box(1, 0) == (0, 3, 2, 5)
    assert crop.peak_cell == (1, 1) and crop.peak == (3, 4)
    pad = made(size=(2, 4), fit="pad")
    assert pad.cell_box(0, 1) == (2, -1, 4, 1) and pad.peak == (3, 2)
    # 5 x 3 becomes 6 x 4, of which rows 1 to 5 are seen
    odd = made([[0, 0], [9, 0]], size=(5, 3))
    assert odd.cell_box(0, 0) == pytest.approx((0, 5 / 6, 3 / 2, 5 / 2))
    assert odd.peak == pytest.approx((3 / 4, 10 / 3))


def test_of_equal_peaks_the_first_is_taken():
    assert made([[1, 5], [5, 5]]).peak_cell == (0, 1)
    assert made([[-3, -1], [-2, -1]], signed=True).peak_cell == (0, 1)


def test_a_peak_is_in_its_cell_and_drawn_there():
    values = np.random.default_rng(3).random((5, 3))
    over = made(values, size=(41, 29), side=30)
    left, top, right, bottom = over.cell_box(*over.peak_cell)
    x, y = over.peak
    assert left < x < right and top < y < bottom
    assert over.to_original(smooth=False)[int(y), int(x)] == np.float32(values.max())


def test_the_frame_has_one_row_for_each_cell():
    over = made([[1, 2, 3], [4, 5, 6]], size=(41, 29), side=30)
    frame = over.to_frame()
    assert list(frame.columns) == ["row", "column", "value", "left", "top", "right", "bottom"]
    assert list(frame["value"]) == [1, 2, 3, 4, 5, 6]
    assert list(frame["row"]) == [0, 0, 0, 1, 1, 1] and list(frame["column"]) == [0, 1, 2] * 2
    for _, row in frame.iterrows():
        box = over.cell_box(int(row["row"]), int(row["column"]))
        assert tuple(row[["left", "top", "right", "bottom"]]) == box


# ------------------------------------------------------------------ masks


def test_share_of_cells_by_hand():
    mask = np.zeros((6, 4), bool)
    mask[0] = True  # cropped away
    mask[1:3, 0] = True
    mask[4, 2:] = True
    assert np.array_equal(made().cells_of(mask), [[0.5, 0], [0, 0.5]])
    whole = made(size=(2, 4), fit="pad").cells_of(np.ones((2, 4), bool))
    assert np.array_equal(whole, [[0.5, 0.5], [0.5, 0.5]])
    assert whole.dtype == np.float32
    half = np.zeros((2, 4), bool)
    half[1, :2] = True
    assert np.array_equal(made(size=(2, 4), fit="pad").cells_of(half), [[0, 0], [0.5, 0]])


@settings(max_examples=30, deadline=None)
@given(sizes, st.integers(0, 2**16))
def test_a_mask_and_its_rest_share_out_every_cell(size, seed):
    mask = np.random.default_rng(seed).random(size) < 0.4
    for fit in ("crop", "pad"):
        over = made(np.zeros((3, 5)), size=size, side=30, fit=fit)
        both = over.cells_of(mask) + over.cells_of(~mask)
        np.testing.assert_allclose(both, over.cells_of(np.ones(size)), atol=1e-6)
        assert both.max() <= 1 + 1e-6
        if fit == "crop":
            np.testing.assert_allclose(both, 1, atol=1e-6)


def test_a_cell_drawn_as_a_mask_is_that_cell():
    over = made(np.arange(15).reshape(3, 5), size=(90, 60), side=60)
    for row, column in ((0, 0), (1, 3), (2, 4)):
        mask = over.to_original(smooth=False) == over.values[row, column]
        wanted = np.zeros((3, 5))
        wanted[row, column] = 1
        assert np.array_equal(over.cells_of(mask), wanted)


def test_a_mask_of_another_size_is_an_error():
    with pytest.raises(InputError, match=r"mask is \(4, 6\), the radiograph \(6, 4\)"):
        made().cells_of(np.zeros((4, 6), bool))


# ------------------------------------------------------------------ values


@pytest.mark.parametrize(
    ("values", "signed", "wanted"),
    [
        ([[1, 2], [0, 4]], False, [[0.25, 0.5], [0, 1]]),
        ([[-8, 2], [0, 4]], True, [[-1, 0.25], [0, 0.5]]),
        ([[-8, 2], [0, 4]], False, [[-2, 0.5], [0, 1]]),
        ([[0, 0], [0, 0]], False, [[0, 0], [0, 0]]),
        ([[0, 0], [0, 0]], True, [[0, 0], [0, 0]]),
        ([[-1, -2], [-3, -4]], False, [[0, 0], [0, 0]]),
    ],
)
def test_normalised_by_the_largest(values, signed, wanted):
    over = made(values, signed=signed)
    assert np.array_equal(over.normalised(), wanted)
    assert ("magnitude" in over.normalisation) is signed


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("factor", [1e-6, 1, 1e6])
def test_colours_do_not_depend_on_the_unit(signed, factor):
    values = np.array([[1, -2], [3, 4]])
    pictures = [
        made(v, signed=signed).plot().images[1].get_array() for v in (values, values * factor)
    ]
    np.testing.assert_allclose(*pictures, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3], r"2-D grid of values, got shape \(3,\)"),
        (5.0, r"got shape \(\)"),
        (np.zeros((2, 3, 4)), r"got shape \(2, 3, 4\)"),
        (np.zeros((0, 3)), r"got shape \(0, 3\)"),
        ([[1, NAN]], "the attention map holds NaN or infinite values"),
        ([[1, np.inf]], "the attention map holds NaN or infinite values"),
        ([[1, 1e300]], "infinite"),
    ],
)
def test_values_that_are_no_map_are_errors(values, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(InputError, match=message):
            made(values)


def test_values_are_kept_and_cannot_be_written_to():
    values = np.ones((2, 2))
    over = made(values)
    values[:] = 5
    assert (over.values == 1).all() and over.values.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        over.values[0, 0] = 2
    assert replace(over, signed=True).signed


# ------------------------------------------------------------------ what is shown


def test_a_map_says_what_it_is():
    over = made(unit="share of attention", layer="layer 3", head="head 2")
    assert over.title == "attention: the word"
    assert over.details == "layer 3 · head 2 · share of attention · divided by the largest value"
    assert repr(over) == "<ImageMap 'attention: the word', 2 x 2, layer 3, head 2>"


def test_a_plot_lies_over_the_original():
    over = made(size=(41, 29), side=30, caution="do not believe it", unit="shares")
    ax = over.plot(boxes={"seen": (1, 2, 5, 7)}, masks={"nodule": np.eye(41, 29) > 0})
    film, colours = ax.images[:2]
    assert np.array_equal(film.get_array(), over.image.pixels)
    assert colours.get_array().shape == (41, 29, 4)
    assert ax.get_title(loc="left") == over.title
    assert "shares" in ax.get_xlabel()
    assert any("do not believe it" in text.get_text() for text in ax.texts)
    bare = over.plot(details=False)
    assert bare.get_xlabel() == ""
    assert any("do not believe it" in text.get_text() for text in bare.texts), "always shown"


def test_html_stands_alone_and_is_escaped():
    over = made()
    object.__setattr__(over, "target", "<script>alert('1')</script> \"x\"")
    page = over._repr_html_()
    picture = re.search(r'src="data:image/png;base64,([A-Za-z0-9+/=]+)"', page)
    assert len(picture.group(1)) > 1000
    rest = page.replace(picture.group(), "")
    assert re.fullmatch(r'<img alt="[^"<>]*" >', rest)
    assert "&lt;script&gt;" in rest and "http" not in rest
    assert pyplot.get_fignums() == []


# ------------------------------------------------------------------ as DICOM


def test_a_saved_map_says_in_its_pixels_that_it_is_not_for_clinical_use(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(maps, "FigureCanvasAgg", lambda f: drawn.append(f) or FigureCanvasAgg(f))
    path = made(size=(60, 40)).save_dicom(tmp_path / "map.dcm")
    (words,) = drawn[0].findobj(lambda one: "clinical" in getattr(one, "get_text", str)())
    found = dcmread(path)
    assert NOT_CLINICAL in words.get_text() and NOT_CLINICAL in found.SeriesDescription
    height, width = found.Rows, found.Columns
    box = words.get_window_extent()
    assert 0 < box.x0 < box.x1 < width and 0 < box.y0 < box.y1 < height
    inside = found.pixel_array[
        int(height - box.y1) : int(height - box.y0), int(box.x0) : int(box.x1)
    ]
    assert inside.reshape(-1, 3).std(axis=0).min() > 5
    assert found.SOPClassUID == SecondaryCaptureImageStorage and found.Modality == "OT"


def test_a_saved_map_is_in_the_study_of_its_radiograph(tmp_path):
    chest = dcmread(plain_dicom(tmp_path / "chest.dcm"))
    chest.StudyInstanceUID, chest.SeriesInstanceUID = generate_uid(), generate_uid()
    chest.PatientName, chest.PatientID = "Somebody^Jane", "4711"
    chest.save_as(tmp_path / "chest.dcm")
    source, out = tmp_path / "chest.dcm", tmp_path / "map.dcm"
    plain = dcmread(made(size=(60, 40)).save_dicom(out, source=source))
    assert plain.StudyInstanceUID == chest.StudyInstanceUID
    assert chest.SOPInstanceUID != plain.SOPInstanceUID and not plain.PatientName
    assert b"Jane" not in out.read_bytes() and b"4711" not in out.read_bytes()
    named = dcmread(made(size=(60, 40)).save_dicom(out, source=source, identified=True))
    assert (named.PatientName, named.PatientID) == (chest.PatientName, chest.PatientID)
    assert named.SOPInstanceUID != plain.SOPInstanceUID
    with pytest.raises(InputError, match=r"map\.png: a DICOM file is written as \.dcm"):
        made(size=(60, 40)).save_dicom(tmp_path / "map.png")
