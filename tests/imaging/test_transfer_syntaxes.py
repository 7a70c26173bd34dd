"""The same film in every transfer syntax reads the same: to the bit where it is lossless."""

import gdcm
import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.filebase import DicomBytesIO

import workbench as wb
from workbench.errors import InputError
from workbench.imaging.codestream import read_codestream

ROWS, COLUMNS = 82, 67  # an even number of pixels: gdcm's encoders trip over padding
NATIVE = {
    "implicit": uid.ImplicitVRLittleEndian,
    "explicit": uid.ExplicitVRLittleEndian,
    "big endian": uid.ExplicitVRBigEndian,
    "deflated": uid.DeflatedExplicitVRLittleEndian,
}
PYDICOM_CODECS = {
    "rle": uid.RLELossless,
    "jpeg 2000 lossless": uid.JPEG2000Lossless,
}
GDCM_LOSSLESS = {
    "jpeg lossless sv1": "JPEGLosslessProcess14_1",
    "jpeg-ls": "JPEGLSLossless",
    "jpeg 2000 by gdcm": "JPEG2000Lossless",
}
GDCM_LOSSY = {
    ("jpeg baseline", 8): "JPEGBaselineProcess1",
    ("jpeg-ls near lossless", 12): "JPEGLSNearLossless",
    ("jpeg 2000", 12): "JPEG2000",
}


def transcode(data, name, folder):
    """Return a DICOM file in another transfer syntax, encoded by gdcm."""
    source, target = folder / "in.dcm", folder / "out.dcm"
    source.write_bytes(data)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    change.SetInput(reader.GetImage())
    assert change.Change(), name
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return target.read_bytes()


def stored(image, bits):
    """Stored values of an image that was read without a window, from its contract's range."""
    low, high = image.contract.stored_range
    if bits <= 8:
        low, high = 0, 2**bits - 1
    return np.rint(image.pixels * (high - low) + low).astype(int)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("name", NATIVE)
def test_native_syntaxes_are_exact(name, bits, film, dicom_bytes):
    pixels = film(ROWS, COLUMNS, bits)
    image = wb.load_radiograph(dicom_bytes(pixels, bits=bits, syntax=NATIVE[name]))
    assert np.array_equal(stored(image, bits), pixels)
    assert image.contract.bits == bits
    assert image.contract.file_format == f"DICOM, {NATIVE[name].name}"


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("name", PYDICOM_CODECS)
def test_pydicom_encoded_syntaxes_are_exact(name, bits, film, dicom, dicom_bytes):
    pixels = film(ROWS, COLUMNS, bits)
    ds = dicom(pixels, bits=bits)
    ds.compress(PYDICOM_CODECS[name], encoding_plugin="pylibjpeg", generate_instance_uid=False)
    assert np.array_equal(stored(wb.load_radiograph(dicom_bytes(ds)), bits), pixels)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("name", GDCM_LOSSLESS)
def test_gdcm_encoded_lossless_syntaxes_are_exact(name, bits, film, dicom_bytes, tmp_path):
    pixels = film(ROWS, COLUMNS, bits)
    data = transcode(dicom_bytes(pixels, bits=bits), GDCM_LOSSLESS[name], tmp_path)
    assert dcmread(DicomBytesIO(data)).file_meta.TransferSyntaxUID.is_compressed
    assert np.array_equal(stored(wb.load_radiograph(data), bits), pixels)


def test_any_lossless_process_14_is_read(film, dicom_bytes, tmp_path):
    """A first-order stream is valid under the general UID too; encoders write that one as well."""
    pixels = film(ROWS, COLUMNS, 12)
    data = transcode(dicom_bytes(pixels, bits=12), "JPEGLosslessProcess14_1", tmp_path)
    assert data.count(uid.JPEGLosslessSV1.encode()) == 1
    image = wb.load_radiograph(
        data.replace(uid.JPEGLosslessSV1.encode(), uid.JPEGLossless.encode())
    )
    assert np.array_equal(stored(image, 12), pixels)


@pytest.mark.parametrize(("name", "bits"), GDCM_LOSSY)
def test_lossy_syntaxes_are_close(name, bits, film, dicom_bytes, tmp_path):
    pixels = film(ROWS, COLUMNS, bits)
    data = transcode(dicom_bytes(pixels, bits=bits), GDCM_LOSSY[name, bits], tmp_path)
    image = wb.load_radiograph(data)
    assert image.contract.bits == bits
    assert np.abs(stored(image, bits) - pixels.astype(int)).max() <= 0.02 * 2**bits


@pytest.mark.parametrize("name", ["explicit", "big endian", "deflated"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_signed_pixels_keep_their_sign(name, bits, film, dicom_bytes):
    pixels = (film(ROWS, COLUMNS, bits).astype(int) - 2 ** (bits - 1)).astype(np.int16)
    image = wb.load_radiograph(dicom_bytes(pixels, bits=bits, syntax=NATIVE[name]))
    low, high = pixels.min(), pixels.max()
    assert image.contract.stored_range == (low, high)
    assert np.allclose(
        image.pixels, (pixels.astype(float) - low) / (float(high) - float(low)), atol=1e-6
    )


@pytest.mark.parametrize("name", ["jpeg 2000 by gdcm", "jpeg lossless sv1"])
def test_signed_pixels_survive_compression(name, film, dicom_bytes, tmp_path):
    pixels = (film(ROWS, COLUMNS, 12).astype(int) - 2048).astype(np.int16)
    data = transcode(dicom_bytes(pixels, bits=12), GDCM_LOSSLESS[name], tmp_path)
    assert np.array_equal(stored(wb.load_radiograph(data), 12), pixels)


def test_no_preamble_and_no_file_meta(film, dicom, dicom_bytes, tmp_path):
    pixels = film(ROWS, COLUMNS, 12)
    for syntax in (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian):
        complete = dicom_bytes(pixels, bits=12, syntax=syntax)
        without_preamble = complete[132:]
        bare = dicom(pixels, bits=12, syntax=syntax)
        del bare.file_meta
        bare.save_as(
            tmp_path / "bare",
            implicit_vr=syntax.is_implicit_VR,
            little_endian=syntax.is_little_endian,
            enforce_file_format=False,
        )
        for data in (without_preamble, (tmp_path / "bare").read_bytes()):
            assert data[128:132] != b"DICM"
            assert np.array_equal(stored(wb.load_radiograph(data), 12), pixels)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_unused_bits_are_ignored(signed, compressed, film, dicom, dicom_bytes):
    pixels = film(ROWS, COLUMNS, 10).astype(int) - (512 if signed else 0)
    overlaid = ((pixels & 0x3FF) | 0x7400).astype(np.uint16)  # an overlay in the upper bits
    ds = dicom(overlaid, bits=16, BitsStored=10, HighBit=9, PixelRepresentation=int(signed))
    if compressed:
        ds.compress(uid.RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    assert np.array_equal(stored(wb.load_radiograph(dicom_bytes(ds)), 10), pixels)


@pytest.mark.parametrize("signed", [False, True])
def test_high_bit_may_lie_above_bits_stored(signed, film, dicom_bytes):
    pixels = film(ROWS, COLUMNS, 12).astype(int) - (2048 if signed else 0)
    shifted = (((pixels & 0xFFF) << 4) | 0x3).astype(np.uint16)
    data = dicom_bytes(shifted, bits=16, BitsStored=12, HighBit=15, PixelRepresentation=int(signed))
    image = wb.load_radiograph(data)
    assert image.contract.bits == 12
    assert np.array_equal(stored(image, 12), pixels)


def test_a_codestream_cut_short_is_refused(film, dicom, dicom_bytes, tmp_path):
    plain = dicom_bytes(film(ROWS, COLUMNS, 8), bits=8)
    for name in ("JPEGBaselineProcess1", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000"):
        ds = dcmread(DicomBytesIO(transcode(plain, name, tmp_path)))
        whole = ds.PixelData
        for share in (0.3, 0.6, 0.9):
            kept = int(len(whole) * share) // 2 * 2
            start = whole.index(b"\xfe\xff\x00\xe0", 8)  # the fragment after the offset table
            fragment = whole[start + 8 : kept]
            ds.PixelData = (
                whole[:start]
                + b"\xfe\xff\x00\xe0"
                + len(fragment).to_bytes(4, "little")
                + fragment
                + b"\xfe\xff\xdd\xe0"
                + bytes(4)
            )
            with pytest.raises(InputError, match="cut short"):
                wb.load_radiograph(dicom_bytes(ds))


def test_a_file_cut_short_anywhere_is_refused(film, dicom_bytes, tmp_path):
    plain = dicom_bytes(film(ROWS, COLUMNS, 12), bits=12)
    for data in (
        plain,
        dicom_bytes(film(ROWS, COLUMNS, 12), bits=12, syntax=uid.DeflatedExplicitVRLittleEndian),
        transcode(plain, "JPEG2000", tmp_path),
    ):
        for length in range(1, len(data) - 40, max(1, len(data) // 60)):
            with pytest.raises(InputError):
                wb.load_radiograph(data[:length])


def test_header_and_codestream_must_agree(film, dicom_bytes, tmp_path):
    plain = dicom_bytes(film(ROWS, COLUMNS, 8), bits=8)
    for name in ("JPEGBaselineProcess1", "JPEG2000", "JPEGLSLossless"):
        ds = dcmread(DicomBytesIO(transcode(plain, name, tmp_path)))
        ds.Rows = ROWS + 1
        with pytest.raises(InputError, match=f"header says {ROWS + 1} x {COLUMNS}"):
            wb.load_radiograph(dicom_bytes(ds))


def test_read_codestream_reads_rows_then_columns(film, dicom_bytes, tmp_path):
    plain = dicom_bytes(film(ROWS, COLUMNS, 8), bits=8)
    for name in ("JPEGBaselineProcess1", "JPEGLosslessProcess14_1", "JPEG2000", "JPEGLSLossless"):
        data = dcmread(DicomBytesIO(transcode(plain, name, tmp_path))).PixelData
        start = data.index(b"\xfe\xff\x00\xe0", 8) + 8
        assert read_codestream(data[start:])[:3] == (ROWS, COLUMNS, 8)
    assert read_codestream(b"no image here") is None
    assert read_codestream(b"") is None


def test_unreadable_compressions_are_named(film, dicom, dicom_bytes):
    ds = dicom(film(8, 8, 8), bits=8)
    for syntax, label in ((uid.MPEG2MPML, "MPEG2"), (uid.UID("1.2.3.4"), "unknown")):
        ds.file_meta.TransferSyntaxUID = syntax
        data = dicom_bytes(dicom(film(8, 8, 8), bits=8)).replace(
            uid.ExplicitVRLittleEndian.encode(), str(syntax).encode().ljust(19, b"\0")[:19]
        )
        if len(syntax) <= 19:
            with pytest.raises(InputError, match=rf"compressed in a way .*{label}"):
                wb.load_radiograph(data)
