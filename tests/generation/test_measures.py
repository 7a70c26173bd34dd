"""The measures of parity: each fails when it should."""

import numpy as np
import pytest

from workbench.generation.measures import (
    agreement,
    close,
    mostly_close,
    relative_rms,
    same,
    same_sequence,
    top_values,
)


def test_close_allows_the_tolerance_of_each_element():
    theirs = np.array([0.0, 10.0, -100.0])
    outcome = close(np.add(theirs, [0.0009, 0.010, 0.100]), theirs, atol=1e-3, rtol=1e-3)
    assert outcome.ok
    assert outcome.max_abs_diff == pytest.approx(0.1)
    assert not close(np.add(theirs, [0.0015, 0, 0]), theirs, atol=1e-3, rtol=1e-3).ok


def test_close_reports_the_tolerance_of_the_element_that_misses():
    outcome = close([5.0, 1.0], [5.0, 0.0], atol=0.5, rtol=0.1)
    assert (outcome.max_abs_diff, outcome.tolerance, outcome.ok) == (1.0, 0.5, False)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_close_never_passes_what_is_not_a_number(bad):
    assert not close([bad, 0.0], [0.0, 0.0], atol=1e9).ok
    assert not close([0.0, 0.0], [bad, 0.0], atol=1.0, rtol=1e-3).ok


def test_close_wants_the_same_shape_and_something_to_compare():
    assert "shape (2, 3), expected (3, 2)" in close(np.zeros((2, 3)), np.zeros((3, 2)), 1.0).note
    assert not close([], [], 1.0).ok


def test_mostly_close_limits_how_many_differ():
    theirs = np.zeros(100)
    ours = theirs.copy()
    ours[:5] = 0.02
    assert mostly_close(ours, theirs, 0.0206, 1e-5, 0.05).ok
    ours[5] = 0.02
    assert not mostly_close(ours, theirs, 0.0206, 1e-5, 0.05).ok
    assert not mostly_close([0.03], [0.0], 0.0206, 1e-5, 1.0).ok


def test_relative_rms_by_hand():
    outcome = relative_rms([3.0, 4.5], [3.0, 4.0], 0.2, 0.9)
    assert outcome.max_abs_diff == pytest.approx(0.1)
    assert outcome.ok
    assert not relative_rms([3.0, 4.5], [3.0, 4.0], 0.09).ok
    assert not relative_rms([1.0, 0.0], [1.0, 1.0], 0.9, 0.95).ok, "cosine 0.71"
    assert not relative_rms([0.0, 0.0], [0.0, 0.0], 0.1).ok, "nothing to be relative to"


def test_sequences_count_places_and_missing_ends():
    assert same_sequence([1, 2], (1, 2)).ok
    outcome = same_sequence([1, 5, 3, 4], [1, 2, 3])
    assert (outcome.max_abs_diff, outcome.ok) == (2.0, False)
    assert "first difference at 1; 4 values, expected 3" in outcome.note
    assert same_sequence([], [1]).max_abs_diff == 1.0


def test_values_are_equal_or_not():
    assert same("a", "a").ok
    assert same("a", "b").note == "got 'a', expected 'b'"
    assert same(5, 3).max_abs_diff == 2.0
    assert not same(5, [5]).ok


def test_top_values_takes_ties_in_any_order_but_not_a_wrong_id():
    logits = np.array([[5.0, 4.0, 4.0, 1.0]])
    tied = top_values(logits, np.array([[0, 2, 1]]), rtol=0.0, atol=1e-3)
    assert tied.ok
    assert tied.note == "2 of 3 ids differ"
    assert not top_values(logits, np.array([[0, 3]]), rtol=0.0, atol=1e-3).ok
    assert not top_values(logits, np.array([[9]]), rtol=0.0, atol=1e-3).ok
    assert not top_values(logits, np.array([[0], [0]]), rtol=0.0, atol=1e-3).ok


def test_agreement_demands_nothing_but_says_how_far():
    outcome = agreement([1, 2, 9], [1, 2, 3, 4])
    assert outcome.ok
    assert outcome.tolerance is None
    assert outcome.note == "informative: the first 2 of 4 agree"
    assert outcome.max_abs_diff == 2.0
