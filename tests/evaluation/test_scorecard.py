"""The score card: counts under each policy by hand, invariants, and intervals."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import InputError, OptionError
from workbench.evaluation import POLICIES, score
from workbench.evaluation.counts import (
    Pairs,
    confusion,
    count_outcomes,
    f1_of,
    find_policy,
    macro_f1,
    micro_f1,
    patient_weights,
    resampled_counts,
    weighted_f1,
    why_not_scored,
)
from workbench.evaluation.intervals import stratified_weights, wilson
from workbench.findings import CODES, PAPER_FINDINGS

#: Reference code by prediction code: sixteen different primes, so that no two cells are alike.
TABLE = np.array([[2, 3, 5, 7], [11, 13, 17, 19], [23, 29, 31, 37], [41, 43, 47, 53]])

#: TP, FP, TN, FN of TABLE under each policy, added up by hand.
BY_HAND = {
    "joint-definite": (2, 11, 13, 3),
    "uncertain-as-positive": (2 + 5 + 23 + 31, 11 + 17, 13, 3 + 29),
    "uncertain-as-negative": (2, 11 + 23, 13 + 17 + 29 + 31, 3 + 5),
    "blank-as-negative": (2, 11 + 41, 13 + 19 + 43 + 53, 3 + 7),
}
CODE = st.sampled_from(CODES)
NAMES = ("nodule", "pneumothorax", "pleural effusion")


def labelled(table: np.ndarray, finding: str = "nodule") -> tuple[dict, dict]:
    """Predictions and references with as many pairs in each cell as a table says."""
    predictions, references = {}, {}
    for row, column in itertools.product(range(4), range(4)):
        for count in range(table[row, column]):
            key = f"{row}{column}-{count}"
            predictions[key] = {finding: CODES[column]}
            references[key] = {finding: CODES[row]}
    return predictions, references


def coded(*pairs: tuple[str, str]) -> tuple[dict, dict]:
    """(prediction, reference) codes of one finding as both sides."""
    return (
        {str(at): {"nodule": pair[0]} for at, pair in enumerate(pairs)},
        {str(at): {"nodule": pair[1]} for at, pair in enumerate(pairs)},
    )


def quick(predictions, references, **options):
    return score(predictions, references, **{"resamples": 20} | options)


def counts(row) -> tuple[int, int, int, int]:
    return row.tp, row.fp, row.tn, row.fn


# ---------------------------------------------------------------- counts by hand


@pytest.mark.parametrize("policy", POLICIES)
def test_sixteen_primes_by_hand(policy):
    row = quick(*labelled(TABLE), policy=policy).per_finding["nodule"]
    tp, fp, tn, fn = BY_HAND[policy]
    assert counts(row) == BY_HAND[policy]
    assert row.n == tp + fp + tn + fn
    assert row.coverage == pytest.approx(row.n / TABLE.sum())
    assert row.support == tp + fn
    assert row.precision.value == pytest.approx(tp / (tp + fp))
    assert row.recall.value == pytest.approx(tp / (tp + fn))
    assert row.specificity.value == pytest.approx(tn / (tn + fp))
    assert row.f1.value == pytest.approx(2 * tp / (2 * tp + fp + fn))
    np.testing.assert_array_equal(row.confusion, TABLE)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("one", "two"), list(itertools.combinations(range(4), 2)))
@pytest.mark.parametrize("axis", [0, 1])
def test_swapping_two_columns_or_rows_is_noticed(policy, one, two, axis):
    order = list(range(4))
    order[one], order[two] = two, one
    swapped = TABLE.take(order, axis=axis)
    values = find_policy(policy).values
    found = tuple(int(n) for n in count_outcomes(swapped, find_policy(policy)))
    if values[one] == values[two]:
        assert found == BY_HAND[policy], "these two codes mean the same under this policy"
    else:
        assert found != BY_HAND[policy]
    assert not np.array_equal(swapped, TABLE)


def test_reference_is_rows_and_prediction_is_columns():
    row = quick(*coded(("present", "absent"))).per_finding["nodule"]
    assert row.confusion[CODES.index("absent"), CODES.index("present")] == 1
    assert counts(row) == (0, 1, 0, 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_omission_is_the_same_under_every_policy(policy):
    row = quick(*labelled(TABLE), policy=policy).per_finding["nodule"]
    assert (row.omitted, row.omission.n) == (7, 2 + 3 + 5 + 7)
    assert row.omission.value == pytest.approx(7 / 17)


def test_why_pairs_are_not_scored_adds_up_to_all_pairs():
    reasons = why_not_scored(TABLE[None], find_policy("joint-definite"))[0]
    mentioned_by_both = 5 + 17 + 23 + 29 + 31
    assert reasons.tolist() == [mentioned_by_both, 7 + 19 + 37, 41 + 43 + 47, 53]
    for policy in POLICIES.values():
        scored = count_outcomes(TABLE[None], policy).sum()
        assert scored + why_not_scored(TABLE[None], policy).sum() == TABLE.sum()


def test_averages_by_hand():
    # nodule: 2 TP, 1 FP, 3 FN -> F1 4/8; pneumothorax: 5 TP, 0 FP, 1 FN -> 10/11
    table = np.array([[2, 1, 7, 3], [5, 0, 4, 1], [0, 0, 9, 0]])
    assert macro_f1(table) == pytest.approx((4 / 8 + 10 / 11) / 2), "the undefined one is left out"
    assert micro_f1(table) == pytest.approx(14 / (14 + 1 + 4))
    assert weighted_f1(table) == pytest.approx((5 * 4 / 8 + 6 * 10 / 11) / 11)
    assert np.isnan(f1_of(table)[2])


def test_averages_are_named_and_say_what_they_are_over():
    predictions = {"a": {"nodule": "present", "atelectasis": "absent"}}
    card = quick(predictions, predictions)
    assert set(card.averages) == {"macro", "micro", "weighted", "macro of six"}
    assert card.averages["macro"].members == ("nodule",)
    assert "atelectasis" in card.averages["macro"].undefined
    assert card.averages["macro of six"].f1.value is None
    assert card.averages["macro of six"].undefined == PAPER_FINDINGS
    six = quick(predictions, predictions, findings=PAPER_FINDINGS)
    assert set(six.averages) == {"macro", "micro", "weighted"}


# ---------------------------------------------------------------- invariants

REPORTS = st.lists(
    st.tuples(
        st.fixed_dictionaries(dict.fromkeys(NAMES, CODE)),
        st.fixed_dictionaries(dict.fromkeys(NAMES, CODE)),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(REPORTS, st.sampled_from(sorted(POLICIES)))
def test_swapping_sides_swaps_precision_and_recall(reports, policy):
    first = {str(at): pair[0] for at, pair in enumerate(reports)}
    second = {str(at): pair[1] for at, pair in enumerate(reports)}
    card = score(first, second, policy=policy, resamples=0)
    mirrored = score(second, first, policy=policy, resamples=0)
    for name, row in card.per_finding.items():
        other = mirrored.per_finding[name]
        assert (row.precision, row.recall) == (other.recall, other.precision)
        assert row.f1.value == other.f1.value
        assert row.n == other.n
        np.testing.assert_array_equal(row.confusion, other.confusion.T)


@settings(max_examples=40, deadline=None)
@given(REPORTS, st.sampled_from(sorted(POLICIES)))
def test_identical_sides_have_no_error(reports, policy):
    side = {str(at): pair[0] for at, pair in enumerate(reports)}
    card = score(side, side, policy=policy, resamples=5)
    for row in card.per_finding.values():
        assert (row.fp, row.fn, row.omitted) == (0, 0, 0)
        assert row.f1.value in (1.0, None)
    assert card.averages["macro"].f1.value in (1.0, None)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.sampled_from(["present", "absent"])] * 2),
        min_size=1,
        max_size=15,
    )
)
def test_policies_agree_where_everything_is_definite(pairs):
    cards = [score(*coded(*pairs), policy=policy, resamples=0) for policy in POLICIES]
    found = {counts(card.per_finding["nodule"]) for card in cards}
    assert len(found) == 1
    assert all(card.per_finding["nodule"].coverage == 1 for card in cards)


def test_order_of_rows_does_not_matter():
    predictions, references = labelled(TABLE)
    backwards = dict(reversed(list(predictions.items())))
    one, two = quick(predictions, references), quick(backwards, references)
    assert one.to_dict()["per_finding"] == two.to_dict()["per_finding"]


def test_texts_and_their_labels_score_alike():
    texts = {
        "a": "There is a left pleural effusion.",
        "b": "No pneumothorax. Heart size is normal.",
    }
    other = {"a": "No pleural effusion.", "b": "There is a pneumothorax. Cardiomegaly is present."}
    labels = {
        "a": {"pleural effusion": "present"},
        "b": {"pneumothorax": "absent", "cardiomegaly": "absent"},
    }
    from_texts, from_labels = quick(other, texts), quick(other, labels)
    for name in ("pleural effusion", "pneumothorax", "cardiomegaly"):
        assert counts(from_texts.per_finding[name]) == counts(from_labels.per_finding[name])
    assert counts(from_texts.per_finding["pleural effusion"]) == (0, 0, 0, 1)
    assert counts(from_texts.per_finding["pneumothorax"]) == (0, 1, 0, 0)


# ---------------------------------------------------------------- undefined


def test_undefined_is_none_in_json_and_nan_in_the_frame():
    card = quick(*coded(("absent", "absent"), ("absent", "absent")))
    found = json.loads(json.dumps(card.to_dict(), allow_nan=False))
    row = found["per_finding"]["nodule"]
    keys = {"n", "coverage", "tp", "fp", "tn", "fn", "precision", "recall", "f1", "low", "high"}
    assert keys <= set(row)
    assert [row[key] for key in ("precision", "recall", "f1", "low", "high")] == [None] * 5
    assert (row["n"], row["coverage"], row["specificity"]) == (2, 1.0, 1.0)
    assert [found[f"{name}_f1"] for name in ("macro", "micro", "weighted")] == [None] * 3
    assert np.isnan(card.to_frame().loc["nodule", "f1"])
    assert card.to_frame().loc["nodule", "tn"] == 2


def test_resamples_without_a_case_are_counted_and_said():
    pairs = [("present", "present"), ("present", "present"), *[("absent", "absent")] * 3]
    predictions, references = coded(*pairs)
    references["0"]["pneumothorax"] = references["1"]["pneumothorax"] = "present"
    predictions["0"]["pneumothorax"] = "present"  # a hit in one of the two patients with findings
    card = quick(predictions, references, resamples=400)
    row = card.per_finding["pneumothorax"]
    assert row.f1.value == 1
    # two patients with findings are drawn twice: a quarter misses the one with the scored pair
    assert row.f1.undefined == pytest.approx(100, abs=30)
    assert card.averages["macro"].fewer == row.f1.undefined
    assert any(f"pneumothorax ({row.f1.undefined})" in note for note in card.warnings)
    assert card.to_dict()["per_finding"]["pneumothorax"]["undefined_resamples"] > 0


def test_no_resamples_leave_points_without_intervals():
    card = quick(*labelled(TABLE), resamples=0)
    row = card.per_finding["nodule"]
    assert row.f1.value is not None
    assert (row.f1.low, row.f1.high) == (None, None)
    assert row.precision.low is not None, "Wilson needs no resamples"
    card.plot()
    assert "nodule" in card._repr_html_()


# ---------------------------------------------------------------- intervals


@pytest.mark.parametrize(("hits", "n"), [(8, 10), (0, 7), (13, 13), (41, 97)])
def test_wilson_by_hand(hits, n):
    z, p = 1.959963984540054, hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    found = wilson(hits, n)
    assert found.low == pytest.approx(max(0.0, centre - half), abs=1e-9)
    assert found.high == pytest.approx(min(1.0, centre + half), abs=1e-9)
    assert (found.value, found.n) == (p, n)


def test_wilson_of_eight_in_ten_is_the_textbook_interval():
    assert wilson(8, 10).low == pytest.approx(0.4902, abs=1e-4)
    assert wilson(8, 10).high == pytest.approx(0.9433, abs=1e-4)
    assert wilson(0, 0).value is None


def test_strata_keep_their_size_in_every_resample():
    strata = np.array([0, 1, 1, 0, 1, 0, 1])
    weights = stratified_weights(strata, np.random.default_rng(0), resamples=50)
    assert (weights[:, strata == 0].sum(1) == 3).all()
    assert (weights[:, strata == 1].sum(1) == 4).all()
    assert weights.std() > 0


def many(n: int = 60, seed: int = 0) -> tuple[dict, dict]:
    rng = np.random.default_rng(seed)
    sides = []
    for _ in range(2):
        drawn = rng.choice(4, size=(n, len(NAMES)), p=[0.4, 0.4, 0.1, 0.1])
        sides.append(
            {f"{at:03d}": dict(zip(NAMES, (CODES[c] for c in row), strict=True))
             for at, row in enumerate(drawn)}
        )  # fmt: skip
    return sides[0], sides[1]


def test_intervals_repeat_by_seed_and_move_with_it():
    one, same, other = (score(*many(), seed=seed, resamples=200) for seed in (1, 1, 2))
    assert one.to_dict() == same.to_dict()
    assert one.per_finding["nodule"].f1 != other.per_finding["nodule"].f1
    assert one.per_finding["nodule"].f1.value == other.per_finding["nodule"].f1.value


def test_duplicated_patients_change_no_interval():
    """Every patient twice, as two reports of one patient: the same F1 and the same intervals."""
    predictions, references = many()
    twice = [
        {f"{key}{copy}": side[key] for key in side for copy in "ab"}
        for side in (predictions, references)
    ]
    patients = {f"{key}{copy}": key for key in predictions for copy in "ab"}
    single = score(predictions, references, resamples=100)
    double = score(*twice, patients=patients, resamples=100)
    for name in NAMES:
        one, two = single.per_finding[name], double.per_finding[name]
        assert counts(two) == tuple(2 * n for n in counts(one))
        assert (one.f1.value, one.f1.low, one.f1.high) == pytest.approx(
            (two.f1.value, two.f1.low, two.f1.high)
        )
    naive = score(*twice, resamples=100)
    row, honest = naive.per_finding["nodule"].f1, double.per_finding["nodule"].f1
    assert row.high - row.low < honest.high - honest.low, "pairs as patients: too narrow"
    assert any("own patient" in note for note in naive.warnings)
    assert not any("own patient" in note for note in double.warnings)


def test_one_matrix_product_equals_counting_every_resample():
    rng = np.random.default_rng(4)
    shape = (31, 3)
    patients = tuple(f"p{n}" for n in rng.integers(0, 11, shape[0]))
    codes = rng.integers(0, 4, (2, *shape)).astype(np.int8)
    pairs = Pairs(tuple(map(str, range(31))), patients, NAMES, *codes)
    policy = find_policy("uncertain-as-positive")
    drawn = resampled_counts(pairs, policy, resamples=7, seed=5)
    weights = np.concatenate(list(patient_weights(pairs, resamples=7, seed=5)))
    order = sorted(set(patients))
    for resample in range(7):
        rows = [
            row
            for at, who in enumerate(order)
            for _ in range(int(weights[resample, at]))
            for row in range(shape[0])
            if patients[row] == who
        ]
        slow = count_outcomes(confusion(codes[0][rows], codes[1][rows]), policy)
        np.testing.assert_array_equal(drawn[resample], slow)


def test_blocks_of_resamples_change_nothing(monkeypatch):
    from workbench.evaluation import counts

    whole = score(*many(), resamples=50).per_finding["nodule"].f1
    monkeypatch.setattr(counts, "_BLOCK", 60 * 50)
    assert score(*many(), resamples=50).per_finding["nodule"].f1 == whole


def test_interval_of_macro_covers_about_as_often_as_it_says():
    """A made population with a known macro F1; 95 % intervals cover it most of the time."""
    truth = 2 * 0.7 / (2 * 0.7 + 0.3 + 0.3)
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        cells = rng.choice(3, size=(80, 1), p=[0.7 / 1.3, 0.3 / 1.3, 0.3 / 1.3])
        reference = np.where(cells == 1, 1, 0).astype(np.int8)
        prediction = np.where(cells == 2, 1, 0).astype(np.int8)
        ids = tuple(map(str, range(80)))
        pairs = Pairs(ids, ids, ("nodule",), reference, prediction)
        drawn = resampled_counts(pairs, find_policy("joint-definite"), resamples=200, seed=seed)
        low, high = np.percentile(macro_f1(drawn), [2.5, 97.5])
        covered += low <= truth <= high
    assert covered / 60 >= 0.8


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "strict"}, "unknown policy 'strict'; expected one of: joint-definite"),
        ({"policy": "omission"}, "counted under every policy"),
        ({"resamples": -1}, "0 or more"),
        ({"findings": ["dragon"]}, "unknown finding 'dragon'"),
        ({"findings": []}, "name at least one"),
    ],
)
def test_wrong_options_say_what_is_right(options, message):
    with pytest.raises(OptionError, match=message):
        quick(*labelled(TABLE), **options)


def test_findings_are_chosen_by_name_or_synonym():
    card = quick(*labelled(TABLE), findings=["lung nodule", "edema", "nodule"])
    assert list(card.per_finding) == ["nodule", "pulmonary edema"]


def test_no_finding_is_scored_only_when_asked_for():
    side = {"a": {"no finding": "present", "nodule": "absent"}}
    assert "no finding" not in quick(side, side).per_finding
    assert quick(side, side, findings=["no finding"]).per_finding["no finding"].tp == 1


def test_patients_from_a_mapping_or_a_column():
    predictions, references = coded(("present", "present"), ("absent", "present"))
    frame = pd.DataFrame({"id": ["0", "1"], "nodule": ["present"] * 2, "who": ["x", "x"]})
    by_column = quick(predictions, frame, patients="who")
    by_mapping = quick(predictions, references, patients={"0": "x", "1": "x"})
    assert by_column.pairs.patients == by_mapping.pairs.patients == ("x", "x")
    with pytest.raises(InputError, match=r"1 ids have no patient \('1'\)"):
        quick(predictions, references, patients={"0": "x"})
    with pytest.raises(InputError, match="neither side has a column 'who' of patients"):
        quick(predictions, references, patients="who")
