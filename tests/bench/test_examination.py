"""The examination, on models whose scores are known beforehand."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from workbench.bench import examine
from workbench.bench.exam_scores import ExamCase, score_cases, stated_places
from workbench.bench.examination import BARS
from workbench.bench.keys import Place, Radiographs, places
from workbench.cli import DONE, FAILED, main
from workbench.commands.phantom import save
from workbench.data import build
from workbench.errors import OptionError
from workbench.findings import PAPER_FINDINGS, PHANTOM_FINDINGS
from workbench.generation.options import DecodingSettings
from workbench.generation.result import ModelIdentity
from workbench.phantom.case import CT, DOMAINS, DRAWN, phantom, sample_scene
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
            seed, domain = re.search(r"seed (\d+) \((\w+)", image.contract.source).groups()
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
    settings = {"n": N, "seed": SEED, "progress": False, "batch_size": 8, "domains": DRAWN}
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


def test_chests_from_a_ct_are_a_domain_of_their_own():
    exam = examined(reference, domains=DOMAINS, n=6)
    assert tuple(exam.scores) == DOMAINS
    assert [score.seeds[0] for score in exam.scores.values()] == [SEED, SEED + 6, SEED + 12]
    assert exam.scores[CT].macro_f1.value == exam.scores[CT].laterality.value == 1.0
    assert [bar.metric for bar in exam.meets_bar() if bar.domain == CT] == [
        "macro_f1", "laterality", "false_per_normal",
    ]  # fmt: skip


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
    examine(model, n=37, seed=SEED, domains=DRAWN, batch_size=8, progress=False)
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
    for domain in DRAWN:
        assert keys <= set(score[domain])
        assert list(score[domain]["per_finding"]) == list(PHANTOM_FINDINGS)
        for item in score[domain]["per_finding"].values():
            assert {"precision", "recall", "f1", "n", "f1_low", "f1_high"} <= set(item)
            assert item["precision"] is None
        assert score[domain]["laterality"] is None
    assert (score["n"], score["seed"], score["model"]) == (N, SEED, "fake")
    assert len(score["bars"]) == sum(bar[1] in DRAWN for bar in BARS)


def test_provenance_comes_from_the_first_answer():
    class Known(Fake):
        def report_many(self, images, *, batch_size):
            return [answer("", f"p{at}") for at, _ in enumerate(images)]

    exam = examine(Known(None), n=2, seed=SEED, domains=DRAWN, progress=False)
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
        ({"n": 0}, "n must be a whole number of 1 or more"),
        ({"seed": -1}, "seed must be a whole number of 0 or more"),
        ({"batch_size": 0}, "batch_size must be a whole number of 1 or more"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        examined(reference, **options)


# ---------------------------------------------------------------- radiographs


class Reader(Fake):
    """A model that writes what `text` makes of the seed in the name of an image's file."""

    def report_many(self, images, *, batch_size):
        seeds = [int(re.search(r"(\d{4,})", image.contract.source)[1]) for image in images]
        return [answer(self.text(seed, "internal")) for seed in seeds]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exam")
    for seed in range(SEED, SEED + 8):
        save(phantom(seed, size=64), folder)
    build("phantom", source=folder).save(folder / "m.parquet")
    return folder / "m.parquet"


def read(manifest, text, root=None, **options):
    options = {"seed": SEED, "progress": False, "batch_size": 8} | options
    return examine(Reader(text), radiographs=Radiographs(manifest, root), **options)


def test_exported_phantoms_score_as_phantoms_do(manifest):
    def numbers(score):
        return {name: value for name, value in vars(score).items() if "seconds" not in name}

    for text in (reference, swapped, lambda *_: ALL):
        drawn = examined(text, n=8).scores["internal"]
        found = read(manifest, text).scores["radiographs"]
        assert numbers(found) == numbers(drawn)


def test_an_examination_of_radiographs_has_no_bars_and_no_seeds(manifest):
    found = read(manifest, reference)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (told["bars"], told["passed"], told["held_out"]) == ([], None, None)
    assert (told["source"], told["patients"], told["n"]) == ("m.parquet", 8, 8)
    assert "8 radiographs of m.parquet, 8 patients" in str(found) and "seed" not in str(found)
    assert found.plot().get_title(loc="left").endswith("8 patients")


def test_what_a_row_does_not_say_is_left_out_and_counted(manifest, tmp_path):
    frame = pd.read_parquet(manifest)
    frame["nodule"] = ["not mentioned", "uncertain", *["absent"] * 6]
    frame["patient_id"] = "one"
    frame["report_findings"] = frame["report_impression"] = None
    frame.to_parquet(tmp_path / "m.parquet")
    found = read(tmp_path / "m.parquet", lambda *_: ALL, root=manifest.parent)
    score = found.scores["radiographs"]
    assert score.per_finding["nodule"].left_out == score.doubtful == 2
    assert score.per_finding["nodule"].precision.value == 0
    assert score.per_finding["nodule"].precision.n == 6
    assert score.laterality.n == score.zone.n == 0  # no reference report tells where
    assert found.patients == 1 and "nodule 2; 2 findings stated" in str(found)
    assert score.macro_f1.low == score.macro_f1.value == score.macro_f1.high


def test_an_interrupted_examination_resumes(manifest, tmp_path):
    whole = read(manifest, reference)
    read(manifest, reference, n=4, batch_size=1, kept=tmp_path / "k.jsonl")
    again = read(manifest, reference, batch_size=1, kept=tmp_path / "k2.jsonl")
    stored = read(manifest, lambda *_: "never asked", batch_size=1, kept=tmp_path / "k2.jsonl")
    assert stored.cases == again.cases == whole.cases
    with pytest.raises(OptionError, match="batch_size"):
        read(manifest, reference, batch_size=2, kept=tmp_path / "k.jsonl")


def test_the_command_examines_mini_on_a_manifest(manifest, capsys):
    given = ["--manifest", str(manifest), "--root", str(manifest.parent), "--n", "2"]
    assert main(["evaluate", "model", *given, "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)
    assert found["source"] == "m.parquet" and found["radiographs"]["normals"] >= 0
    assert main(["evaluate", "model", "--manifest", "nowhere.parquet"]) == FAILED
    assert "no such manifest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["model", "--predictions", "m.csv", "--references", "m.csv"], "leave out what"),
        (["--references", "m.csv"], "required: --predictions"),
        (["--predictions", "m.csv", "--references", "m.csv", "--root", "."], "evaluate model"),
    ],
)
def test_options_of_models_and_of_reports_exclude_each_other(
    given, said, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.csv").write_text("id,text\na,b\n")
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", *given])
    assert said in capsys.readouterr().err
