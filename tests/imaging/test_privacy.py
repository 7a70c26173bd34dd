"""No identifier leaves the reader: not in meta, contract, texts, logs, warnings or errors."""

import contextlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import traceback
import warnings

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

import workbench as wb
from workbench.data.images import file_dhash
from workbench.errors import InputError
from workbench.imaging.vocabulary import META_KEYWORDS, READ_KEYWORDS

SECRET = "MUELLERHEIM"
FILM = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
TEXT_VRS = {"PN", "LO", "SH", "LT", "ST", "UT", "UC", "CS", "AE"}


def stuffed(dicom):
    """A film with the secret in every text element of the dictionary that DICOM knows."""
    ds = dicom(FILM, bits=12)
    kept = {"PhotometricInterpretation", "SpecificCharacterSet"}
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if vr in TEXT_VRS and keyword and keyword not in kept and tag >> 16 not in (0, 2):
            ds.add_new(tag, vr, SECRET)
    ds.PatientBirthDate = "19310203"
    ds.PatientAge = "093Y"
    ds.StudyDate = "20240102"
    ds.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.777777"
    item = Dataset()
    item.CodeValue, item.CodeMeaning, item.PatientName = SECRET, SECRET, SECRET
    for keyword in ("ViewCodeSequence", "AnatomicRegionSequence", "RequestAttributesSequence"):
        setattr(ds, keyword, Sequence([item]))
    block = ds.private_block(0x0011, SECRET, create=True)
    block.add_new(0x01, "LO", SECRET)
    return ds


def everything_said(image):
    facts = [
        json.dumps(image.contract.to_dict()),
        json.dumps(image.meta),
        repr(image),
        str(image.meta),
        repr(image.contract),
        image._repr_html_(),
        *image.contract.facts(),
    ]
    figure = image.show(size=32)
    facts += [text.get_text() for text in figure.findobj() if hasattr(text, "get_text")]
    return re.sub(r"base64,[^\"]*", "", " ".join(facts))  # the picture, not words


def test_a_film_full_of_names_stays_silent(dicom, dicom_bytes, caplog):
    data = dicom_bytes(stuffed(dicom))
    assert data.count(SECRET.encode()) > 1000
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        image = wb.load_radiograph(data)
    said = everything_said(image) + caplog.text + " ".join(str(w.message) for w in seen)
    for private in (SECRET, SECRET.lower(), "1931", "093Y", "20240102", "777777"):
        assert private.lower() not in said.lower()
    assert set(image.meta) <= set(META_KEYWORDS)


def test_damaged_elements_are_quoted_nowhere(dicom, dicom_bytes, caplog, tmp_path):
    """Values that break their own rules make pydicom warn and quote them."""
    ds = stuffed(dicom)
    good = dicom_bytes(ds)
    broken = [
        dicom_bytes(
            dicom(FILM, bits=12, WindowCenter="1234567890", WindowWidth="1234567890")
        ).replace(b"1234567890", SECRET[:10].encode()),
        dicom_bytes(dicom(FILM, bits=12, NumberOfFrames="1234567890")).replace(
            b"1234567890", SECRET[:10].encode()
        ),
        good[: len(good) // 2],
        good[:-100],
        good.replace(b"MONOCHROME2", SECRET[:11].encode()),
    ]
    caplog.set_level(logging.DEBUG)
    refused = 0
    for data in broken:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            try:
                said = everything_said(wb.load_radiograph(data))
            except InputError as error:
                refused += 1
                said = "".join(traceback.format_exception(error)) + repr(error.__context__)
        said += caplog.text + " ".join(str(w.message) for w in seen)
        assert SECRET[:10].lower() not in said.lower()
    assert refused >= 3


def test_only_the_base_name_of_a_file_is_kept(dicom_bytes, tmp_path):
    folder = tmp_path / SECRET
    folder.mkdir()
    path = folder / "film.dcm"
    path.write_bytes(dicom_bytes(FILM, bits=12))
    assert SECRET not in everything_said(wb.load_radiograph(path))
    assert wb.load_radiograph(str(path)).contract.source == "film.dcm"
    path.write_bytes(b"")
    for wrong in (path, folder / "missing.dcm", folder / "x.png"):
        with pytest.raises(InputError) as caught:
            wb.load_radiograph(wrong)
        assert SECRET not in str(caught.value)


def test_meta_holds_what_is_allowed_and_useful(dicom_bytes):
    tags = {
        "ViewPosition": "PA",
        "BodyPartExamined": "CHEST",
        "PixelSpacing": [0.2, 0.2],
        "PatientOrientation": ["L", "F"],
        "Manufacturer": "SIEMENS Healthineers, Dr. Who",
        "WindowCenter": "2048",
        "WindowWidth": "4096",
        "PatientID": "1",
    }
    meta = wb.load_radiograph(dicom_bytes(FILM, bits=12, **tags)).meta
    assert meta == {
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientOrientation": ["L", "F"],
        "Manufacturer": "SIEMENS",
        "Rows": 64,
        "Columns": 64,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelSpacing": (0.2, 0.2),
        "WindowCenter": 2048.0,
        "WindowWidth": 4096.0,
    }


def test_listed_keywords_exist():
    known = {entry[4] for entry in DicomDictionary.values()}
    assert set(READ_KEYWORDS) <= known
    assert keyword_for_tag(0x00100010) not in READ_KEYWORDS


def test_the_process_is_left_as_it_was(dicom_bytes, caplog):
    before = list(warnings.filters)
    wb.load_radiograph(dicom_bytes(FILM, bits=12))
    with pytest.raises(InputError):
        wb.load_radiograph(dicom_bytes(FILM, bits=12)[:400])
    assert warnings.filters == before
    with caplog.at_level(logging.WARNING, logger="pydicom"):
        logging.getLogger("pydicom").warning("heard again")
    assert "heard again" in caplog.text


# --- what decoders say while they run -----------------------------------------------------------

DECODERS = (
    "pydicom",
    "pydicom.pixels.decoders.base",
    "pydicom.pixels.utils",
    "pylibjpeg.utils",
    "openjpeg._openjpeg",
    "rle",
    "gdcm.made.while.decoding",
    "PIL.TiffImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.made.while.decoding",
    "a_plugin_of_the_hospital",
    "",
)


def chatter(*args, **kwargs):
    """Say the name everywhere a decoder can say it, then fail with it."""
    for name in DECODERS:
        logger = logging.getLogger(name)
        for level in (logging.DEBUG, logging.WARNING, logging.CRITICAL):
            logger.log(level, "value of PatientName: %s", SECRET)
        try:
            raise ValueError(SECRET)
        except ValueError:
            logger.exception("decoding failed for %s", SECRET)
    warnings.warn(SECRET, UserWarning, stacklevel=1)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(SECRET, DeprecationWarning, stacklevel=1)
    raise RuntimeError(f"cannot decode {SECRET}")


@pytest.fixture
def listening(capfd):
    """Handlers of their own on loggers at several depths; yields what came out since last asked."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    names = ("pydicom", "pydicom.pixels.decoders.base", "PIL.TiffImagePlugin", "")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.DEBUG)

    def heard() -> str:
        text = stream.getvalue() + "".join(capfd.readouterr())
        stream.seek(0)
        stream.truncate()
        return text

    yield heard
    for name in names:
        logging.getLogger(name).removeHandler(handler)
        logging.getLogger(name).setLevel(before[name])


@pytest.mark.parametrize("place", ["dcmread", "decode_pixels", "pixel_array"])
@pytest.mark.parametrize("threads", [1, 3])
def test_nothing_that_a_decoder_says_comes_out(
    place, threads, dicom_bytes, listening, caplog, monkeypatch
):
    from workbench.imaging import decode, dicom

    monkeypatch.setattr(decode if place == "pixel_array" else dicom, place, chatter)
    caplog.set_level(logging.DEBUG)
    data, said = dicom_bytes(FILM, bits=12), []

    def read():
        with pytest.raises(InputError, match="damaged") as caught:
            wb.load_radiograph(data)
        said.append("".join(traceback.format_exception(caught.value)))

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        workers = [threading.Thread(target=read) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    said += [str(one.message) for one in seen]
    assert len(said) >= threads
    assert SECRET not in "".join(said) + listening() + caplog.text


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "JPEG"])
def test_nothing_that_pillow_says_comes_out(fmt, listening, caplog, monkeypatch):
    buffer = io.BytesIO()
    Image.fromarray((FILM >> 4).astype(np.uint8)).save(buffer, fmt)
    plugin = type(Image.open(io.BytesIO(buffer.getvalue())))
    monkeypatch.setattr(plugin, "load", chatter)
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(InputError, match="not decodable") as caught:
            wb.load_radiograph(buffer.getvalue())
    said = "".join(traceback.format_exception(caught.value)) + "".join(map(str, seen))
    assert SECRET not in said + listening() + caplog.text


def test_tags_that_pillow_logs_stay_inside(listening, caplog):
    """Pillow logs the values of TIFF tags where somebody asked for debugging."""
    buffer = io.BytesIO()
    pixels = Image.fromarray((FILM >> 4).astype(np.uint8))
    pixels.save(buffer, "TIFF", tiffinfo={270: SECRET, 315: SECRET})
    Image.open(io.BytesIO(buffer.getvalue()))
    assert SECRET in listening()  # it would come out
    caplog.clear()
    wb.load_radiograph(buffer.getvalue())
    assert SECRET not in caplog.text + listening()


def test_other_threads_and_later_records_are_heard(dicom_bytes, listening, monkeypatch):
    from workbench.imaging import dicom

    parse = dicom.dcmread

    def slow(*args, **kwargs):
        other = threading.Thread(target=lambda: logging.getLogger("app").warning("heard beside"))
        other.start()
        other.join()
        logging.getLogger("app").warning("not heard")
        return parse(*args, **kwargs)

    monkeypatch.setattr(dicom, "dcmread", slow)
    handle = logging.Logger.handle
    wb.load_radiograph(dicom_bytes(FILM, bits=12))
    logging.getLogger("pydicom.pixels.utils").warning("heard afterwards")
    assert logging.Logger.handle is handle
    text = listening()
    assert "heard beside" in text and "heard afterwards" in text and "not heard" not in text


def mistaken(dicom, dicom_bytes, kind):
    """Bytes of an image that the decoder of its kind complains about on the terminal."""
    if kind == "RLE":
        ds = dicom(FILM, bits=12)
        ds.compress(RLELossless, generate_instance_uid=False)
        frame = bytearray(get_frame(ds.PixelData, 0))
        frame[64:] = b"\x81\x07" * ((len(frame) - 64) // 2)  # runs beyond the end of the image
        ds.PixelData = encapsulate([bytes(frame)])
        return dicom_bytes(ds)
    buffer = io.BytesIO()
    pixels = Image.fromarray((FILM >> 4).astype(np.uint8))
    pixels.save(buffer, "TIFF", compression=kind, tiffinfo={270: SECRET})
    data = bytearray(buffer.getvalue())
    start = Image.open(io.BytesIO(data)).tag_v2[273][0]
    data[start + 9 : start + 49] = b"\xff" * 40
    return bytes(data)


@pytest.mark.parametrize("kind", ["RLE", "tiff_lzw", "tiff_deflate"])
def test_what_decoders_in_c_and_rust_write_stays_off_the_terminal(
    kind, dicom, dicom_bytes, capfd, tmp_path
):
    data = mistaken(dicom, dicom_bytes, kind)
    with contextlib.suppress(BaseException):  # a panic of Rust is no Exception
        dcmread(io.BytesIO(data)).pixel_array if kind == "RLE" else Image.open(
            io.BytesIO(data)
        ).load()
    assert capfd.readouterr().err  # it would come out
    path = tmp_path / "film"
    path.write_bytes(data)
    for source in (data, path):
        with contextlib.suppress(InputError):
            wb.load_radiograph(source)
    file_dhash(path)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_a_process_without_a_terminal_decodes():
    buffer = io.BytesIO()
    pixels = Image.fromarray((FILM >> 4).astype(np.uint8))
    pixels.save(buffer, "TIFF", compression="tiff_lzw")
    code = (
        "import os, sys, workbench as wb\n"
        "os.close(2)\n"
        "print(wb.load_radiograph(sys.stdin.buffer.read()).size)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=buffer.getvalue(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, b"(64, 64)")
