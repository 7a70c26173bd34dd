"""The fit: parity with the published preprocessing, and a geometry that maps there and back."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workbench.errors import InputError, OptionError
from workbench.radiograph import fit_geometry, fit_pixels

GOLDEN = Path(__file__).resolve().parents[1] / "golden"

sizes = st.integers(1, 600)
fits = st.sampled_from(["crop", "pad"])


@given(sizes, sizes, st.integers(1, 97), fits)
@settings(deadline=None, max_examples=200)
def test_points_return_to_where_they_came_from(height, width, size, fit):
    geometry = fit_geometry(height, width, size, fit)
    points = np.array([[0, 0], [width, height], [width / 3, height / 7], [-2.5, 9.0]])
    assert np.allclose(geometry.to_original(geometry.to_model(points)), points)
    assert np.allclose(geometry.to_model(geometry.to_original(points)), points)


@given(sizes, sizes, st.integers(1, 97))
@settings(deadline=None, max_examples=200)
def test_crop_loss_is_the_area_outside_the_crop_box(height, width, size):
    geometry = fit_geometry(height, width, size)
    left, top, right, bottom = geometry.crop_box
    visible = (right - left) * (bottom - top) / (height * width)
    assert geometry.crop_loss == pytest.approx(100 * (1 - visible), abs=1e-6)
    assert 0 <= geometry.crop_loss < 100


@given(sizes, sizes, st.integers(1, 97))
@settings(deadline=None, max_examples=200)
def test_pad_shows_the_whole_image_inside_the_square(height, width, size):
    geometry = fit_geometry(height, width, size, "pad")
    assert geometry.crop_loss == 0
    assert geometry.crop_box == (0, 0, width, height)
    corners = geometry.to_model(np.array([[0, 0], [width, height]]))
    left, top, right, bottom = np.clip(corners, 0, size).ravel()
    assert 0 <= left < right <= size and 0 <= top < bottom <= size
    assert max(right - left, bottom - top) == pytest.approx(size)
    # centred: the two margins differ by one pixel at most
    assert abs(left - (size - right)) < 1.001 and abs(top - (size - bottom)) < 1.001


@given(sizes, sizes, st.integers(1, 40), fits)
@settings(deadline=None, max_examples=60)
def test_pixels_have_the_promised_shape_type_and_range(height, width, size, fit):
    pixels = np.random.default_rng(height * 601 + width).random((height, width), dtype=np.float32)
    fitted = fit_pixels(pixels, size, fit)
    assert fitted.shape == (size, size) and fitted.dtype == np.float32
    assert fitted.min() >= 0 and fitted.max() <= 1


def test_a_480_by_600_film_loses_a_fifth_of_its_height():
    geometry = fit_geometry(600, 480, 512)
    assert geometry.crop_loss == 20.0
    assert geometry.crop_box == (0, 60, 480, 540)
    assert geometry.resized_size == (640, 512) and geometry.offset == (64, 0)
    assert fit_geometry(480, 600, 512).crop_box == (60, 0, 540, 480)


def test_offsets_and_longer_edge_are_truncated_like_the_published_code():
    geometry = fit_geometry(500, 90, 64)
    assert geometry.resized_size == (355, 64)  # int(64 * 500 / 90) = int(355.6)
    assert geometry.offset == (145, 0)  # (355 - 64) // 2 = 145


def test_a_bright_dot_lands_where_the_geometry_says():
    pixels = np.zeros((60, 100), np.float32)
    pixels[41, 71] = 1.0
    for fit in ("crop", "pad"):
        fitted = fit_pixels(pixels, 240, fit)
        row, column = np.unravel_index(fitted.argmax(), fitted.shape)
        x, y = fit_geometry(60, 100, 240, fit).to_original((column + 0.5, row + 0.5))
        assert abs(x - 71.5) <= 0.5 and abs(y - 41.5) <= 0.5


def test_eight_bit_pixels_take_the_eight_bit_road():
    rng = np.random.default_rng(3)
    grey = rng.integers(0, 256, (53, 71), dtype=np.uint8)
    expected = Image.fromarray(grey).resize((int(37 * 71 / 53), 37), Image.Resampling.LANCZOS)
    left = (expected.width - 37) // 2
    expected = np.asarray(expected.crop((left, 0, left + 37, 37)))
    for as_float in (grey / np.float32(255), grey * np.float32(1 / 255), grey / 255):
        assert np.array_equal(np.rint(fit_pixels(as_float, 37) * 255), expected)


def test_finer_levels_are_not_rounded_to_eight_bits():
    ramp = np.tile(np.linspace(0, 1, 4096, dtype=np.float32), (64, 1))[:, :512]
    fitted = fit_pixels(ramp, 64)
    assert len(np.unique(fitted)) > 60
    assert np.abs(fitted * 255 - np.rint(fitted * 255)).max() > 0.1


def test_float_resize_agrees_with_the_eight_bit_one_within_a_level():
    y, x = np.mgrid[0:80, 0:60]
    grey = np.rint(127 + 100 * np.sin(x / 9) * np.cos(y / 13)) / 255
    eight = fit_pixels(grey, 48)
    finer = fit_pixels(grey + 0.2 / 255, 48)
    assert np.abs(finer - 0.2 / 255 - eight).max() < 1.5 / 255


@pytest.mark.parametrize("checkpoint", ["A_tiny", "B_gqa_odd"])
def test_pixel_values_equal_the_reference_pipeline(checkpoint):
    config = json.loads((GOLDEN / "checkpoints" / checkpoint / "config.json").read_text())
    size = config["clip_vision_cfg"]["image_size"]
    mean, std = (np.ravel(config["image_preprocess_cfg"][k])[0] for k in ("mean", "std"))
    folder = GOLDEN / "golden" / checkpoint
    arrays = np.load(folder / "preprocess_only.npz")
    wanted = {key: arrays[key] for key in arrays.files}
    for name in ("grad_300x400", "noise_64x64"):
        wanted[f"{name}.png"] = np.load(folder / name / "arrays.npz")["pixel_values"]
    newer = {key.partition("@")[0] for key in wanted if "@" in key}
    assert len(wanted) >= 6
    for key, expected in wanted.items():
        if key in newer:  # an older Pillow's rounding; the entry name@pillow13 is compared
            continue
        image = Image.open(GOLDEN / "images" / key.partition("@")[0]).convert("L")
        values = (fit_pixels(np.asarray(image) / 255, size) - mean) / std
        assert np.abs(values - expected.squeeze()).max() < 1e-5, key


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((10, 10, 8, "stretch"), OptionError, "fit must be 'crop' or 'pad'"),
        ((10, 10, 0, "crop"), OptionError, "size must be a positive number"),
        ((0, 10, 8, "crop"), InputError, "at least one row"),
        ((1, 30000, 512, "crop"), InputError, "too thin for a centre crop"),
    ],
)
def test_bad_geometry_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        fit_geometry(*arguments)


def test_bad_points_are_refused():
    with pytest.raises(InputError, match=r"shape \(\.\.\., 2\)"):
        fit_geometry(4, 4, 8).to_model([1, 2, 3])
