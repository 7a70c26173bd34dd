"""Everything that may be handed to `load_radiograph`, and everything that may not."""

import io
import os
import threading

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from workbench.errors import InputError, MissingDependencyError, OptionError
from workbench.imaging import sample_dicom, sources


@pytest.fixture
def png(film, tmp_path):
    """The path of an 8-bit PNG, 97 x 113."""
    path = tmp_path / "film.png"
    Image.fromarray(film(97, 113, 8).astype(np.uint8)).save(path)
    return path


def test_paths_bytes_and_open_files_read_the_same(png):
    reference = wb.load_radiograph(png)
    assert reference.contract.source == "film.png"
    data = png.read_bytes()
    with png.open("rb") as stream:
        from_stream = wb.load_radiograph(stream)
    assert from_stream.contract.source == "film.png"
    for source in (str(png), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        image = wb.load_radiograph(source)
        assert np.array_equal(image.pixels, reference.pixels)
        expected = "film.png" if isinstance(source, str) else "bytes"
        assert image.contract.source == expected
    assert np.array_equal(from_stream.pixels, reference.pixels)


def test_arrays_are_accepted(film):
    pixels = film(97, 113, 8).astype(np.uint8)
    for array in (pixels, pixels / 255, np.dstack([pixels] * 3), np.dstack([pixels] * 4)):
        image = wb.load_radiograph(array)
        assert np.array_equal(np.rint(image.pixels * 255), pixels)
        assert image.contract.source == "array"
    assert wb.load_radiograph(pixels, invert=True).contract.inverted
    with pytest.raises(InputError, match="colour array must be uint8"):
        wb.load_radiograph(np.zeros((5, 7, 3)))
    with pytest.raises(InputError, match=r"got shape .* not empty"):
        wb.load_radiograph(np.zeros((0, 7)))
    with pytest.raises(InputError, match="more than the limit"):
        wb.load_radiograph(pixels, max_pixels=100)


def test_a_radiograph_passes_through(png):
    image = wb.load_radiograph(png)
    assert wb.load_radiograph(image) is image
    assert wb.load_radiograph(image, fit="pad").contract.fit == "pad"
    with pytest.raises(OptionError, match="load the original again"):
        wb.load_radiograph(image, invert=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"%PDF-1.7\n...", "is a PDF document; export the image"),
        (b"PK\x03\x04rest of it", "ZIP archive"),
        (b"\x1f\x8b\x08rest", "gzip archive"),
        (b"\x93NUMPY\x01\x00", "a NumPy array; pass numpy.load"),
        (b"<!DOCTYPE html><html>sign in</html>", "a web page; download the image itself"),
        (b"  <html>sign in</html>", "a web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"just some notes\n", "is a text file"),
        (bytes(range(7, 200)), "no image that can be recognised"),
        (b"\x89PNG\r\n\x1a\n", "damaged or cut short"),
        (b"\xff\xd8\xff\xe0", "damaged or cut short"),
        (b"II*\0", "damaged or cut short"),
        (b"BM", "damaged or cut short"),
        (bytes(128) + b"DICM", "no pixels|damaged"),
    ],
)
def test_what_is_no_image_is_named(content, message, tmp_path):
    path = tmp_path / "film.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^film.png: .*({message})"):
        wb.load_radiograph(path)


def test_places_without_a_file_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing.png: no such file; check the path"):
        wb.load_radiograph(tmp_path / "nothing.png")
    with pytest.raises(InputError, match="is a folder; pass one image file"):
        wb.load_radiograph(tmp_path)
    with pytest.raises(InputError, match="expected a local file, got an address"):
        wb.load_radiograph("https://example.org/chest.png")
    with pytest.raises(InputError, match="got NoneType"):
        wb.load_radiograph(None)
    with pytest.raises(InputError, match=r"no such file|cannot be read"):
        wb.load_radiograph("a\0b.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="not a regular file"):
        wb.load_radiograph(tmp_path / "pipe.png")


def test_text_streams_are_refused():
    with pytest.raises(InputError, match="open it with mode 'rb'"):
        wb.load_radiograph(io.StringIO("x"))


def test_options_are_checked_before_anything_is_read():
    with pytest.raises(OptionError, match="fit must be one of crop, pad"):
        wb.load_radiograph("nothing.png", fit="stretch")


def test_many_threads_read_the_same(png, dicom_bytes, film):
    sources = [png, dicom_bytes(film(97, 113, 12), bits=12)] * 8
    expected = [wb.load_radiograph(source).pixels for source in sources]
    found = [None] * len(sources)

    def read(index):
        found[index] = wb.load_radiograph(sources[index]).pixels

    threads = [threading.Thread(target=read, args=(i,)) for i in range(len(sources))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def test_the_sample_comes_from_an_installed_package(chest_dicom, monkeypatch):
    assert sample_dicom() == chest_dicom
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install pydicom-data"):
        sample_dicom()


def test_real_films_are_read_without_a_false_word_about_polarity(shared):
    """One of the 799 films is stored inverted; no other may be said to be."""
    folder = shared / "real_cxr" / "images"
    files = sorted(folder.glob("*.jpg"))[::20]
    if not files:
        pytest.skip("needs shared/real_cxr")
    inverted = folder / "00017625_000.jpg"
    for path in (*files, inverted):
        codes = wb.load_radiograph(path).contract.codes
        assert codes == (("inverted?",) if path == inverted else ())
        assert "inverted?" in wb.load_radiograph(path, invert=True).contract.codes or (
            path == inverted
        )


def test_one_number_is_no_image():
    with pytest.raises(InputError, match=r"2-D greyscale array, got shape \(\)"):
        wb.load_radiograph(np.array(3))
