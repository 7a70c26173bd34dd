"""A planted slice comes out first; where nothing was planted, hardly anything is found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench.errors import OptionError
from workbench.review import queue
from workbench.review.readings import FINDINGS
from workbench.review.slices import find_slices


def test_the_planted_device_comes_first_and_is_the_only_one(lab):
    run, known = lab.planted(4000)
    found = queue(run, manifest=known).slices
    first = found.slices[0]
    assert (first.attribute, first.value, first.finding) == (
        "device", "portable C", "all findings",
    )  # fmt: skip
    assert {(item.attribute, item.value) for item in found.worse} == {("device", "portable C")}
    assert first.p < 1e-6
    assert first.rate.low > first.expected / first.chances


def test_without_a_planted_slice_family_wise_errors_are_rare(lab):
    wrong = 0
    for seed in range(20):
        run, known = lab.planted(400, seed=seed, rate=0.1, times=1.0)
        wrong += bool(queue(run, manifest=known).slices.worse)
    assert wrong <= 4


def synthetic(cases: int, rng: np.random.Generator):
    errors = np.zeros((cases, len(FINDINGS)), dtype=bool)
    chances = np.zeros_like(errors)
    chances[:, :3] = True
    errors[:, :3] = rng.random((cases, 3)) < (0.05, 0.1, 0.5)
    return errors, chances


def test_errors_and_expectations_add_up():
    rng = np.random.default_rng(3)
    errors, chances = synthetic(500, rng)
    table = pd.DataFrame({"view": rng.choice(["PA", "AP"], 500), "sex": ["female"] * 500})
    found = find_slices(errors, chances, table, np.arange(500))
    whole = [item for item in found.slices if item.finding == "all findings"]
    assert {item.attribute for item in whole} == {"view"}
    assert sum(item.errors for item in whole) == errors.sum()
    np.testing.assert_allclose(sum(item.expected for item in whole), errors.sum())
    assert sum(item.chances for item in whole) == chances.sum()
    np.testing.assert_allclose(whole[0].z, -whole[1].z)


def test_a_slice_of_difficult_findings_is_not_called_worse():
    rng = np.random.default_rng(4)
    errors, chances = synthetic(3000, rng)
    hard = rng.random(3000) < 0.3
    chances[hard, :2] = False  # only the finding that errs half of the time is known there
    table = pd.DataFrame({"source": np.where(hard, "hard", "easy")})
    found = find_slices(errors, chances, table, np.arange(3000))
    item = next(s for s in found.slices if s.value == "hard" and s.finding == "all findings")
    assert item.errors / item.chances > 0.4
    assert item.p > 0.05


def test_many_films_of_one_patient_do_not_count_as_many_patients():
    errors = np.zeros((400, len(FINDINGS)), dtype=bool)
    chances = np.zeros_like(errors)
    chances[:, 0] = True
    patients = np.arange(400)
    patients[:60] = np.arange(60) // 5  # twelve patients with five films each
    errors[:20, 0] = True  # four of them always wrong
    errors[60:90, 0] = True
    table = pd.DataFrame({"device": ["a"] * 60 + ["b"] * 340})
    careful = find_slices(errors, chances, table, patients).slices[0]
    careless = find_slices(errors, chances, table, np.arange(400)).slices[0]
    assert careful.value == careless.value == "a"
    assert careless.p < 1e-3 < careful.p


def test_small_slices_are_shown_but_not_tested():
    rng = np.random.default_rng(5)
    errors, chances = synthetic(300, rng)
    table = pd.DataFrame({"device": ["rare"] * 4 + ["usual"] * 296})
    found = find_slices(errors, chances, table, np.arange(300))
    rare = [item for item in found.slices if item.value == "rare"]
    assert rare and all(item.p is None for item in rare)
    assert found.to_frame()["p"].isna().sum() == len(rare)


def test_an_attribute_with_too_many_values_divides_nothing(lab):
    run, known = lab.planted(200)
    known = known.with_frame(known.frame.assign(operator=[f"o{n}" for n in range(200)]))
    divided = {item.attribute for item in queue(run, manifest=known).slices.slices}
    assert "device" in divided and "operator" not in divided


def test_kinds_have_their_own_chances(lab):
    run, known = lab.planted(1500, rate=0.1)
    found = queue(run, manifest=known)
    missed, false = (found.find_slices(kind=k) for k in ("missed finding", "false finding"))
    both = found.slices.to_frame().set_index(["attribute", "value", "finding"])
    one, two = (t.to_frame().set_index(["attribute", "value", "finding"]) for t in (missed, false))
    key = ("device", "portable C", "all findings")
    assert one.loc[key, "chances"] + two.loc[key, "chances"] == both.loc[key, "chances"]
    assert one.loc[key, "errors"] + two.loc[key, "errors"] == both.loc[key, "errors"]


def test_cases_are_divided_by_what_is_named(lab):
    run, known = lab.planted(200)
    found = queue(run, manifest=known)
    assert {item.attribute for item in found.find_slices(by=["device"]).slices} == {"device"}
    with pytest.raises(OptionError, match="cannot be divided by 'colour'; expected: source"):
        found.find_slices(by=["colour"])
    with pytest.raises(OptionError, match="unknown kind 'wrong'; expected one of: any"):
        found.find_slices(kind="wrong")
