"""Pictures: parity with the published reading at 8 bit, more than it at 16 bit, refusals."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFile, ImageOps

import workbench as wb
from workbench.errors import InputError, OptionError
from workbench.radiograph import Radiograph


def encoded(image, fmt, **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


@pytest.fixture
def grey(film):
    """An 8-bit film as PIL image, 97 rows x 113 columns."""
    return Image.fromarray(film(97, 113, 8).astype(np.uint8))


def levels(image):
    return np.rint(image.pixels * 255).astype(int)


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
def test_lossless_grey_is_exact(fmt, grey):
    image = wb.load_radiograph(encoded(grey, fmt))
    assert np.array_equal(levels(image), np.asarray(grey))
    contract = image.contract
    assert (contract.bits, contract.modality, contract.view) == (8, "unknown", "unknown")
    assert contract.file_format == fmt and not contract.inverted and image.meta == {}


@pytest.mark.parametrize("fmt", ["JPEG", "WEBP", "JPEG2000"])
def test_lossy_grey_equals_pillow(fmt, grey):
    data = encoded(grey, fmt)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert np.array_equal(levels(wb.load_radiograph(data)), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_becomes_the_lightness_of_the_published_pipeline(mode, grey):
    tinted = ImageOps.colorize(grey, "#201000", "#fff4e0")
    alpha = Image.fromarray(np.tile(np.arange(113, dtype=np.uint8), (97, 1)))
    source = {"L": grey, "1": grey.convert("1"), "P": tinted.quantize(64)}.get(mode)
    if source is None:
        source = tinted.convert(mode) if mode in ("RGB", "CMYK") else grey.convert(mode)
        if mode in ("LA", "RGBA"):
            source.putalpha(alpha)
    data = encoded(source, "TIFF" if mode == "CMYK" else "PNG")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert np.array_equal(levels(wb.load_radiograph(data)), expected)


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_depth(fmt, film):
    pixels = film(53, 71, 16)
    image = wb.load_radiograph(encoded(Image.fromarray(pixels), fmt))
    assert image.contract.bits == 16 and image.contract.stored_range == (0, 65535)
    assert np.allclose(image.pixels, pixels / 65535, atol=1e-6)


def test_twelve_bits_in_a_sixteen_bit_file_are_found(film):
    pixels = film(53, 71, 12)
    image = wb.load_radiograph(encoded(Image.fromarray(pixels), "PNG"))
    assert image.contract.bits == 12 and "bit-depth" in image.contract.codes
    assert np.allclose(image.pixels, pixels / 4095, atol=1e-6)


def raw_tiff(pixels, order, photometric):
    """Write an uncompressed TIFF by hand: Pillow chooses byte order and polarity itself."""
    word = "big" if order == ">" else "little"
    depth = pixels.dtype.itemsize * 8
    rows, columns = pixels.shape
    tags = [
        (256, columns),
        (257, rows),
        (258, depth),
        (259, 1),
        (262, photometric),
        (273, 110),
        (277, 1),
        (279, pixels.nbytes),
    ]
    entries = b"".join(
        tag.to_bytes(2, word)
        + (4).to_bytes(2, word)
        + (1).to_bytes(4, word)
        + value.to_bytes(4, word)
        for tag, value in tags
    )
    head = (b"MM\0*" if order == ">" else b"II*\0") + (8).to_bytes(4, word)
    head += len(tags).to_bytes(2, word) + entries + bytes(4)
    assert len(head) == 110
    return head + pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_tiffs_of_both_polarities_and_byte_orders(bits, order, white_is_zero, film):
    pixels = film(53, 71, bits).astype(np.uint8 if bits == 8 else np.uint16)
    stored = 2**bits - 1 - pixels if white_is_zero else pixels
    data = raw_tiff(stored, order, 0 if white_is_zero else 1)
    if bits == 16 and white_is_zero and order == ">":  # Pillow has no reader for this one
        with pytest.raises(InputError, match="not decodable"):
            wb.load_radiograph(data)
        return
    image = wb.load_radiograph(data)
    assert np.allclose(image.pixels, pixels / (2**bits - 1), atol=1e-6)


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_exif_is_ignored_for_parity_and_honoured_otherwise(orientation, grey):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(grey, "PNG", exif=exif)
    cropped = wb.load_radiograph(data)
    assert np.array_equal(levels(cropped), np.asarray(grey))
    assert "exif-ignored" in cropped.contract.codes
    padded = wb.load_radiograph(data, fit="pad")
    turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(levels(padded), turned)
    assert "exif-ignored" not in padded.contract.codes


def test_an_upright_orientation_needs_no_words(grey):
    exif = Image.Exif()
    exif[0x0112] = 1
    assert "exif-ignored" not in wb.load_radiograph(encoded(grey, "PNG", exif=exif)).contract.codes


def test_a_tinted_or_annotated_film_passes_with_a_warning(grey):
    film = grey.resize((300, 260))
    tints = [
        ImageOps.colorize(film, *ends) for ends in (("#100800", "#ffeecc"), ("#000010", "#d0e0ff"))
    ]
    marked = film.convert("RGB")
    draw = ImageDraw.Draw(marked)
    draw.rectangle((60, 60, 130, 130), outline="red", width=4)
    draw.text((10, 10), "L", fill="yellow")
    for picture in (*tints, marked):
        assert "colour" in wb.load_radiograph(encoded(picture, "JPEG")).contract.codes
    assert "colour" not in wb.load_radiograph(encoded(film.convert("RGB"), "JPEG")).contract.codes


def test_colour_photos_and_colour_maps_are_refused(grey):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:1:200j, 0:1:300j]
    waves = np.stack([np.sin(9 * x) ** 2, np.cos(7 * y) ** 2, x * y], axis=2)
    blobs = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((300, 200))
    red = np.zeros((200, 300, 3))
    red[..., 0] = x
    pictures = [waves * 255, np.asarray(blobs), red * 255, rng.integers(0, 256, (90, 120, 3))]
    for picture in pictures:
        data = encoded(Image.fromarray(np.asarray(picture).astype(np.uint8)), "PNG")
        with pytest.raises(InputError, match="colour picture, not a radiograph"):
            wb.load_radiograph(data)


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
@pytest.mark.parametrize("lenient", [False, True])
def test_a_picture_cut_short_is_refused_or_whole(fmt, lenient, grey, monkeypatch):
    """Also where other code of the process has asked Pillow to accept truncated files."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    data = encoded(grey, fmt)
    whole = wb.load_radiograph(data).pixels
    refused = 0
    for length in range(1, len(data), max(1, len(data) // 40)):
        try:
            pixels = wb.load_radiograph(data[:length]).pixels
        except InputError:
            refused += 1
        else:
            assert np.array_equal(pixels, whole)  # only what follows the pixels was missing
    assert refused >= 39
    assert ImageFile.LOAD_TRUNCATED_IMAGES is lenient


def test_a_flipped_bit_in_a_png_is_found(grey):
    data = bytearray(encoded(grey, "PNG"))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(InputError, match="damaged or cut short"):
        wb.load_radiograph(bytes(data))


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_frames_are_refused(fmt, grey):
    other = ImageOps.invert(grey)
    data = encoded(grey, fmt, save_all=True, append_images=[other])
    with pytest.raises(InputError, match=r"(is an animation|holds several pages) \(2 frames\)"):
        wb.load_radiograph(data)


def test_the_size_is_checked_before_decoding(grey, monkeypatch):
    data = encoded(grey, "PNG")
    with pytest.raises(InputError, match=r"97 x 113 pixels are more than the limit of 0\.01 mega"):
        wb.load_radiograph(data, max_pixels=10_000)
    assert wb.load_radiograph(data, max_pixels=97 * 113).size == (97, 113)
    monkeypatch.setenv("WORKBENCH_MAX_PIXELS", "10_000")
    with pytest.raises(InputError, match="pass a larger max_pixels"):
        wb.load_radiograph(data)
    with pytest.raises(OptionError, match="max_pixels must be a whole number of 1 or more"):
        wb.load_radiograph(data, max_pixels=0)


def test_a_bomb_is_not_decoded():
    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">2I5B", 60000, 30000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))
    with pytest.raises(InputError, match=r"30000 x 60000 pixels .* limit of 100 megapixels"):
        wb.load_radiograph(bomb + chunk(b"IEND", b""))


def test_a_strip_too_thin_to_crop_is_refused():
    data = encoded(Image.new("L", (30000, 1), 7), "PNG")
    with pytest.raises(InputError, match=r"^bytes: an image of 1 x 30000 pixels is too thin"):
        wb.load_radiograph(data)
    assert wb.load_radiograph(data, fit="pad").size == (1, 30000)


def test_negative_and_unscaled_values_are_refused():
    data = encoded(Image.fromarray(np.array([[-5, 7]], np.int32)), "TIFF")
    with pytest.raises(InputError, match="negative grey levels"):
        wb.load_radiograph(data)
    data = encoded(Image.fromarray(np.array([[0.0, 7.5]], np.float32)), "TIFF")
    with pytest.raises(InputError, match=r"bytes: pixels must lie in \[0, 1\]"):
        wb.load_radiograph(data)


def test_damage_never_escapes_as_another_error(grey):
    rng = np.random.default_rng(4)
    for fmt in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000"):
        data = encoded(grey, fmt)
        for _ in range(40):
            broken = bytearray(data)
            for place in rng.integers(0, len(data), 5):
                broken[place] = rng.integers(0, 256)
            try:
                image = wb.load_radiograph(bytes(broken))
            except InputError:
                continue
            assert isinstance(image, Radiograph)


def test_pil_images_are_accepted(grey, tmp_path):
    path = tmp_path / "film.png"
    grey.save(path)
    assert np.array_equal(levels(wb.load_radiograph(grey)), np.asarray(grey))
    with Image.open(path) as opened:
        image = wb.load_radiograph(opened)
    assert image.contract.source == "film.png" and image.contract.file_format == "PNG"
