"""Deletion and insertion: known ends, known gains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers import logprob
from workbench.errors import OptionError
from workbench.saliency import checks
from workbench.saliency.checks import Curve
from workbench.saliency.gradients import baseline_pixels

CELLS = 4


@pytest.fixture
def toy(toys):
    """A score that is a sum over cells, so that the best order is known."""
    return toys.linear(12)


def worth(toy, fill: str) -> np.ndarray:
    """How much each cell adds to the score, over what stands in for it."""
    gain = (toy.weights * (toy.base - baseline_pixels(toy, fill)))[0, 0]
    return gain.reshape(CELLS, 3, CELLS, 3).sum((1, 3)).numpy()


@pytest.mark.parametrize("fill", ["blur", "mean", "grey", "black"])
def test_curves_run_between_film_and_blank(fill, toy, toys):
    image_map = toys.map(np.random.default_rng(0).normal(size=(CELLS, CELLS)))
    film, blank = toy.scores(torch.cat((toy.base, baseline_pixels(toy, fill)))).tolist()
    out = checks.deletion(toy, image_map, fill=fill, steps=7)
    back = checks.insertion(toy, image_map, fill=fill, steps=7)
    for curve, start, end in ((out, film, blank), (back, blank, film)):
        assert curve.share.tolist() == pytest.approx(np.linspace(0, 1, 8).tolist())
        for scores in (curve.scores, curve.random_scores):
            assert scores.shape == (8,)
            assert scores[0] == pytest.approx(start, abs=1e-4)
            assert scores[-1] == pytest.approx(end, abs=1e-4)


def test_curve_of_a_sum_is_the_sum_of_what_is_left(toy, toys):
    gain = worth(toy, "blur")
    order = np.sort(gain.ravel())[::-1]
    out = checks.deletion(toy, toys.map(gain), steps=CELLS**2)
    film = float(toy.scores(toy.base))
    expected = film - np.concatenate([[0], np.cumsum(order)])
    np.testing.assert_allclose(out.scores, expected, atol=1e-3)
    back = checks.insertion(toy, toys.map(gain), steps=CELLS**2)
    blank = film - gain.sum()
    expected = blank + np.concatenate([[0], np.cumsum(order)])
    np.testing.assert_allclose(back.scores, expected, atol=1e-3)


@pytest.mark.parametrize("run", [checks.deletion, checks.insertion])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_perfect_map_gains_and_its_opposite_loses(run, seed, toy, toys):
    gain = worth(toy, "blur")
    best, worst = (run(toy, toys.map(values), seed=seed, steps=8) for values in (gain, -gain))
    assert best.gain > 0 > worst.gain
    np.testing.assert_array_equal(best.random_scores, worst.random_scores)


def test_random_order_repeats_by_seed(toy, toys):
    image_map = toys.map(worth(toy, "blur"))
    one, again, other = (checks.deletion(toy, image_map, seed=seed, steps=8) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.random_scores, again.random_scores)
    assert not np.array_equal(one.random_scores, other.random_scores)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_area_and_gain_by_hand():
    share, scores, chance = np.array([0, 0.5, 1]), np.array([4.0, 1, 0]), np.array([4.0, 3, 0])
    out = Curve("deletion", "toy", "nothing", share, scores, chance)
    assert out.area == pytest.approx((4 + 1) / 4 + (1 + 0) / 4)
    assert out.gain == pytest.approx(2.5 - 1.5)
    back = Curve("insertion", "toy", "nothing", share, scores, chance)
    assert back.gain == pytest.approx(1.5 - 2.5)


def test_curve_as_a_table_and_a_figure(toy, toys):
    curve = checks.deletion(toy, toys.map(worth(toy, "blur"), method="toy"), steps=5)
    frame = curve.to_frame()
    assert list(frame) == ["share", "score", "random_score"]
    assert len(frame) == 6
    ax = curve.plot()
    assert ax.get_title(loc="left").startswith("Deletion")
    assert "taken away" in ax.get_xlabel()
    drawn = [line.get_ydata() for line in ax.lines]
    for expected in (curve.scores, curve.random_scores):
        assert any(np.array_equal(values, expected) for values in drawn)
    assert checks.insertion(toy, toys.map(worth(toy, "blur")), steps=5).plot(ax) is ax


def test_grid_that_does_not_divide_the_side_covers_every_pixel(toys):
    toy = toys.bent(13)
    curve = checks.deletion(toy, toys.map(np.arange(20.0).reshape(4, 5)), steps=3)
    blank = toy.scores(baseline_pixels(toy, "blur"))
    assert curve.scores[-1] == pytest.approx(float(blank), abs=1e-5)


def test_curve_of_a_model(toys, tiny_trace):
    from workbench.saliency import explain

    scorer = toys.of(tiny_trace, token=4)
    image_map = explain(tiny_trace, token=4, method="occlusion", stride=16)
    curve = checks.deletion(scorer, image_map, fill="mean", steps=16)
    assert curve.scores[0] == pytest.approx(logprob(tiny_trace, token=4), abs=1e-4)
    assert curve.method == "occlusion"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "a curve needs steps >= 1, got 0"),
        ({"fill": "white"}, "blur, black, mean, grey; got 'white'"),
    ],
)
@pytest.mark.parametrize("run", [checks.deletion, checks.insertion])
def test_wrong_options(run, options, message, toy, toys):
    with pytest.raises(OptionError, match=message):
        run(toy, toys.map([[1.0]]), **options)
