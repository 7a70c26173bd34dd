"""Two systems on the same references: alignment, differences, McNemar and Holm by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from workbench.data import Manifest
from workbench.data.frames import conform
from workbench.errors import InputError, OptionError
from workbench.evaluation import compare, score
from workbench.evaluation.intervals import holm, mcnemar

FINDINGS = ("nodule", "pneumothorax")


def made(n: int = 40, seed: int = 0, wrong: float = 0.2) -> tuple[dict, dict]:
    """Predictions with errors, and references, of two findings."""
    truth = np.random.default_rng(0).random((n, 2)) < 0.5
    stated = truth ^ (np.random.default_rng([1, seed]).random((n, 2)) < wrong)
    words = ("absent", "present")
    return tuple(
        {
            f"{at:02d}": {name: words[int(v)] for name, v in zip(FINDINGS, row, strict=True)}
            for at, row in enumerate(table)
        }
        for table in (stated, truth)
    )


def cards(**options):
    options = {"resamples": 200, "findings": FINDINGS} | options
    (first, truth), (second, _) = made(seed=1, wrong=0.1), made(seed=2, wrong=0.4)
    return (
        score(first, truth, name="a", **options),
        score(second, truth, name="b", **options),
    )


# ---------------------------------------------------------------- tests by hand


def test_holm_by_hand():
    # sorted .01 .02 .03 .04: times 4, 3, 2, 1 = .04 .06 .06 .04 -> never falling
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.02, None, 0.5]) == [0.04, None, 0.5]
    assert holm([]) == []


def test_mcnemar_by_hand():
    # 1 against 7 of 8: two-sided 2 * (C(8,0) + C(8,1)) / 2^8
    assert mcnemar(1, 7) == pytest.approx(2 * 9 / 256)
    assert mcnemar(7, 1) == mcnemar(1, 7)
    assert mcnemar(3, 3) == 1
    assert mcnemar(0, 0) == 1


def test_counts_and_difference_by_hand():
    truth = {key: {"nodule": "present"} for key in "abcdef"}
    yes, no = {"nodule": "present"}, {"nodule": "absent"}
    first = dict(zip("abcdef", (yes, yes, yes, yes, no, {}), strict=True))
    second = dict(zip("abcdef", (yes, no, no, {}, yes, yes), strict=True))
    found = compare(score(first, truth, name="a"), score(second, truth, name="b"))
    row = found.per_finding["nodule"]
    assert row.n == 4, "a, b, c and e: scored for both"
    assert (row.a_only, row.b_only) == (2, 1)
    # of these the first hits 3 of 4 (F1 6/7), the second 2 of 4 (F1 4/6)
    assert (row.f1_a, row.f1_b) == pytest.approx((6 / 7, 4 / 6))
    assert row.difference.value == pytest.approx(6 / 7 - 4 / 6)
    assert row.p == row.p_holm == pytest.approx(mcnemar(2, 1)), "one finding tested: no correction"
    assert found.per_finding["fracture"].p is None
    assert found.averages["micro"].difference.value == row.difference.value


# ---------------------------------------------------------------- invariants


def test_a_system_against_itself_differs_in_nothing():
    first, _ = cards()
    found = compare(first, first)
    assert (found.a, found.b) == ("a", "a (2)")
    for row in (*found.per_finding.values(), *found.averages.values()):
        assert (row.difference.value, row.difference.low, row.difference.high) in (
            (0.0, 0.0, 0.0),
            (None, None, None),
        )
    assert found.per_finding["nodule"].p == 1


def test_turning_the_comparison_round_turns_the_signs():
    first, second = cards()
    one, two = compare(first, second), compare(second, first)
    for name, row in one.per_finding.items():
        other = two.per_finding[name]
        assert row.difference.value == pytest.approx(-other.difference.value)
        assert row.difference.low == pytest.approx(-other.difference.high)
        assert (row.a_only, row.b_only) == (other.b_only, other.a_only)
        assert row.p == other.p


def test_both_systems_see_the_same_resamples():
    """Two systems with the same errors but for one case: their difference hardly moves."""
    first, truth = made(n=60, wrong=0.3)
    second = {key: dict(codes) for key, codes in first.items()}
    second["00"]["nodule"] = truth["00"]["nodule"]
    first["00"]["nodule"] = {"present": "absent", "absent": "present"}[truth["00"]["nodule"]]
    options = {"resamples": 300, "findings": FINDINGS}
    one, two = score(first, truth, **options), score(second, truth, **options)
    row = compare(one, two).per_finding["nodule"]
    width = row.difference.high - row.difference.low
    alone = one.per_finding["nodule"].f1
    assert width < 0.5 * (alone.high - alone.low)


def test_where_both_are_scored_everywhere_f1_is_that_of_the_cards():
    first, second = cards()
    found = compare(first, second)
    for name in FINDINGS:
        assert found.per_finding[name].f1_a == first.per_finding[name].f1.value
        assert found.per_finding[name].f1_b == second.per_finding[name].f1.value
    for name in ("macro", "micro", "weighted"):
        assert found.averages[name].f1_a == pytest.approx(first.averages[name].f1.value)
    assert found.averages["macro"].difference.low > 0, "10 % against 40 % errors"


def test_scores_have_the_intervals_of_the_cards_where_all_is_scored():
    first, second = cards()
    found = compare(first, second)
    for name in FINDINGS:
        assert found.per_finding[name].a.text() == first.per_finding[name].f1.text()
        assert found.per_finding[name].b.text() == second.per_finding[name].f1.text()
    frame = found.to_frame()
    for side in ("f1_a", "f1_b"):
        assert (frame[f"{side}_low"] <= frame[side]).all()
        assert (frame[side] <= frame[f"{side}_high"]).all()


# ---------------------------------------------------------------- two runs and their manifest


@pytest.fixture
def lab(tmp_path):
    """Two runs, as folders, over a manifest of six radiographs of three patients."""
    truth = {"nodule": ["present", "absent"] * 3, "pneumothorax": ["absent"] * 5 + [None]}
    known = pd.DataFrame({"image_id": list("uvwxyz"), "patient_id": list("112233"), **truth})
    known = Manifest(conform(known.assign(source="made"), sort=False))
    for name, texts in {
        "model a": ["A nodule.", "No nodule."] * 3,
        "model b": ["A nodule."] * 4 + ["Thank you.", None],
    }.items():
        rows = pd.DataFrame({"id": list("uvwxyz"), "task": "report", "text": texts})
        asked = rows.assign(task="ask", text="yes")
        (tmp_path / name).mkdir()
        pd.concat([asked, rows]).to_parquet(tmp_path / name / "results.parquet")
    known.save(tmp_path / "manifest.parquet")
    return tmp_path, known


def test_two_runs_are_compared_by_the_labels_and_patients_of_their_manifest(lab):
    folder, known = lab
    found = compare(folder / "model a", folder / "model b", known, resamples=50)
    assert (found.a, found.b, found.pairs, found.left_out) == ("model a", "model b", 5, ("z",))
    row = found.per_finding["nodule"]
    assert (row.n, row.a_only, row.b_only) == (4, 2, 0), "u to x; y is not mentioned"
    assert (row.f1_a, row.f1_b) == pytest.approx((1, 2 / 3))
    again = compare(folder / "model a", folder / "model b", folder / "manifest.parquet",
                    resamples=50)  # fmt: skip
    assert again.to_dict() == found.to_dict()
    card = score(folder / "model a", known, resamples=5)
    assert len(set(card.pairs.patients)) == 3 and card.provenance["patients"] == "given"


def test_what_is_no_run_or_wrote_no_reports_is_told(lab):
    folder, known = lab
    with pytest.raises(InputError, match="no run in this folder"):
        compare(folder, folder / "model b", known)
    (folder / "run.json").write_text("{}")
    with pytest.raises(InputError, match="has not ended; start it again"):
        score(folder, known)
    asked = pd.DataFrame({"id": ["u"], "task": ["ask"], "text": ["yes"]})
    asked.to_parquet(folder / "results.parquet")
    with pytest.raises(InputError, match="wrote no reports; its tasks: ask"):
        score(folder, known)
    with pytest.raises(InputError, match=r"two score cards, got PosixPath .*give references="):
        compare(folder / "model a", folder / "model b")


def test_macro_is_over_findings_defined_for_both():
    truth = {"a": {"nodule": "present", "pneumothorax": "absent"}}
    false_alarm = {"a": {"nodule": "present", "pneumothorax": "present"}}
    found = compare(
        score(false_alarm, truth, resamples=5, findings=FINDINGS, name="x"),
        score(truth, truth, resamples=5, findings=FINDINGS, name="y"),
    )
    assert found.per_finding["pneumothorax"].f1_b is None
    assert found.averages["macro"].difference.value == 0
    assert found.averages["micro"].difference.value < 0


def test_order_of_ids_does_not_matter_and_missing_ids_are_counted():
    (first, truth), (second, _) = made(seed=1), made(seed=2)
    whole = compare(score(first, truth), score(second, truth))
    backwards = dict(reversed(list(truth.items())))
    assert compare(score(first, truth), score(second, backwards)).to_dict() == whole.to_dict()
    del second["03"]
    less = compare(score(first, truth), score(second, truth))
    assert less.left_out == ("03",)
    assert less.pairs == 39


# ---------------------------------------------------------------- output and errors


def test_dict_frame_and_html_hold_every_row():
    found = compare(*cards())
    result = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert set(result["per_finding"]) == set(FINDINGS)
    assert set(result["averages"]) == {"macro", "micro", "weighted"}
    assert found.to_frame().index.tolist() == [*FINDINGS, "macro", "micro", "weighted"]
    assert all(name in found._repr_html_() for name in FINDINGS)
    ax = found.plot()
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == [*FINDINGS, "macro", "micro", "weighted"]
    assert found.plot(ax) is ax
    drawn = found.plot_scores()
    assert [label.get_text() for label in drawn.get_yticklabels()] == labels
    assert [text.get_text() for text in drawn.get_legend().get_texts()] == ["a", "b"]


def test_cards_that_cannot_be_compared_say_why():
    first, truth = made()
    card = score(first, truth, resamples=5)
    with pytest.raises(OptionError, match="policies joint-definite and blank-as-negative"):
        compare(card, score(first, truth, resamples=5, policy="blank-as-negative"))
    with pytest.raises(OptionError, match="different findings"):
        compare(card, score(first, truth, resamples=5, findings=["nodule"]))
    with pytest.raises(InputError, match=r"references of \d+ ids differ"):
        compare(card, score(first, {k: {} for k in truth} | {"x": {}}, resamples=5))
    with pytest.raises(InputError, match="patients differently"):
        compare(card, score(first, truth, resamples=5, patients=dict.fromkeys(truth, "p")))
    other = {f"x{key}": codes for key, codes in truth.items()}
    with pytest.raises(InputError, match="no id in common"):
        compare(card, score(other, other, resamples=5))
