"""Put a region back to normal: the truth of a phantom, and paint that invents nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import workbench as wb
from tests.helpers import logprob
from workbench.errors import InputError, OptionError
from workbench.saliency import Counterfactual, counterfactual, finding_target, rests_on
from workbench.saliency.counterfactual import inpaint
from workbench.saliency.scorer import Scorer

FINDING = "pleural effusion"


@pytest.fixture(scope="module")
def told(mini) -> Counterfactual:
    return counterfactual(mini.trace, finding=FINDING, phantom=mini.case)


def ramp(rows: int = 17, columns: int = 23) -> np.ndarray:
    row, column = np.indices((rows, columns))
    return (0.1 + 0.02 * row + 0.013 * column).astype(np.float32)


def box(shape, rows, columns) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


# ---------------------------------------------------------------- the truth of a phantom


def test_removing_the_finding_takes_it_out_of_the_report(told):
    assert told.changes[FINDING] == ("present", "absent")
    assert told.effect > 1
    assert told.effect == pytest.approx(told.score_before - told.score_after)
    assert told.how == "phantom truth"


def test_scores_are_those_of_the_two_films(told, mini):
    target = finding_target(mini.trace, FINDING)
    scorer = Scorer(mini.trace, target)
    without = mini.model.pixels(mini.case.without(FINDING).image)
    assert told.target == target.name
    assert told.score_before == pytest.approx(float(scorer.scores(scorer.base)), abs=1e-3)
    assert told.score_after == pytest.approx(float(scorer.scores(without)), abs=1e-3)


def test_only_the_finding_was_changed(told, mini):
    np.testing.assert_array_equal(told.region, mini.case.masks[FINDING])
    moved = np.abs(told.image.pixels - told.changed.pixels)
    assert moved[told.region].mean() > 10 * moved[~told.region].mean()


def test_table_lists_every_finding_of_both_reports(told):
    frame = told.to_frame().set_index("finding")
    assert bool(frame.loc[FINDING, "changed"])
    assert frame.loc[FINDING, ["before", "after"]].tolist() == ["present", "absent"]
    changed = frame.index[frame["changed"]].tolist()
    assert changed == list(told.changes)


def test_both_reports_are_shown(told):
    html = told._repr_html_()
    assert told.before.text in html and told.after.text in html
    figure = told.plot()
    words = [text.get_text() for ax in figure.axes for text in ax.texts]
    words += [text.get_text() for text in figure.texts]
    assert any(FINDING in text for text in words)


def test_another_phrase_can_be_scored(mini):
    told = counterfactual(mini.trace, finding=FINDING, phantom=mini.case, phrase="No pneumothorax.")
    assert "No pneumothorax." in told.target
    assert told.score_before == pytest.approx(logprob(mini.trace, "No pneumothorax."), abs=1e-3)


def test_contrast_takes_the_place_of_the_opposite(mini):
    told = counterfactual(mini.trace, finding=FINDING, phantom=mini.case, contrast="no effusion")
    assert told.target.endswith("against \u201cno effusion\u201d")


def test_phantom_that_was_not_traced(mini):
    other = wb.phantom(8, findings=[FINDING], size=mini.model.image_size)
    with pytest.raises(InputError, match=r"of 'phantom seed 7.*phantom is 'phantom seed 8"):
        counterfactual(mini.trace, finding=FINDING, phantom=other)
    smaller = wb.phantom(7, findings=[FINDING], size=128)
    with pytest.raises(InputError, match="give the phantom that was traced"):
        counterfactual(mini.trace, finding=FINDING, phantom=smaller)


def test_finding_that_the_phantom_does_not_have(mini):
    with pytest.raises(OptionError, match="phantom 7 has no nodule; it has: pleural effusion"):
        counterfactual(mini.trace, finding="nodule", phantom=mini.case)
    with pytest.raises(OptionError, match="name the finding to take away"):
        counterfactual(mini.trace, phantom=mini.case)


# ---------------------------------------------------------------- paint


def test_paint_over_a_ramp_is_the_ramp():
    film = ramp()
    holes = film.copy()
    region = box(film.shape, (4, 11), (3, 19)) | box(film.shape, (12, 15), (8, 9))
    holes[region] = 7
    np.testing.assert_allclose(inpaint(holes, region), film, atol=1e-5)


def test_every_painted_pixel_is_the_mean_of_its_neighbours():
    film = np.random.default_rng(0).random((9, 11)).astype(np.float32)
    region = np.random.default_rng(1).random((9, 11)) > 0.4
    painted = inpaint(film, region)
    np.testing.assert_array_equal(painted[~region], film[~region])
    for row, column in np.argwhere(region):
        around = [
            painted[r, c]
            for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
            if 0 <= r < 9 and 0 <= c < 11
        ]
        assert painted[row, column] == pytest.approx(np.mean(around), abs=1e-5)


def test_paint_stays_between_the_edges_of_the_region():
    film = np.random.default_rng(0).random((20, 20)).astype(np.float32)
    region = box(film.shape, (5, 15), (5, 15))
    painted = inpaint(film, region)[region]
    assert film.min() <= painted.min() <= painted.max() <= film.max()
    assert painted.std() < film[region].std()


def test_corner_and_stripe_can_be_painted():
    film = ramp()
    corner = inpaint(film, box(film.shape, (0, 3), (0, 3)))
    assert np.isfinite(corner).all()
    np.testing.assert_allclose(
        inpaint(np.full((6, 6), 0.4, np.float32), box((6, 6), (2, 4), (0, 6))), 0.4, atol=1e-6
    )


@pytest.mark.parametrize("fill", ["inpaint", "blur"])
def test_mask_changes_the_film_inside_only(fill, tiny_trace):
    film = tiny_trace.image.pixels
    mask = box(film.shape, (100, 180), (120, 260))
    told = counterfactual(tiny_trace, mask=mask, phrase="left", fill=fill)
    np.testing.assert_array_equal(told.changed.pixels[~mask], film[~mask])
    assert not np.array_equal(told.changed.pixels[mask], film[mask])
    assert told.how == fill
    assert told.score_before == pytest.approx(logprob(tiny_trace, "left"), abs=1e-4)
    assert told.score_before != told.score_after


def test_decoding_settings_of_the_trace_are_kept(tiny_trace):
    mask = box(tiny_trace.image.size, (100, 180), (120, 260))
    told = counterfactual(tiny_trace, mask=mask)
    assert told.after.settings == told.before.settings
    assert len(told.after.token_ids) <= told.before.settings.max_new_tokens == 9


def test_sampled_report_is_told_with_its_own_seed(tiny_trace):
    model, film = tiny_trace.model, tiny_trace.image
    written = model.report(film, temperature=0.9, seed=5, max_new_tokens=6)
    trace = model.trace(film, written)
    untouched = box(film.size, (0, 1), (0, 1))
    told = counterfactual(trace, mask=untouched)
    assert told.after.settings.seed == 5
    assert told.after.text == written.text, "one painted pixel in the cropped corner is no change"
    assert told.effect == pytest.approx(0, abs=1e-4)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((300, 400), bool), r"must be \(300, 400\).*got \(300, 400\) with 0 pixels"),
        (np.ones((300, 400), bool), "cover a part of it; got .* with 120000 pixels"),
        (np.ones((400, 300), bool), r"got \(400, 300\) with"),
        (np.ones(5), r"got \(5,\) with 5 pixels"),
    ],
)
def test_masks_that_cannot_be_painted(mask, message, tiny_trace):
    with pytest.raises(InputError, match=message):
        counterfactual(tiny_trace, mask=mask)


def test_unknown_fill(tiny_trace):
    mask = box(tiny_trace.image.size, (100, 180), (120, 260))
    with pytest.raises(OptionError, match="fill must be one of inpaint, blur, noise; got 'black'"):
        counterfactual(tiny_trace, mask=mask, fill="black")


def test_neither_or_both(tiny_trace, mini):
    message = "either the phantom and its finding, or a mask of the image"
    with pytest.raises(OptionError, match=message):
        counterfactual(tiny_trace, finding=FINDING)
    with pytest.raises(OptionError, match=message):
        mask = mini.case.masks[FINDING]
        counterfactual(mini.trace, finding=FINDING, phantom=mini.case, mask=mask)


def test_answers_and_loaded_traces_cannot_be_told_again(tiny_trace, tmp_path):
    mask = box(tiny_trace.image.size, (100, 180), (120, 260))
    answer = replace(tiny_trace, generation=replace(tiny_trace.generation, task="question"))
    with pytest.raises(OptionError, match="and the trace is of a question; trace one of those"):
        counterfactual(answer, mask=mask)
    with pytest.raises(InputError, match="a loaded trace has none"):
        counterfactual(wb.load_trace(tiny_trace.save(tmp_path)), mask=mask)


class Planted:
    """Says what it says because of one bright square."""

    SQUARE = (slice(40, 60), slice(10, 30))

    def __init__(self, trace, target):
        self.model = SimpleNamespace(processor=lambda image, fit: image.pixels)

    def of_image(self, pixels):
        return float(pixels[0][self.SQUARE].mean()) - 0.8


@pytest.mark.parametrize(
    ("region", "rests"),
    [
        (Planted.SQUARE, True),
        ((slice(35, 65), slice(5, 35)), True),
        ((slice(70, 90), slice(70, 90)), False),  # somewhere else
        ((slice(10, 80), slice(0, 90)), None),  # too large to be moved off itself
    ],
)
def test_a_report_rests_on_what_was_planted(monkeypatch, region, rests):
    monkeypatch.setattr(sys.modules["workbench.saliency.counterfactual"], "Scorer", Planted)
    pixels = np.random.default_rng(0).random((100, 100), np.float32) / 2
    pixels[Planted.SQUARE] = 0.9
    trace = SimpleNamespace(
        image=wb.load_radiograph(pixels),
        layout=SimpleNamespace(geometry=SimpleNamespace(fit="crop")),
    )
    mask = np.zeros((100, 100), bool)
    mask[region] = True
    found = {rests_on(trace, None, mask, seed=seed) for seed in range(5)}
    assert found == {rests}
