"""Agreement: hand-computed and published values, and what scikit-learn finds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from workbench.errors import InputError, OptionError
from workbench.review import agreement

# Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011, section C: 0 is a gap there.
OBSERVERS = np.array(
    [[1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
     [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0]]
).T - 1  # fmt: skip
# Fleiss, Psychol Bull 1971, as in textbooks: ten subjects, fourteen raters, kappa 0.210.
FLEISS = (
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
)  # fmt: skip


def test_cohen_by_hand():
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed .7, chance .5
    pairs = [(0, 0)] * 20 + [(0, 1)] * 5 + [(1, 0)] * 10 + [(1, 1)] * 15
    found = agreement(np.array(pairs), categories=("yes", "no"), raters=("A", "B"))
    assert found.measure == "Cohen's kappa"
    assert found.kappa.value == pytest.approx(0.4)
    assert found.same.value == pytest.approx(0.7)
    assert found.kappa.low < 0.4 < found.kappa.high
    assert found.items == 50


def test_weighted_by_hand():
    # grades 0 1 2 3; disagreement 1/3, 1/3, 1 in 6; chance by margins
    table = np.array([(0, 0), (1, 1), (2, 2), (0, 1), (2, 1), (3, 0)])
    observed = (1 / 3 + 1 / 3 + 1) / 6
    first, second = np.array([2, 1, 2, 1]) / 6, np.array([2, 3, 1, 0]) / 6
    away = np.abs(np.subtract.outer(range(4), range(4))) / 3
    expected = (np.outer(first, second) * away).sum()
    found = agreement(table, categories="ABCD", weights="linear")
    assert found.kappa.value == pytest.approx(1 - observed / expected)


@pytest.mark.parametrize("weights", ["nominal", "linear", "quadratic"])
def test_cohen_is_that_of_scikit_learn(weights):
    rng = np.random.default_rng(5)
    for _ in range(20):
        table = rng.integers(0, 4, size=(23, 2))
        found = agreement(table, categories="ABCD", weights=weights, resamples=0)
        name = None if weights == "nominal" else weights
        theirs = cohen_kappa_score(*table.T, labels=range(4), weights=name)
        assert found.kappa.value == pytest.approx(theirs)


@pytest.mark.parametrize(("weights", "published"), [("nominal", 0.743), ("quadratic", 0.849)])
def test_krippendorff_published(weights, published):
    found = agreement(OBSERVERS, categories="12345", weights=weights)
    assert found.measure == "Krippendorff's alpha"
    assert round(found.alpha.value, 3) == published
    assert found.alpha.n == 11


def test_fleiss_published():
    table = np.array([np.repeat(np.arange(5), row) for row in FLEISS])
    found = agreement(table, categories="12345")
    assert found.measure == "Fleiss' kappa"
    assert round(found.kappa.value, 3) == 0.210


def test_perfect_and_undefined():
    perfect = agreement(np.repeat([[0], [1], [2]], 3, axis=1), categories="ABC")
    assert perfect.kappa.value == perfect.alpha.value == perfect.same.value == 1
    always = agreement(np.zeros((9, 2), int), categories="AB")
    assert always.kappa.value is None and always.same.value == 1
    nothing = agreement(np.full((3, 2), -1), categories="AB")
    assert (nothing.items, nothing.kappa.value, nothing.alpha.value) == (0, None, None)


def test_order_of_raters_and_items_does_not_matter():
    rng = np.random.default_rng(6)
    table = rng.integers(-1, 3, size=(31, 3))
    one = agreement(table, categories="ABC", weights="linear", resamples=0)
    two = agreement(table[::-1, ::-1], categories="ABC", weights="linear", resamples=0)
    assert one.alpha.value == pytest.approx(two.alpha.value)


def test_the_interval_narrows_with_items_and_is_seeded():
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 3, 800)
    other = np.where(rng.random(800) < 0.7, truth, rng.integers(0, 3, 800))
    table = np.stack([truth, other], axis=1)
    few = agreement(table[:40], categories="ABC", seed=1)
    many = agreement(table, categories="ABC", seed=1)
    assert many.kappa.high - many.kappa.low < 0.5 * (few.kappa.high - few.kappa.low)
    assert few.kappa == agreement(table[:40], categories="ABC", seed=1).kappa


def test_errors():
    with pytest.raises(InputError, match=r"two raters or more, got shape \(5, 1\)"):
        agreement(np.zeros((5, 1), int), categories="AB")
    with pytest.raises(InputError, match="from 0 to 1, or -1"):
        agreement(np.full((5, 2), 2), categories="AB")
    with pytest.raises(OptionError, match="weights must be one of"):
        agreement(np.zeros((5, 2), int), categories="AB", weights="cubic")


def test_frame_figure_and_card():
    found = agreement(OBSERVERS, categories="12345", raters=("A", "<B>", "C", "D"))
    assert list(found.to_frame().index[:2]) == ["Krippendorff's alpha", "equal pairs"]
    assert len(found.pairs) == 6
    assert "&lt;B&gt;" in found._repr_html_() and "<B>" not in found._repr_html_()
    found.plot()
    assert found.to_dict()["measures"][0]["value"] == found.alpha.value
