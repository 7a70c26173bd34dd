"""Scores of heads: known for attention that is even, pointed, or always the same."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.attention import heads
from workbench.attention.shares import consistency_of, focus_of
from workbench.errors import InputError, OptionError


def test_even_attention_has_no_focus_and_full_consistency():
    rows = np.full((3, 7), 0.1)
    np.testing.assert_allclose(focus_of(rows), 0, atol=1e-12)
    assert consistency_of(rows) == pytest.approx(1)


def test_one_patch_takes_all():
    rows = np.eye(7)[[2, 2, 5]] * 0.3
    np.testing.assert_allclose(focus_of(rows), 1)
    assert consistency_of(rows) == pytest.approx(1 / 3)  # one pair of three agrees


def test_focus_of_half_the_patches():
    rows = np.array([[1.0, 1, 0, 0]])
    assert focus_of(rows)[0] == pytest.approx(1 - np.log(2) / np.log(4))


def test_undefined_is_not_zero():
    assert np.isnan(focus_of(np.zeros((1, 5)))).all()
    assert np.isnan(focus_of(np.ones((1, 1)))).all()
    assert np.isnan(consistency_of(np.ones((1, 5))))
    assert consistency_of(np.array([[1.0, 0], [0, 0], [1, 0]])) == pytest.approx(1)


def test_consistency_equals_the_mean_over_pairs():
    rows = np.random.default_rng(0).random((2, 5, 11))
    unit = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    cosines = unit @ unit.transpose(0, 2, 1)
    upper = np.triu_indices(5, 1)
    np.testing.assert_allclose(consistency_of(rows), cosines[:, *upper].mean(-1))


def test_scores_of_a_trace(toy):
    rows = toy.language()
    found = heads(toy.trace(rows), "pleural effusion")
    assert found.image_share.shape == (2, 3)
    expected = rows[:, :, [1, 2]][..., toy.image].sum(-1).mean(-1)
    np.testing.assert_allclose(found.image_share, expected, rtol=1e-5)
    for values in (found.image_share, found.focus, found.consistency, found.pointing):
        assert ((values >= 0) & (values <= 1)).all()
    np.testing.assert_allclose(found.pointing, found.image_share * found.focus)


def test_consistency_does_not_depend_on_the_phrase(toy):
    trace = toy.trace()
    one, other = heads(trace, "effusion"), heads(trace, sentence=1)
    np.testing.assert_array_equal(one.consistency, other.consistency)
    assert not np.array_equal(one.focus, other.focus)


def test_order_of_heads_is_the_order_of_columns(toy):
    rows = toy.language()
    order = [2, 0, 1]
    one, other = heads(toy.trace(rows)), heads(toy.trace(rows[:, order]))
    np.testing.assert_array_equal(one.focus[:, order], other.focus)


def test_ranking(toy):
    found = heads(toy.trace(), "effusion")
    ranked = found.best(99)
    assert len(ranked) == 6
    values = [found.pointing[layer, head] for layer, head in ranked]
    assert values == sorted(values, reverse=True)
    assert repr(found).startswith("<HeadScores for 'effusion': 2 x 3 heads, best ")


def test_numbers_of_layers_are_those_of_the_model(toy):
    rows = toy.wrap(toy.language(), layers=(3, 8), total=9)
    found = heads(toy.trace(rows))
    assert {layer for layer, _ in found.best(6)} == {3, 8}
    assert found.to_frame()["layer"].tolist() == [3, 3, 3, 8, 8, 8]


def test_single_token_has_no_consistency(toy):
    found = heads(toy.trace(tokens=toy.layout("Clear", ("▁Clear",), ((0, 5),))))
    assert np.isnan(found.consistency).all()
    found.plot()


def test_figures(toy):
    found = heads(toy.trace(), "effusion")
    figure = found.plot()
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert [t for t in titles if t] == ["image share", "focus", "consistency"]
    ax = figure.axes[0]
    assert found.plot(ax) is ax
    assert found._repr_html_().startswith('<img alt="Figure: scores of heads: effusion"')


def test_errors(toy):
    mean = toy.wrap(toy.language().mean(1, keepdims=True), mean_heads=True)
    with pytest.raises(OptionError, match=r"heads of each layer were averaged.*heads='each'"):
        heads(toy.trace(mean))
    with pytest.raises(InputError, match="does not contain 'nodule'"):
        heads(toy.trace(), "nodule")
    found = heads(toy.trace())
    with pytest.raises(OptionError, match="n must be a whole number of 1 or more, got 0"):
        found.best(0)


def test_on_reference_checkpoints(golden):
    found = heads(golden, token=0)
    assert found.image_share.shape == golden.language.values.shape[:2]
    assert np.isfinite(found.focus).all()
