"""A finding that phantoms draw only when asked: where it is, and that nothing else moves."""

import numpy as np
import pytest

from workbench.findings import ON_REQUEST, PHANTOM_FINDINGS
from workbench.phantom.case import phantom, sample_scene
from workbench.reports import label


@pytest.mark.parametrize("seed", range(4))
def test_the_rest_of_the_chest_is_as_it_was(seed):
    names = [lesion.finding for lesion in sample_scene(seed).lesions]
    plain = phantom(seed, size=128)
    added = phantom(seed, findings=[*names, "fracture"], size=128)
    assert np.array_equal(phantom(seed, findings=names, size=128).image.pixels, plain.image.pixels)
    assert [vars(a) for a in added.lesions[:-1]] == [vars(b) for b in plain.lesions]
    mask = added.masks["fracture"]
    change = np.abs(added.image.pixels - plain.image.pixels)
    assert change[mask].mean() > 0.08 and change[mask].mean() > 20 * change[~mask].mean()
    assert np.array_equal(added.without("fracture").image.pixels, plain.image.pixels)


def test_no_seed_draws_it_by_chance():
    for seed in range(300):
        assert not {lesion.finding for lesion in sample_scene(seed).lesions} & set(ON_REQUEST)
    assert set(phantom(5, size=64).labels) == set(PHANTOM_FINDINGS)


@pytest.mark.parametrize("side", ["left", "right"])
def test_it_lies_on_its_side_in_the_ribs(side):
    for seed in range(5):
        case = phantom(seed, findings=["fracture"], side=side, size=256)
        _, columns = np.nonzero(case.masks["fracture"])
        middle = 256 * case.scene.anatomy["midline"]
        assert ((columns < middle) == (side == "right")).all()
        assert case.labels["fracture"] == "present"


def test_reports_say_it_and_its_side():
    for seed in range(12):
        for domain in ("internal", "external"):
            case = phantom(seed, findings=["fracture", "nodule"], domain=domain, size=64)
            read = label(case.report)
            assert read.code("fracture") == "present"
            assert read["fracture"].side == case.lesions[-1].side
            assert "no acute" not in case.report.lower()
            assert label(phantom(seed, domain=domain, size=64).report).code("fracture") == (
                "not mentioned"
            )


def test_questions_about_it_are_answered():
    asked = [
        q for seed in range(30) for q in phantom(seed, findings=["fracture"], size=64).questions
    ]
    mine = [q for q in asked if q.finding == "fracture"]
    assert mine and all("fracture" in q.answer for q in mine)
    assert any(q.answer.startswith("Yes, there is a") for q in mine)
