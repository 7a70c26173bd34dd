"""What a DICOM header means for pixels and contract."""

import base64

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.sequence import Sequence

import workbench as wb
from workbench.errors import InputError, OptionError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)

#: 19 x 23, 12 bit, quality 90, written by libjpeg-turbo: a ramp with black and white clipped ends.
EXTENDED_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsL"
    "EBYQERMUFRUVDA8XGBYUGBIUFRT/wQALDAATABcBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAACwkM/8QALxAAAAIECwkB"
    "AQAAAAAAAAAAAQIAAwViBAYHCAoLESYnQ0UJISgxNkRTYXEikf/aAAgBAQAAPwDAAbBSp+ZV5xTZi41JSIjt2N0KXGVn"
    "ODRgxzK7bQHcrAAKH8RSSjV1K10rgR4tK+Ooq/R2Klauoz8COyNpTguol3Rqqla6VwI8WlfHUV1o1dStdK4EeLSvjqKv"
    "UdipWrqM/AjsjaU4LqUWo1eyOmd3V4fooZWQs9PorrRq9kdM7urw/RQyshZ6fRCyanM1kPm/ycsRVJ7JbFmK4LYGrMc8"
    "EgBTHG0u/wDZ7TBz5AKf/9k="
)


def coded(value, meaning="", scheme="SCT"):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted", "doubted"),
    [
        ("MONOCHROME2", None, False, False),
        ("MONOCHROME2", "IDENTITY", False, False),
        ("MONOCHROME1", None, True, False),
        ("MONOCHROME1", "INVERSE", True, False),
        ("MONOCHROME1", "IDENTITY", True, True),
        ("MONOCHROME2", "INVERSE", True, True),
    ],
)
def test_values_are_turned_over_once(photometric, shape, inverted, doubted, dicom_bytes):
    tags = {"PhotometricInterpretation": photometric}
    if shape:
        tags["PresentationLUTShape"] = shape
    image = wb.load_radiograph(dicom_bytes(RAMP, bits=8, **tags))
    expected = 255 - RAMP if inverted else RAMP
    assert np.array_equal(np.rint(image.pixels * 255), expected)
    assert image.contract.inverted == inverted
    assert ("polarity" in image.contract.codes) == doubted


def test_the_caller_may_overrule_polarity(dicom_bytes):
    data = dicom_bytes(RAMP, bits=8, PhotometricInterpretation="MONOCHROME1")
    image = wb.load_radiograph(data, invert=False)
    assert np.array_equal(np.rint(image.pixels * 255), RAMP) and not image.contract.inverted
    with pytest.raises(OptionError, match="invert must be None, True or False"):
        wb.load_radiograph(data, invert="yes")


def test_window_and_polarity_together(dicom_bytes):
    pixels = np.array([[0, 1000, 2000, 3000, 4000]], np.uint16)
    data = dicom_bytes(
        pixels,
        bits=12,
        WindowCenter="2000.5",
        WindowWidth="2001",
        PhotometricInterpretation="MONOCHROME1",
    )
    assert np.allclose(wb.load_radiograph(data).pixels, [[1, 1, 0.5, 0, 0]])


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_outside_the_range(photometric, dicom_bytes):
    pixels = np.array([[0, 500, 1000, 1500]], np.uint16)
    data = dicom_bytes(pixels, bits=12, PixelPaddingValue=0, PhotometricInterpretation=photometric)
    image = wb.load_radiograph(data)
    expected = [[0, 1, 0.5, 0]] if photometric == "MONOCHROME1" else [[0, 0, 0.5, 1]]
    assert np.allclose(image.pixels, expected)
    assert image.contract.stored_range == (500, 1500)


def test_padding_may_be_a_range(dicom_bytes):
    pixels = np.array([[4000, 3990, 0, 100]], np.uint16)
    data = dicom_bytes(pixels, bits=12, PixelPaddingValue=4000, PixelPaddingRangeLimit=3990)
    assert wb.load_radiograph(data).pixels.tolist() == [[0, 0, 0, 1]]


def test_negative_padding_of_signed_pixels(dicom_bytes):
    pixels = np.array([[-2000, 0, 1000]], np.int16)
    data = dicom_bytes(pixels, bits=16, syntax=uid.ImplicitVRLittleEndian, PixelPaddingValue=-2000)
    image = wb.load_radiograph(data)
    assert image.pixels.tolist() == [[0, 0, 1]] and image.contract.stored_range == (0, 1000)


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_a_voi_lut_is_read_in_every_byte_order(syntax, dicom_bytes):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4, 10, 12])
    order = "<u2" if syntax.is_little_endian else ">u2"
    item.add_new("LUTData", "OW", np.array([0, 1000, 3000, 4095], order).tobytes())
    pixels = np.array([[5, 10, 11, 12, 13, 90]], np.uint16)
    data = dicom_bytes(pixels, bits=12, syntax=syntax, VOILUTSequence=Sequence([item]))
    image = wb.load_radiograph(data)
    expected = np.array([[0, 0, 1000, 3000, 4095, 4095]]) / 4095
    assert np.allclose(image.pixels, expected) and image.contract.grey_scale == "VOI LUT"


def test_a_useless_window_is_said(dicom_bytes):
    pixels = np.array([[0, 2000, 4000]], np.uint16)
    data = dicom_bytes(pixels, bits=12, WindowCenter="30000", WindowWidth="10")
    image = wb.load_radiograph(data)
    assert image.pixels.tolist() == [[0, 0.5, 1]] and "window" in image.contract.codes


def test_twelve_bit_jpeg_extended_is_read(dicom, dicom_bytes):
    ds = dicom(np.zeros((19, 23), np.uint16), bits=12)
    ds.file_meta.TransferSyntaxUID = uid.JPEGExtended12Bit
    ds.PixelData = encapsulate([EXTENDED_JPEG])
    image = wb.load_radiograph(dicom_bytes(ds))
    y, x = np.mgrid[0:1:19j, 0:1:23j]
    original = np.clip(np.rint(4800 * (0.7 * y + 0.3 * x) - 400), 0, 4095)
    assert image.contract.stored_range == (0, 4095)
    assert np.abs(image.pixels * 4095 - original).max() <= 12


def test_a_lossy_jpeg_of_a_depth_outside_the_standard_is_refused(dicom, dicom_bytes):
    ds = dicom(np.zeros((19, 23), np.uint16), bits=12)
    ds.file_meta.TransferSyntaxUID = uid.JPEGExtended12Bit
    start_of_frame = b"\xff\xc1\0\x0b"
    deeper = EXTENDED_JPEG.replace(start_of_frame + b"\x0c", start_of_frame + b"\x10")
    ds.PixelData = encapsulate([deeper])
    with pytest.raises(InputError, match="have 16 bits, the standard allows 8 or 12"):
        wb.load_radiograph(dicom_bytes(ds))


@pytest.mark.parametrize(
    ("tags", "view"),
    [
        ({"ViewPosition": "PA"}, "PA"),
        ({"ViewPosition": "AP"}, "AP"),
        ({"ViewPosition": "LL"}, "lateral"),
        ({"ViewPosition": "RL"}, "lateral"),
        ({"ViewPosition": "LATERAL"}, "lateral"),
        ({"ViewPosition": "LLD"}, "AP"),
        ({"ViewPosition": ""}, "unknown"),
        ({"ViewPosition": "SMITH"}, "unknown"),
        ({}, "unknown"),
        ({"ViewCodeSequence": coded("399348003")}, "AP"),
        ({"ViewCodeSequence": coded("R-10214", scheme="SRT")}, "PA"),
        ({"ViewCodeSequence": coded("399173006")}, "lateral"),
        ({"ViewCodeSequence": coded("X1", "Postero-anterior", "99LOCAL")}, "PA"),
        ({"ViewCodeSequence": coded("X2", "left lateral", "99LOCAL")}, "lateral"),
        ({"PatientOrientation": ["A", "F"]}, "lateral"),
        ({"PatientOrientation": ["L", "F"]}, "unknown"),
        ({"SeriesDescription": "Thorax pa"}, "PA"),
        ({"SeriesDescription": "CHEST LAT"}, "lateral"),
        ({"SeriesDescription": "CHEST PA AND LATERAL"}, "unknown"),
        ({"SeriesDescription": "AP LATERAL DECUBITUS"}, "AP"),
        ({"SeriesDescription": "PAPA LATTE"}, "unknown"),
        ({"ProtocolName": "W Chest AP"}, "AP"),
        ({"ViewPosition": "PA", "SeriesDescription": "LATERAL"}, "PA"),
    ],
)
def test_view_is_found_or_unknown(tags, view, dicom_bytes):
    contract = wb.load_radiograph(dicom_bytes(RAMP, bits=8, **tags)).contract
    assert contract.view == view
    assert ("lateral-view" in contract.codes) == (view == "lateral")


@pytest.mark.parametrize(
    ("tags", "other"),
    [
        ({"BodyPartExamined": "CHEST"}, False),
        ({"BodyPartExamined": "PORT CHEST"}, False),
        ({"BodyPartExamined": "THORAX"}, False),
        ({"BodyPartExamined": "CHEST ABDOMEN"}, False),
        ({"BodyPartExamined": "HAND"}, True),
        ({"BodyPartExamined": "SKULL"}, True),
        ({"BodyPartExamined": "UNSPECIFIED"}, False),
        ({}, False),
        ({"AnatomicRegionSequence": coded("1", "Knee")}, True),
        ({"AnatomicRegionSequence": coded("51185008", "Chest")}, False),
        ({"Modality": "CT"}, True),
        ({"Modality": "MG"}, True),
        ({"Modality": "DX"}, False),
        ({"Modality": "OT"}, False),
        ({"Modality": ""}, False),
    ],
)
def test_what_is_said_to_be_no_chest_radiograph_is_warned_of(tags, other, dicom_bytes):
    contract = wb.load_radiograph(dicom_bytes(RAMP, bits=8, **tags)).contract
    assert ("not-a-chest" in contract.codes) == other


@pytest.mark.parametrize(("value", "known"), [("YES", True), ("NO", False), ("", None)])
def test_burned_in_annotation(value, known, dicom_bytes):
    contract = wb.load_radiograph(dicom_bytes(RAMP, bits=8, BurnedInAnnotation=value)).contract
    assert contract.burned_in is known
    assert ("burned-in" in contract.codes) == (known is True)


def test_pixel_spacing_prefers_the_patient_and_refuses_zero(dicom_bytes):
    def spacing(**tags):
        return wb.load_radiograph(dicom_bytes(RAMP, bits=8, **tags)).contract.pixel_spacing

    assert spacing() is None
    assert spacing(PixelSpacing=[0, 0]) is None
    assert spacing(PixelSpacing=[0.2, 0.2], ImagerPixelSpacing=[0.3, 0.3]) == (0.2, 0.2)
    assert spacing(PixelSpacing=[0, 0], ImagerPixelSpacing=[0.3, 0.3]) == (0.3, 0.3)
    assert spacing(NominalScannedPixelSpacing=[0.4, 0.4]) == (0.4, 0.4)


def test_pixels_that_are_not_square_are_said(dicom_bytes):
    data = dicom_bytes(RAMP, bits=8, PixelAspectRatio=[3, 2])
    contract = wb.load_radiograph(data).contract
    message = next(w.message for w in contract.warnings if w.code == "non-square-pixels")
    assert "1.5 times as high as wide" in message
    data = dicom_bytes(RAMP, bits=8, PixelSpacing=[0.2, 0.2])
    assert "non-square-pixels" not in wb.load_radiograph(data).contract.codes


def test_raw_detector_data_are_said(dicom_bytes):
    data = dicom_bytes(RAMP, bits=8, PresentationIntentType="FOR PROCESSING")
    assert "for-processing" in wb.load_radiograph(data).contract.codes


def test_omitted_descriptions_are_completed(dicom_bytes):
    data = dicom_bytes(
        RAMP,
        bits=8,
        SamplesPerPixel=None,
        PixelRepresentation=None,
        HighBit=None,
        BitsStored=None,
        PhotometricInterpretation=None,
    )
    image = wb.load_radiograph(data)
    assert np.array_equal(np.rint(image.pixels * 255), RAMP)
    assert "polarity" in image.contract.codes


@pytest.mark.parametrize("photometric", ["HSV", "SMITH", ""])
def test_an_unknown_photometric_interpretation_is_said(photometric, dicom_bytes):
    data = dicom_bytes(RAMP, bits=8, PhotometricInterpretation=photometric)
    image = wb.load_radiograph(data)
    assert np.array_equal(np.rint(image.pixels * 255), RAMP)
    assert "polarity" in image.contract.codes


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Rows": None}, "header lacks Rows"),
        ({"Columns": 0}, "header lacks Columns"),
        ({"BitsAllocated": None}, "header lacks BitsAllocated"),
        ({"NumberOfFrames": 2}, "holds 2 frames"),
        ({"BitsAllocated": 1}, "has 1 bits a pixel"),
        ({"Rows": 64}, "damaged, cut short or contradict"),
        ({"PixelData": None}, "holds no pixels"),
        ({"Rows": 60000, "Columns": 60000}, "3600 megapixels|limit of 100 megapixels"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(tags, message, dicom_bytes):
    with pytest.raises(InputError, match=message):
        wb.load_radiograph(dicom_bytes(RAMP, bits=8, **tags))


def test_one_frame_is_allowed(dicom_bytes):
    assert wb.load_radiograph(dicom_bytes(RAMP, bits=8, NumberOfFrames=1)).size == (16, 16)


def test_objects_without_a_film_are_named(dicom, dicom_bytes):
    ds = dicom(RAMP, bits=8, PixelData=None, Modality="SR")
    with pytest.raises(InputError, match=r"no pixels \(modality SR\)"):
        wb.load_radiograph(dicom_bytes(ds))
    ds.SOPClassUID = uid.MediaStorageDirectoryStorage
    with pytest.raises(InputError, match="is a DICOMDIR"):
        wb.load_radiograph(dicom_bytes(ds))
    ds = dicom(RAMP, bits=8, PixelData=None)
    ds.FloatPixelData = np.zeros((16, 16), "<f4").tobytes()
    with pytest.raises(InputError, match="floating-point pixels"):
        wb.load_radiograph(dicom_bytes(ds))


def test_grey_stored_as_colour_is_read_and_colour_refused(dicom_bytes):
    grey = np.repeat(RAMP[..., None], 3, axis=2)
    image = wb.load_radiograph(dicom_bytes(grey, bits=8))
    assert np.array_equal(np.rint(image.pixels * 255), RAMP)
    assert "colour" not in image.contract.codes
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    with pytest.raises(InputError, match="colour picture"):
        wb.load_radiograph(dicom_bytes(noise, bits=8))


def test_an_unpacked_bomb_is_refused(dicom_bytes, monkeypatch):
    from workbench.imaging import dicom as reader

    data = dicom_bytes(
        np.zeros((512, 512), np.uint8), bits=8, syntax=uid.DeflatedExplicitVRLittleEndian
    )
    assert len(data) < 4000
    assert wb.load_radiograph(data).size == (512, 512)
    monkeypatch.setattr(reader, "MAX_FILE_BYTES", 200_000)
    with pytest.raises(InputError, match="unpacks to more than"):
        wb.load_radiograph(data)


def test_the_sample_is_a_proper_chest_film(chest_dicom):
    image = wb.load_radiograph(chest_dicom)
    contract = image.contract
    assert (contract.modality, contract.view, contract.bits) == ("CR", "PA", 15)
    assert contract.inverted and image.size == (1955, 1841)
    assert contract.grey_scale == "window 15000 / 30000 (LINEAR)"
    assert contract.pixel_spacing is None and contract.codes == ("crop-loss",)
    assert contract.crop_loss == pytest.approx(5.8, abs=0.2)
    rows, columns = image.size
    spine = image.pixels[rows // 3 : rows // 2, columns * 47 // 100 : columns * 53 // 100].mean()
    lung = image.pixels[rows // 4 : rows // 3, columns // 4 : columns // 3].mean()
    assert spine > lung + 0.2  # bone is bright


def test_compressed_copies_of_the_sample_agree(chest_dicom):
    reference = wb.load_radiograph(chest_dicom).pixels
    lossless = wb.load_radiograph(chest_dicom.with_name("RG1_J2KR.dcm")).pixels
    lossy = wb.load_radiograph(chest_dicom.with_name("RG1_J2KI.dcm")).pixels
    assert np.array_equal(reference, lossless)
    assert np.abs(reference - lossy).mean() < 0.005


@pytest.mark.parametrize("name", ["JPEG-LL.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm"])
def test_lossless_jpeg_agrees_with_pydicom(name, chest_dicom):
    path = chest_dicom.with_name(name)
    expected = dcmread(DicomBytesIO(path.read_bytes())).pixel_array
    contract = wb.load_radiograph(path).contract
    assert contract.stored_range == (expected.min(), expected.max())


def test_only_listed_modalities_reach_the_contract(dicom_bytes):
    contract = wb.load_radiograph(dicom_bytes(RAMP, bits=8, Modality="JONES")).contract
    assert contract.modality == "unknown"
