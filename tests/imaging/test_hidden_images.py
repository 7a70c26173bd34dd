"""An image of which next to nothing can be seen is shown another way, or says so."""

import io

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

import workbench as wb
from workbench.imaging.luts import spread_of
from workbench.radiograph import little_seen


@pytest.fixture
def chest(film):
    """(200, 220) float in [0, 1], smooth, every value in use."""
    return film(200, 220, 16) / 65535


def loaded(dicom_bytes, values, bits=16, **tags):
    return wb.load_radiograph(dicom_bytes(values.astype(np.uint16), bits=bits, **tags))


def bordered(values, width=12, level=0):
    values = values.copy()
    values[:width] = values[-width:] = level
    values[:, :width] = values[:, -width:] = level
    return values


def resembles(image, chest):
    return np.corrcoef(image.pixels.ravel(), chest.ravel())[0, 1] > 0.9 and image.pixels.std() > 0.1


def lut(entries, bits=16):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, 0, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return [item]


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": 3174, "WindowWidth": 2426},  # all white
        {"WindowCenter": 60000, "WindowWidth": 500},  # all black
        {"WindowCenter": 13500, "WindowWidth": 1},  # black and white only
        {"WindowCenter": 13500, "WindowWidth": 20},
        {"WindowCenter": 32768, "WindowWidth": 65536},  # four percent of the scale
        {"WindowCenter": 200, "WindowWidth": 100, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 13500, "WindowWidth": 500000, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 200, "WindowWidth": 100, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": [200, 300], "WindowWidth": [100, 50]},
        {"VOILUTSequence": lut([0] * 4096)},
        {"VOILUTSequence": lut(np.linspace(0, 4095, 4096))},  # ends before the values begin
        {"WindowCenter": 3174, "WindowWidth": 2426, "PhotometricInterpretation": "MONOCHROME1"},
        {"WindowCenter": 3174, "WindowWidth": 2426, "RescaleSlope": 1, "RescaleIntercept": 500},
    ],
)
@pytest.mark.parametrize("edge", [None, 0, 65535])
def test_a_transform_that_hides_the_image_is_replaced(tags, edge, chest, dicom_bytes):
    values = 12000 + chest * 3000
    image = loaded(dicom_bytes, values if edge is None else bordered(values, level=edge), **tags)
    inner = image.pixels[12:-12, 12:-12]
    turned = -1 if image.contract.inverted else 1
    corr = turned * np.corrcoef(inner.ravel(), chest[12:-12, 12:-12].ravel())[0, 1]
    assert corr > 0.99 and inner.std() > 0.15
    assert "window" in image.contract.codes
    assert "almost-blank" not in image.contract.codes


def test_the_next_window_that_shows_something_is_used(chest, dicom_bytes):
    values = 12000 + chest * 3000
    tags = {"WindowCenter": [100, 13500, 900], "WindowWidth": [50, 4000, 50]}
    image = loaded(dicom_bytes, values, **tags)
    assert image.contract.grey_scale == "window 13500 / 4000 (LINEAR)"
    message = next(w.message for w in image.contract.warnings if w.code == "window")
    assert message.startswith("the window 100 / 50 (LINEAR) leaves a single grey level; used inst")
    tags |= {"VOILUTSequence": lut([7] * 65535)}
    assert loaded(dicom_bytes, values, **tags).contract.grey_scale.startswith("window 13500")


def test_windows_that_show_the_image_are_left_alone(chest, dicom_bytes):
    for center, width in ((13500, 3000), (13500, 12000), (12500, 1500), (14500, 2000)):
        image = loaded(dicom_bytes, 12000 + chest * 3000, WindowCenter=center, WindowWidth=width)
        assert image.contract.grey_scale == f"window {center} / {width} (LINEAR)"
        assert not {"window", "almost-blank"} & set(image.contract.codes)


def test_eight_bits_below_a_window_for_twelve(chest, dicom_bytes):
    image = loaded(dicom_bytes, chest * 255, bits=8, WindowCenter=2048, WindowWidth=4096)
    assert "window" in image.contract.codes and resembles(image, chest)


@pytest.mark.parametrize(
    ("center", "width"), [(13500, None), (None, 3000)], ids=["no width", "no centre"]
)
def test_half_a_window_is_said(center, width, chest, dicom_bytes):
    tags = {"WindowCenter": center, "WindowWidth": width}
    image = loaded(dicom_bytes, 12000 + chest * 3000, **{k: v for k, v in tags.items() if v})
    assert "window" in image.contract.codes and resembles(image, chest)


@pytest.mark.parametrize("declared", [16, 12, 8])
@pytest.mark.parametrize("used", [15, 14, 12, 11, 10, 9, 8])
def test_a_lut_is_scaled_by_what_it_uses(declared, used, chest, dicom_bytes):
    entries = np.rint(np.linspace(0, 2**used - 1, 4096))
    image = loaded(dicom_bytes, chest * 4095, bits=12, VOILUTSequence=lut(entries, declared))
    assert np.abs(image.pixels - chest).max() < 0.01
    assert "window" not in image.contract.codes


def test_a_lut_one_beyond_its_depth_is_not_halved(chest, dicom_bytes):
    entries = np.rint(np.linspace(0, 4096, 4096))
    image = loaded(dicom_bytes, chest * 4095, bits=12, VOILUTSequence=lut(entries, 12))
    assert np.abs(image.pixels - chest).max() < 0.01


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("lacking", ["LUTData", "LUTDescriptor"])
def test_a_lut_that_cannot_be_read_is_said(keyword, lacking, chest, dicom_bytes):
    items = lut(np.arange(4096), 12)
    del items[0][lacking]
    image = loaded(dicom_bytes, chest * 4095, bits=12, **{keyword: items})
    message = next(w.message for w in image.contract.warnings if w.code == "window")
    assert "LUT cannot be read" in message and resembles(image, chest)


def spoiled(chest, bits, how):
    """Return 16-bit values of a chest of fewer bits with something brighter or darker in it."""
    values = np.rint(chest * (2**bits - 1))
    if "low" in how:
        values += 20000
    if "hot" in how:
        values[5, 5] = values[100, 7] = 65535
    if "dead" in how:
        values[9, 9] = 0
    if "marker" in how:
        values[10:30, 180:200] = 65535
    if "edge" in how:
        values = bordered(values, level=0)
    if "white edge" in how:
        values = bordered(values, level=65535)
    if "marks" in how:
        values[10:30, 150:165], values[10:30, 180:200] = 50000, 65535
    if "line" in how:
        values[:, 17] = 65535
    if "noisy" in how:
        rows, columns = np.random.default_rng(0).integers(0, 200, (2, 30))
        values[rows, columns] = np.linspace(0, 65535, 30)
    return values


SPOILED = [
    "hot",
    "low dead",
    "low hot dead",
    "noisy",
    "marker",
    "two marks",
    "line",
    "low edge",
    "white edge",
    "low edge marker",
    "low edge hot",
]


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [10, 12, 13])
def test_extremes_do_not_set_the_scale(how, photometric, bits, chest, dicom_bytes):
    values = spoiled(chest, bits, how)
    image = loaded(dicom_bytes, values, PhotometricInterpretation=photometric)
    inner = image.pixels[30:-30, 30:-30]
    assert inner.std() > 0.12 and np.ptp(inner) > 0.6
    assert ("extremes" in image.contract.codes) == any(
        word in how for word in ("mark", "line", "edge")
    )


def test_a_signed_image_with_a_dead_pixel_is_spread_without_it(chest, dicom_bytes):
    values = np.rint(chest * 4095 - 2048).astype(np.int16)
    values[5, 5] = -32768
    image = wb.load_radiograph(dicom_bytes(values, bits=16))
    assert resembles(image, chest) and image.contract.stored_range == (-32768, 2047)


def test_ordinary_values_keep_their_ends(chest):
    values = np.rint(chest * 4095)
    assert (spread_of(values).low, spread_of(values).high) == (0, 4095)
    half_black = bordered(values, 40)
    assert spread_of(half_black).high == values[40:-40, 40:-40].max()
    assert spread_of(half_black).apart == 0
    few = np.array([0.0, 1.0, 2.0, 65535.0])
    assert spread_of(few).high == 65535


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_hot_pixels_do_not_set_the_depth_of_a_picture(fmt, bits, chest):
    values = spoiled(chest, bits, "hot").astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, fmt)
    image = wb.load_radiograph(buffer.getvalue())
    assert image.contract.bits == bits and resembles(image, chest)
    message = next(w.message for w in image.contract.warnings if w.code == "bit-depth")
    assert "2 pixels lie above" in message
    assert image.contract.stored_range[1] == 65535


@pytest.mark.parametrize(
    "how", ["marker", "low", "low dead", "low hot dead", "low edge", "white edge"]
)
@pytest.mark.parametrize("bits", [10, 12])
def test_a_picture_in_a_few_percent_of_its_scale_says_so(how, bits, chest):
    values = spoiled(chest, bits, how).astype(np.uint16)
    for source in (values, values / 65535, Image.fromarray(values)):
        assert "almost-blank" in wb.load_radiograph(source).contract.codes


def blanks(chest):
    """Yield 8-bit pictures of which next to nothing can be seen."""
    rng = np.random.default_rng(1)
    black = np.zeros((512, 512))
    spot = black.copy()
    spot[200:225, 200:225] = chest[:25, :25]
    yield "a spot on black", spot
    yield "a spot on white", 1 - spot
    yield "dim", np.kron(chest, np.ones((2, 2))) * 0.05
    yield "pale", 0.96 + np.kron(chest, np.ones((2, 2))) * 0.04
    yield "noise near black", rng.random((512, 512)) * 0.02
    yield "flat grey with noise", 0.5 + rng.random((512, 512)) * 0.03
    yield "two levels", np.where(np.kron(chest, np.ones((2, 2))) > 0.5, 1.0, 0.0)
    yield "half white, half dim", np.where(np.arange(512) < 256, 1.0, rng.random((512, 512)) * 0.05)


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "TIFF", "BMP", "array"])
def test_next_to_nothing_is_said_whatever_holds_it(fmt, chest):
    for name, picture in blanks(chest):
        eight = np.rint(picture * 255).astype(np.uint8)
        source = eight
        if fmt != "array":
            buffer = io.BytesIO()
            Image.fromarray(eight).save(buffer, fmt)
            source = buffer.getvalue()
        codes = wb.load_radiograph(source).contract.codes
        assert {"almost-blank", "constant-image"} & set(codes), name


def test_what_the_crop_leaves_is_judged(chest):
    tall = np.zeros((1200, 400))
    tall[:200] = np.kron(chest, np.ones((1, 2)))[:, :400]
    assert "almost-blank" in wb.load_radiograph(tall).contract.codes
    assert "almost-blank" not in wb.load_radiograph(tall, fit="pad").contract.codes
    thin = np.tile(chest[:20, :200], (1, 20))
    assert "almost-blank" in wb.load_radiograph(thin, fit="pad").contract.codes


def test_what_can_be_seen_is_not_called_blank(chest):
    assert little_seen(chest) is None
    assert little_seen(chest * 0.4) is None
    assert little_seen(bordered(chest, 60)) is None  # a small image on black
    assert little_seen(np.rint(chest * 7) / 7) is None  # few levels, all over the scale
    assert little_seen(chest[:9, :9]) is None
    assert little_seen(chest * 0.05) == "98 % of its pixels lie in 5 % of the grey scale"
    ends = np.round(chest)
    ends[:8] = chest[:8] = np.linspace(0.05, 0.95, chest.shape[1])
    assert "% of its pixels are black or white" in little_seen(ends)


def test_padding_that_covers_the_image_is_said(chest, dicom_bytes):
    image = loaded(
        dicom_bytes, chest * 4095, bits=12, PixelPaddingValue=0, PixelPaddingRangeLimit=4090
    )
    assert {"almost-blank", "constant-image"} & set(image.contract.codes)


def frame_groups(place, **tags):
    """Functional groups of one frame, or of all, with one item each of the tags' own kind."""
    item = Dataset()
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    group = Dataset()
    group.FrameVOILUTSequence = [item]
    return {f"{place}FunctionalGroupsSequence": [group, Dataset()]}


@pytest.mark.parametrize("place", ["PerFrame", "Shared"])
def test_tags_of_the_first_frame_count_like_those_of_the_image(place, chest, dicom_bytes):
    values = 12000 + chest * 3000
    tags = {"WindowCenter": 13500, "WindowWidth": 4000}
    image = loaded(dicom_bytes, values, **frame_groups(place, **tags))
    assert image.contract.grey_scale == "window 13500 / 4000 (LINEAR)"
    own = {"WindowCenter": 13000, "WindowWidth": 5000}
    image = loaded(dicom_bytes, values, **own, **frame_groups(place, **tags))
    assert image.contract.grey_scale == "window 13000 / 5000 (LINEAR)"


@pytest.mark.parametrize("place", ["PerFrame", "Shared"])
def test_a_slope_of_the_first_frame_turns_the_values_over(place, chest, dicom_bytes):
    groups = frame_groups(place, RescaleSlope=-1, RescaleIntercept=65535, PixelSpacing=[0.1, 0.1])
    image = loaded(dicom_bytes, (1 - chest) * 65535, **groups)
    assert resembles(image, chest) and image.contract.pixel_spacing == (0.1, 0.1)
