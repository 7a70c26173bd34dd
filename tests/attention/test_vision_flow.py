"""Flow: never more than a cut, equal to attention in one layer, and a network solved by hand."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.attention import flow, rollout, to_image
from workbench.attention.vision_rollout import SCALE, max_flows, mixing_layers, pool, region_of
from workbench.errors import InputError, OptionError

ROUNDING = 30 / SCALE


def random_layer(seed: int, size: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(size), size)


def test_one_layer_from_one_token_is_its_attention():
    layer = random_layer(0)
    for token in range(5):
        found = max_flows([layer], np.eye(5)[token])
        np.testing.assert_allclose(found, layer[token], atol=ROUNDING)


def test_no_layer_is_the_words_own_attention():
    start = np.array([0.1, 0.2, 0.7])
    np.testing.assert_allclose(max_flows([], start), start, atol=ROUNDING)


def test_network_by_hand():
    """The way over node 0 carries .3, the one over node 1 is cut to .2 by its second pipe."""
    above = np.array([[0.3, 0.7], [0.0, 1.0]])
    below = np.array([[0.9, 0.1], [0.2, 0.8]])
    found = max_flows([below, above], np.array([1.0, 0.0]))
    np.testing.assert_allclose(found, [0.3 + 0.2, 0.1 + 0.7], atol=ROUNDING)


def test_never_more_than_leaves_or_arrives():
    layers = [random_layer(seed) for seed in range(4)]
    start = np.random.default_rng(9).dirichlet(np.ones(5)) * 0.8
    found = max_flows(layers, start)
    assert (found <= layers[0].sum(0) + ROUNDING).all()
    assert (found <= start.sum() + ROUNDING).all()


def test_at_least_what_rollout_sends():
    """Rollout's mixing is one way to fill the pipes, so the maximum is no less."""
    layers = [random_layer(seed) for seed in range(3)]
    start = np.eye(5)[2]
    sent = start @ layers[2] @ layers[1] @ layers[0]
    assert (max_flows(layers, start) >= sent - ROUNDING).all()


def test_full_grid_of_one_layer_is_attention_with_its_residual(toy):
    vision = toy.vision(layers=1)
    rows = toy.language()
    rows[...] = 0
    rows[..., toy.image.start + 4] = 1  # every word looks at patch 4 alone
    trace = toy.trace(rows, vision)
    found = flow(trace, "effusion", regions=toy.grid, residual=0.5)
    mixed = mixing_layers(trace, residual=0.5)[0]
    np.testing.assert_allclose(found.values.ravel(), mixed[1 + 4, 1:], atol=ROUNDING)


def test_all_residual_is_the_words_own_attention(toy):
    trace = toy.trace(vision=toy.vision())
    found = flow(trace, "effusion", regions=toy.grid, residual=1.0)
    seen = to_image(trace, "effusion").values
    np.testing.assert_allclose(found.values, seen / seen.sum(), atol=ROUNDING)


def test_pooling_keeps_rows_that_sum_to_one(toy):
    groups, shape = region_of((4, 6), (2, 3))
    assert shape == (2, 3)
    assert groups[0] == 0
    assert groups[1:].reshape(4, 6)[::2, ::2].tolist() == [[1, 2, 3], [4, 5, 6]]
    matrix = np.random.default_rng(0).dirichlet(np.ones(25), 25)
    pooled = pool(matrix, groups)
    assert pooled.shape == (7, 7)
    np.testing.assert_allclose(pooled.sum(1), 1)
    inside = matrix[np.ix_(groups == 2, groups == 5)]
    assert pooled[2, 5] == pytest.approx(inside.sum(1).mean())


def test_pooling_by_the_grid_changes_nothing(toy):
    groups, shape = region_of(toy.grid, (8, 8))
    assert shape == toy.grid
    matrix = np.random.default_rng(0).dirichlet(np.ones(7), 7)
    np.testing.assert_array_equal(pool(matrix, groups), matrix)


@pytest.mark.parametrize("regions", [(1, 1), (2, 1), (1, 3)])
def test_uneven_regions_cover_every_patch(regions):
    groups, shape = region_of((5, 7), regions)
    assert shape == regions
    assert set(groups[1:]) == set(range(1, 1 + regions[0] * regions[1]))


def test_map_of_words(toy):
    trace = toy.trace(vision=toy.vision())
    found = flow(trace, "effusion", regions=(2, 2))
    assert found.grid == (2, 2)
    assert found.settings["regions"] == [2, 2]
    assert (found.values > 0).all()
    assert (found.values <= 1 + ROUNDING).all()
    assert found.scores["image_share"] == to_image(trace, "effusion").scores["image_share"]
    assert -1 <= found.scores["like_everywhere"] <= 1


def test_nothing_named_means_everything_alike(toy):
    found = flow(toy.trace(vision=toy.vision()))
    assert found.target == "all image tokens alike"
    assert found.caution is None
    assert "like_everywhere" not in found.scores


def test_errors(toy):
    trace = toy.trace(vision=toy.vision())
    with pytest.raises(InputError, match="no attention of the vision tower"):
        flow(toy.trace(), "effusion")
    with pytest.raises(OptionError, match="regions must be two whole numbers from 1 up"):
        flow(trace, regions=(0, 3))
    with pytest.raises(OptionError, match=r"got \(2, 2, 2\)"):
        flow(trace, regions=(2, 2, 2))
    with pytest.raises(OptionError, match="residual is a share"):
        flow(trace, residual=-0.1)
    with pytest.raises(InputError, match="does not contain 'nodule'"):
        flow(trace, "nodule")


def test_on_reference_checkpoints(golden):
    found = flow(golden, token=0, regions=(2, 2))
    assert found.grid == (2, 2)
    assert (found.values <= 1 + 1e-5).all()


def test_deep_towers_say_so_when_words_do_not_matter(mini):
    found = flow(mini.trace, finding="pleural effusion", regions=(4, 4))
    assert found.scores["like_everywhere"] > 0.9
    assert "much like the map of no words at all" in found.caution
    assert rollout(mini.trace, finding="pleural effusion").scores["like_everywhere"] <= 1
