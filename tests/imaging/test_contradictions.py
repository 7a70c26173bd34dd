"""Where the header and what follows it disagree: more frames, other signs, stray bytes, numbers."""

import io
import struct

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, uid
from pydicom.datadict import tag_for_keyword
from pydicom.encaps import encapsulate, get_frame
from pydicom.filebase import DicomBytesIO

import workbench as wb
from tests.imaging.test_transfer_syntaxes import transcode
from workbench.errors import InputError

ROWS, COLUMNS = 82, 94


@pytest.fixture
def pixels(film):
    return film(ROWS, COLUMNS, 12)


@pytest.fixture
def reference(pixels, dicom_bytes):
    return wb.load_radiograph(dicom_bytes(pixels, bits=12)).pixels


def header_words(image):
    return [w.message for w in image.contract.warnings if w.code == "header"]


# --- more pixel data than one frame -------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax",
    [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian,
     uid.DeflatedExplicitVRLittleEndian],
)  # fmt: skip
@pytest.mark.parametrize("beyond", [2, 100, "a frame", "half a frame", "two frames", "9 frames"])
@pytest.mark.parametrize("frames", [None, 1, 0])
def test_the_first_native_frame_is_read(
    syntax, beyond, frames, pixels, reference, dicom, dicom_bytes
):
    ds = dicom(pixels, bits=12, syntax=syntax)
    if frames is not None:
        ds.NumberOfFrames = frames
    one = ds.PixelData
    times = {"a frame": 1, "half a frame": 0.5, "two frames": 2, "9 frames": 9}
    count = beyond if isinstance(beyond, int) else int(len(one) * times[beyond])
    ds.PixelData = one + (one[::-1] * 9)[:count]
    image = wb.load_radiograph(dicom_bytes(ds))
    assert np.array_equal(image.pixels, reference)
    assert len(header_words(image)) == 1 and "more than one frame" in header_words(image)[0]


def test_one_byte_of_padding_is_no_contradiction(dicom_bytes):
    pixels = np.arange(33 * 35, dtype=np.uint16).reshape(33, 35) % 256
    assert header_words(wb.load_radiograph(dicom_bytes(pixels, bits=8))) == []


@pytest.mark.parametrize("bits", [8, 32])
def test_other_depths_of_more_than_one_frame(bits, dicom, dicom_bytes):
    values = (np.arange(60 * 60).reshape(60, 60) * 7 % 251).astype(np.uint8)
    ds = dicom(values, bits=8)
    if bits == 32:
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 32, 32, 31
        ds.PixelData = values.astype("<u4").tobytes()
    one = wb.load_radiograph(dicom_bytes(ds)).pixels
    ds.PixelData *= 3
    image = wb.load_radiograph(dicom_bytes(ds))
    assert np.array_equal(image.pixels, one) and header_words(image)


def test_colour_behind_a_header_of_one_sample_is_refused(dicom, dicom_bytes):
    values = np.zeros((40, 44), np.uint8)
    ds = dicom(values, bits=8, PhotometricInterpretation="RGB")
    ds.PixelData = np.random.default_rng(0).integers(0, 256, 40 * 44 * 3).astype(np.uint8).tobytes()
    with pytest.raises(InputError, match="one sample a pixel and colour"):
        wb.load_radiograph(dicom_bytes(ds))


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEG2000Lossless])
def test_the_first_compressed_frame_is_read(syntax, pixels, reference, dicom, dicom_bytes):
    ds, other = dicom(pixels, bits=12), dicom(pixels[::-1].copy(), bits=12)
    for one in (ds, other):
        one.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    frames = [get_frame(one.PixelData, 0, number_of_frames=1) for one in (ds, other)]
    for has_table in (True, False):
        ds.PixelData = encapsulate(frames, has_bot=has_table)
        image = wb.load_radiograph(dicom_bytes(ds))
        assert np.array_equal(image.pixels, reference)
        assert len(header_words(image)) == 1 and "2 frames" in header_words(image)[0]
    ds.PixelData = encapsulate(
        [frames[0]], fragments_per_frame=1 if syntax == uid.RLELossless else 3
    )
    image = wb.load_radiograph(dicom_bytes(ds))
    assert np.array_equal(image.pixels, reference) and header_words(image) == []


@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.RLELossless])
def test_compressed_colour_behind_a_header_of_one_sample_is_refused(syntax, dicom, dicom_bytes):
    grey = np.repeat(np.arange(4096).astype(np.uint8).reshape(64, 64, 1), 3, axis=2)
    ds = dicom(grey, bits=8)
    ds.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    del ds.PlanarConfiguration
    with pytest.raises(InputError, match=r"put together wrongly|damaged"):
        wb.load_radiograph(dicom_bytes(ds))


# --- sign and bits of the codestream ------------------------------------------------------------


@pytest.mark.parametrize("name", ["JPEG2000Lossless", "JPEG2000"])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_signed_codestream_is_believed(name, bits, film, dicom_bytes, tmp_path):
    pixels = film(ROWS, COLUMNS, bits).astype(int)
    signed = (pixels - 2 ** (bits - 1)).astype(np.int16)
    ds = dcmread(DicomBytesIO(transcode(dicom_bytes(signed, bits=bits), name, tmp_path)))
    right = wb.load_radiograph(dicom_bytes(ds))
    assert header_words(right) == []
    ds.PixelRepresentation = 0
    image = wb.load_radiograph(dicom_bytes(ds))
    assert np.array_equal(image.pixels, right.pixels)
    assert "unsigned, the compressed data that they are signed" in header_words(image)[0]
    assert image.contract.stored_range == right.contract.stored_range


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_an_unsigned_codestream_below_a_signed_header(bits, film, dicom, dicom_bytes):
    """The smoother reading is taken: some encoders lose the sign, some headers invent one."""
    pixels = film(ROWS, COLUMNS, bits)
    ds = dicom(pixels, bits=bits)
    ds.compress(uid.JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    right = wb.load_radiograph(dicom_bytes(ds)).pixels
    ds.PixelRepresentation = 1
    image = wb.load_radiograph(dicom_bytes(ds))
    assert np.array_equal(image.pixels, right) and "read as unsigned" in header_words(image)[0]
    wrapped = (pixels.astype(int) - 2 ** (bits - 1)) % 2**bits
    ds = dicom(wrapped.astype(np.uint16), bits=bits)
    ds.compress(uid.JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    ds.PixelRepresentation = 1
    image = wb.load_radiograph(dicom_bytes(ds))
    assert np.array_equal(image.pixels, right) and "read as signed" in header_words(image)[0]


@pytest.mark.parametrize("name", ["JPEGLSLossless", "JPEGLosslessProcess14_1", "JPEG2000Lossless"])
@pytest.mark.parametrize("said", [8, 10, 12])
def test_a_codestream_of_more_bits_than_the_header_does_not_wrap(
    name, said, film, dicom_bytes, tmp_path
):
    pixels = film(ROWS, COLUMNS, 14)
    ds = dcmread(DicomBytesIO(transcode(dicom_bytes(pixels, bits=14), name, tmp_path)))
    right = wb.load_radiograph(dicom_bytes(ds)).pixels
    ds.BitsStored, ds.HighBit = said, said - 1
    image = wb.load_radiograph(dicom_bytes(ds))
    assert np.array_equal(image.pixels, right) and image.contract.bits >= 14
    assert f"pixels have {said} bits, the compressed data" in header_words(image)[0]


def test_a_header_of_more_bits_than_the_codestream_is_harmless(film, dicom_bytes, tmp_path):
    pixels = film(ROWS, COLUMNS, 12)
    for name in ("JPEGLSLossless", "JPEG2000Lossless"):
        ds = dcmread(DicomBytesIO(transcode(dicom_bytes(pixels, bits=12), name, tmp_path)))
        right = wb.load_radiograph(dicom_bytes(ds)).pixels
        ds.BitsStored, ds.HighBit = 16, 15
        image = wb.load_radiograph(dicom_bytes(ds))
        assert np.array_equal(image.pixels, right) and header_words(image) == []


def test_a_signed_header_of_more_bits_than_jpeg_ls_has(film, dicom_bytes, tmp_path):
    signed = (film(ROWS, COLUMNS, 12).astype(int) - 2048).astype(np.int16)
    ds = dcmread(DicomBytesIO(transcode(dicom_bytes(signed, bits=12), "JPEGLSLossless", tmp_path)))
    right = wb.load_radiograph(dicom_bytes(ds)).pixels
    ds.BitsStored, ds.HighBit = 16, 15
    assert np.array_equal(wb.load_radiograph(dicom_bytes(ds)).pixels, right)


# --- what stands behind the end of a codestream -------------------------------------------------

ENCODERS = {
    "JPEGBaselineProcess1": 8,
    "JPEGLosslessProcess14_1": 12,
    "JPEGLSLossless": 12,
    "JPEG2000": 12,
    "JPEG2000Lossless": 12,
}
STRAYS = [
    b"\x0a",
    b"\x0d\x0a",
    b"\x12",
    b"\x12\x34",
    b"\0" * 40,
    b"\xff" * 3,
    b"ab\0",
    bytes(range(1, 40)),
]


@pytest.mark.parametrize("name", ENCODERS)
def test_stray_bytes_behind_the_end_change_nothing(name, film, dicom_bytes, tmp_path):
    bits = ENCODERS[name]
    pixels = film(ROWS, COLUMNS, bits)
    ds = dcmread(DicomBytesIO(transcode(dicom_bytes(pixels, bits=bits), name, tmp_path)))
    right = wb.load_radiograph(dicom_bytes(ds)).pixels
    frame = get_frame(ds.PixelData, 0, number_of_frames=1).rstrip(b"\0")
    for stray in STRAYS:
        ds.PixelData = encapsulate([frame + stray])
        assert np.array_equal(wb.load_radiograph(dicom_bytes(ds)).pixels, right), stray
        for share in (0.5, 0.97):
            ds.PixelData = encapsulate([frame[: int(share * len(frame))] + stray])
            with pytest.raises(InputError, match="cut short"):
                wb.load_radiograph(dicom_bytes(ds))


def test_stray_bytes_behind_a_jpeg_picture(film):
    buffer = io.BytesIO()
    Image.fromarray(film(ROWS, COLUMNS, 8).astype(np.uint8)).save(buffer, "JPEG")
    data = buffer.getvalue()
    right = wb.load_radiograph(data).pixels
    for stray in STRAYS:
        assert np.array_equal(wb.load_radiograph(data + stray).pixels, right)
        with pytest.raises(InputError, match="cut short"):
            wb.load_radiograph(data[: len(data) // 2] + stray[:2])


# --- numbers that are none ----------------------------------------------------------------------

NUMBERS = {
    "RescaleSlope": "1.0",
    "RescaleIntercept": "-1024.0",
    "WindowCenter": "400.0",
    "WindowWidth": "1500.0",
    "PixelSpacing": "0.15\\0.15",
    "ImagerPixelSpacing": "0.25\\0.25",
    "NominalScannedPixelSpacing": "0.35\\0.35",
}


def patched(data, keyword, text, vr=b"DS"):
    """Put any text into an element of a file in explicit little endian."""
    tag = tag_for_keyword(keyword)
    head = struct.pack("<2H", tag >> 16, tag & 0xFFFF)
    at = data.index(head + (b"IS" if keyword == "NumberOfFrames" else b"DS"))
    (length,) = struct.unpack("<H", data[at + 6 : at + 8])
    value = text.encode("latin-1")
    value += b" " * (len(value) % 2)
    return data[:at] + head + vr + struct.pack("<H", len(value)) + value + data[at + 8 + length :]


@pytest.fixture
def numbered(pixels, dicom_bytes):
    return dicom_bytes(pixels, bits=12, **NUMBERS)


@pytest.mark.parametrize("keyword", NUMBERS)
def test_a_decimal_comma_is_read_as_a_point(keyword, numbered):
    right = wb.load_radiograph(numbered)
    assert header_words(right) == []
    image = wb.load_radiograph(patched(numbered, keyword, NUMBERS[keyword].replace(".", ",")))
    assert np.array_equal(image.pixels, right.pixels)
    assert image.contract.pixel_spacing == right.contract.pixel_spacing
    assert image.meta == right.meta
    assert header_words(image)[0].startswith(f"{keyword}: a decimal comma was read as a point")


@pytest.mark.parametrize("vr", [b"DS", b"LO", b"SH", b"CS", b"IS"])
def test_numbers_of_another_type_are_read(vr, numbered):
    right = wb.load_radiograph(numbered)
    for keyword, text in NUMBERS.items():
        for written in (text, f" {text} ", text.replace(".", ",")):
            image = wb.load_radiograph(patched(numbered, keyword, written, vr))
            assert np.array_equal(image.pixels, right.pixels), (keyword, written)
            assert image.contract.pixel_spacing == right.contract.pixel_spacing


@pytest.mark.parametrize("keyword", NUMBERS)
def test_what_is_no_number_is_said_and_never_quoted(keyword, numbered):
    for text in (
        "abc", "1.2.3", "12 34", "--5", "0x10", "400HU", "NaN", "inf", "1,024.5", "1e", "1_000",
        "MUELLER^ANNA", "four", "½", ".", "1.5\\abc", "1e999", "1\\\\", "(1.5)", "1'500", "1,0,0",
    ):  # fmt: skip
        image = wb.load_radiograph(patched(numbered, keyword, text))
        (message,) = header_words(image)
        name, _, rest = message.partition(":")
        assert name == keyword and rest.startswith(" not the numbers that belong there"), text
        assert text not in rest or text == "."


def test_a_pair_of_another_length_is_said(numbered):
    for text in ("0.15", "0.15\\0.15\\1"):
        assert header_words(wb.load_radiograph(patched(numbered, "PixelSpacing", text)))


def test_absent_and_empty_numbers_need_no_words(pixels, dicom_bytes):
    assert header_words(wb.load_radiograph(dicom_bytes(pixels, bits=12))) == []
    empty = {keyword: "" for keyword in NUMBERS}
    assert header_words(wb.load_radiograph(dicom_bytes(pixels, bits=12, **empty))) == []


def test_a_slope_of_zero_is_said(pixels, reference, dicom_bytes):
    image = wb.load_radiograph(dicom_bytes(pixels, bits=12, RescaleSlope=0, RescaleIntercept=0))
    assert np.array_equal(image.pixels, reference) and "window" in image.contract.codes
    message = next(w.message for w in image.contract.warnings if w.code == "window")
    assert "the rescale slope is 0" in message


def test_a_number_of_frames_that_is_none_is_refused(pixels, dicom_bytes):
    data = dicom_bytes(pixels, bits=12, NumberOfFrames="1")
    for text in ("two", "2,5", "1\\2"):
        with pytest.raises(InputError, match="NumberOfFrames is no whole number"):
            wb.load_radiograph(patched(data, "NumberOfFrames", text))
    with pytest.raises(InputError, match="holds 2 frames"):
        wb.load_radiograph(patched(data, "NumberOfFrames", "2,0"))
    assert wb.load_radiograph(patched(data, "NumberOfFrames", "1,0")).size == pixels.shape
