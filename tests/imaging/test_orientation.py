"""A mirrored or turned image is said to be one, and the turn that is offered works."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

import workbench as wb
from workbench.errors import OptionError

FRONTAL = {
    "L\\F": lambda a: a,
    "R\\F": lambda a: a[:, ::-1],
    "L\\H": lambda a: a[::-1],
    "R\\H": lambda a: a[::-1, ::-1],
    "F\\L": lambda a: a.T,
    "H\\L": lambda a: a[::-1].T,
    "F\\R": lambda a: a[:, ::-1].T,
    "H\\R": lambda a: a[::-1, ::-1].T,
}
LATERAL = {
    "A\\F": lambda a: a,
    "P\\F": lambda a: a,
    "A\\H": lambda a: a[::-1],
    "F\\P": lambda a: a.T,
    "H\\A": lambda a: a[::-1].T,
}


@pytest.fixture
def upright(film):
    """(53, 71) of 8 bits; no two turns of it are the same."""
    return film(53, 71, 8)


def words(image):
    return [w.message for w in image.contract.warnings if w.code == "orientation"]


def levels(image):
    return np.rint(image.pixels * 255).astype(int)


@pytest.mark.parametrize("said", FRONTAL)
@pytest.mark.parametrize("view", ["PA", "AP", None])
def test_a_frontal_image_is_turned_upright_on_demand(said, view, upright, dicom_bytes):
    stored = np.ascontiguousarray(FRONTAL[said](upright))
    tags = {"PatientOrientation": said.split("\\")} | ({"ViewPosition": view} if view else {})
    data = dicom_bytes(
        stored, bits=8, PixelSpacing=[0.1, 0.2][:: 1 if said[0] in "LR" else -1], **tags
    )
    asked = wb.load_radiograph(data, upright=True)
    left = wb.load_radiograph(data)
    assert np.array_equal(levels(left), stored)
    assert np.array_equal(levels(asked), upright)
    assert asked.contract.pixel_spacing == (0.1, 0.2) and asked.size == upright.shape
    assert asked.meta["PatientOrientation"] == ["L", "F"]
    assert (asked.meta["Rows"], asked.meta["Columns"]) == upright.shape
    if said == "L\\F":
        assert words(left) == words(asked) == []
        return
    assert f"PatientOrientation says {said}" in words(left)[0]
    assert "load it with upright=True" in words(left)[0]
    assert "was turned upright" in words(asked)[0]


@pytest.mark.parametrize("said", LATERAL)
@pytest.mark.parametrize("view", ["LL", None])
def test_a_lateral_image_may_face_either_way(said, view, upright, dicom_bytes):
    stored = np.ascontiguousarray(LATERAL[said](upright))
    tags = {"PatientOrientation": said.split("\\")} | ({"ViewPosition": view} if view else {})
    data = dicom_bytes(stored, bits=8, **tags)
    image = wb.load_radiograph(data)
    assert "lateral-view" in image.contract.codes
    assert bool(words(image)) == (said not in ("A\\F", "P\\F"))
    assert np.array_equal(levels(wb.load_radiograph(data, upright=True)), upright)


@pytest.mark.parametrize("said", [["LA", "F"], ["L", "FP"], ["LP", "FA"], ["", ""], [], ["l", "f"]])
def test_what_is_sound_or_absent_needs_no_words(said, upright, dicom_bytes):
    assert words(wb.load_radiograph(dicom_bytes(upright, bits=8, PatientOrientation=said))) == []


@pytest.mark.parametrize(
    "said", [["L", "R"], ["F", "H"], ["L", ""], ["L"], ["X", "Y"], ["MUELLER", "ANNA"], ["A", "F"],
             ["L", "F", "A"]]
)  # fmt: skip
def test_what_is_no_orientation_is_said_and_turns_nothing(said, upright, dicom_bytes):
    data = dicom_bytes(upright, bits=8, PatientOrientation=said, ViewPosition="PA")
    image = wb.load_radiograph(data, upright=True)
    assert np.array_equal(levels(image), upright)
    assert "no direction of rows and columns" in words(image)[0]
    assert "MUELLER" not in words(image)[0]


def test_the_flip_of_the_detector_is_no_mirror(upright, dicom_bytes):
    data = dicom_bytes(upright, bits=8, FieldOfViewHorizontalFlip="YES", PatientOrientation="L\\F")
    assert words(wb.load_radiograph(data)) == []


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_pictures_are_turned_as_exif_says(orientation, deep, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = upright.astype(np.uint16) * 257 if deep else upright.astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    expected = np.asarray(
        ImageOps.exif_transpose(Image.open(io.BytesIO(_saved(upright.astype(np.uint8), exif))))
    )
    image = wb.load_radiograph(buffer.getvalue(), upright=True)
    assert np.array_equal(levels(image), expected)
    assert "exif-ignored" not in image.contract.codes
    left = wb.load_radiograph(buffer.getvalue())
    message = next(w.message for w in left.contract.warnings if w.code == "exif-ignored")
    assert "upright=True" in message and np.array_equal(levels(left), upright)


def test_upright_is_checked(upright, dicom_bytes):
    data = dicom_bytes(upright, bits=8, PatientOrientation=["R", "F"])
    with pytest.raises(OptionError, match="upright must be True or False"):
        wb.load_radiograph(data, upright="yes")
    with pytest.raises(OptionError, match="load the original again"):
        wb.load_radiograph(wb.load_radiograph(data), upright=True)


def _saved(pixels, exif):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("said", [["R", " F"], [" R", "F "], ["r", " f"]])
def test_blanks_around_a_direction_mean_nothing(said, upright, dicom_bytes):
    data = dicom_bytes(upright, bits=8, PatientOrientation=said)
    assert words(wb.load_radiograph(data))[0].startswith("PatientOrientation says R\\F: the image")
