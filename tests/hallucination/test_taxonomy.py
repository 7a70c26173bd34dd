"""Kinds of error against phantoms, reports and tables."""

from __future__ import annotations

import pytest

import workbench as wb
from workbench.errors import InputError, OptionError
from workbench.hallucination import Known, classify


def kinds(text, truth):
    return [(error.kind, error.finding) for error in classify(text, truth).errors]


def test_each_kind():
    truth = {
        "pneumothorax": "absent",
        "pulmonary edema": "present",
        "pleural effusion": Known("present", side="left", severity="small"),
        "consolidation": Known("present", side="right", zone="lower"),
        "nodule": "uncertain",
        "cardiomegaly": "present",
    }
    text = (
        "Small pneumothorax on the left. No pulmonary edema. There is a large right pleural "
        "effusion. Consolidation in the right upper lung zone. There is a nodule. Possible "
        "cardiomegaly."
    )
    assert kinds(text, truth) == [
        ("fabricated", "pneumothorax"),
        ("missed", "pulmonary edema"),
        ("wrong side", "pleural effusion"),
        ("wrong severity", "pleural effusion"),
        ("wrong zone", "consolidation"),
        ("overstated", "nodule"),
        ("understated", "cardiomegaly"),
    ]


@pytest.mark.parametrize("seed", range(6_000_000, 6_000_012))
def test_reference_report_of_a_phantom_has_no_error_of_presence(seed):
    case = wb.phantom(seed, size=64)
    wrong = [kind for kind, _ in kinds(case.report, case)]
    assert wrong == []


def test_unknown_is_no_error():
    assert kinds("There is a pneumothorax.", {"nodule": "absent"}) == []
    assert kinds("There is a pneumothorax.", {"pneumothorax": "not mentioned"}) == []
    assert kinds("There is a left effusion.", "There is an effusion.") == []
    assert kinds("There is an effusion.", "There is a left effusion.") == []


def test_reference_report_is_a_truth():
    assert kinds("There is a left effusion.", "There is a right effusion.") == [
        ("wrong side", "pleural effusion")
    ]
    assert kinds("Lungs are hyperinflated.", "No effusion. Nodule in the right lung.") == [
        ("missed", "nodule")
    ]


def test_spans_and_rates():
    texts = ["There is a nodule.", "No nodule.", "There is a nodule."]
    found = classify(texts, [{"nodule": "absent"}, {"nodule": "absent"}, {"nodule": "present"}])
    (error,) = found.errors
    assert texts[0][error.start : error.end] == "nodule"
    assert found.rate("fabricated").value == 0.5
    assert found.rate("missed").value == 0
    assert found.rate("wrong side").value is None
    assert found.per_report("fabricated").value == pytest.approx(1 / 3)
    assert found.rate("fabricated").n == 2
    assert "fabricated" in found._repr_html_()
    assert found.plot().get_xlabel()


def test_errors_repair():
    with pytest.raises(InputError, match="expected one truth for each report"):
        classify(["a", "b"], [{}])
    with pytest.raises(InputError, match="a truth is a phantom, a reference report or a table"):
        classify("a", 3)
    with pytest.raises(InputError, match="nodule has code 'maybe'"):
        classify("a", {"nodule": "maybe"})
    with pytest.raises(OptionError, match="unknown finding"):
        classify("a", {"gout": "present"})
