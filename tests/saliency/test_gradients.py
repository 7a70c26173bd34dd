"""Gradient methods: attributions that sum to a difference, and analytic answers on linear toys."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import LayerIntegratedGradients

from workbench.errors import OptionError
from workbench.saliency import checks, explain
from workbench.saliency.gradients import (
    FIRST_PARTS,
    PART_STEPS,
    _integrate,
    baseline_pixels,
    grad_cam,
    input_x_gradient,
    integrated_gradients,
    smoothgrad,
    to_grid,
)

GRID = (3, 3)
SIDE = 15


def patch_sums(pixels: torch.Tensor) -> np.ndarray:
    """Sums over the patches of `GRID`, by hand."""
    step = SIDE // GRID[0]
    found = np.zeros(GRID)
    for row in range(GRID[0]):
        for column in range(GRID[1]):
            rows, columns = (slice(at * step, (at + 1) * step) for at in (row, column))
            found[row, column] = pixels[0, 0, rows, columns].sum()
    return found


# ---------------------------------------------------------------- linear toys


def test_input_x_gradient_of_a_linear_score_is_weight_times_pixel(toys):
    toy = toys.linear(SIDE)
    expected = toy.weights * toy.base
    found = input_x_gradient(toy, GRID)
    np.testing.assert_allclose(found.values, patch_sums(expected), rtol=1e-4, atol=1e-5)
    fine = input_x_gradient(toy, (SIDE, SIDE))
    np.testing.assert_allclose(fine.values, expected[0, 0], rtol=1e-5)
    assert float(found.values.sum()) == pytest.approx(float(toy.scores(toy.base)), abs=1e-4)


def test_smoothgrad_without_noise_is_input_x_gradient(toys):
    toy = toys.bent(SIDE)
    found = smoothgrad(toy, GRID, noise=0, samples=3)
    np.testing.assert_allclose(found.values, input_x_gradient(toy, GRID).values, rtol=1e-4)


def test_smoothgrad_of_a_linear_score_is_noise_around_input_x_gradient(toys):
    toy = toys.linear(SIDE)
    found = smoothgrad(toy, (SIDE, SIDE), noise=0.01, samples=40)
    spread = 0.01 * float(toy.base.max() - toy.base.min()) / 40**0.5
    apart = (found.values - (toy.weights * toy.base)[0, 0]) / toy.weights[0]
    assert 0.5 * spread < float(apart.std()) < 2 * spread


def test_integrated_gradients_of_a_linear_score_are_exact(toys):
    toy = toys.linear(SIDE)
    found = integrated_gradients(toy, GRID, baseline="blur")
    expected = toy.weights * (toy.base - baseline_pixels(toy, "blur"))
    np.testing.assert_allclose(found.values, patch_sums(expected), rtol=1e-3, atol=1e-4)
    assert found.scores["gradients"] == FIRST_PARTS * PART_STEPS, "nothing to refine"


def test_nothing_is_attributed_where_baseline_and_film_are_one(toys):
    film = torch.full((1, 1, SIDE, SIDE), 0.3)
    toy = toys.scorer(lambda pixels: pixels.sum((1, 2, 3)).sin(), film)
    found = integrated_gradients(toy, GRID, baseline="mean")
    assert not found.values.any()
    assert found.scores["difference"] == found.scores["delta"] == 0
    assert found.scores["gradients"] == FIRST_PARTS * PART_STEPS


def test_a_bend_is_refined_where_it_is(toys):
    """A step of the score at one place of the line takes more gradients than a straight one."""

    def score(pixels):
        return torch.sigmoid(400 * (pixels.mean((1, 2, 3)) - 0.61))

    toy = toys.scorer(score, torch.ones(1, 1, SIDE, SIDE))
    found = integrated_gradients(toy, GRID, baseline="grey", tolerance=0.001)
    assert found.scores["gradients"] > FIRST_PARTS * PART_STEPS
    assert abs(found.scores["delta"]) <= 0.001 * found.scores["difference"]
    even = found.values / found.values.mean()
    np.testing.assert_allclose(even, 1, atol=1e-4)


# ---------------------------------------------------------------- completeness


@pytest.mark.parametrize("over", ["pixels", "patches"])
def test_attributions_sum_to_the_change_of_the_target(over, toys, golden):
    most = 96
    scorer = toys.of(golden, token=4, contrast="no")
    baseline = "blur" if over == "pixels" else "grey"
    found = integrated_gradients(scorer, golden.layout.grid, over=over, most=most)
    ends = scorer.scores(torch.cat((baseline_pixels(scorer, baseline), scorer.base)))
    difference = float(ends[1] - ends[0])
    scores = found.scores
    assert scores["difference"] == pytest.approx(difference, abs=1e-4)
    assert float(found.values.sum()) - difference == pytest.approx(scores["delta"], abs=1e-4)
    complete = abs(scores["delta"]) <= 0.01 * abs(difference) + 1e-5
    assert complete or scores["gradients"] > most - 2 * PART_STEPS
    assert scores["gradients"] <= most


def test_completeness_of_an_explained_map(tiny_trace):
    found = explain(tiny_trace, token=4, method="integrated_gradients")
    assert checks.completeness(found) <= 0.01
    total = float(found.values.sum(dtype=np.float64))
    error = abs(total - found.scores["difference"]) / abs(found.scores["difference"])
    assert checks.completeness(found) == pytest.approx(error, abs=1e-5)


def test_pixels_and_patches_give_one_map_from_one_baseline(toys, golden):
    scorer = toys.of(golden, token=4)
    options = {"baseline": "grey", "tolerance": 0.002, "most": 48}
    pixels, patches = (
        integrated_gradients(scorer, golden.layout.grid, over=over, **options)
        for over in ("pixels", "patches")
    )
    largest = float(patches.values.abs().max())
    np.testing.assert_allclose(pixels.values, patches.values, atol=2e-3 * largest)


def test_patch_map_is_the_pixel_map_summed(toys, tiny_trace):
    scorer = toys.of(tiny_trace, token=4)
    fine = integrated_gradients(scorer, (64, 64), most=32)
    coarse = integrated_gradients(scorer, (4, 4), most=32)
    assert fine.values.shape == (64, 64)
    summed = fine.values.reshape(4, 16, 4, 16).sum((1, 3))
    np.testing.assert_allclose(summed, coarse.values, rtol=1e-3, atol=1e-5)


def test_budget_of_gradients_is_kept_when_the_tolerance_is_out_of_reach(toys, tiny_trace):
    scorer = toys.of(tiny_trace, token=4)
    found = integrated_gradients(scorer, (4, 4), tolerance=0, most=50)
    assert found.scores["gradients"] == 48


# ---------------------------------------------------------------- seeds


def test_smoothgrad_repeats_by_seed_and_leaves_the_global_state(toys, tiny_trace):
    scorer = toys.of(tiny_trace, token=4)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    one, again, other = (
        smoothgrad(scorer, (4, 4), samples=3, seed=seed).values for seed in (5, 5, 6)
    )
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    torch.testing.assert_close(smoothgrad(scorer, (4, 4), samples=3, seed=5).values, one)
    torch.testing.assert_close(one, again)
    assert not torch.allclose(one, other)


# ---------------------------------------------------------------- Grad-CAM


def test_grad_cam_is_not_negative_and_on_the_patch_grid(toys, golden):
    found = [grad_cam(toys.of(golden, token=n), golden.layout.grid).values for n in range(4)]
    for values in found:
        assert values.shape == golden.layout.grid
        assert float(values.min()) >= 0
    assert any(values.any() for values in found)


def test_grad_cam_by_hand(toys, golden):
    """Channels of the last block, weighted by their mean gradient, positive part."""
    scorer = toys.of(golden, token=4)
    tower = scorer.network.vision_tower
    with torch.no_grad():
        hidden = tower(scorer.base, output_hidden_states=True).hidden_states[-1][:, 1:]
    patches = hidden.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(scorer.from_tokens(tower.ln_post(patches)).sum(), patches)
    expected = (hidden * gradient.mean(1, keepdim=True)).sum(-1).clamp_min(0)[0]
    found = grad_cam(scorer, golden.layout.grid).values
    assert scorer.forwards == 1
    np.testing.assert_allclose(found.ravel(), expected.detach(), rtol=1e-3, atol=1e-6)


# ---------------------------------------------------------------- baselines


def test_baselines_are_what_they_say(toys, tiny_trace):
    scorer = toys.of(tiny_trace, token=4)
    processor = tiny_trace.model.loaded.processor
    black = baseline_pixels(scorer, "black")
    np.testing.assert_allclose(processor.restore(black.numpy()), 0, atol=1e-6)
    assert not baseline_pixels(scorer, "grey").any()
    mean = baseline_pixels(scorer, "mean")
    assert float(mean.std()) == pytest.approx(0, abs=1e-6)
    assert float(mean.mean()) == pytest.approx(float(scorer.base.mean()), abs=1e-5)
    blur = baseline_pixels(scorer, "blur")
    assert 0 < float(blur.std()) < float(scorer.base.std())
    assert {tuple(image.shape) for image in (black, mean, blur)} == {tuple(scorer.base.shape)}


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (
            integrated_gradients,
            {"baseline": "white"},
            "blur, black, mean, grey; got 'white'",
        ),
        (
            integrated_gradients,
            {"over": "words"},
            "must be one of pixels, patches; got 'words'",
        ),
        (integrated_gradients, {"most": 31}, "first pass alone takes 32 gradients, most is 31"),
        (smoothgrad, {"samples": 0}, "samples >= 1 and noise >= 0, got 0 and 0.15"),
        (smoothgrad, {"noise": -1}, "samples >= 1 and noise >= 0, got 24 and -1"),
    ],
)
def test_wrong_options(method, options, message, toys):
    with pytest.raises(OptionError, match=message):
        method(toys.linear(SIDE), GRID, **options)


def test_to_grid_keeps_the_sum():
    pixels = torch.arange(36.0).reshape(1, 1, 6, 6)
    found = to_grid(pixels, (2, 3))
    assert found.shape == (2, 3)
    assert found.tolist()[0] == [0 + 1 + 6 + 7 + 12 + 13, 51, 63]
    assert float(found.sum()) == float(pixels.sum())


def test_over_patches_is_what_captum_integrates_through_the_layer(toys, tiny_trace):
    scorer = toys.of(tiny_trace, token=4)
    start = baseline_pixels(scorer, "grey")
    layer, options = scorer.model.pixel_layer, {"n_steps": 4, "method": "gausslegendre"}
    with scorer.frozen():
        found = _integrate(scorer, start, scorer.base, "patches", 4)
        expected = LayerIntegratedGradients(scorer, layer).attribute(
            scorer.base, baselines=start, internal_batch_size=4, **options
        )
    assert torch.equal(found, expected[0].sum(0).float())
    assert not layer._forward_hooks
