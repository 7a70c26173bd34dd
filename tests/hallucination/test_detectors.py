"""Detectors, the area under their curve, and their table."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import workbench as wb
from workbench._repr import to_json
from workbench.bench import benchmark_hallucination
from workbench.bench.detector_rows import HELD_OUT, HELD_OUT_PROBE
from workbench.bench.detector_table import CROSS_FITTED, tabulate
from workbench.bench.detectors import finding_frequencies, judge_case
from workbench.bench.keys import PhantomKey
from workbench.cli import DONE, FAILED, main
from workbench.errors import InputError, OptionError
from workbench.evaluation.intervals import area, area_estimate
from workbench.findings import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN
from workbench.hallucination import DETECTORS, Calibration, LinearProbe, detect, semantic_entropy
from workbench.hallucination.ablations import augmented_images
from workbench.hallucination.calibration import COMBINED, JudgedCase, Statements
from workbench.hallucination.detectors import sampled_labels


def drawn(seed: int, n: int = 60):
    rng = np.random.default_rng(seed)
    false = rng.random(n) < 0.4
    scores = np.round(rng.normal(size=n) + false, 1)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=50).astype(float)
    return false, scores, weights


def test_area_on_resamples_is_that_of_scikit_learn():
    false, scores, weights = drawn(3)
    point, found = area(false, scores, weights)
    assert point == roc_auc_score(false, scores)
    for row, value in zip(weights, found, strict=True):
        assert value == pytest.approx(roc_auc_score(false, scores, sample_weight=row))


def test_area_by_hand():
    false, scores = np.array([True, True, False]), np.array([2.0, 1.0, 1.0])
    assert area(false, scores, np.ones((1, 3)))[0] == pytest.approx(0.75)
    assert np.isnan(area(false, scores, np.array([[0.0, 0.0, 3.0]]))[1][0])


def test_undefined_area_is_none():
    false, scores, weights = drawn(4)
    scores[3] = np.nan
    assert area_estimate(false, scores, weights).value is None
    assert area_estimate(np.ones(60, bool), np.ones(60), weights).value is None


def test_difference_with_itself_is_nothing():
    false, scores, weights = drawn(5)
    found = area_estimate(false, scores, weights, minus=scores)
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert area_estimate(false, scores, weights, minus=-scores).value == pytest.approx(
        2 * roc_auc_score(false, scores) - 1
    )


SHIFTED = ("shifted down", "shifted up", "shifted right", "shifted left", "shifted aslant")
AUGMENTATIONS = (*SHIFTED, "darker", "brighter", "softer", "grainier")


def test_augmentations_are_small(mini):
    pixels = mini.trace.pixel_values
    found = augmented_images(mini.model, pixels)
    assert tuple(found) == AUGMENTATIONS
    for name, changed in found.items():
        assert changed.shape == (1, *pixels.shape)
        assert 0 < np.abs(changed[0].numpy() - pixels).mean() < 0.5, name
    same = augmented_images(mini.model, pixels)
    assert all((same[name] == found[name]).all() for name in AUGMENTATIONS)


def test_detection_of_one_report(mini):
    found = detect(mini.trace, samples=2, frequencies={"pleural effusion": 0.25})
    assert found.findings == ("pleural effusion",)
    assert found.scores.shape == (1, len(DETECTORS))
    assert np.isfinite(found.scores).all()
    row = found.to_frame().loc["pleural effusion"]
    assert row["finding frequency"] == -0.25
    assert row["polling"] < 0  # the model says yes
    assert row["self-consistency"] in (0, 0.5, 1)
    assert row["report length"] == len(mini.trace.generation.tokens) > row["sentence length"] > 1
    said = sampled_labels(mini.model, mini.trace.image, 2, seed=0)
    rows = [one["pleural effusion"] for one in said]
    alike = [set() if one is None else {one.code} for one in rows]
    assert row["semantic entropy"] == semantic_entropy(alike) in (0, pytest.approx(np.log(2)))
    assert -1 <= row["attention to image"] <= 0
    assert found.plot().get_yticklabels()[0].get_text() == "pleural effusion"
    assert "pleural effusion" in found._repr_html_()
    again = detect(mini.trace, samples=0)
    assert np.isnan(again.to_frame()[["self-consistency", "semantic entropy"]]).all(axis=None)
    assert again.to_frame()["polling"].iloc[0] == row["polling"]


def test_odds_follow_the_film(mini):
    model, case = mini.model, mini.case
    fine = wb.phantom(11, findings=[], size=model.image_size)
    odds = [
        wb.hallucination.yes_odds(
            model, [model.pixels(film.image)], "Is there a pleural effusion?"
        )[0]
        for film in (case, fine)
    ]
    assert odds[0] > 0 > odds[1]


def test_report_without_findings(tiny_trace):
    found = detect(tiny_trace, samples=0)
    assert found.scores.shape == (0, len(DETECTORS))
    assert len(found.to_frame()) == 0


def test_detect_repairs(mini):
    answer = mini.model.ask(mini.case, "Is there an effusion?")
    with pytest.raises(OptionError, match="the trace is of a question; trace a report"):
        detect(mini.model.trace(mini.case, answer))
    with pytest.raises(OptionError, match="samples must be a whole number of 0 or more"):
        detect(mini.trace, samples=-1)
    with pytest.raises(InputError, match="the probe was fitted for other weights"):
        detect(mini.trace, samples=0, probe=LinearProbe(np.ones(3), 0.0, "f" * 64, ""))
    with pytest.raises(OptionError, match="got 'nose'"):
        detect(mini.trace, samples=0).plot(detector="nose")


def made_cases(n: int = 40) -> list[JudgedCase]:
    """Statements whose first detector knows, whose second is noise, and whose others are 0."""
    rng = np.random.default_rng(0)
    cases = []
    for seed in range(n):
        false = tuple(bool(value) for value in rng.random(2) < 0.5)
        rows = tuple(
            tuple(
                float(value) if name == "polling under augmentation" else rng.normal()
                if name == "token log-prob" else np.nan if name == "self-consistency" else 0.0
                for name in DETECTORS
            )
            for value in false
        )  # fmt: skip
        domain = "external" if seed % 2 else "internal"
        truth = tuple(ABSENT if value else PRESENT for value in false)
        states = tuple((float(value), *rng.normal(size=2)) for value in false)
        cases.append(JudgedCase(seed, domain, ("nodule", "a"), truth, rows, states))
    return cases


def test_a_probe_finds_what_states_know():
    found = Statements.of(made_cases())
    probe = LinearProbe.fit(found.states, found.false, sha256="f" * 64)
    assert roc_auc_score(found.false, probe.score(found.states)) == 1
    again = LinearProbe.from_dict(json.loads(to_json(probe.to_dict())))
    np.testing.assert_array_equal(again.score(found.states), probe.score(found.states))
    with pytest.raises(InputError, match="expected states of true and of false statements"):
        LinearProbe.fit(found.states, np.ones_like(found.false), sha256="")


def test_policies_say_which_statements_are_false():
    scores = (tuple(np.zeros(len(DETECTORS))),) * 4
    truth = (PRESENT, ABSENT, UNCERTAIN, NOT_MENTIONED)
    cases = [JudgedCase(0, "x", tuple("abcd"), truth, scores, patient="p")] * 2
    expected = {
        "joint-definite": {"a": False, "b": True},
        "uncertain-as-positive": {"a": False, "b": True, "c": False},
        "uncertain-as-negative": {"a": False, "b": True, "c": True},
        "blank-as-negative": {"a": False, "b": True, "d": True},
    }
    for policy, wanted in expected.items():
        found = Statements.of(cases, policy)
        assert dict(zip(found.findings, found.false, strict=True)) == wanted
        assert (found.uncertain, found.left_out) == (2, 2 * (4 - len(wanted)))
        assert found.case.max() == 1 and found.patient.max() == 0 and found.patients == 1
        table = tabulate(cases, seed=1, provenance={}, resamples=10, policy=policy)
        assert (table.policy, table.uncertain) == (policy, 2)
        assert f"policy {policy}" in str(table)
    with pytest.raises(OptionError, match="policy"):
        Statements.of(cases, "as I like")


def test_no_patient_is_on_both_sides():
    """Fifty patients with a state each that gives them away, and truth by chance: nobody learns."""
    rng, cases = np.random.default_rng(0), made_cases(100)
    giveaway = np.eye(50)
    coins = rng.random(50) < 0.5
    cases = [
        replace(
            case,
            truth=(ABSENT if coins[at % 50] else PRESENT,) * 2,
            states=(tuple(giveaway[at % 50]),) * 2,
            patient=f"p{at % 50}",
        )
        for at, case in enumerate(cases)
    ]
    split = tabulate(cases, seed=5, provenance={}, resamples=20).split
    probe = next(row for row in split.rows if row.detector == HELD_OUT_PROBE)
    assert probe.auroc.value == 0.5
    assert (split.fitted.patients, split.measured.patients) == (25, 25)


def test_table():
    table = tabulate(made_cases(), seed=5, provenance={"id": "x"}, resamples=200)
    first = table.rows[0]
    found = (first.detector, first.auroc.value, first.auroc.low)
    assert found == ("polling under augmentation", 1, 1)
    assert table.rows[-1].auroc.value is None
    assert (table.best, table.cases, table.statements) == ("polling under augmentation", 40, 80)
    assert table.baseline in ("token log-prob", "token log-prob (mean)")
    assert table.against_logprob.low > 0.2
    assert table.combination.detector == CROSS_FITTED
    assert table.combination.auroc.value == 1
    assert sum(found.n for _, found in table.reliability) == 80
    split = table.split
    assert (split.fitted.patients, split.measured.patients) == (20, 20)
    assert {row.detector: row.auroc.value for row in split.rows[:2]} == {
        HELD_OUT: 1,
        HELD_OUT_PROBE: 1,
    }
    assert sum(found.n for _, found in split.reliability) == split.measured.statements == 40
    assert "20 patients (40 statements" in str(table)
    result = json.loads(to_json(table.to_dict()))
    assert {"detector", "auroc", "low", "high"} <= set(result["detectors"][0])
    assert {"difference", "low", "high"} <= set(result["against_logprob"])
    assert result["cases"] == 40 and result["statements"] == 80
    assert set(result["detectors"][0]["by_domain"]) == {"internal", "external"}
    for shown in (table._repr_html_(), str(table)):
        assert "polling under augmentation" in shown
    assert table.plot().get_xlabel() == "AUROC"
    assert table.plots()["hallucination_reliability"].get_ylabel() == "share that is false"
    assert "hallucination_split" in table.plots()
    assert CROSS_FITTED in table.to_frame().index
    assert result["patients"] == 40 and result["not_run"] == ["self-consistency"]
    assert "self-consistency" not in "".join(cell for row in table._cells() for cell in row)
    assert set(result["per_finding"]) == {"nodule", "a"}
    assert result["per_finding"]["a"]["statements"] == 40
    assert result["detectors"][0]["per_finding"]["a"]["auroc"] == 1
    assert result["against_length"]["baseline"] == "report length"
    assert {"fitted", "measured", "detectors", "reliability"} == set(result["split"])


def test_what_the_probe_adds_is_paired_with_the_combination():
    cases, options = made_cases(), {"seed": 5, "provenance": {}, "resamples": 20}
    calibration = Calibration.fit(cases, sha256="")
    table = tabulate(cases, calibration=calibration, with_probe=calibration, **options)
    assert table.with_probe.auroc == table.combination.auroc
    result = table.to_dict()
    assert result["probe_adds"] == {"difference": 0, "low": 0, "high": 0}
    assert result["combination_with_probe"]["auroc"] == 1
    assert "combination with linear probe" in str(table)
    assert "the probe adds 0.000 [0.000, 0.000]" in str(table)
    alone = tabulate(cases, calibration=calibration, **options).to_dict()
    assert alone["combination_with_probe"] is None and alone["probe_adds"] is None


def test_existing_combinations_take_what_they_took():
    assert COMBINED[-1] == "finding frequency" and len(COMBINED) == 17
    found = Calibration.fit(made_cases(), sha256="")
    assert not {"report length", "linear probe", "semantic entropy"} & set(found.detectors)


def test_few_statements_have_no_combination():
    table = tabulate(made_cases(4), seed=5, provenance={}, resamples=20)
    assert table.combination is None and table.reliability == []
    result = json.loads(to_json(table.to_dict()))
    assert result["combination"] is None and result["split"] is None
    assert result["detectors"][0]["per_finding"] == {"nodule": None, "a": None}
    assert result["per_finding"]["a"]["auroc"] is None


def test_cases_are_judged_against_what_was_drawn(mini):
    found = judge_case(mini.model, PhantomKey(6_000_003, "external"))
    drawn_here = wb.phantom(6_000_003, domain="external").labels
    assert found.findings
    assert found.truth == tuple(drawn_here[name] for name in found.findings)
    assert len(found.states) == len(found.findings)
    again = judge_case(mini.model, PhantomKey(6_000_003, "external"))
    assert again.findings == found.findings
    np.testing.assert_array_equal(again.scores, found.scores)


def test_frequencies_are_shares():
    found = finding_frequencies()
    assert all(0.02 < share < 0.6 for share in found.values())


def test_benchmark_repairs(tiny_trace):
    with pytest.raises(OptionError, match="n must be a whole number of 1 or more"):
        benchmark_hallucination(None, n=0)
    with pytest.raises(OptionError, match="fit is a share of the patients"):
        benchmark_hallucination(None, fit=1)
    with pytest.raises(OptionError, match="uncertain-as-positive"):
        benchmark_hallucination(None, policy="u-ones")
    with pytest.raises(InputError, match="none of 1 reports states a finding"):
        benchmark_hallucination(tiny_trace.model, n=1, samples=0, progress=False)


def test_command(tmp_path, capsys):
    out = tmp_path / "table"
    arguments = ["--n", "2", "--seed", "6000000", "--samples", "0", "--jobs", "1", "--json"]
    arguments += ["--policy", "uncertain-as-negative", "--fit", "0"]
    assert main(["benchmark", "hallucination", *arguments, "--out", str(out)]) == DONE
    result = json.loads(capsys.readouterr().out)
    assert result["cases"] == 2
    assert {row["detector"] for row in result["detectors"]} == set(DETECTORS)
    assert result["policy"] == "uncertain-as-negative" and result["split"] is None
    assert (out / "hallucination.png").is_file()
    assert json.loads((out / "hallucination.json").read_text()) == result


def test_options_of_the_other_benchmark_are_refused(capsys):
    for option in ("--fit=0.5", "--policy=joint-definite"):
        assert main(["benchmark", "saliency", option]) == FAILED
        assert "belongs to benchmark hallucination" in capsys.readouterr().err
    assert main(["benchmark", "hallucination", "--methods", "saliency"]) == FAILED
    assert "--methods belongs to benchmark saliency" in capsys.readouterr().err


def test_kept_cases_are_gone_on_from(mini, tmp_path):
    kept = tmp_path / "kept.jsonl"
    options = {"seed": 6_000_000, "samples": 0, "progress": False}
    first = benchmark_hallucination(mini.model, n=3, kept=kept, **options)
    lines = kept.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    torn = lines[3][:20]
    kept.write_text("".join(lines[:3]) + torn)  # stopped while writing
    again = benchmark_hallucination(mini.model, n=3, kept=kept, **options)
    assert kept.read_text().splitlines(keepends=True) == [*lines[:3], torn + "\n", *lines[3:]]
    assert to_json(again.to_dict()) == to_json(first.to_dict())
    with pytest.raises(OptionError, match="was written for other weights or options"):
        benchmark_hallucination(mini.model, n=3, kept=kept, **options | {"samples": 1})
