"""The randomisation check and the cautions that its verdicts become."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
import torch

import workbench as wb
import workbench.saliency.methods as known
from workbench.errors import InputError, OptionError
from workbench.saliency import METHODS, Method, check_target, explain, make_target
from workbench.saliency.gradients import Attribution
from workbench.saliency.randomisation import (
    PARTS,
    RANDOMISED_LIMIT,
    RandomisationCheck,
    randomisation,
)

FAILS = "fails the randomisation check"


@pytest.fixture(autouse=True)
def methods(monkeypatch):
    """Two methods whose verdicts are known: a picture of the film, and the weights themselves."""

    def picture(scorer, grid):
        """Brightness of each patch, whatever the model."""
        high = scorer.base.shape[-1] // grid[0]
        return Attribution(torch.nn.functional.avg_pool2d(scorer.base, high)[0, 0])

    def weights(scorer, grid, *, layer: int = 0):
        """Noise drawn from a weight, whatever the film."""
        weight = scorer.network.vision_tower.conv1.weight
        seed = int(weight.double().abs().sum() * 1e6) % 2**31
        return Attribution(torch.from_numpy(np.random.default_rng(seed).normal(size=grid)).float())

    for run, signed in ((picture, False), (weights, True)):
        name = run.__name__
        monkeypatch.setitem(METHODS, name, Method(name, run, "", signed, "none"))


# ---------------------------------------------------------------- the check


def test_picture_of_the_film_fails(tiny_trace):
    check = randomisation(tiny_trace, "left", method="picture")
    assert check.similarity == pytest.approx((1, 1, 1))
    assert not check.ok
    assert check.stages == ("language", "language + projector", "language + projector + vision")


def test_map_made_of_weights_passes_when_its_part_is_random(golden):
    check = randomisation(golden, token_phrase(golden), method="weights")
    assert check.similarity[:2] == pytest.approx((1, 1)), "the vision tower was still its own"
    assert abs(check.similarity[-1]) < 0.999
    assert len(check.maps) == 4
    np.testing.assert_array_equal(check.maps[0].values, check.maps[2].values)


def token_phrase(trace) -> str:
    return trace.text.split()[-1]


def test_ok_is_about_all_weights_and_either_sign(toys):
    def check(*similarity):
        return RandomisationCheck("toy", "nothing", PARTS, similarity, ())

    assert check(0.4, -0.3, 0.1).ok
    assert not check(0.9, 0.9, 0.1).ok
    assert check(0.2, -0.8, 0.1).worst == -0.8
    assert not check(0, 0, RANDOMISED_LIMIT).ok
    assert not check(0, 0, -0.8).ok


def test_constant_maps_neither_pass_nor_fail(toys):
    def check(*similarity):
        return RandomisationCheck("toy", "nothing", PARTS, similarity, ())

    assert check(None, None, None).ok is None
    assert check(None, None, None).worst is None
    assert check(None, 0.2, None).ok is True
    assert check(None, 0.7, None).ok is False
    assert "no verdict" in check(None, None, None).plot().get_title("left")


def test_signed_maps_are_compared_by_magnitude(tiny_trace, monkeypatch):
    """A map that only changes its sign has not changed."""
    weight = tiny_trace.model.network.lm_head.weight
    total = float(weight.double().sum())

    def flips(scorer, grid):
        sign = 1 if float(scorer.network.lm_head.weight.double().sum()) == total else -1
        return Attribution(sign * torch.arange(1.0, 17).reshape(grid))

    monkeypatch.setitem(METHODS, "flips", Method("flips", flips, "", True, ""))
    assert randomisation(tiny_trace, "left", method="flips").similarity[-1] == pytest.approx(1)


@pytest.mark.parametrize("method", ["attention", "rollout"])
def test_recorded_rows_are_recorded_again_with_random_weights(method, tiny_trace):
    check = randomisation(tiny_trace, "left", method=method)
    first, *others = check.maps
    np.testing.assert_allclose(
        first.values, explain(tiny_trace, "left", method=method).values, rtol=1e-5
    )
    for other in others:
        assert not np.allclose(other.values, first.values, rtol=1e-3)
    np.testing.assert_allclose(
        explain(tiny_trace, "left", method=method).values, first.values, rtol=1e-5
    )


def test_check_takes_the_map_that_is_there(tiny_trace):
    target = make_target(tiny_trace, tiny_trace.select("left"))
    original = explain(tiny_trace, "left", method="grad_cam")
    check = check_target(tiny_trace, target, method="grad_cam", original=original)
    assert check.maps[0] is original
    again = check_target(tiny_trace, target, method="grad_cam")
    assert again.similarity == pytest.approx(check.similarity)
    assert known.caution_of("grad_cam", tiny_trace.generation.model.sha256) is None


def test_options_reach_the_method(tiny_trace):
    check = randomisation(tiny_trace, "left", method="weights", layer=5)
    assert [found.settings["layer"] for found in check.maps] == [5] * 4


def test_table_and_figure(tiny_trace):
    check = randomisation(tiny_trace, "left", method="picture")
    frame = check.to_frame()
    assert frame["random"].tolist() == list(check.stages)
    assert frame["similarity"].tolist() == pytest.approx(list(check.similarity))
    ax = check.plot()
    assert "fails" in ax.get_title(loc="left")
    values = [1.0, *check.similarity]
    assert any(list(line.get_ydata()) == values for line in ax.lines)


# ---------------------------------------------------------------- cautions


def test_failing_verdict_is_written_on_maps_of_that_method_and_model_only(toys, tiny_trace):
    other = toys.trace("B_gqa_odd")
    assert explain(tiny_trace, "left", method="picture").caution is None
    randomisation(tiny_trace, "left", method="picture")
    caution = explain(tiny_trace, "is", method="picture").caution
    assert caution == known.caution_text(1.0, 1)
    assert caution.startswith(FAILS)
    assert "rank correlation 1.00, 1 case)" in caution
    assert explain(tiny_trace, "left", method="relevancy").caution is None
    assert explain(other, token=2, method="picture").caution is None
    known._session.clear()
    assert explain(tiny_trace, "left", method="picture").caution is None


def test_later_verdict_of_the_session_counts(tiny_trace, monkeypatch):
    sha256 = tiny_trace.generation.model.sha256
    known.remember("weights", sha256, known.caution_text(0.9, 2))
    assert "0.90, 2 cases)" in explain(tiny_trace, "left", method="weights").caution
    module = importlib.import_module("workbench.saliency.randomisation")
    monkeypatch.setattr(module, "similarity", lambda *_: 0.0)
    assert randomisation(tiny_trace, "left", method="weights").ok
    assert explain(tiny_trace, "left", method="weights").caution is None


def test_caution_is_drawn_in_the_figure(tiny_trace):
    def drawn(image_map) -> str:
        ax = image_map.plot()
        return " ".join(" ".join(text.get_text() for text in ax.texts).split())

    assert FAILS not in drawn(explain(tiny_trace, "left", method="picture"))
    randomisation(tiny_trace, "left", method="picture")
    assert FAILS in drawn(explain(tiny_trace, "left", method="picture"))


def test_caution_stands_beside_that_of_attention_itself(mini):
    sha256 = mini.trace.generation.model.sha256
    known.remember("attention", sha256, None)
    own = explain(mini.trace, "pleural effusion", method="attention").caution
    assert FAILS not in (own or "")
    known.remember("attention", sha256, known.caution_text(0.8, 3))
    caution = explain(mini.trace, "pleural effusion", method="attention").caution
    assert FAILS in caution
    assert (own or "") in caution
    rollout = explain(mini.trace, "pleural effusion", method="rollout").caution
    assert FAILS in rollout
    assert "no words at all" in rollout


# ---------------------------------------------------------------- what ships with mini


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Write a file beside the weights, and forget it afterwards."""

    def write(verdicts: dict) -> None:
        folder = tmp_path / "assets" / "mini"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / known.FILE).write_text(json.dumps(verdicts))
        known._shipped.cache_clear()

    monkeypatch.setattr(known, "files", lambda package: tmp_path)
    known._shipped.cache_clear()
    yield write
    known._shipped.cache_clear()


def test_shipped_verdicts_hold_for_their_weights_only(shipped, tiny_trace, toys):
    sha256 = tiny_trace.generation.model.sha256
    methods = {
        "picture": {"ok": False, "similarity": 0.87, "cases": 16},
        "weights": {"ok": True, "similarity": 0.02, "cases": 16},
    }
    shipped({"sha256": sha256, "seed": 10_000_000, "methods": methods})
    caution = explain(tiny_trace, "left", method="picture").caution
    assert caution == known.caution_text(0.87, 16)
    assert explain(tiny_trace, "left", method="weights").caution is None
    assert explain(tiny_trace, "left", method="relevancy").caution is None
    assert explain(toys.trace("B_gqa_odd"), token=2, method="picture").caution is None


def test_one_case_that_passes_does_not_hide_a_shipped_failure(shipped, tiny_trace):
    sha256 = tiny_trace.generation.model.sha256
    methods = {
        "failed": {"ok": False, "similarity": 0.87, "cases": 16},
        "passed": {"ok": True, "similarity": 0.1, "cases": 16},
    }
    shipped({"sha256": sha256, "methods": methods})
    known.remember("failed", sha256, None)
    assert known.caution_of("failed", sha256) == known.caution_text(0.87, 16)
    known.remember("passed", sha256, known.caution_text(0.7, 1))
    assert known.caution_of("passed", sha256) == known.caution_text(0.7, 1)
    known._session.clear()
    assert known.caution_of("passed", sha256) is None


def test_nothing_is_known_without_the_file(shipped, tiny_trace):
    assert known.caution_of("relevancy", tiny_trace.generation.model.sha256) is None


def test_recorded_table_is_the_file_that_is_read(shipped, tiny_trace):
    from workbench.bench.saliency_table import MapScore, tabulate

    sha256 = tiny_trace.generation.model.sha256
    scores = [
        MapScore(name, "method", 0, "nodule", True, 0.5, 0.5, 1.0, likeness)
        for name, likeness in (("picture", 0.8), ("picture", 0.9), ("weights", 0.1), ("fast", None))
    ]
    table = tabulate(
        scores,
        methods=("picture", "weights", "fast"),
        drawn=2,
        missed=0,
        seed=3,
        provenance={"sha256": sha256},
    )
    shipped(table.verdicts())
    assert known.caution_of("picture", sha256) == known.caution_text(0.85, 2)
    assert known.caution_of("weights", sha256) is None
    assert "fast" not in table.verdicts()["methods"]


# ---------------------------------------------------------------- errors


def test_check_needs_a_model_and_one_part_of_the_text(tiny_trace, tmp_path):
    loaded = wb.load_trace(tiny_trace.save(tmp_path))
    with pytest.raises(InputError, match="runs the model again, and a loaded trace has none"):
        randomisation(loaded, "left", method="picture")
    with pytest.raises(OptionError, match="name one part of the text, got phrase and finding"):
        randomisation(tiny_trace, "left", finding="nodule", method="picture")
    with pytest.raises(OptionError, match="unknown method 'lime'"):
        randomisation(tiny_trace, "left", method="lime")
    with pytest.raises(InputError, match="does not contain 'right'"):
        randomisation(tiny_trace, "right", method="picture")
