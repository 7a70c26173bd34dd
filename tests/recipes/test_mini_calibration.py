"""What ships beside the weights of `mini` is fitted on every domain, and on no reserved seed."""

from __future__ import annotations

import json
from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest

from recipes.mini import calibrate
from workbench.hallucination.calibration import COMBINED, WITH_PROBE, Calibration, JudgedCase
from workbench.hallucination.detectors import (
    AUGMENTED_POLLING,
    DETECTORS,
    FREQUENCY,
    LINEAR_PROBE,
)
from workbench.hallucination.linear_probe import LinearProbe
from workbench.phantom import DOMAINS
from workbench.settings import FIRST_HELD_OUT_SEED

#: Needs sampled reports, which nobody waits for here.
SAMPLED = "self-consistency"


def judged(model, *, domain, n, seed, jobs, kept):
    """Cases whose state tells at once whether the one statement is false."""
    cases = []
    for one in range(seed, seed + n):
        random = np.random.default_rng(one)
        false = one % 2
        scores = random.normal(size=len(DETECTORS))
        scores[[DETECTORS.index(name) for name in (LINEAR_PROBE, SAMPLED)]] = np.nan
        state = np.add(random.normal(size=4), [6 * false - 3, 0, 0, 0])
        truth = "absent" if false else "present"
        cases.append(
            JudgedCase(one, domain, ("nodule",), (truth,), (tuple(scores),), (tuple(state),))
        )
    return cases


@pytest.fixture
def written(monkeypatch, tmp_path):
    monkeypatch.setattr(calibrate, "judge_cases", judged)
    model = SimpleNamespace(identity=SimpleNamespace(sha256="ab" * 32))
    calibrate.calibrate(model, tmp_path)
    return tmp_path


def test_files_hold_a_probe_that_tells_and_three_calibrations(written):
    probe = LinearProbe.from_dict(json.loads((written / "linear_probe.json").read_text()))
    assert probe.score(np.array([[3.0, 0, 0, 0], [-3.0, 0, 0, 0]])) @ [1, -1] > 4
    found = json.loads((written / "detector_calibration.json").read_text())
    assert list(found) == ["combination", AUGMENTED_POLLING, WITH_PROBE]
    each = {name: Calibration.from_dict(values) for name, values in found.items()}
    assert set(each["combination"].detectors) == {*COMBINED} - {SAMPLED, FREQUENCY}
    assert {one.sha256 for one in each.values()} == {"ab" * 32}
    # the column of the probe was not there before it was fitted, and decides where it is taken
    sure = np.abs(each[WITH_PROBE].probabilities - each[WITH_PROBE].false)
    guessed = np.abs(each["combination"].probabilities - each["combination"].false)
    assert sure.mean() < 0.1 < 0.4 < guessed.mean()


@pytest.mark.parametrize("seeds", [calibrate.PROBE, calibrate.CALIBRATION])
def test_every_domain_is_seen_and_no_reserved_seed(seeds):
    first, counts = seeds
    assert tuple(counts) == DOMAINS
    assert first + sum(counts.values()) < FIRST_HELD_OUT_SEED


def test_what_ships_takes_only_what_one_report_tells():
    shipped = resources.files("workbench") / "assets" / "mini" / "detector_calibration.json"
    for one in json.loads(shipped.read_text()).values():
        assert not {FREQUENCY, SAMPLED} & set(one["detectors"])
