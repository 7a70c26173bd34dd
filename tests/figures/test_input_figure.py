"""The figure of a model's input: what is drawn where, for radiographs of every shape."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.patches import Rectangle

from workbench.figures.radiograph import plot_input, plot_radiograph

FACTS = ("chest.png", "modality CR", "view PA", "a fact of some length", "another, longer fact")


@pytest.fixture(autouse=True)
def closed():
    """Close every figure a test leaves open."""
    yield
    pyplot.close("all")


def drawn(height, width, box, **options):
    whole = np.random.default_rng(0).random((height, width))
    view = np.random.default_rng(1).random((32, 32))
    settings = {"fit": "crop", "facts": FACTS} | options
    return plot_input(whole, view, visible_box=box, **settings)


def solid_patches(ax):
    return [p for p in ax.patches if isinstance(p, Rectangle) and p.get_fill()]


@pytest.mark.parametrize(
    ("height", "width", "box", "dimmed"),
    [
        (600, 480, (0, 60, 480, 540), [(0, 0, 480, 60), (0, 540, 480, 60)]),
        (480, 600, (60, 0, 540, 480), [(0, 0, 60, 480), (540, 0, 60, 480)]),
        (512, 512, (0, 0, 512, 512), []),
    ],
)
def test_what_is_cropped_away_is_dimmed(height, width, box, dimmed):
    whole, seen = drawn(height, width, box).axes[:2]
    found = [(*p.get_xy(), p.get_width(), p.get_height()) for p in solid_patches(whole)]
    assert sorted(found) == sorted(dimmed)
    frame = whole.patches[-1]
    assert (*frame.get_xy(), frame.get_width(), frame.get_height()) == (
        box[0],
        box[1],
        box[2] - box[0],
        box[3] - box[1],
    )
    assert seen.patches[:] == []


def test_a_padded_radiograph_is_not_dimmed():
    whole, seen = drawn(600, 480, (0, 0, 480, 600), fit="pad").axes[:2]
    assert whole.patches[:] == []
    assert "padded" in seen.get_title(loc="left")


def test_axes_count_in_pixels_of_the_radiograph_even_when_it_is_drawn_smaller():
    pixels = np.zeros((3000, 2000))
    _, ax = pyplot.subplots()
    assert plot_radiograph(ax, pixels, title="t") is ax
    assert ax.images[0].get_array().shape == (1000, 667)
    assert ax.get_xlim() == (0, 2000) and ax.get_ylim() == (3000, 0)
    assert ax.images[0].get_clim() == (0, 1)


def test_facts_and_warnings_are_written_whole():
    warnings = [("crop-loss", "word " * 60), ("lateral-view", "short")]
    figure = drawn(600, 480, (0, 60, 480, 540), warnings=warnings)
    texts = " ".join(" ".join(text.get_text().split()) for text in figure.texts)
    for fact in FACTS:
        assert fact in texts
    assert texts.count("word") == 60 and "lateral-view: short" in texts


def test_text_stays_inside_the_figure_and_apart():
    figure = drawn(
        600,
        480,
        (0, 60, 480, 540),
        facts=("x" * 40, *["fact number something"] * 20),
        warnings=[("crop-loss", "word " * 80), ("aspect-ratio", "word " * 40)],
    )
    figure.canvas.draw()
    width, height = figure.bbox.width, figure.bbox.height
    boxes = [text.get_window_extent() for text in figure.texts]
    boxes += [ax.title.get_window_extent() for ax in figure.axes]
    for box in boxes:
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height
    below = sorted((text.get_window_extent() for text in figure.texts), key=lambda b: -b.y1)
    for upper, lower in pairwise(below):
        assert lower.y1 <= upper.y0 + 1
    assert below[0].y1 <= min(ax.get_window_extent().y0 for ax in figure.axes) + 1


def test_the_figure_grows_with_its_warnings():
    few = drawn(600, 480, (0, 60, 480, 540))
    many = drawn(600, 480, (0, 60, 480, 540), warnings=[("a", "b")] * 5)
    assert many.get_figheight() > few.get_figheight() + 1
