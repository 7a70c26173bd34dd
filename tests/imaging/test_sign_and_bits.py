"""Native pixels that need more bits, or another sign, than their header names."""

import numpy as np
import pytest
from pydicom import uid

import workbench as wb


@pytest.fixture
def chest(film):
    """(320, 340) of 12 bits, smooth, all values in use."""
    return film(320, 340, 12)


def loaded(dicom_bytes, values, *, bits, syntax=uid.ExplicitVRLittleEndian, **tags):
    return wb.load_radiograph(dicom_bytes(values, bits=bits, syntax=syntax, **tags))


def shows(image, chest):
    return np.corrcoef(image.pixels.ravel(), chest.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("signed", [0, 1])
def test_values_beyond_the_bits_of_the_header_do_not_wrap(signed, bits, syntax, chest, dicom_bytes):
    values = (chest.astype(int) * 15) if not signed else (chest.astype(int) * 15 - 30000)
    values = values.astype(np.int16 if signed else np.uint16)
    image = loaded(dicom_bytes, values, bits=16, syntax=syntax, BitsStored=bits, HighBit=bits - 1)
    assert shows(image, chest) and image.contract.bits == 16
    (said,) = [w.message for w in image.contract.warnings if w.code == "header"]
    kind = "signed" if signed else "unsigned"
    assert said.startswith(
        f"the header says that pixels have {bits} bits, the pixel data 16 ({kind}), which were tak"
    )


def test_values_in_the_upper_bits_below_a_header_of_the_lower_ones(chest, dicom_bytes):
    image = loaded(dicom_bytes, chest << 4, bits=16, BitsStored=12, HighBit=11)
    assert shows(image, chest) and "header" in image.contract.codes


def test_a_sign_that_the_header_forgot(chest, dicom_bytes):
    signed = (chest.astype(int) - 2048).astype(np.int16)
    image = loaded(dicom_bytes, signed.view(np.uint16), bits=16, BitsStored=12, HighBit=11)
    assert shows(image, chest) and image.contract.stored_range[0] == -2048
    assert image.meta["PixelRepresentation"] == 1 and "header" in image.contract.codes


@pytest.mark.parametrize("mark", [0x1000, 0x8000, 0xF000])
@pytest.mark.parametrize("where", ["all", "a box", "a row", "one pixel", "half"])
def test_what_lies_above_the_bits_and_is_no_image_is_dropped(where, mark, chest, dicom_bytes):
    values = chest.copy()
    place = {
        "all": np.s_[:, :],
        "a box": np.s_[20:40, 10:70],
        "a row": np.s_[30, :],
        "one pixel": np.s_[30, 30],
        "half": np.s_[:, ::2],
    }[where]
    values[place] |= mark
    image = loaded(dicom_bytes, values, bits=16, BitsStored=12, HighBit=11)
    plain = loaded(dicom_bytes, chest, bits=16, BitsStored=12, HighBit=11)
    assert np.array_equal(image.pixels, plain.pixels)
    assert "header" not in image.contract.codes and image.contract.bits == 12


def test_a_sign_within_the_bits_of_the_header_is_extended(chest, dicom_bytes):
    stored = ((chest.astype(int) - 2048) & 0xFFF).astype(np.int16)
    image = loaded(dicom_bytes, stored, bits=16, BitsStored=12, HighBit=11)
    assert shows(image, chest) and "header" not in image.contract.codes
