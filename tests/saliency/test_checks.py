"""Scores of maps by hand, and a model that gets its own weights back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers import logprob
from workbench.errors import InputError, OptionError
from workbench.radiograph import fit_geometry
from workbench.saliency import checks, explain
from workbench.saliency.randomisation import randomised
from workbench.trace import ImageMap

#: 3 x 3 cells over 12 x 12 pixels; the greatest cell is (1, 2).
VALUES = [[1, 0, 2], [0, 3, 9], [4, -1, 0]]


def mask_of(*boxes, side: int = 12) -> np.ndarray:
    return checks.box_mask((side, side), list(boxes))


# ---------------------------------------------------------------- boxes


def test_box_mask_by_hand():
    mask = checks.box_mask((4, 5), [(1, 0, 3, 2), (3.2, 2.5, 3.4, 9)])
    assert mask.astype(int).tolist() == [
        [0, 1, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 0],
    ]
    assert not checks.box_mask((4, 5), []).any()
    assert checks.box_mask((4, 5), [(-9, -9, 99, 99)]).all()


@pytest.mark.parametrize(
    "box", [(5, 0, 7, 2), (0, 4, 2, 6), (-3, 0, -1, 2), (2, 1, 2, 3), (3, 1, 1, 3)]
)
def test_box_that_covers_nothing(box):
    with pytest.raises(InputError, match=r"covers no pixel of an image of \(4, 5\); expected"):
        checks.box_mask((4, 5), [box])


# ---------------------------------------------------------------- pointing


@pytest.mark.parametrize(
    ("box", "hit"),
    [
        ((8, 4, 12, 8), True),
        ((11, 7, 12, 8), True),
        ((0, 0, 8, 12), False),
        ((7, 3, 9, 5), True),
        ((8, 8, 12, 12), False),
    ],
)
def test_pointing_asks_whether_the_greatest_cell_touches_the_mask(box, hit, toys):
    assert checks.pointing(toys.map(VALUES), mask_of(box)) is hit


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_constant_map_points_nowhere_and_overlaps_nothing(value, toys):
    even = toys.map(np.full((3, 3), value))
    mask = mask_of((0, 0, 12, 12))
    assert checks.pointing(even, mask) is False
    assert checks.overlap(even, mask) == 0.0


# ---------------------------------------------------------------- energy


def test_energy_by_hand(toys):
    found = toys.map(VALUES)
    total = 1 + 2 + 3 + 9 + 4
    assert checks.energy(found, mask_of((8, 4, 12, 8))) == pytest.approx(9 / total)
    assert checks.energy(found, mask_of((4, 4, 12, 8))) == pytest.approx(12 / total)
    assert checks.energy(found, mask_of((10, 4, 12, 8))) == pytest.approx(4.5 / total)
    assert checks.energy(found, mask_of((0, 0, 12, 12))) == pytest.approx(1)
    assert checks.energy(found, mask_of((4, 8, 8, 12))) == 0


def test_energy_of_inside_and_outside_is_one(toys):
    found = toys.map(np.random.default_rng(1).normal(size=(4, 3)))
    mask = np.random.default_rng(2).random((12, 12)) > 0.6
    assert checks.energy(found, mask) + checks.energy(found, ~mask) == pytest.approx(1)


def test_map_that_speaks_against_everything_has_no_energy(toys):
    assert checks.energy(toys.map([[-1, -2], [-3, -4]]), mask_of((0, 0, 6, 6))) == 0


# ---------------------------------------------------------------- overlap


def test_overlap_by_hand(toys):
    found = toys.map(VALUES)
    assert checks.overlap(found, mask_of((8, 4, 12, 8))) == 1
    # Two cells, (1, 1) and (1, 2); the greatest two are (1, 2) and (2, 0).
    assert checks.overlap(found, mask_of((4, 4, 12, 8))) == pytest.approx(1 / 3)
    assert checks.overlap(found, mask_of((4, 8, 8, 12))) == 0
    assert checks.overlap(found, mask_of((0, 0, 12, 12))) == 1


def test_cells_above_a_quantile_by_hand(toys):
    found = toys.map(VALUES)  # 9 at (1, 2) and 4 at (2, 0) lie above three quarters of the cells
    assert checks.at_quantile(found, mask_of((8, 4, 12, 8)), 0.75) == (1 / 2, 2 / 3)
    assert checks.at_quantile(found, mask_of((8, 4, 12, 8)), 0.9) == (1, 1)
    assert checks.at_quantile(found, mask_of((4, 8, 8, 12)), 0.75) == (0, 0)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.75, 0.9, 0.95])
def test_without_ties_the_cells_above_the_quantile_are_marked(toys, quantile):
    values = np.random.default_rng(3).permutation(36).reshape(6, 6)
    mask = np.kron(np.random.default_rng(4).random((6, 6)) > 0.6, np.ones((2, 2))) > 0
    marked, inside = values > np.quantile(values, quantile), mask[::2, ::2]
    both, sizes = (marked & inside).sum(), marked.sum() + inside.sum()
    expected = both / (sizes - both), 2 * both / sizes
    assert checks.at_quantile(toys.map(values), mask, quantile) == expected


def test_cells_that_tie_share_the_last_places(toys):
    values = np.zeros((6, 6))
    values[:2] = 1  # 12 cells tie for the 9 places above the quantile 0.75
    mask = np.zeros((12, 12), bool)
    mask[:2, :8] = True  # 4 of them
    both = 4 * 9 / 12
    expected = both / (9 + 4 - both), 2 * both / (9 + 4)
    assert checks.at_quantile(toys.map(values), mask, 0.75) == pytest.approx(expected)
    # what F1 is on average when chance breaks the ties
    noise = np.random.default_rng(0).random((400, 6, 6)) / 9
    broken = [checks.at_quantile(toys.map(values + one), mask, 0.75)[1] for one in noise]
    assert np.mean(broken) == pytest.approx(expected[1], abs=0.02)
    assert checks.at_quantile(toys.map(np.ones((6, 6))), mask, 0.75) == (0, 0)


def test_lung_prior_marks_as_many_cells_as_any_map(toys):
    like = toys.map(np.zeros((12, 12)))
    prior = checks.lung_prior(like)
    assert (prior.values == prior.values.max()).mean() > 0.05
    lungs = np.zeros((12, 12), bool)
    lungs[prior.values == prior.values.max()] = True
    assert checks.at_quantile(prior, lungs, 0.95)[1] == pytest.approx(16 / (8 + lungs.sum()))


def test_cell_counts_for_overlap_when_half_of_it_is_covered(toys):
    found = toys.map(VALUES)
    assert checks.overlap(found, mask_of((8, 4, 12, 8), (4, 4, 5, 8))) == 1
    assert checks.overlap(found, mask_of((8, 4, 12, 8), (4, 4, 6, 8))) == pytest.approx(1 / 3)
    # No cell is half covered: every touched one counts.
    assert checks.overlap(found, mask_of((8, 4, 9, 8))) == 1


def test_overlap_is_that_of_the_ranks(toys):
    values = np.random.default_rng(1).random((6, 6))
    mask = np.random.default_rng(2).random((12, 12)) > 0.5
    one, other = (checks.overlap(toys.map(v), mask) for v in (values, np.exp(7 * values)))
    assert one == other > 0


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("at", range(48))
@pytest.mark.parametrize("across", [False, True])
def test_line_of_one_pixel_is_never_overlooked(at, across):
    """48 pixels in 3 cells: sampling at 8 points a cell would see every other line only."""
    mask = np.zeros((48, 48), bool)
    mask[at] = True
    mask = mask.T if across else mask
    cell = at // 16
    values = np.zeros((3, 3))
    values[(2, cell) if across else (cell, 2)] = 1
    found = line_map(values)
    assert checks.pointing(found, mask)
    assert checks.energy(found, mask) == pytest.approx(1 / 16, rel=1.1)
    assert 0 < checks.energy(found, mask) < 0.2
    assert checks.overlap(found, mask) > 0


def line_map(values) -> ImageMap:
    from workbench.radiograph import InputContract, Radiograph

    film = Radiograph(np.zeros((48, 48), np.float32), InputContract(source="toy", domain="phantom"))
    return ImageMap(values, fit_geometry(48, 48, 12), film, "toy", "nothing")


def test_single_pixel_and_scattered_pixels(toys):
    mask = np.zeros((48, 48), bool)
    mask[0, 47] = True
    values = np.zeros((3, 3))
    values[0, 2] = 1
    assert checks.pointing(line_map(values), mask)
    assert checks.energy(line_map(values), mask) == pytest.approx(1 / 256)


@pytest.mark.parametrize("score", [checks.pointing, checks.energy, checks.overlap])
def test_masks_that_say_nothing(score, toys):
    with pytest.raises(InputError, match="the mask covers nothing that the model saw"):
        score(toys.map(VALUES), np.zeros((12, 12), bool))
    with pytest.raises(InputError, match=r"the mask is \(12, 13\), the radiograph \(12, 12\)"):
        score(toys.map(VALUES), np.ones((12, 13), bool))


def test_mask_in_what_the_crop_cut_away(tiny_trace):
    """The film is 300 rows of 400 columns; the centre crop leaves columns 50 to 350."""
    found = explain(tiny_trace, token=2, method="attention")
    left, top, right, bottom = tiny_trace.layout.geometry.crop_box
    assert tiny_trace.image.size == (300, 400)
    assert (left, top, right, bottom) == pytest.approx((50, 0, 350, 300), abs=5)
    mask = np.zeros(tiny_trace.image.size, bool)
    mask[:, :44] = True
    with pytest.raises(InputError, match="check its size and the crop of the image"):
        checks.pointing(found, mask)
    mask[:, 70] = True
    assert 0 < checks.energy(found, mask) < 1


# ---------------------------------------------------------------- completeness and similarity


def test_completeness_by_hand(toys):
    found = toys.map([[3, 1]], scores={"difference": -5.0, "delta": 0.5})
    assert checks.completeness(found) == pytest.approx(0.1)
    assert checks.completeness(toys.map([[1]], scores={"difference": 0.0, "delta": 0.0})) == 0


def test_completeness_is_not_promised_by_all(toys):
    with pytest.raises(InputError, match=r"toy does not promise.*is for integrated gradients"):
        checks.completeness(toys.map(VALUES))


def test_similarity_is_of_ranks(toys):
    values = np.random.default_rng(0).normal(size=(4, 5))
    first = toys.map(values)
    assert checks.similarity(first, toys.map(np.exp(values))) == pytest.approx(1)
    assert checks.similarity(first, toys.map(-(values**3))) == pytest.approx(-1)
    assert checks.similarity(first, toys.map(np.ones((4, 5)))) is None
    # ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15)
    pair = toys.map([[1, 2, 3, 4]]), toys.map([[20, 10, 40, 30]])
    assert checks.similarity(*pair) == pytest.approx(0.6)


def test_maps_of_different_grids_cannot_be_compared(toys):
    with pytest.raises(InputError, match=r"maps of \(1, 4\) and \(2, 2\) cells cannot be compared"):
        checks.similarity(toys.map([[1, 2, 3, 4]]), toys.map([[1, 2], [3, 4]]))


# ---------------------------------------------------------------- fixed maps


def test_centre_prior_falls_from_the_middle(toys):
    found = checks.centre_prior(toys.map(np.zeros((5, 7))))
    assert found.grid == (5, 7)
    assert found.peak_cell == (2, 3)
    np.testing.assert_allclose(found.values, found.values[::-1, ::-1])
    assert (np.diff(found.values[2, 3:]) < 0).all()


def test_lung_prior_lies_on_the_lungs(toys, mini):
    found = checks.lung_prior(toys.map(np.zeros((16, 16)), side=mini.case.image.size[0]))
    assert (found.method, found.grid) == ("lung prior", (16, 16))
    assert found.values.min() >= 0 and found.values.max() <= 1 + 1e-6
    lungs = mini.case.anatomy["left lung"] | mini.case.anatomy["right lung"]
    share = checks.energy(found, lungs)
    assert share > 0.6 > lungs.mean()
    assert found.values[0, 0] == found.values[-1, -1] == 0
    coarse = checks.lung_prior(toys.map(np.zeros((8, 8))))
    pooled = found.values.reshape(8, 2, 8, 2).mean((1, 3))
    np.testing.assert_allclose(coarse.values, pooled, atol=1e-6)


def test_lung_prior_of_a_grid_finer_than_its_drawing(toys):
    found = checks.lung_prior(toys.map(np.zeros((256, 2)), side=256))
    assert np.isfinite(found.values).all()
    np.testing.assert_array_equal(found.values[::2], found.values[1::2])


# ---------------------------------------------------------------- random weights


@pytest.fixture
def weights(tiny_trace):
    """A copy of every weight, compared at the end to the bit."""
    network = tiny_trace.model.network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    yield before
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def changed(network, before) -> set[str]:
    return {n for n, value in network.state_dict().items() if not torch.equal(value, before[n])}


def test_random_weights_change_the_answer_and_go_again(toys, tiny_trace, weights):
    scorer = toys.of(tiny_trace, token=4)
    with randomised(tiny_trace.model):
        inside = float(scorer.scores(scorer.base))
    outside = float(scorer.scores(scorer.base))
    assert abs(inside - outside) > 0.1
    assert outside == pytest.approx(logprob(tiny_trace, token=4), abs=1e-4)


def test_weights_come_back_after_a_crash(tiny_trace, weights):
    with pytest.raises(KeyError, match="inside"), randomised(tiny_trace.model):
        raise KeyError("inside")


@pytest.mark.parametrize(
    ("part", "prefixes"),
    [
        ("language", ("llama.", "lm_head.")),
        ("projector", ("mm_projector.",)),
        ("vision", ("vision_tower.",)),
    ],
)
def test_only_the_matrices_of_a_part_become_random(part, prefixes, tiny_trace, weights):
    network = tiny_trace.model.network
    expected = {n for n, p in network.named_parameters() if p.ndim > 1 and n.startswith(prefixes)}
    assert expected
    with randomised(tiny_trace.model, (part,)):
        assert changed(network, weights) == expected
        for name in expected:
            now, then = network.state_dict()[name], weights[name]
            assert float(now.std()) == pytest.approx(float(then.std()), rel=0.2)


def test_all_parts_leave_vectors_alone(tiny_trace, weights):
    network = tiny_trace.model.network
    matrices = {name for name, p in network.named_parameters() if p.ndim > 1}
    with randomised(tiny_trace.model):
        assert changed(network, weights) == matrices


def test_noise_repeats_by_seed_and_leaves_the_global_state(toys, tiny_trace, weights):
    scorer, found = toys.of(tiny_trace, token=4), []
    before = torch.get_rng_state()
    for seed in (3, 3, 4):
        with randomised(tiny_trace.model, seed=seed):
            found.append(float(scorer.scores(scorer.base)))
    assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1] != found[2]


def test_prefixes_of_the_real_weights_are_put_aside(tiny_trace, weights):
    engine = tiny_trace.model.engine
    kept = engine.prefixes
    assert len(kept) > 0
    size = len(kept)
    written = tiny_trace.model.report(tiny_trace.image, max_new_tokens=5).text
    for crash in (False, True):
        try:
            with randomised(tiny_trace.model):
                assert len(engine.prefixes) == 0
                noise = tiny_trace.model.report(tiny_trace.image, max_new_tokens=5).text
                assert len(engine.prefixes) == 1
                assert noise != written
                if crash:
                    raise KeyError
        except KeyError:
            pass
        assert engine.prefixes is kept
        assert len(kept) == size
    assert tiny_trace.model.report(tiny_trace.image, max_new_tokens=5).text == written


def test_parts_that_do_not_exist(tiny_trace, monkeypatch):
    with (
        pytest.raises(OptionError, match="must be one of language, projector, vision; got 'heart'"),
        randomised(tiny_trace.model, ("vision", "heart")),
    ):
        pass
    network = tiny_trace.model.network
    monkeypatch.setattr(network, "is_quantized", True, raising=False)
    with (
        pytest.raises(InputError, match="quantised weights cannot be randomised"),
        randomised(tiny_trace.model),
    ):
        pass
