"""Probes on models whose answers are known beforehand, and once on mini."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

import workbench as wb
from workbench.cases import Case
from workbench.errors import InputError, OptionError
from workbench.findings import PAPER_FINDINGS
from workbench.generation import ModelIdentity
from workbench.hallucination import (
    phantom_cases,
    probe_polling,
    probe_presupposition,
    probe_self_consistency,
    probe_sycophancy,
    probe_wording,
    probe_wrong_patient,
    semantic_entropy,
)

TRUTHS = [
    {"pneumothorax": "present", "pleural effusion": "absent", "cardiomegaly": "absent"},
    {"pneumothorax": "absent", "pleural effusion": "absent", "consolidation": "uncertain"},
    {"pleural effusion": "present", "pneumothorax": "absent", "cardiomegaly": "present"},
]
CASES = [(number, truth) for number, truth in enumerate(TRUTHS)]


class Parrot:
    """A model that answers by a function of (image, question)."""

    identity = ModelIdentity("parrot", "0" * 64)

    def __init__(self, answer):
        self.answer = answer

    def ask_many(self, image, questions):
        return [SimpleNamespace(text=self.answer(image, question)) for question in questions]


def honest(image, question):
    """Answer from the truth of the case."""
    name = next(name for name in PAPER_FINDINGS if name in question)
    there = TRUTHS[image].get(name) == "present"
    if "absent" in question:
        return "No." if there else "Yes."
    return f"Yes, there is {name}." if there else f"No, there is no {name}."


YES = Parrot(lambda image, question: "Yes.")
HONEST = Parrot(honest)


def test_a_manifest_is_asked_about_row_by_row(tmp_path):
    from PIL import Image

    from workbench.data import build

    rows = ["file,pneumothorax,pleural effusion", "a.png,present,absent", "b.png,,uncertain"]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    for name in ("a.png", "b.png"):
        Image.new("L", (64, 64), 90).save(tmp_path / name)
    manifest = build("csv", source=tmp_path)
    seen = []
    model = Parrot(lambda image, question: seen.append((image.contract.source, question)) or "No.")
    found = probe_polling(model, manifest)
    assert {name for name, _ in seen} == {"a.png"}
    assert {answer.truth for answer in found.answers} == {"present", "absent"}
    assert {answer.finding for answer in found.answers} == {"pneumothorax", "pleural effusion"}


def test_polling_of_one_who_knows():
    found = probe_polling(HONEST, CASES)
    for strategy in ("random", "popular", "adversarial"):
        assert found[strategy, "accuracy"].value == found[strategy, "F1"].value == 1
        assert found[strategy, "yes-bias"].value == found[strategy, "unclear"].value == 0


def test_polling_of_one_who_always_says_yes():
    found = probe_polling(YES, CASES)
    # 1 present + 1 absent, 1 absent, 2 present + 1 absent (no more are known to be absent)
    assert found["random", "accuracy"].n == 6
    assert found["random", "accuracy"].value == pytest.approx(3 / 6)
    assert found["random", "yes-bias"].value == pytest.approx(3 / 6)
    assert found["random", "F1"].value == pytest.approx(2 * 3 / (2 * 3 + 3))


def test_polling_asks_only_what_is_known():
    asked = probe_polling(HONEST, CASES).answers
    assert {(item.case, item.finding) for item in asked} <= {
        (f"case {at}", name)
        for at, truth in enumerate(TRUTHS)
        for name, code in truth.items()
        if code in ("present", "absent")
    }


def test_negatives_by_strategy():
    truth = {"pneumothorax": "present", "pleural effusion": "absent", "consolidation": "absent"}
    together = {"pneumothorax": "present", "consolidation": "present", "pleural effusion": "absent"}
    often = {"pneumothorax": "absent", "pleural effusion": "present", "consolidation": "absent"}
    cases = [(0, truth), (1, together), *[(number, often) for number in range(2, 6)]]
    asked = probe_polling(YES, cases).answers
    first = {i.group: i.finding for i in asked if i.case == "case 0" and i.truth == "absent"}
    assert first["popular"] == "pleural effusion"
    assert first["adversarial"] == "consolidation"


def test_presupposition():
    assert probe_presupposition(HONEST, CASES)["side", "yields"].value == 0
    found = probe_presupposition(Parrot(lambda image, question: "On the left."), CASES)
    assert found["side", "yields"].value == found["side", "describes"].value == 1
    shy = probe_presupposition(Parrot(lambda image, question: "I cannot tell."), CASES)
    assert shy["describe", "unclear"].value == 1


def test_sycophancy_counts_only_what_was_right():
    def follower(image, question):
        name = next(name for name in PAPER_FINDINGS if name in question)
        if "attending saw no" in question:
            return f"No, there is no {name}."
        return f"Yes, there is {name}." if "attending" in question else honest(image, question)

    found = probe_sycophancy(Parrot(follower), CASES)
    assert found["said to be there", "follows"].value == 1
    assert found["said to be absent", "follows"].value == 1
    assert found["said to be there", "follows"].n == 5
    assert probe_sycophancy(HONEST, CASES)["said to be there", "follows"].value == 0
    assert probe_sycophancy(YES, CASES)["said to be there", "follows"].n == 0
    assert probe_sycophancy(YES, CASES)["said to be there", "follows"].value is None


def test_wording():
    found = probe_wording(HONEST, CASES)
    assert found["presence", "all agree"].value == found["negated", "right"].value == 1
    moody = Parrot(lambda image, question: "Yes." if "yes or no" in question else "No.")
    assert probe_wording(moody, CASES)["yes or no first", "order matters"].value == 1
    assert probe_wording(moody, CASES)["presence", "all agree"].value == 0
    assert probe_wording(YES, CASES)["negated", "right"].value == pytest.approx(5 / 8)


def test_semantic_entropy():
    assert semantic_entropy([{"nodule"}, {"nodule"}]) == 0
    assert semantic_entropy([{"nodule"}, set()]) == pytest.approx(math.log(2))
    assert semantic_entropy([{"a", "b"}, {"b", "a"}, {"a"}, {"b"}]) == pytest.approx(
        1.5 * math.log(2)
    )


def test_mini(mini):
    cases = phantom_cases(3, seed=6_000_000, size=mini.model.image_size)
    films = probe_wrong_patient(mini.model, cases)
    assert films["own image against another's", "told apart"].n == 3
    sampled = probe_self_consistency(mini.model, cases, samples=3)
    assert 0.5 <= sampled["all cases", "agreement"].value <= 1
    assert 0 <= sampled["all cases", "semantic entropy"].value <= math.log(3)
    cold = probe_self_consistency(mini.model, cases[:2], samples=2, temperature=1e-4)
    assert cold["all cases", "agreement"].value == 1
    asked = probe_polling(mini.model, cases)
    assert asked.settings["model"]["id"] == "mini"
    assert asked["random", "accuracy"].value > 0.5


def test_the_image_of_a_patient_is_no_wrong_one():
    """Of three images, two are of one patient: each is read with one of the other patient."""
    cases = [
        Case(f"{at}", who, {"nodule": "absent"}, {}, load=lambda at=at: at)
        for at, who in enumerate("aab")
    ]
    read = []

    class Model(Parrot):
        def report_many(self, images):
            return [SimpleNamespace(text="", prompt_ids=(), token_ids=()) for _ in images]

        def pixels(self, image):
            return image

        def read_with(self, images, *_):
            read.append(images)
            return SimpleNamespace(logprobs=np.array([[0.0], [-1.0]]))

    probe_wrong_patient(Model(None), cases)
    assert read == [[0, 2], [1, 2], [2, 0]]
    with pytest.raises(InputError, match="two patients or more"):
        probe_wrong_patient(Model(None), cases[:2])


def test_answers_about_one_patient_are_resampled_together():
    def probed(patients):
        cases = [
            Case(f"{at}", who, truth, {}, load=lambda at=at: at)
            for at, (who, truth) in enumerate(zip(patients, TRUTHS, strict=True))
        ]
        return probe_polling(YES, cases)["random", "F1"]

    apart, together = probed("abc"), probed("aaa")
    assert apart.value == together.value and apart.low < apart.high
    assert together.low == together.high == together.value


def test_results_are_shown():
    found = probe_polling(HONEST, CASES)
    assert list(found.to_frame().columns) == ["group", "measure", "value", "low", "high", "n"]
    assert "adversarial" in found._repr_html_()
    assert "3 cases" in found.plot().get_title(loc="left")
    with pytest.raises(KeyError, match="there is: "):
        found["random", "beauty"]


def test_errors_repair(mini):
    with pytest.raises(InputError, match="there is no case"):
        probe_polling(YES, [])
    with pytest.raises(InputError, match=r"case 0 is str; expected a phantom or a pair"):
        probe_polling(YES, ["film.png"])
    with pytest.raises(InputError, match="case 0 has code 'yes'"):
        probe_polling(YES, [(0, {"nodule": "yes"})])
    with pytest.raises(OptionError, match="unknown finding"):
        probe_wording(YES, CASES, findings=["gout"])
    with pytest.raises(OptionError, match="findings must be a list"):
        probe_wording(YES, CASES, findings="nodule")
    with pytest.raises(InputError, match="two patients or more"):
        probe_wrong_patient(mini.model, [wb.phantom(1)])
    with pytest.raises(OptionError, match="samples must be a whole number of 2 or more"):
        probe_self_consistency(mini.model, [wb.phantom(1)], samples=1)
