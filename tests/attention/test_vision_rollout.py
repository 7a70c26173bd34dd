"""Rollout: rows sum to 1, the residual is what it says, and a product that was done by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from workbench.attention import rollout, rollout_matrix, to_image
from workbench.errors import InputError, OptionError


@pytest.mark.parametrize("residual", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("discard", [0.0, 0.5, 0.9])
def test_rows_sum_to_one(toy, residual, discard):
    matrix = rollout_matrix(toy.trace(vision=toy.vision()), residual=residual, discard=discard)
    assert matrix.shape == (toy.patches + 1, toy.patches + 1)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-12)


def test_all_residual_is_the_identity(toy):
    trace = toy.trace(vision=toy.vision())
    np.testing.assert_array_equal(rollout_matrix(trace, residual=1.0), np.eye(toy.patches + 1))
    found = rollout(trace, "effusion", residual=1.0)
    np.testing.assert_allclose(found.values, to_image(trace, "effusion").values, rtol=1e-6)
    assert found.scores["class_token"] == 0


def test_two_layers_by_hand(toy):
    vision = toy.vision(layers=2)
    first, second = vision.mean(1).astype(float)
    half = np.eye(toy.patches + 1) / 2
    expected = (half + second / 2) @ (half + first / 2)
    found = rollout_matrix(toy.trace(vision=vision))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_last_layer_is_nearest_to_the_words(toy):
    """Token 3 looks at 5 in the last layer, and 5 was made of 2 in the first."""
    vision = np.broadcast_to(np.eye(toy.patches + 1, dtype=np.float32), (2, 1, 7, 7)).copy()
    vision[1, 0, 3] = np.eye(7)[5]
    vision[0, 0, 5] = np.eye(7)[2]
    matrix = rollout_matrix(toy.trace(vision=vision), residual=0.0)
    np.testing.assert_array_equal(matrix[3], np.eye(7)[2])


def test_words_weigh_the_image_tokens(toy):
    trace = toy.trace(vision=toy.vision())
    weights = to_image(trace, "effusion", layer=1, head=2)
    found = rollout(trace, "effusion", layer=1, head=2)
    arrived = weights.values.ravel().astype(float) @ rollout_matrix(trace)[1:]
    np.testing.assert_allclose(found.values.ravel(), arrived[1:], rtol=1e-5)
    assert found.scores["class_token"] == pytest.approx(arrived[0], rel=1e-5)
    total = found.values.sum() + found.scores["class_token"]
    assert total == pytest.approx(weights.scores["image_share"], rel=1e-5)
    assert found.layer == "layer 1 of 0 to 1, then the vision layers"


def test_nothing_named_means_everything_alike(toy):
    trace = toy.trace(vision=toy.vision())
    found = rollout(trace)
    np.testing.assert_allclose(
        found.values.ravel(), rollout_matrix(trace)[1:, 1:].mean(0), rtol=1e-5
    )
    assert found.target == "all image tokens alike"
    assert found.scores["image_share"] == pytest.approx(1)
    assert found.caution is None


def test_even_attention_gives_an_even_map(toy):
    vision = np.full((3, 5, 7, 7), 1 / 7, np.float32)
    found = rollout(toy.trace(vision=vision), "effusion", residual=0.0)
    np.testing.assert_allclose(found.values, found.values.mean(), rtol=1e-5)
    assert found.scores["like_everywhere"] == 1
    assert "much like the map of no words at all" in found.caution


def test_order_of_heads_does_not_matter(toy):
    vision = toy.vision()
    one, other = (rollout_matrix(toy.trace(vision=v)) for v in (vision, vision[:, [4, 2, 0, 1, 3]]))
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_discard_keeps_the_largest_weights(toy):
    vision = np.tile(np.arange(1, 8, dtype=np.float32), (1, 1, 7, 1)) / 28
    matrix = rollout_matrix(toy.trace(vision=vision), residual=0.0, discard=0.5)
    np.testing.assert_allclose(matrix[4], np.array([0, 0, 0, 4, 5, 6, 7]) / 22, rtol=1e-6)
    trace = toy.trace(vision=vision)
    rollout_matrix(trace, discard=0.9)
    np.testing.assert_array_equal(trace.vision.values, vision)


def test_without_vision_rows(toy):
    with pytest.raises(InputError, match="no attention of the vision tower; trace again with vis"):
        rollout(toy.trace(), "effusion")
    part = toy.wrap(toy.vision(), layers=(0, 2, 3), total=4)
    with pytest.raises(InputError, match="holds 3 of 4 vision layers"):
        rollout_matrix(toy.trace(vision=part))


def test_options_out_of_range(toy):
    trace = toy.trace(vision=toy.vision())
    with pytest.raises(OptionError, match=r"residual is a share between 0 and 1, got 1\.5"):
        rollout(trace, residual=1.5)
    with pytest.raises(OptionError, match="discard is a share from 0 to below 1, got 1"):
        rollout(trace, discard=1.0)
    with pytest.raises(OptionError, match="layer 7 was not recorded"):
        rollout(trace, "effusion", layer=7)
    with pytest.raises(InputError, match="does not contain 'nodule'"):
        rollout(trace, "nodule")
    with pytest.raises(InputError, match="the phrase is empty"):
        rollout(trace, "")


def test_on_reference_checkpoints(golden):
    matrix = rollout_matrix(golden)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-9)
    assert rollout(golden, token=0).grid == golden.layout.grid


def test_averaged_heads_are_enough(mini):
    rows = mini.trace.vision
    mean = replace(rows, values=rows.values.mean(1, keepdims=True), mean_heads=True)
    trace = replace(mini.trace, vision=mean)
    np.testing.assert_allclose(rollout_matrix(trace), rollout_matrix(mini.trace), atol=1e-6)
