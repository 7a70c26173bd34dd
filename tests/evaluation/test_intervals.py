"""Ratios and their intervals against hand-computed values and known limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.evaluation.intervals import bootstrap_weights, estimate, mean_ratio, ratio


def test_weights_draw_every_resample_to_full_size_and_repeat_by_seed():
    weights = bootstrap_weights(13, np.random.default_rng(3), resamples=17)
    assert weights.shape == (17, 13)
    assert (weights.sum(axis=1) == 13).all()
    again = bootstrap_weights(13, np.random.default_rng(3), resamples=17)
    np.testing.assert_array_equal(weights, again)


def test_ratio_by_hand():
    weights = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0], [1.0, 1.0, 1.0]])
    found = ratio(np.array([1, 0, 1]), np.array([1, 0, 3]), weights)
    assert found.value == 0.5
    assert found.n == 4
    # resamples give 3/5, undefined (left out), 2/4
    assert found.low == pytest.approx(0.5 + 0.025 * 0.1)
    assert found.high == pytest.approx(0.6 - 0.025 * 0.1)


def test_undefined_is_none_and_never_zero():
    weights = bootstrap_weights(5, np.random.default_rng(0), resamples=10)
    found = ratio(np.zeros(5), np.zeros(5), weights)
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)
    assert str(found) == "undefined"
    empty = ratio(np.zeros(0), np.zeros(0), bootstrap_weights(0, np.random.default_rng(0)))
    assert empty.value is None


def test_mean_leaves_out_undefined_columns():
    weights = bootstrap_weights(2, np.random.default_rng(0), resamples=7)
    above, below = np.array([[1, 0, 0], [1, 0, 1]]), np.array([[1, 0, 1], [1, 0, 3]])
    assert mean_ratio(above, below, weights).value == pytest.approx((1 + 0.25) / 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 100))
def test_interval_holds_a_share_and_stays_in_range(hits, seed):
    hits = np.array(hits, dtype=int)
    weights = bootstrap_weights(len(hits), np.random.default_rng(seed), resamples=200)
    found = ratio(hits, np.ones_like(hits), weights)
    assert 0 <= found.low <= found.high <= 1
    if hits.min() == hits.max():
        assert found.low == found.value == found.high


def test_interval_covers_a_known_share_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        hits = (rng.random(200) < 0.7).astype(int)
        found = ratio(hits, np.ones(200), bootstrap_weights(200, rng, resamples=200))
        covered += found.low <= 0.7 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_estimate_of_nan_is_undefined():
    assert estimate(float("nan"), np.array([1.0]), 3).value is None
    assert estimate(1.0, np.array([np.nan]), 3).low is None
