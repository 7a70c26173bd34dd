"""Pictures with several channels of 16 bits: all bits are read, or the picture is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from workbench.errors import InputError

GREY, GREY_ALPHA, RGB, RGBA = 0, 4, 2, 6


def png(pixels, kind, interlaced=False):
    """Write a PNG of 16 bits by hand: Pillow writes grey only."""

    def chunk(name, content):
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2),
                  (0, 1, 2, 2), (1, 0, 2, 1)]  # fmt: skip
    rows = []
    for top, left, down, right in passes:
        part = pixels[top::down, left::right]
        rows += [b"\0" + row.astype(">u2").tobytes() for row in part if row.size]
    head = struct.pack(">2I5B", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, interlaced)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def tiff(pixels, order="<", planes=1, photometric=2, compression=1, extra=None):
    """Write a TIFF of 16 bits a channel by hand."""
    word = "little" if order == "<" else "big"
    rows, columns, channels = pixels.shape
    stored = pixels.astype(f"{order}u2")
    strips = [stored] if planes == 1 else [stored[..., n] for n in range(channels)]
    strips = [strip.tobytes() for strip in strips]
    if compression == 8:
        strips = [zlib.compress(strip) for strip in strips]
    data, places = b"", []
    for strip in strips:
        places.append(8 + len(data))
        data += strip + b"\0" * (len(strip) % 2)
    depths_at = 8 + len(data)
    data += (16).to_bytes(2, word) * channels
    tables = []
    for values in (places, [len(strip) for strip in strips]):
        tables.append(8 + len(data) if len(values) > 1 else values[0])
        data += b"".join(v.to_bytes(4, word) for v in values) if len(values) > 1 else b""
    tags = [
        (256, 4, 1, columns), (257, 4, 1, rows), (258, 3, channels, depths_at),
        (259, 3, 1, compression), (262, 3, 1, photometric), (273, 4, len(strips), tables[0]),
        (277, 3, 1, channels), (278, 4, 1, rows), (279, 4, len(strips), tables[1]),
        (284, 3, 1, planes),
    ]  # fmt: skip
    if extra is not None:
        tags.append((338, 3, 1, extra))
    entries = b""
    for tag, kind, count, value in tags:
        wide = 2 if kind == 3 and count == 1 else 4
        field = value.to_bytes(wide, word).ljust(4, b"\0")
        entries += tag.to_bytes(2, word) + kind.to_bytes(2, word) + count.to_bytes(4, word) + field
    head = (b"II*\0" if order == "<" else b"MM\0*") + (8 + len(data)).to_bytes(4, word)
    return head + data + len(tags).to_bytes(2, word) + entries + bytes(4)


def with_alpha(pixels, count):
    """Stack a grey image (H, W) into channels; the last of two or four is another alpha."""
    stacked = np.dstack([pixels] * count)
    if count in (2, 4):
        stacked[..., -1] = np.arange(pixels.shape[1])
    return stacked


def agrees(image, pixels, bits):
    assert image.contract.bits == bits and image.size == pixels.shape
    assert np.abs(image.pixels - pixels / (2**bits - 1)).max() < 1e-4
    assert "colour" not in image.contract.codes


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "count"), [(GREY_ALPHA, 2), (RGB, 3), (RGBA, 4)])
def test_a_deep_png_keeps_all_its_bits(bits, interlaced, kind, count, film):
    pixels = film(53, 71, bits)
    data = png(with_alpha(pixels, count), kind, interlaced)
    image = wb.load_radiograph(data)
    agrees(image, pixels, bits)
    assert ("bit-depth" in image.contract.codes) == (bits < 16)
    with pytest.raises(InputError, match="damaged or cut short"):
        wb.load_radiograph(data[: len(data) // 2])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize(("count", "extra"), [(3, None), (4, 0), (4, 2)])
def test_a_deep_tiff_keeps_all_its_bits(order, compression, count, extra, film):
    pixels = film(53, 71, 12)
    data = tiff(with_alpha(pixels, count), order, compression=compression, extra=extra)
    agrees(wb.load_radiograph(data), pixels, 12)
    agrees(wb.load_radiograph(data, fit="pad"), pixels, 12)


@pytest.mark.parametrize(
    "options",
    [
        {"planes": 2},
        {"planes": 2, "order": ">"},
        {"planes": 2, "compression": 8},
        {"photometric": 5, "count": 4},
        {"count": 4, "extra": 1},
        {"photometric": 1, "count": 2, "extra": 2},
    ],
)
def test_a_deep_tiff_of_another_kind_is_read_or_refused(options, film):
    pixels = film(53, 71, 12)
    count = options.pop("count", 3)
    data = tiff(with_alpha(pixels, count), **options)
    try:
        agrees(wb.load_radiograph(data), pixels, 12)
    except InputError as error:
        assert "16 bits a channel" in str(error) or "not decodable" in str(error)


def test_deep_jpeg_2000_and_ppm_are_refused(film):
    pixels = film(53, 71, 12)
    rows = np.dstack([pixels] * 3).astype(">u2").tobytes()
    for highest in (4095, 65535):
        data = b"P6\n71 53\n%d\n" % highest + rows
        with pytest.raises(InputError, match="16 bits a channel in a way that is not read"):
            wb.load_radiograph(data)
    openjpeg = pytest.importorskip("openjpeg.utils")
    stacked = np.ascontiguousarray(np.dstack([pixels] * 3))
    data = bytes(openjpeg.encode_array(stacked, bits_stored=16, photometric_interpretation=1))
    with pytest.raises(InputError, match="16 bits a channel in a way that is not read"):
        wb.load_radiograph(data)
    eight = (pixels >> 4).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([eight] * 3)).save(buffer, "JPEG2000", irreversible=False)
    assert np.array_equal(np.rint(wb.load_radiograph(buffer.getvalue()).pixels * 255), eight)


def test_colour_is_judged_at_full_depth(film):
    pixels = film(153, 171, 12)
    tinted = np.dstack([pixels, pixels * 0.9, pixels * 0.8]).astype(np.uint16)
    image = wb.load_radiograph(png(tinted, RGB))
    assert "colour" in image.contract.codes and image.contract.bits == 12
    light = tinted @ (0.299, 0.587, 0.114)
    assert np.abs(image.pixels * 4095 - light).max() <= 0.51
    noise = np.random.default_rng(0).integers(0, 4096, (80, 90, 3)).astype(np.uint16)
    with pytest.raises(InputError, match="colour picture"):
        wb.load_radiograph(png(noise, RGB))


def test_arrays_of_16_bits_a_channel_are_read(film):
    pixels = film(53, 71, 12)
    for count in (3, 4):
        agrees(wb.load_radiograph(with_alpha(pixels, count)), pixels, 12)
    with pytest.raises(InputError, match="must be uint8 or uint16"):
        wb.load_radiograph(np.dstack([pixels] * 3).astype(np.int32))


def test_an_opened_image_has_lost_its_bits_and_is_refused(film, tmp_path):
    path = tmp_path / "film.png"
    path.write_bytes(png(with_alpha(film(53, 71, 12), 3), RGB))
    opened = Image.open(path)
    for loaded in (False, True):
        if loaded:
            opened.load()
        with pytest.raises(InputError, match=r"film.png: .* pass the path of the file"):
            wb.load_radiograph(opened)
    opened.close()


@pytest.mark.parametrize("bits", [12, 16])
def test_dicom_colour_of_16_bits_keeps_them(bits, film, dicom_bytes):
    pixels = film(53, 71, bits)
    image = wb.load_radiograph(dicom_bytes(np.dstack([pixels] * 3), bits=bits))
    assert image.contract.bits == bits
    assert np.abs(image.pixels - pixels / (2**bits - 1)).max() < 1e-4


def test_a_palette_that_uses_fewer_bits_than_it_declares(film, dicom, dicom_bytes):
    pixels = film(53, 71, 8)
    ds = dicom(pixels, bits=8, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        table = np.rint(np.linspace(0, 4095, 256)).astype("<u2").tobytes()
        setattr(ds, f"{colour}PaletteColorLookupTableData", table)
    image = wb.load_radiograph(dicom_bytes(ds))
    assert np.abs(image.pixels - pixels / 255).max() < 1e-3
