"""Radiograph and its contract: what it promises, and how it shows itself."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

import workbench
from workbench.errors import InputError, OptionError
from workbench.radiograph import (
    WARNING_CODES,
    InputContract,
    InputWarning,
    Radiograph,
    domain_warning,
    fit_pixels,
    frontal_layout,
)


def chest_like(height=480, width=448):
    """A crude frontal film: black corners, dark lungs, bright spine and abdomen."""
    y, x = np.mgrid[0 : 1 : height * 1j, -1 : 1 : width * 1j]
    body = np.where(np.abs(x) < 0.55 + 0.35 * y, 0.55, 0.02)
    body[(np.abs(np.abs(x) - 0.45) < 0.22) & (y > 0.15) & (y < 0.65)] = 0.2
    body[y > 0.7] += 0.25
    body[np.abs(x) < 0.12] += 0.2
    return np.clip(body, 0, 1).astype(np.float32)


def plain(pixels, **facts):
    return Radiograph.from_array(pixels, **facts)


def test_pixels_cannot_be_changed_and_do_not_follow_the_array():
    array = np.full((8, 8), 0.5, np.float32)
    image = Radiograph(array, InputContract(source="x"))
    array[0, 0] = 1
    assert image.pixels[0, 0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0] = 1


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((2, 3, 3)), "2-D greyscale"),
        (np.zeros((0, 3)), "2-D greyscale"),
        (np.full((2, 2), 1.5), "must lie in"),
        (np.full((2, 2), np.nan), "must lie in"),
    ],
)
def test_what_is_no_image_is_refused(pixels, message):
    with pytest.raises(InputError, match=message):
        Radiograph(pixels, InputContract(source="x"))


@pytest.mark.parametrize(
    ("dtype", "highest", "bits"),
    [
        (np.uint8, 200, 8),
        (np.uint16, 255, 8),
        (np.uint16, 1023, 10),
        (np.uint16, 4095, 12),
        (np.uint16, 4096, 14),
        (np.uint16, 32767, 15),
        (np.uint16, 40000, 16),
        (np.int32, 4095, 12),
    ],
)
def test_depth_is_found_from_the_largest_value(dtype, highest, bits):
    array = np.array([[0, highest], [highest // 2, 1]], dtype=dtype)
    image = plain(array)
    assert image.contract.bits == bits
    assert image.contract.stored_range == (0, highest)
    assert image.pixels[0, 1] == pytest.approx(highest / (2**bits - 1))
    assert ("bit-depth" in image.contract.codes) == (np.dtype(dtype).itemsize > 1 and bits < 16)


def test_depth_can_be_given():
    image = plain(np.array([[0, 1023]], np.uint16), bits=12)
    assert image.pixels[0, 1] == pytest.approx(1023 / 4095)
    assert "bit-depth" not in image.contract.codes
    with pytest.raises(InputError, match="reach 1023, more than 8 bits"):
        plain(np.array([[0, 1023]], np.uint16), bits=8)
    with pytest.raises(OptionError, match="between 1 and 32"):
        plain(np.array([[0, 1023]], np.uint16), bits=0)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[-3, 5]]), "unsigned integers"),
        (np.array([[0.0, 1.5]]), "pixels must lie in"),
        (np.array([[0.0, np.nan]]), "pixels must lie in"),
        (np.zeros((4, 4, 3), np.uint8), "one channel"),
        (np.zeros((0, 4), np.uint8), "empty"),
        (np.array([["a"]]), "unsigned integers"),
        (np.ones((2, 2), bool), "unsigned integers"),
    ],
)
def test_arrays_that_are_no_greyscale_image_are_refused(array, message):
    with pytest.raises(InputError, match=message):
        plain(array)


def test_singleton_axes_are_dropped():
    assert plain(np.zeros((1, 1, 5, 7), np.uint8)).size == (5, 7)
    assert plain(np.zeros((5, 7, 1), np.uint8)).size == (5, 7)


def test_inverting_turns_values_over_and_says_so():
    array = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image, turned = plain(array), plain(array, invert=True)
    assert np.allclose(image.pixels, 1 - turned.pixels)
    assert turned.contract.inverted and not image.contract.inverted


def test_contract_states_size_fit_and_loss():
    contract = plain(np.tile(np.arange(480, dtype=np.uint16), (600, 1))).contract
    assert contract.original_size == (600, 480)
    assert contract.crop_loss == 20.0
    assert "crop-loss" in contract.codes
    message = next(w.message for w in contract.warnings if w.code == "crop-loss")
    assert "20 % of the height" in message and "fit='pad'" in message


def test_another_fit_takes_its_warnings_along():
    image = plain(np.tile(np.arange(480) / 480, (600, 1)), warnings=(InputWarning("colour", "c"),))
    padded = image.with_fit("pad")
    assert padded.contract.fit == "pad" and padded.contract.crop_loss == 0
    assert "crop-loss" not in padded.contract.codes and "colour" in padded.contract.codes
    again = padded.with_fit("crop").contract
    assert again.crop_loss == 20 and sorted(again.codes) == sorted(image.contract.codes)
    with pytest.raises(OptionError, match="fit must be"):
        image.with_fit("squeeze")


@pytest.mark.parametrize(
    ("shape", "code"),
    [((900, 500), "aspect-ratio"), ((500, 900), "aspect-ratio"), ((300, 300), "low-resolution")],
)
def test_shapes_that_are_unusual_are_said(shape, code):
    assert code in plain(np.random.default_rng(0).random(shape)).contract.codes


def test_a_good_film_raises_no_warning():
    assert plain(chest_like(), fit="pad").contract.warnings == ()


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_constant_image_is_said(level):
    codes = plain(np.full((512, 512), level)).contract.codes
    assert codes == ("constant-image",)


def test_polarity_is_doubted_only_where_dark_and_bright_are_exchanged():
    film = chest_like()
    assert frontal_layout(film) > 0.5
    assert frontal_layout(1 - film) == pytest.approx(-frontal_layout(film), abs=1e-6)
    assert frontal_layout(np.full((20, 20), 0.3)) == 0
    assert "inverted?" not in plain(film).contract.codes
    assert "inverted?" in plain(1 - film).contract.codes
    for said in ("not-a-chest", "lateral-view"):
        other = plain(1 - film, warnings=(InputWarning(said, "m"),))
        assert "inverted?" not in other.contract.codes
    assert "inverted?" not in plain(1 - film, domain="phantom").contract.codes


def test_every_code_is_documented():
    images = [plain(np.full((300, 900), 7, np.uint16)), plain(1 - chest_like())]
    codes = {code for image in images for code in image.contract.codes}
    assert len(codes) >= 5 and codes <= set(WARNING_CODES)


def test_no_documented_code_is_dead():
    """Every code that is documented can be given."""
    package = Path(workbench.__file__).parent
    given = set()
    for path in (*package.glob("radiograph/*.py"), *package.glob("imaging/*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        keys = {key for node in nodes if isinstance(node, ast.Dict) for key in node.keys}
        constants = (node for node in nodes if isinstance(node, ast.Constant))
        given.update(node.value for node in constants if node not in keys)
    assert given & set(WARNING_CODES) == set(WARNING_CODES)


def test_domain_warning_compares_image_and_model():
    real, drawn = InputContract(source="a"), InputContract(source="b", domain="phantom")
    assert domain_warning(drawn, "phantom") is None
    assert domain_warning(real, "radiograph") is None
    assert "trained on phantoms only" in domain_warning(real, "phantom").message
    assert domain_warning(drawn, "radiograph").code == "out-of-domain"


def test_contract_becomes_json():
    contract = plain(np.zeros((600, 480), np.uint8), pixel_spacing=(0.2, 0.2)).contract
    back = json.loads(json.dumps(contract.to_dict()))
    assert back["original_size"] == [600, 480]
    assert {"code", "message"} == set(back["warnings"][0])


def test_facts_name_what_is_known_and_unknown():
    known = InputContract(
        source="a.dcm",
        modality="DX",
        bits=12,
        stored_range=(5.0, 4000.0),
        inverted=True,
        view="PA",
        burned_in=False,
        pixel_spacing=(0.143, 0.143),
        original_size=(20, 30),
    )
    line = " | ".join(known.facts())
    for part in (
        "a.dcm",
        "modality DX",
        "view PA",
        "20 x 30 px",
        "12 bit [5, 4000]",
        "inverted",
        "0.143 x 0.143 mm",
        "no burned-in text",
        "crop loses 0 %",
    ):
        assert part in line
    line = " | ".join(InputContract(source="b", burned_in=True, fit="pad").facts())
    for part in ("view unknown", "pixel spacing unknown", "not inverted", "nothing lost"):
        assert part in line
    assert "burned-in text |" in line
    assert "burned-in text unknown" in " ".join(InputContract(source="b").facts())


def test_html_is_light_and_escapes_what_came_from_a_file():
    source, noted = "<script>alert(1)</script>.png", (InputWarning("colour", "a < b"),)
    image = plain(chest_like(), source=source, fit="pad", warnings=noted)
    page = image._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page and "a &lt; b" in page
    assert "data:image/png;base64," in page and len(page) < 120_000


def test_repr_names_the_source_and_the_warnings():
    text = repr(plain(np.zeros((300, 300), np.uint8), source="a.png"))
    assert "'a.png'" in text and "300 x 300" in text and "constant-image" in text


def test_show_draws_film_view_and_contract():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    image = plain(np.tile(np.linspace(0, 1, 480), (600, 1)), source="wide.png")
    figure = image.show(size=64)
    film, seen = figure.axes[:2]
    assert film.images[0].get_extent() == [0, 480, 600, 0]
    assert np.array_equal(seen.images[0].get_array(), fit_pixels(image.pixels, 64))
    texts = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert "wide.png" in texts and "crop-loss: the centre crop removes 20 %" in texts
    pyplot.close(figure)
    with pytest.raises(OptionError, match="size must be a positive"):
        image.show(size=0)
