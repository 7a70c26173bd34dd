"""Several methods side by side: each map is the one that `explain` gives."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import InputError, OptionError
from workbench.saliency import METHODS, Comparison, checks, compare, explain
from workbench.saliency.methods import FAST

ASKED = ("attention", "grad_cam")


@pytest.fixture(scope="module")
def together(tiny_trace) -> Comparison:
    return compare(tiny_trace, "left", contrast="right", methods=(*ASKED, "attention"))


def test_maps_are_those_of_explain(together, tiny_trace):
    assert tuple(together.maps) == ASKED
    for name in ASKED:
        expected = explain(tiny_trace, "left", contrast="right", method=name)
        np.testing.assert_allclose(together[name].values, expected.values, rtol=1e-4)
    assert together.target == together["grad_cam"].target
    assert "against" in together.target


def test_options_reach_their_method_only(tiny_trace):
    options = {"attention": {"layer": 1}}
    found = compare(tiny_trace, token=2, methods=ASKED, options=options)
    assert found["attention"].settings["layer"] == 1
    assert "layer" not in found["grad_cam"].settings


def test_tables_have_a_row_for_each_map(together):
    frame = together.to_frame()
    assert frame.index.tolist() == list(ASKED)
    mask = checks.box_mask(next(iter(together)).image.size, [(100, 40, 220, 180)])
    scores = together.scores(mask)
    for name in ASKED:
        assert scores.loc[name, "energy"] == checks.energy(together[name], mask)
        assert scores.loc[name, "pointing"] == checks.pointing(together[name], mask)


def test_every_map_is_drawn(together):
    titles = {ax.get_title(loc="left") for ax in together.plot().axes}
    assert {"attention", "Grad-CAM"} <= titles


def test_fast_methods_exist():
    assert set(FAST) <= set(METHODS)


def test_wrong_choices(together, tiny_trace, toys):
    with pytest.raises(OptionError, match="name at least one method"):
        compare(tiny_trace, methods=())
    with pytest.raises(OptionError, match="options came for 'rollout', which is not among: att"):
        compare(tiny_trace, methods=ASKED, options={"rollout": {}})
    with pytest.raises(OptionError, match="map must be one of attention, grad_cam; got 'rollout'"):
        together["rollout"]
    with pytest.raises(InputError, match="there is no map to compare"):
        Comparison({}, "nothing")
    with pytest.raises(InputError, match="are of another image"):
        Comparison({"a": toys.map([[1]]), "b": toys.map([[1]], side=13)}, "nothing")


def test_a_figure_marks_cautions_and_greatest_cells(toys):
    signed = toys.map([[0, -3], [1, 2]], signed=True)
    doubted = toys.map([[4, 1], [1, 1]], caution="fails a check")
    figure = Comparison({"one_way": doubted, "two_way": signed}, "a phrase").plot(peaks=True)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[:2] == ["one way  \u26a0", "two way"]
    assert "one way: fails a check" in figure.get_supxlabel()
    for ax, peak in zip(figure.axes, (doubted.peak, signed.peak), strict=False):
        assert {tuple(line.get_xydata()[0]) for line in ax.lines} == {peak}


def test_a_notebook_gets_one_described_picture(together):
    html = together._repr_html_()
    assert html.count("<img ") == html.count('alt="Figure: attention, Grad-CAM: ') == 1
