"""Stage 1: unknown carries no loss, and areas under curves are what scikit-learn says."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from workbench.cases import Case
from workbench.evaluation.intervals import area, estimate
from workbench.finetune.datasets import label_of
from workbench.finetune.finding_stage import FindingClassifier, class_weights
from workbench.finetune.measuring import aurocs, resampled_means
from workbench.model.prompt import IGNORE_LABEL


@pytest.fixture
def classifier(loaded):
    torch.manual_seed(0)
    return FindingClassifier(loaded.model.vision_tower, ("a", "b", "c"))


@pytest.fixture
def pixels():
    return torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def test_unknown_labels_carry_no_loss_and_no_gradient(classifier, pixels):
    known = torch.tensor([[1, 0, -100], [0, -100, -100]])
    loss = classifier(pixels, known)["loss"]
    loss.backward()
    assert classifier.bias.grad[2] == 0 and (classifier.bias.grad[:2] != 0).all()
    logits = classifier(pixels)["logits"].detach()
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[[0, 0, 1], [0, 1, 0]], torch.tensor([1.0, 0.0, 0.0])
    )
    assert float(loss.detach()) == pytest.approx(float(each), rel=1e-5)


def test_a_batch_without_any_label_is_no_error(classifier, pixels):
    assert classifier(pixels, torch.full((2, 3), -100))["loss"] == 0


def test_masks_teach_only_where_they_are_known(classifier, pixels):
    labels = torch.full((2, 3), -100)
    cover = torch.rand(2, 16, 3, generator=torch.Generator().manual_seed(2))
    known = torch.zeros(2, 3, dtype=torch.bool)
    assert classifier(pixels, labels, cover, known)["loss"] == 0
    known[0, 1] = True
    classifier(pixels, labels, cover, known)["loss"].backward()
    gradient = classifier.patch_head.bias.grad
    assert gradient[1] != 0 and gradient[0] == gradient[2] == 0


@pytest.mark.parametrize(
    ("codes", "unlisted", "wanted"),
    [
        ({"nodule": "present"}, "unknown", 1),
        ({"nodule": "absent"}, "unknown", 0),
        ({"nodule": "uncertain"}, "absent", -100),
        ({}, "unknown", -100),
        ({}, "absent", 0),
        ({"no finding": "present"}, "unknown", 0),
    ],
)
def test_unknown_is_negative_only_where_the_recipe_says_so(codes, unlisted, wanted):
    case = Case("a", "a", codes, {}, load=lambda: None)
    assert label_of(case, "nodule", unlisted) == wanted


def test_rare_findings_weigh_more_within_bounds():
    labels = np.array([[1, 1, -100]] + [[0, 1, -100]] * 99 + [[0, 0, 1]])
    weights = class_weights(labels)
    assert weights.tolist() == pytest.approx([8.0, np.sqrt(1 / 100), 1.0], abs=0.03)


def test_areas_are_those_of_scikit_learn_and_undefined_ones_stay_so():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (60, 3))
    scores = rng.normal(size=(60, 3)) + labels
    labels[::4, 0] = -100
    labels[:, 2] = 1
    found = aurocs(scores, labels)
    known = labels[:, 0] >= 0
    assert found[0] == pytest.approx(roc_auc_score(labels[known, 0], scores[known, 0]))
    assert np.isnan(found[2])


def test_resampled_areas_count_patients_as_often_as_they_were_drawn():
    rng = np.random.default_rng(1)
    labels = np.array([0, 1, 1, 0, 1, 0, -100])
    scores = rng.normal(size=7).round(1)
    weights = np.array([[1.0, 1, 1, 1, 1, 1, 1], [2, 0, 1, 1, 3, 1, 0]])
    known = labels != IGNORE_LABEL
    _, found = area(labels[known] == 1, scores[known], weights[:, known])
    for row, value in zip(weights, found, strict=True):
        repeat = np.repeat(np.arange(7), row.astype(int))
        kept = repeat[labels[repeat] >= 0]
        assert value == pytest.approx(roc_auc_score(labels[kept], scores[kept]))


def test_the_interval_holds_the_mean_and_follows_patients():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, (80, 2))
    scores = rng.normal(size=(80, 2)) + labels
    mean = float(np.mean(aurocs(scores, labels)))
    each, few = (
        estimate(mean, resampled_means(scores, labels, [str(n // size) for n in range(80)]), 80)
        for size in (1, 10)
    )
    assert each.low < mean < each.high
    assert (few.low, few.high) != (each.low, each.high)
