"""Collapse: one text for every image is said, whatever it scores; a model that looks is not."""

import numpy as np
import pytest

import workbench as wb

FINDINGS = ("pneumothorax", "pleural effusion", "nodule", "cardiomegaly", "consolidation")


def truth(n: int) -> dict[str, str]:
    """Every patient has a finding, in turn, of one of five sizes."""
    sizes = ("small", "moderate", "large", "tiny", "huge")
    return {
        str(at): f"There is a {sizes[at // 5 % 5]} {FINDINGS[at % 5]}. Case {at}."
        for at in range(n)
    }


def card(texts: dict[str, str], **options):
    return wb.evaluation.score(texts, truth(len(texts)), resamples=0, **options)


def test_one_constant_report_is_collapse():
    found = card({str(at): "No pneumothorax. Clear  lungs." for at in range(50)})
    assert found.variety.distinct == 1
    assert found.variety.effective == pytest.approx(1)
    assert found.variety.similarity == pytest.approx(1)
    assert found.variety.same_though_different == 1
    assert found.variety.collapsed
    assert any("1 distinct reports of 50 patients" in note for note in found.warnings)
    assert found.to_dict()["variety"]["collapsed"] is True
    assert "100% of pairs of patients" in found.summary_html()


def test_five_templates_drawn_by_lot_are_collapse():
    draws = np.random.default_rng(0).integers(0, 5, 60)
    found = card({str(at): f"There is a {FINDINGS[draw]}." for at, draw in enumerate(draws)})
    assert found.variety.distinct == 5
    assert 4.5 < found.variety.effective <= 5
    assert found.variety.same_though_different == pytest.approx(0.2, abs=0.05)
    assert found.variety.collapsed


def test_templates_that_follow_the_truth_are_none():
    found = card({str(at): f"There is a {FINDINGS[at % 5]}." for at in range(60)})
    assert found.variety.distinct == 5
    assert found.variety.same_though_different == 0
    assert not found.variety.collapsed
    assert not any("distinct reports" in note for note in found.warnings)


def test_images_of_one_patient_count_once():
    texts = {str(at): "Clear lungs." for at in range(30)}
    found = card(texts, patients={str(at): str(at // 6) for at in range(30)})
    assert found.variety.reports == 5
    assert not found.variety.collapsed  # too few patients to judge


def test_labels_have_no_words():
    labels = {str(at): {"nodule": "present"} for at in range(12)}
    assert card(labels).variety is None


def test_the_similarity_is_the_mean_cosine_of_word_counts():
    texts = ["a b b", "a c", "c c d", "a b"]
    found = card(dict(zip("0123", texts, strict=True))).variety
    vectors = np.array([[t.split().count(w) for w in "abcd"] for t in texts], float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    assert found.similarity == pytest.approx((cosines.sum() - 4) / 12)
    silent = card(dict(enumerate([*texts, "...", "!"]))).variety  # marks alone are no words
    assert silent.similarity == found.similarity


def test_mini_is_no_collapse():
    model = wb.load_model("mini", device="cpu", dtype="float32")
    cases = [wb.phantom(seed=6_000_000 + at, size=model.image_size) for at in range(24)]
    texts = {str(at): one.text for at, one in enumerate(model.report_many(cases, batch_size=12))}
    references = {str(at): case.report for at, case in enumerate(cases)}
    found = wb.evaluation.score(texts, references, resamples=0).variety
    assert found.distinct > 12 and not found.collapsed
