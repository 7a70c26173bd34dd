"""Token activation map: its parts by hand, and the whole by the slow way of the paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from workbench.attention.lens import prompt_states
from workbench.errors import OptionError
from workbench.saliency import explain
from workbench.saliency.activation import rank_gaussian, without


def test_what_lies_in_another_map_is_taken_away():
    own, other = np.array([3.0, 0, 1, 0]), np.array([0, 2.0, 0, 0])
    np.testing.assert_array_equal(without(own, other), own)
    np.testing.assert_allclose(without(3 * other, other), 0, atol=1e-12)
    np.testing.assert_allclose(without(own + 5 * other, other), own, atol=1e-12)
    np.testing.assert_array_equal(without(own, np.zeros(4)), own)


def test_the_filter_keeps_what_is_even_and_drops_what_stands_alone():
    even, alone = np.full((5, 4), 2.5), np.full((5, 4), 1.0)
    alone[2, 2] = 1.4
    np.testing.assert_allclose(rank_gaussian(even, 3), even)
    np.testing.assert_allclose(rank_gaussian(alone, 3), 1, atol=1e-3)
    np.testing.assert_allclose(rank_gaussian(alone, 1), alone)
    assert not rank_gaussian(np.zeros((3, 3)), 3).any()
    np.testing.assert_allclose(rank_gaussian(3 * alone, 3), 3 * rank_gaussian(alone, 3))


def test_the_map_of_the_first_token_is_that_of_the_slow_way(golden):
    """Prompt states alone decide the first token, and the lens reads them on its own."""
    found = explain(golden, token=0, method="token_activation", window=1)
    model, layout = golden.need_model(), golden.layout
    with torch.inference_mode():
        logits = model.read_out(prompt_states(golden)[-1]).double().clamp_min(0).numpy()
    image, asked = layout.span("image").slice, layout.span("question")
    ids = model.split(golden.generation.prompt_ids)[1]
    word = golden.generation.token_ids[0]
    maps = [(logits[at, word], logits[image, one]) for at, one in enumerate(ids, asked.start)]
    maps = [pair for pair, one in zip(maps, ids, strict=True) if one != word]
    total = sum(weight for weight, _ in maps)
    other = sum(weight * values / total for weight, values in maps)
    own = logits[image, word]
    scale = minimize_scalar(lambda x: np.sum((own - x * other) ** 2)).x
    expected = np.maximum(own - scale * other, 0).reshape(layout.grid)
    np.testing.assert_allclose(found.values, expected, atol=1e-4)


def test_maps_of_several_tokens_are_averaged(golden):
    several = explain(golden, golden.select(token=3), method="token_activation").values
    whole = explain(golden, method="token_activation").values
    each = [explain(golden, token=n, method="token_activation").values for n in range(9)]
    np.testing.assert_array_equal(several, each[3])
    np.testing.assert_allclose(whole, np.mean(each, 0), atol=1e-6)


@pytest.mark.parametrize("window", [0, 2, 1.5])
def test_a_window_is_odd(tiny_trace, window):
    with pytest.raises(OptionError, match="odd number of cells"):
        explain(tiny_trace, token=1, method="token_activation", window=window)
