"""Occlusion from coarse to fine: within its budget, and the full map where the budget allows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from workbench.errors import OptionError
from workbench.saliency.perturbation import (
    adaptive_occlusion,
    coarse_windows,
    interpolated,
    next_windows,
    occlusion,
)

SIZES = range(1, 40)


def blob_scorer(toys, side: int, middle: tuple[int, int], radius: int):
    """The brightness of a disc, logistic: one lesion in an even film."""
    rows, columns = np.indices((side, side))
    disc = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 <= radius**2
    disc = torch.from_numpy(disc).float()

    def score(pixels):
        return 4 * torch.sigmoid((pixels[:, 0] * disc).sum((1, 2)) / disc.sum() * 6 - 3)

    return toys.scorer(score, (disc + 0.01 * toys.pixels(side)[0, 0])[None, None])


# ---------------------------------------------------------------- which windows


@pytest.mark.parametrize("cells", SIZES)
def test_no_window_is_far_from_a_coarse_one(cells):
    windows = coarse_windows(cells)
    assert len(windows) == pytest.approx(cells**2 / 7, abs=cells / 2 + 1)
    assert (cells // 2, cells // 2) in windows
    every = np.indices((cells, cells)).reshape(2, -1).T
    apart = np.linalg.norm(every[:, None] - np.array(windows)[None], axis=-1)
    assert apart.min(1).max() < 3.2
    between = np.linalg.norm(np.array(windows)[:, None] - np.array(windows)[None], axis=-1)
    assert (between[between > 0] > 2.2).all()


def test_coarse_windows_fall_on_and_between_patches_alike():
    windows = coarse_windows(32)
    for phase in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.mean([(row % 2, column % 2) == phase for row, column in windows])
        assert share == pytest.approx(0.25, abs=0.02)
    for line in range(32):
        assert any(row == line for row, _ in windows)
        assert any(column == line for _, column in windows)


@pytest.mark.parametrize("cells", [1, 2, 5, 8])
def test_next_windows_never_repeat_and_reach_all(cells):
    rng = np.random.default_rng(cells)
    known = {window: rng.normal() for window in coarse_windows(cells)}
    while len(known) < cells**2:
        count = min(5, cells**2 - len(known))
        more = next_windows(known, cells, count)
        assert len(set(more)) == count
        assert not known.keys() & set(more)
        known |= {window: rng.normal() for window in more}
    assert set(known) == {(row, column) for row in range(cells) for column in range(cells)}


def test_next_window_is_where_the_falls_differ():
    known = {window: 0.0 for window in coarse_windows(20)} | {(10, 10): 9.0}
    for row, column in next_windows(known, 20, 3):
        assert max(abs(row - 10), abs(column - 10)) <= 4


def test_next_window_is_far_from_known_ones_where_nothing_moves():
    corner = {(row, column): 1.0 for row in range(4) for column in range(4)}
    assert next_windows(corner, 12, 1) == [(11, 11)]


def test_windows_of_one_turn_do_not_touch_while_there_is_room():
    known = {window: float(window[0]) for window in coarse_windows(20)}
    more = next_windows(known, 20, 8)
    apart = [max(abs(a[0] - b[0]), abs(a[1] - b[1])) for n, a in enumerate(more) for b in more[:n]]
    assert min(apart) > 1


# ---------------------------------------------------------------- between windows


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_interpolation_keeps_what_is_known(scale):
    rng = np.random.default_rng(1)
    known = {window: scale * rng.normal() for window in coarse_windows(11)} | {(5, 6): 40 * scale}
    filled = interpolated(known, 11)
    assert np.isfinite(filled).all()
    for window, fall in known.items():
        assert filled[window] == fall


def test_interpolation_stays_between_its_neighbours():
    known = {(row, column): float(row) for row in (0, 4, 8) for column in (0, 4, 8)}
    filled = interpolated(known, 9)
    assert (np.diff(filled[:, 4]) > 0).all()
    assert filled.min() >= -1 and filled.max() <= 9


def test_interpolation_of_nothing_is_nothing():
    assert not interpolated({window: 0.0 for window in coarse_windows(7)}, 7).any()


def test_one_window_stands_for_all():
    np.testing.assert_allclose(interpolated({(1, 1): 2.5}, 3), 2.5)


# ---------------------------------------------------------------- maps


@pytest.mark.parametrize("budget", [6, 9, 20, 36, 37, 500])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_budget_is_kept_and_used(budget, batch_size, toys):
    toy = toys.bent(12)
    found = adaptive_occlusion(toy, (3, 3), budget=budget, batch_size=batch_size)
    assert found.values.shape == (6, 6)
    assert found.scores["forwards"] == toy.forwards == min(budget, 37)


@pytest.mark.parametrize(
    "options", [{}, {"stride": 4}, {"stride": 3, "window": 5}, {"fill": "blur"}]
)
def test_budget_for_every_window_gives_the_full_map(options, toys):
    full = occlusion(toys.bent(12), (3, 3), **options)
    found = adaptive_occlusion(toys.bent(12), (3, 3), budget=200, **options)
    np.testing.assert_allclose(found.values, full.values, atol=1e-5)


def test_budget_for_every_window_gives_the_full_map_of_a_model(toys, golden):
    scorer, grid = toys.of(golden, token=3), golden.layout.grid
    options = {"stride": 16}
    full, found = (run(scorer, grid, **options) for run in (occlusion, adaptive_occlusion))
    np.testing.assert_allclose(found.values, full.values, atol=1e-4)


def test_fraction_of_the_windows_finds_the_lesion_and_the_order(toys):
    rows, columns = np.indices((128, 128))
    weights = np.exp(-((rows - 40) ** 2 + (columns - 90) ** 2) / (2 * 25**2)) / 4000
    weights = torch.from_numpy(weights).float()

    def score(pixels):
        return (pixels[:, 0] * weights).sum((1, 2)).tanh()

    film = 1 + 0.1 * toys.pixels(128)
    film[..., 64:] += 1
    toy = toys.scorer(score, film)
    full = occlusion(toy, (16, 16), fill="grey").values
    found = adaptive_occlusion(toy, (16, 16), fill="grey", budget=200).values
    assert found.shape == full.shape == (32, 32)
    assert toy.forwards == 1025 + 200
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    assert abs(row * 4 + 2 - 40) <= 9 and abs(column * 4 + 2 - 90) <= 9
    assert spearmanr(found.ravel(), full.ravel()).statistic > 0.9


def test_default_budget_lasts_for_the_published_model(toys):
    """512 pixels, 32 x 32 patches: half-patch windows would need 585 for the coarse pass alone."""
    toy = blob_scorer(toys, 512, (100, 300), 40)
    found = adaptive_occlusion(toy, (32, 32))
    assert found.values.shape == (32, 32)
    assert toy.forwards == 200
    row, column = np.unravel_index(int(found.values.argmax()), (32, 32))
    assert (row - 6) ** 2 + (column - 18) ** 2 <= 9


def test_smallest_lattices_work(toys):
    for grid, cells in (((1, 1), 2), ((2, 2), 4)):
        found = adaptive_occlusion(toys.bent(12), grid, budget=200)
        assert found.values.shape == (cells, cells)
    assert adaptive_occlusion(toys.bent(12), (1, 1), stride=12).values.shape == (1, 1)


def test_budget_below_the_coarse_pass(toys):
    with pytest.raises(OptionError, match="alone needs 22 forward passes, the budget is 21"):
        adaptive_occlusion(toys.bent(12), (3, 3), stride=1, window=3, budget=21)
    with pytest.raises(OptionError, match="raise the budget or the stride"):
        adaptive_occlusion(toys.bent(12), (3, 3), budget=1)


def test_windows_must_fit(toys):
    with pytest.raises(OptionError, match="stride must divide the image's side"):
        adaptive_occlusion(toys.bent(12), (3, 3), stride=5)
