"""Maps over a radiograph: what a colour means is said, and nothing is claimed where nothing is."""

import warnings

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from matplotlib.legend import Legend
from matplotlib.text import Text

from workbench.errors import InputError, OptionError
from workbench.figures import COLOURS
from workbench.figures.maps import (
    AGAINST,
    FOR,
    draw_map,
    draw_small_multiples,
    one_way,
    two_way,
)
from workbench.figures.radiograph import OTHER
from workbench.figures.style import AMBER_TEXT, INK

PIXELS = np.linspace(0, 1, 37 * 53, dtype=np.float32).reshape(37, 53)
VALUES = np.linspace(0, 1, 37 * 53, dtype=np.float32).reshape(37, 53)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def unseen(top=0, bottom=0, left=0, right=0) -> np.ndarray:
    values = np.full((37, 53), np.nan, np.float32)
    values[top : 37 - bottom, left : 53 - right] = 0.5
    return values


def hatched(ax) -> list[tuple[float, ...]]:
    patches = [p for p in ax.patches if p.get_hatch()]
    return sorted((*p.get_xy(), p.get_width(), p.get_height()) for p in patches)


def words(ax) -> str:
    return " ".join(" ".join(text.get_text().split()) for text in ax.texts)


# ------------------------------------------------------------------ colours


def test_the_unsigned_scale_is_clear_at_zero_and_grows():
    colours = one_way()(np.linspace(0, 1, 101))
    alpha = colours[:, 3]
    assert alpha[0] == 0 and alpha[-1] == 1
    assert (np.diff(alpha) >= 0).all()
    brightness = colours[:, :3] @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(brightness) >= -1e-9).all(), "more is brighter"


def test_the_signed_scale_is_symmetric_about_a_clear_middle():
    steps = np.linspace(0, 1, 257)
    colours = two_way()(steps)
    np.testing.assert_allclose(colours[:, 3], colours[::-1, 3], atol=1e-9)
    assert colours[128, 3] == 0 and colours[0, 3] == colours[-1, 3] == 1
    np.testing.assert_allclose(colours[-1, :3], to_rgb(FOR))
    np.testing.assert_allclose(colours[0, :3], to_rgb(AGAINST))


def test_values_that_oppose_each_other_are_drawn_alike():
    values = np.full((37, 53), 0.4)
    values[:, 26:] *= -1
    picture = draw_map(PIXELS, values, signed=True).images[1].get_array()
    assert picture[0, 0, 3] == pytest.approx(picture[0, -1, 3]) and picture[0, 0, 3] > 0
    assert to_hex(picture[0, 0, :3]) == FOR and to_hex(picture[0, -1, :3]) == AGAINST


@pytest.mark.parametrize("signed", [False, True])
def test_nothing_is_painted_at_zero_or_where_nothing_is_known(signed):
    values = unseen(top=5)
    values[5:10] = 0
    picture = draw_map(PIXELS, values, signed=signed).images[1].get_array()
    assert picture[:10, :, 3].max() < 1e-9
    assert picture[10:, :, 3].min() > 0


@pytest.mark.parametrize("opacity", [0, 0.3, 1])
def test_opacity_is_that_of_the_strongest_colour(opacity):
    picture = draw_map(PIXELS, VALUES, opacity=opacity).images[1].get_array()
    assert picture[..., 3].max() == pytest.approx(opacity)


@pytest.mark.parametrize("opacity", [-0.1, 1.1, np.nan])
def test_an_opacity_out_of_range_is_an_error(opacity):
    with pytest.raises(OptionError, match="opacity must be between 0 and 1"):
        draw_map(PIXELS, VALUES, opacity=opacity)


@pytest.mark.parametrize(
    ("signed", "limits", "names"),
    [(False, (0, 1), ["0", "most"]), (True, (-1, 1), ["against", "0", "for"])],
)
def test_the_scale_bar_says_what_its_ends_mean(signed, limits, names):
    ax = draw_map(PIXELS, VALUES, signed=signed)
    ax.figure.canvas.draw()
    (bar,) = ax.child_axes
    assert bar.get_ylim() == limits
    assert [label.get_text() for label in bar.get_yticklabels()] == names
    assert not draw_map(PIXELS, VALUES, colorbar=False).child_axes


# ------------------------------------------------------------------ geometry


def test_the_image_keeps_its_grey_and_its_coordinates():
    ax = draw_map(PIXELS * 0.5, VALUES)
    image = ax.images[0]
    assert image.get_clim() == (0, 1) and np.array_equal(image.get_array(), PIXELS * 0.5)
    assert ax.get_xlim() == (-0.5, 52.5) and ax.get_ylim() == (36.5, -0.5)
    assert ax.images[1].get_extent() == image.get_extent()


@pytest.mark.parametrize(
    ("sides", "wanted"),
    [
        ({}, []),
        ({"top": 5, "bottom": 3}, [(-0.5, -0.5, 53, 5), (-0.5, 33.5, 53, 3)]),
        ({"left": 7, "right": 11}, [(-0.5, -0.5, 7, 37), (41.5, -0.5, 11, 37)]),
        ({"right": 2}, [(50.5, -0.5, 2, 37)]),
    ],
)
def test_only_what_was_not_seen_is_hatched(sides, wanted):
    assert hatched(draw_map(PIXELS, unseen(**sides))) == wanted


def test_hatching_is_seen_on_any_grey():
    for grey in (0.0, 0.5, 1.0):
        ax = draw_map(np.full((37, 53), grey), unseen(bottom=15), colorbar=False)
        canvas = ax.figure.canvas
        canvas.draw()
        shown = np.asarray(canvas.buffer_rgba())[..., 0].astype(int)
        left, bottom = ax.transData.transform((2, 35)).astype(int)
        right, top = ax.transData.transform((50, 24)).astype(int)
        region = shown[shown.shape[0] - top : shown.shape[0] - bottom, left:right]
        assert np.ptp(region) > 50, grey


def box_mask() -> np.ndarray:
    mask = np.zeros((37, 53), bool)
    mask[5:12, 30:41] = True
    return mask


def test_masks_lie_where_they_are():
    empty = np.zeros((37, 53), bool)
    ax = draw_map(PIXELS, VALUES, masks={"nodule": box_mask(), "pneumothorax": empty})
    shadow, line = ax.collections
    for outline in (shadow, line):
        vertices = outline.get_paths()[0].vertices
        assert (*vertices.min(0), *vertices.max(0)) == (29.5, 4.5, 40.5, 11.5)
    assert to_hex(line.get_edgecolor()[0]) == COLOURS["nodule"]


def test_boxes_lie_where_they_are():
    boxes = {"nodule": (3, 5, 10, 18), "something": (0, 1, 2, 5)}
    ax = draw_map(PIXELS, VALUES, boxes=boxes)
    drawn = [p for p in ax.patches if to_hex(p.get_edgecolor()) != "#000000"]
    found = [(*p.get_xy(), p.get_width(), p.get_height()) for p in drawn]
    assert found == [(3, 5, 7, 13), (0, 1, 2, 4)]
    assert [to_hex(p.get_edgecolor()) for p in drawn] == [COLOURS["nodule"], OTHER]
    assert not any(p.get_fill() for p in ax.patches)


def test_an_outline_that_is_alone_needs_no_colour():
    ax = draw_map(PIXELS, VALUES, masks={"nodule": box_mask()})
    assert to_hex(ax.collections[1].get_edgecolor()[0]) == OTHER
    same = draw_map(PIXELS, VALUES, masks={"nodule": box_mask()}, boxes={"nodule": (3, 5, 10, 18)})
    assert to_hex(same.patches[-1].get_edgecolor()) == OTHER


def test_a_mask_of_another_size_is_an_error():
    message = r"mask of nodule is \(3, 5\), the image \(37, 53\); draw both at the same size"
    with pytest.raises(InputError, match=message):
        draw_map(PIXELS, VALUES, masks={"nodule": np.ones((3, 5), bool)})


@pytest.mark.parametrize("shape", [(53, 37), (37, 53, 1), (16, 16)])
def test_a_map_of_another_size_is_an_error_that_says_what_to_use(shape):
    with pytest.raises(InputError, match=r"the image \(37, 53\); use ImageMap\.to_original"):
        draw_map(PIXELS, np.zeros(shape))


# ------------------------------------------------------------------ words


def test_title_details_and_caution_are_written_whole():
    long = "word " * 60
    ax = draw_map(PIXELS, VALUES, title=long, details=long, caution=long)
    ax.figure.canvas.draw()
    for text in (ax.get_title(loc="left"), ax.get_xlabel(), words(ax)):
        assert text.split().count("word") == 60
        assert max(map(len, text.splitlines())) <= 400
    assert "\u26a0" in words(ax)
    assert not draw_map(PIXELS, VALUES).texts


def test_text_is_no_formula():
    text = "costs $5 and $\\frac$"
    ax = draw_map(PIXELS, VALUES, title=text, details=text, caution=text)
    ax.figure.canvas.draw()
    figure = draw_small_multiples(
        PIXELS, [(text, VALUES)], title=text, details=text, cautions={text: text}
    )
    figure.canvas.draw()


def test_it_draws_where_it_is_told_and_leaves_the_style_alone(tmp_path):
    before = dict(plt.rcParams)
    ax = plt.figure().add_subplot()
    assert draw_map(PIXELS, unseen(top=3), ax=ax, title="t", caution="c") is ax
    assert dict(plt.rcParams) == before
    ax.figure.savefig(tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000


# ------------------------------------------------------------------ small multiples


def panels(figure) -> list:
    return [ax for ax in figure.axes if ax.images]


def key(figure) -> list[str]:
    """The words that explain colours, outlines and marks."""
    return [text.get_text() for each in figure.findobj(Legend) for text in each.get_texts()]


@pytest.mark.parametrize(("count", "columns"), [(1, 4), (4, 4), (5, 4), (3, 2)])
def test_every_map_has_its_panel(count, columns):
    maps = [(f"layer {i}", VALUES * i / 7) for i in range(count)]
    figure = draw_small_multiples(PIXELS, maps, columns=columns, title="Layers", details="small")
    figure.canvas.draw()
    drawn = panels(figure)
    assert [ax.get_title(loc="left") for ax in drawn] == [name for name, _ in maps]
    places = [ax.get_subplotspec() for ax in drawn]
    assert [(p.rowspan.start, p.colspan.start) for p in places] == [
        divmod(i, columns) for i in range(count)
    ]
    assert figure.get_suptitle() == "Layers" and figure.get_supxlabel() == "small"


def test_small_multiples_share_one_scale():
    figure = draw_small_multiples(PIXELS, [("weak", VALUES * 0.1), ("strong", VALUES)], opacity=0.8)
    weak, strong = (ax.images[1].get_array()[..., 3].max() for ax in panels(figure))
    assert strong == pytest.approx(0.8) and 0 <= weak < 0.2
    assert not any(ax.child_axes for ax in panels(figure))


def title_colours(figure) -> list[str]:
    return [
        next(
            child.get_color()
            for child in ax.get_children()
            if isinstance(child, Text) and child.get_text() == ax.get_title(loc="left")
        )
        for ax in panels(figure)
    ]


def test_cautions_are_marked_at_their_map_and_written_below():
    figure = draw_small_multiples(
        PIXELS, [("good", VALUES), ("bad", VALUES)], cautions={"bad": "fails its check"}
    )
    good, bad = panels(figure)
    assert "\u26a0" not in good.get_title(loc="left") and "\u26a0" in bad.get_title(loc="left")
    assert title_colours(figure) == [INK, AMBER_TEXT]
    assert "bad: fails its check" in figure.get_supxlabel()


def test_masks_and_unseen_parts_are_in_every_panel():
    maps = [("a", unseen(top=5)), ("b", unseen(top=5))]
    figure = draw_small_multiples(PIXELS, maps, masks={"nodule": box_mask()})
    for ax in panels(figure):
        assert len(ax.collections) == 2 and hatched(ax) == [(-0.5, -0.5, 53, 5)]


@pytest.mark.parametrize(
    ("signed", "words"),
    [
        ([], ["some", "most"]),
        ([True, True], ["for", "against"]),
        ([False, True], ["some", "most", "for", "against"]),
    ],
)
def test_each_map_has_its_own_scale_and_the_key_names_both(signed, words):
    values = np.full((37, 53), -0.8)
    figure = draw_small_multiples(PIXELS, [("a", values), ("b", values)], signed=signed)
    figure.canvas.draw()
    assert key(figure) == words
    for ax, kind in zip(panels(figure), signed or [False, False], strict=True):
        painted = bool(ax.images[1].get_array()[..., 3].max() > 0.5)
        assert painted is kind, "below 0 is drawn where it means something"


def test_a_point_is_marked_in_its_own_map():
    figure = draw_small_multiples(
        PIXELS,
        [("a", VALUES), ("b", VALUES)],
        points={"b": (11, 7)},
        masks={"nodule": box_mask()},
    )
    figure.canvas.draw()
    first, second = panels(figure)
    assert not first.lines
    assert {tuple(line.get_xydata()[0]) for line in second.lines} == {(11, 7)}
    explained = key(figure)
    assert len(explained) == 4 and "nodule" in explained[2] and "greatest" in explained[3]
