"""A JPEG whose data end before its picture does is refused, whatever stands behind them."""

import io

import numpy as np
import pytest
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate

import workbench as wb
from workbench.errors import InputError
from workbench.imaging.codestream import scan_cut_short

END = b"\xff\xd9"


@pytest.fixture
def grey(film):
    """(203, 157) uint8, no multiple of a block."""
    return film(203, 157, 8).astype(np.uint8)


def jpeg(pixels, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def with_restarts(pixels):
    return jpeg(pixels, restart_marker_blocks=3)


@pytest.mark.parametrize("left", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("behind", [b"", b"\0" * 40, b"\r\n", END])
@pytest.mark.parametrize("kind", ["grey", "colour", "restarts", "progressive"])
def test_a_scan_cut_short_before_its_end_marker_is_refused(kind, behind, left, grey):
    pixels = np.dstack([grey] * 3) if kind == "colour" else grey
    if kind == "progressive":
        data, left = jpeg(pixels, progressive=True), left / 2
    else:
        data = with_restarts(pixels) if kind == "restarts" else jpeg(pixels)
    scan = data.find(b"\xff\xda")
    cut = data[: scan + int(left * (len(data) - scan))].rstrip(b"\xff") + END + behind
    with pytest.raises(InputError, match=r"cut short.*copy or export it again"):
        wb.load_radiograph(cut)
    assert wb.load_radiograph(data + behind).size == grey.shape


@pytest.mark.parametrize("level", [127, 128, 129])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_whole_picture_may_end_in_middle_grey(progressive, level, grey):
    grey[-16:, -32:] = level
    data = jpeg(grey, progressive=progressive)
    assert wb.load_radiograph(data).size == grey.shape


def test_more_data_are_only_tried_where_the_last_block_is_filled_in(grey, monkeypatch):
    monkeypatch.setattr("workbench.imaging.codestream._decoded", None)
    assert not scan_cut_short(jpeg(grey), grey)


def test_what_holds_no_scan_is_left_to_the_decoder():
    assert not scan_cut_short(b"\xff\xd8\xff\xd9", np.full((8, 8), 128, np.uint8))


def test_a_scan_cut_short_in_a_dicom_file_is_refused(grey, dicom, dicom_bytes):
    whole = jpeg(grey)
    for data in (whole, whole[: len(whole) // 2] + END):
        ds = dicom(grey, bits=8)
        ds.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
        ds.PixelData = encapsulate([data])
        ds["PixelData"].is_undefined_length = True
        if data is whole:
            assert wb.load_radiograph(dicom_bytes(ds)).size == grey.shape
        else:
            with pytest.raises(InputError, match="compressed pixels are cut short"):
                wb.load_radiograph(dicom_bytes(ds))
