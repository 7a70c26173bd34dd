"""Occlusion and kernel SHAP against brute force: every window, every cell, every forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.errors import OptionError
from workbench.saliency.gradients import baseline_pixels
from workbench.saliency.perturbation import Windows, kernel_shap, occlusion

LATTICES = [(12, 4, 8), (12, 3, 3), (14, 7, 13), (12, 2, 8), (10, 1, 5), (12, 6, 12), (12, 4, 12)]


def spread_by_hand(windows: Windows, falls: np.ndarray) -> np.ndarray:
    """Pixel by pixel: mean over the windows on it; cell by cell: mean over its pixels."""
    total, count = (np.zeros((windows.side, windows.side)) for _ in range(2))
    for row in range(windows.cells):
        for column in range(windows.cells):
            box = windows.box(row, column)
            total[box] += falls[row, column]
            count[box] += 1
    pixels, step = total / count, windows.stride
    return pixels.reshape(windows.cells, step, windows.cells, step).mean((1, 3))


def falls_by_hand(toy, windows: Windows, fill: str = "mean") -> np.ndarray:
    """Score the film and, one at a time, the film without each window."""
    blank = baseline_pixels(toy, fill)
    whole = float(toy.scores(toy.base))
    falls = np.zeros((windows.cells, windows.cells))
    for row in range(windows.cells):
        for column in range(windows.cells):
            changed, box = toy.base.clone(), windows.box(row, column)
            changed[0, 0][box] = blank[0, 0][box]
            falls[row, column] = whole - float(toy.scores(changed))
    return falls


# ---------------------------------------------------------------- windows


def test_boxes_by_hand():
    windows = Windows(12, 4, 8)
    assert (windows.cells, windows.margin) == (3, 2)
    assert windows.box(0, 0) == (slice(0, 6), slice(0, 6))
    assert windows.box(1, 2) == (slice(2, 10), slice(6, 14))
    assert np.zeros((12, 12))[windows.box(1, 2)].shape == (8, 6), "clipped at the edge"


@pytest.mark.parametrize("lattice", LATTICES)
def test_every_cell_is_in_the_middle_of_its_window(lattice):
    windows = Windows(*lattice)
    middles = (np.arange(windows.cells) + 0.5) * windows.stride
    for cell, middle in enumerate(middles):
        (rows, _) = windows.box(cell, 0)
        free = cell * windows.stride >= windows.margin
        start = rows.start if free else rows.stop - windows.window
        assert (start + rows.stop) / 2 == middle


@pytest.mark.parametrize("lattice", LATTICES)
def test_spread_is_the_mean_over_windows_pixel_by_pixel(lattice):
    windows = Windows(*lattice)
    falls = np.random.default_rng(3).normal(size=(windows.cells, windows.cells))
    np.testing.assert_allclose(windows.spread(falls), spread_by_hand(windows, falls), atol=1e-12)


@pytest.mark.parametrize("lattice", LATTICES)
def test_spread_keeps_equal_falls_and_adds_up(lattice):
    windows = Windows(*lattice)
    size = (windows.cells, windows.cells)
    np.testing.assert_allclose(windows.spread(np.full(size, 2.5)), 2.5)
    one, other = np.random.default_rng(4).normal(size=(2, *size))
    together = windows.spread(one) + windows.spread(other)
    np.testing.assert_allclose(windows.spread(one + other), together, atol=1e-12)


def test_spread_by_hand_in_the_corner():
    """Cells of 2, windows of 4: the corner's outer pixels lie in one window, its inner in two."""
    windows, falls = Windows(6, 2, 4), np.zeros((3, 3))
    falls[0, 0] = 1
    # Along one axis the pixels of the first cell have 1 and 1/2 of the first window.
    along = np.array([(1 + 1 / 2) / 2, (1 / 2 + 0) / 2, 0])
    np.testing.assert_allclose(windows.spread(falls), np.outer(along, along))


def test_windows_as_wide_as_their_cells_stay_where_they_are():
    falls = np.random.default_rng(5).normal(size=(4, 4))
    np.testing.assert_allclose(Windows(12, 3, 3).spread(falls), falls)


@pytest.mark.parametrize(
    ("side", "patches", "stride", "window"),
    [(256, 16, 8, 48), (512, 32, 8, 48), (64, 4, 8, 48), (224, 16, 7, 41), (14, 2, 7, 13)],
)
def test_default_is_half_a_patch_and_three_patches_where_that_fits(
    side, patches, stride, window, toys
):
    toy = toys.scorer(None, torch.zeros(1, 1, side, side))
    windows = Windows.of(toy, (patches, patches), None, None)
    assert (windows.stride, windows.window) == (stride, window)


def test_wider_steps_keep_the_window_of_three_patches(toys):
    toy = toys.scorer(None, torch.zeros(1, 1, 256, 256))
    assert Windows.of(toy, (16, 16), 16, None) == Windows(256, 16, 48)
    assert Windows.of(toy, (16, 16), 64, None) == Windows(256, 64, 64)


def test_default_on_mini_is_as_fine_as_the_usual_exhaustive_lattice(toys, mini):
    """31 x 31 windows and more, half a patch apart on a 16 x 16 grid."""
    scorer = toys.of(mini.trace, "pleural effusion")
    windows = Windows.of(scorer, mini.trace.layout.grid, None, None)
    assert windows.cells**2 == 1024 >= 961


@pytest.mark.parametrize(
    ("stride", "window"), [(0, 4), (5, 5), (4, 3), (4, 7), (4, 14), (24, 24), (-4, 4)]
)
def test_windows_that_do_not_fit(stride, window, toys):
    with pytest.raises(OptionError, match=r"stride must divide the image's side \(12\), and"):
        occlusion(toys.linear(12), (3, 3), stride=stride, window=window)


# ---------------------------------------------------------------- occlusion


@pytest.mark.parametrize(
    ("options", "lattice"),
    [
        ({}, (12, 2, 12)),
        ({"stride": 4}, (12, 4, 12)),
        ({"stride": 3, "window": 3}, (12, 3, 3)),
        ({"stride": 1, "window": 5, "batch_size": 7}, (12, 1, 5)),
        ({"stride": 4, "window": 12, "fill": "black"}, (12, 4, 12)),
    ],
)
def test_occlusion_is_every_window_scored_and_spread(options, lattice, toys):
    toy, windows = toys.bent(12), Windows(*lattice)
    found = occlusion(toy, (3, 3), **options)
    assert toy.forwards == found.scores["forwards"] == windows.cells**2 + 1
    falls = falls_by_hand(toy, windows, options.get("fill", "mean"))
    np.testing.assert_allclose(found.values, windows.spread(falls), atol=1e-5)


def test_occlusion_of_a_model_is_every_window_scored_and_spread(toys, tiny_trace):
    scorer = toys.of(tiny_trace, token=3)
    found = occlusion(scorer, tiny_trace.layout.grid, stride=16)
    windows = Windows(64, 16, 48)
    expected = windows.spread(falls_by_hand(scorer, windows))
    np.testing.assert_allclose(found.values, expected, atol=1e-4)


def test_batches_do_not_change_the_map(toys):
    one, other = (occlusion(toys.bent(12), (3, 3), batch_size=n).values for n in (1, 50))
    torch.testing.assert_close(one, other)


def test_unknown_fill(toys):
    with pytest.raises(OptionError, match="blur, black, mean, grey; got 'white'"):
        occlusion(toys.linear(12), (3, 3), fill="white")


# ---------------------------------------------------------------- kernel SHAP


def test_kernel_shap_of_a_sum_over_regions_is_exact(toys):
    toy = toys.linear(12)
    found = kernel_shap(toy, (3, 3), regions=(3, 4), samples=60)
    blank = baseline_pixels(toy, "mean")
    gain = (toy.weights * (toy.base - blank))[0, 0]
    expected = gain.reshape(3, 4, 4, 3).sum((1, 3))
    assert found.values.shape == (3, 4)
    np.testing.assert_allclose(found.values, expected, atol=1e-3)
    assert found.scores["forwards"] == toy.forwards


def test_kernel_shap_gives_interacting_regions_their_shapley_values(toys):
    """Worth of a set: 1 where both left regions are there; Shapley values by hand."""
    base = torch.ones(1, 1, 4, 4)
    base[..., 2:] = 3.0

    def score(pixels):
        there = ((pixels - 2).abs() > 0.5).float()  # the mean, 2, is "taken away"
        return there[:, 0, 0, 0] * there[:, 0, 3, 0]

    found = kernel_shap(toys.scorer(score, base), (2, 2), regions=(2, 2), samples=400)
    np.testing.assert_allclose(found.values, [[0.5, 0], [0.5, 0]], atol=0.06)


def test_kernel_shap_repeats_by_seed_and_leaves_the_global_state(toys):
    torch.manual_seed(3)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, again, other = (
        kernel_shap(toys.bent(12), (3, 3), regions=(4, 4), samples=40, seed=seed).values
        for seed in (5, 5, 6)
    )
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)
    torch.testing.assert_close(one, again)
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("regions", [(5, 3), (3, 5), (0, 3), (3, -1), (24, 24)])
def test_regions_that_do_not_divide(regions, toys):
    with pytest.raises(OptionError, match="do not divide an image of 12 pixels"):
        kernel_shap(toys.linear(12), (3, 3), regions=regions)


def test_no_sample(toys):
    with pytest.raises(OptionError, match="samples >= 1, got 0"):
        kernel_shap(toys.linear(12), (3, 3), regions=(2, 2), samples=0)
