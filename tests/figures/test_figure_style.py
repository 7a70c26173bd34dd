"""The common style: it leaves matplotlib alone, can be read, and shows a figure once."""

import importlib

import matplotlib
import nbformat
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from nbclient import NotebookClient

# `workbench.figures.style` is the function once the subpackage has been imported
house = importlib.import_module("workbench.figures.style")

PALETTE = {
    name: getattr(house, name)
    for name in (
        "BLACK",
        "ORANGE",
        "SKY",
        "GREEN",
        "BLUE",
        "VERMILION",
        "PURPLE",
    )
}


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_settings_are_put_back_also_after_an_error():
    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError, match="on purpose"), house.style():
        assert matplotlib.rcParams["axes.titlesize"] == 16
        raise RuntimeError("on purpose")
    assert dict(matplotlib.rcParams) == before


def test_other_settings_made_inside_survive():
    before = matplotlib.rcParams["lines.dashed_pattern"]
    try:
        with house.style():
            matplotlib.rcParams["lines.dashed_pattern"] = [1, 2]
        assert list(matplotlib.rcParams["lines.dashed_pattern"]) == [1, 2]
    finally:
        matplotlib.rcParams["lines.dashed_pattern"] = before


@pytest.mark.parametrize(
    ("text", "ground", "least"),
    [
        (house.INK, house.PAPER, 12),
        (house.MUTED, house.PAPER, 6),
        (house.AMBER_TEXT, house.AMBER_GROUND, 7),
        (house.AMBER, house.PAPER, 3),
    ],
)
def test_text_stands_out(text, ground, least):
    """WCAG 2: 4.5 is enough for text, 7 is good, 3 is enough for marks."""
    assert contrast(text, ground) >= least


def test_the_palette_is_that_of_okabe_and_ito():
    assert PALETTE == {
        "BLACK": "#000000",
        "ORANGE": "#e69f00",
        "SKY": "#56b4e9",
        "GREEN": "#009e73",
        "BLUE": "#0072b2",
        "VERMILION": "#d55e00",
        "PURPLE": "#cc79a7",
    }
    assert len(set(house.CYCLE)) == len(house.CYCLE) and set(house.CYCLE) <= set(PALETTE.values())


def test_figures_are_open_in_pyplot_and_can_be_saved(tmp_path):
    figure = house.new_figure(figsize=(2, 1))
    assert pyplot.fignum_exists(figure.number)
    figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 100
    with pytest.raises(NotImplementedError, match="inline backend"):
        figure._ipython_display_()
    pyplot.close(figure)


def test_a_notebook_shows_a_figure_once_wherever_it_was_made(monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)
    sources = [
        "from workbench.figures.style import new_figure, style\n"
        "def draw():\n    with style():\n        figure = new_figure(figsize=(1, 1))\n"
        "        figure.add_subplot()\n    return figure",
        "draw()",
        "draw()\nx = 1",
        "kept = draw()",
        "kept.savefig('/dev/null', format='png')\nkept",
        "for _ in range(2):\n    draw()",
    ]
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    pictures = [
        sum("image/png" in output.get("data", {}) for output in cell.outputs)
        for cell in notebook.cells
    ]
    assert pictures == [0, 1, 1, 1, 1, 2]
