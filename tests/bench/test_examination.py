"""The examination, on models whose scores are known beforehand."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from workbench.bench import examine
from workbench.bench.exam_scores import ExamCase, score_cases, stated_places
from workbench.bench.examination import BARS
from workbench.bench.keys import Place, places
from workbench.errors import OptionError
from workbench.findings import PAPER_FINDINGS, PHANTOM_FINDINGS
from workbench.generation.options import DecodingSettings
from workbench.generation.result import ModelIdentity
from workbench.phantom.case import sample_scene
from workbench.phantom.wording import write_report

N, SEED = 30, 5_000
ALL = (
    "There is an endotracheal tube in place. Heart size is enlarged. There is consolidation. "
    "There is atelectasis. There is pulmonary edema. There is a nodule. There is a pleural "
    "effusion. There is a pneumothorax."
)


@dataclass
class Fake:
    """A model that writes what `text` makes of a phantom's seed and domain."""

    text: object
    image_size: int = 64
    batches: tuple = ()

    def report_many(self, images, *, batch_size):
        self.batches = (*self.batches, (len(images), batch_size, images[0].size))
        answers = []
        for image in images:
            seed, domain = re.search(r"seed (\d+) \((\w+)\)", image.contract.source).groups()
            answers.append(answer(self.text(int(seed), domain)))
        return answers


def answer(text: str, prompt: str = "") -> SimpleNamespace:
    """What an examination reads of a generation."""
    return SimpleNamespace(
        text=text,
        model=ModelIdentity("fake", "ab" * 32),
        prompt=prompt,
        template="",
        settings=DecodingSettings(),
        versions={},
    )


def reference(seed: int, domain: str) -> str:
    lesions = sample_scene(seed, domain=domain).lesions
    return write_report(lesions, np.random.default_rng([seed, 5]), domain)


def swapped(seed: int, domain: str) -> str:
    other = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    text = reference(seed, domain)
    return re.sub(r"\b[Ll]eft\b|\b[Rr]ight\b", lambda match: other[match.group()], text)


def examined(text, **options):
    settings = {"n": N, "seed": SEED, "progress": False, "batch_size": 8}
    return examine(Fake(text), **{**settings, **options})


def drawn(domain: str) -> list[dict]:
    start = SEED + N * (domain == "external")
    return [places(sample_scene(seed, domain=domain).lesions) for seed in range(start, start + N)]


@pytest.fixture(scope="module")
def oracle():
    return examined(reference)


def test_oracle_scores_one_everywhere(oracle):
    for domain, score in oracle.scores.items():
        places = drawn(domain)
        assert score.macro_f1.value == score.macro_f1.low == score.macro_f1.high == 1.0
        assert score.laterality.value == score.laterality_focal.value == score.zone.value == 1.0
        assert score.false_per_normal.value == 0.0
        assert score.normals == sum(not place for place in places) > 0
        assert score.seconds_per_report > 0
        for name, item in score.per_finding.items():
            assert item.n == sum(name in place for place in places)
            if item.n:
                assert item.precision.value == item.recall.value == item.f1.value == 1.0
    assert oracle.passed
    assert all(bar.reached for bar in oracle.meets_bar())


def test_mute_model_has_recall_zero_and_no_precision():
    exam = examined(lambda seed, domain: "")
    for score in exam.scores.values():
        assert score.macro_f1.value == 0.0
        assert (score.laterality.value, score.laterality.n) == (None, 0)
        assert score.false_per_normal.value == 0.0
        for item in score.per_finding.values():
            assert item.precision.value is None
            if item.n:
                assert (item.recall.value, item.f1.value) == (0.0, 0.0)
    verdicts = {(bar.metric, bar.domain): bar.reached for bar in exam.meets_bar()}
    assert verdicts["macro_f1", "internal"] is False
    assert verdicts["laterality", "internal"] is None
    assert verdicts["false_per_normal", "internal"] is True
    assert not exam.passed


def test_always_positive_model_by_hand():
    exam = examined(lambda seed, domain: ALL)
    for domain, score in exam.scores.items():
        shares = {
            name: sum(name in place for place in drawn(domain)) / N for name in PHANTOM_FINDINGS
        }
        for name, share in shares.items():
            item = score.per_finding[name]
            assert item.recall.value == (1.0 if share else None)
            assert item.precision.value == pytest.approx(share)
            assert item.f1.value == pytest.approx(2 * share / (1 + share))
        six = [2 * shares[name] / (1 + shares[name]) for name in PAPER_FINDINGS]
        assert score.macro_f1.value == pytest.approx(np.mean(six))
        assert score.false_per_normal.value == 8.0
        assert score.laterality.value == 0.0


def test_swapped_sides_cost_laterality_and_nothing_else(oracle):
    exam = examined(swapped)
    for domain, score in exam.scores.items():
        assert score.macro_f1.value == 1.0
        assert score.zone.value == 1.0
        sides = [place.side for case in drawn(domain) for place in case.values() if place.side]
        assert score.laterality.n == len(sides)
        assert score.laterality.value == pytest.approx(sides.count("bilateral") / len(sides))
        assert score.laterality.low <= score.laterality.value <= score.laterality.high
        assert score.laterality_focal.value < score.laterality.value


def hand_cases() -> list[ExamCase]:
    left, right = Place("left", "upper"), Place("right", "lower")
    rows = [
        ({"consolidation": left}, {"consolidation": left}),
        ({"consolidation": left}, {"consolidation": Place("left", None)}),
        ({"consolidation": right}, {}),
        ({}, {"consolidation": left, "pneumonia": right}),
        ({}, {}),
        ({"cardiomegaly": Place(None, None)}, {"cardiomegaly": Place(None, None)}),
    ]
    return [ExamCase("internal", i, "", t, s) for i, (t, s) in enumerate(rows)]


def test_scores_by_hand():
    score = score_cases(hand_cases(), seeds=(0, 6), seconds=3.0)
    item = score.per_finding["consolidation"]
    assert item.n == 3
    assert item.precision.value == pytest.approx(2 / 3)
    assert item.recall.value == pytest.approx(2 / 3)
    assert item.f1.value == pytest.approx(2 / 3)
    assert (item.laterality.value, item.laterality.n) == (1.0, 2)
    assert (item.zone.value, item.zone.n) == (0.5, 2)
    assert score.per_finding["cardiomegaly"].laterality.value is None
    assert score.per_finding["nodule"].f1.value is None
    assert score.macro_f1.value == pytest.approx((2 / 3 + 1) / 2)
    assert (score.false_per_normal.value, score.normals) == (1.0, 2)
    assert score.seconds_per_report == 0.5


def test_intervals_repeat_and_no_case_is_no_number():
    one, two = (score_cases(hand_cases(), seeds=(0, 6), seconds=1.0) for _ in range(2))
    assert one == two
    nothing = score_cases([], seeds=(0, 0), seconds=0.0)
    assert nothing.macro_f1.value is None
    assert nothing.seconds_per_report is None


def test_uncertain_and_unmentioned_are_not_stated():
    assert stated_places("Possible nodule. No effusion. Heart size is normal.") == {}
    assert stated_places("No acute cardiopulmonary disease.") == {}
    assert stated_places("Left effusion.") == {"pleural effusion": Place("left", None)}


def test_seeds_batches_and_memory_are_as_documented():
    seen = []
    model = Fake(lambda seed, domain: seen.append((domain, seed)) or "")
    examine(model, n=37, seed=SEED, batch_size=8, progress=False)
    internal = [("internal", SEED + at) for at in range(37)]
    assert seen == internal + [("external", SEED + 37 + at) for at in range(37)]
    assert [batch[0] for batch in model.batches] == [32, 5, 32, 5]
    assert {batch[1:] for batch in model.batches} == {(8, (64, 64))}


def test_training_seeds_are_flagged(oracle, caplog):
    assert not oracle.held_out
    assert oracle.to_dict()["held_out"] is False
    assert "may have been trained on" in oracle.warnings[0]
    examined(reference, n=1)
    assert "not held out" in caplog.text


def test_dict_is_json_with_the_stated_keys():
    score = json.loads(json.dumps(examined(lambda *_: "").to_dict(), allow_nan=False))
    keys = {"macro_f1", "per_finding", "laterality", "false_per_normal", "seconds_per_report"}
    for domain in ("internal", "external"):
        assert keys <= set(score[domain])
        assert list(score[domain]["per_finding"]) == list(PHANTOM_FINDINGS)
        for item in score[domain]["per_finding"].values():
            assert {"precision", "recall", "f1", "n", "f1_low", "f1_high"} <= set(item)
            assert item["precision"] is None
        assert score[domain]["laterality"] is None
    assert (score["n"], score["seed"], score["model"]) == (N, SEED, "fake")
    assert len(score["bars"]) == len(BARS)


def test_provenance_comes_from_the_first_answer():
    class Known(Fake):
        def report_many(self, images, *, batch_size):
            return [answer("", f"p{at}") for at, _ in enumerate(images)]

    exam = examine(Known(None), n=2, seed=SEED, progress=False)
    kept = exam.to_dict()
    assert (kept["model"], kept["sha256"], kept["prompt"]) == ("fake", "ab" * 32, "p0")


def test_frame_has_a_row_for_each_finding(oracle):
    frame = oracle.to_frame()
    assert len(frame) == 2 * (len(PHANTOM_FINDINGS) + 1)
    assert {"domain", "finding", "precision", "f1_low", "laterality", "n"} <= set(frame.columns)


def test_text_table_and_plot_show_every_number(oracle):
    text = str(oracle)
    for name in PHANTOM_FINDINGS:
        assert name in text
        assert name in oracle._repr_html_()
    assert "internal macro_f1 1.000 >= 0.85: reached" in text
    ax = oracle.plot()
    assert ax.get_xlabel() == "F1 with 95 % interval"
    assert len(ax.get_yticklabels()) == len(PHANTOM_FINDINGS)
    assert "NOT held out" in ax.get_title(loc="left")
    assert oracle.plot(ax) is ax


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be 1 or more"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        examined(reference, **options)
