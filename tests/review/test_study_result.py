"""The analysis of a made-up study, by hand."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from workbench.errors import InputError, OptionError
from workbench.review import analyse, sample_size

# case, model and reference, by reader R and reader S
GRADES = (
    ("1", "AB", "AA"), ("2", "BB", "AA"), ("3", "CC", "BA"), ("4", "AD", "AB"),
    ("5", "BC", "CB"), ("6", "AA", "AA"), ("7", "DC", "BB"), ("8", "BA", "AC"),
)  # fmt: skip
REPEATS = (("1", "model", "R", "A"), ("2", "model", "R", "C"), ("3", "reference", "R", "B"),
           ("4", "reference", "S", "B"))  # fmt: skip


@pytest.fixture(scope="module")
def readings() -> pd.DataFrame:
    rows = []
    for case, model, reference in GRADES:
        for arm, given in (("model", model), ("reference", reference)):
            rows += [
                (reader, case, arm, False, grade, 10.0 * int(case) + (reader == "S"))
                for reader, grade in zip("RS", given, strict=True)
            ]
    rows += [(reader, case, arm, True, grade, 5.0) for case, arm, reader, grade in REPEATS]
    return pd.DataFrame(rows, columns=["reader", "case", "arm", "repeat", "grade", "seconds"])


@pytest.fixture(scope="module")
def result(readings):
    return analyse(readings)


def test_counts_and_success_by_hand(result):
    counts = result.to_dict()["counts"]
    assert counts["model"] == {"A": 5, "B": 5, "C": 4, "D": 2}
    assert counts["reference"] == {"A": 9, "B": 5, "C": 2, "D": 0}
    assert result.success["model"].value == 10 / 16
    assert result.success["reference"].value == 14 / 16
    assert result.difference.value == pytest.approx(-4 / 16)
    assert result.difference.low < -0.25 < result.difference.high


@pytest.mark.parametrize(
    ("reader", "arm", "good"),
    [("R", "model", 6), ("S", "model", 4), ("R", "reference", 7), ("S", "reference", 7)],
)
def test_a_reader_has_wilsons_interval(result, reader, arm, good):
    found = result.by_reader[reader, arm]
    exact = binomtest(good, 8).proportion_ci(0.95, method="wilson")
    assert (found.value, found.low, found.high) == (good / 8, exact.low, exact.high)


def test_wilson_by_the_formula(result):
    p, n, z = 6 / 8, 8, 1.959963984540054
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    found = result.by_reader["R", "model"]
    np.testing.assert_allclose((found.low, found.high), (middle - half, middle + half))


def test_weighted_kappa_between_readers_by_hand(result):
    first = "".join(m[0] + r[0] for _, m, r in GRADES)
    second = "".join(m[1] + r[1] for _, m, r in GRADES)
    one, two = (np.array(["ABCD".index(g) for g in text]) for text in (first, second))
    observed = np.abs(one - two).mean()
    expected = np.abs(np.subtract.outer(one, two)).mean()
    assert result.between.kappa.value == pytest.approx(1 - observed / expected)
    assert result.between.items == 16


def test_agreement_within_a_reader_uses_the_first_grade_of_the_same_report(result):
    # R: A-A, B-C, B-B; S: B-B
    assert set(result.within) == {"all", "R", "S"}
    assert result.within["R"].table.tolist() == [[0, 0], [1, 2], [1, 1]]
    assert result.within["R"].same.value == pytest.approx(2 / 3)
    # linear weights: observed 1/3; chance of (A,B,B) against (A,C,B) = (0+1+1 + 2+1+1 + 1+0+0)/9
    assert result.within["R"].kappa.value == pytest.approx(1 - (1 / 3) / (7 / 9))
    assert result.within["S"].kappa.value is None
    assert result.within["all"].items == 4


def test_repeats_count_for_nothing_else(readings, result):
    alone = analyse(readings[~readings["repeat"]])
    assert alone.success == result.success
    assert alone.within == {}
    assert result.seconds["model"].value == alone.seconds["model"].value == 45.5


def test_the_interval_over_readers_is_over_cases(readings):
    twice = pd.concat([readings, readings.assign(reader=readings["reader"] + "2")])
    one, two = analyse(readings), analyse(twice)
    assert two.success["model"].value == one.success["model"].value
    assert two.success["model"].low == pytest.approx(one.success["model"].low)


def test_all_acceptable_is_not_all_for_sure(readings):
    found = analyse(readings.assign(grade="A")).success["model"]
    exact = binomtest(8, 8).proportion_ci(0.95, method="wilson")
    assert (found.value, found.low, found.high) == (1, exact.low, exact.high)


def test_order_of_rows_does_not_matter(readings, result):
    other = analyse(readings.sample(frac=1, random_state=3))
    assert other.success["model"].value == result.success["model"].value
    assert other.between.kappa.value == pytest.approx(result.between.kappa.value)


def test_one_reader_without_repeats_has_no_agreement(readings):
    found = analyse(readings[(readings["reader"] == "R") & ~readings["repeat"]])
    assert found.between is None
    assert "agreement cannot be measured" in found._repr_html_()


def test_the_page_is_one_file_that_asks_for_nothing(result, tmp_path):
    page = result.save(tmp_path / "study.html").read_text()
    assert re.findall(r"(?:src|href)\s*=\s*[\"'](?!data:)", page) == []
    assert "<script" not in page and "@import" not in page
    assert 'alt="Figure: grades by arm' in page
    assert "0.62 [" in page and "Model minus reference" in page
    with pytest.raises(InputError, match=r"written as \.html"):
        result.save(tmp_path / "study.pdf")


def test_what_is_missing_is_said_and_titles_are_escaped(readings):
    some = readings.assign(grade=readings["grade"].where(readings["case"] != "8"))
    found = analyse(some, title="<b>Study</b>")
    assert found.missing == 4
    assert "4 reports are not graded yet" in found._repr_html_()
    assert "<b>Study" not in found._repr_html_()


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"grade": "E"}, "grade 'E'"), ({"arm": "human"}, "in arm 'human'"),
     ({"grade": None}, "nothing is graded")],
)  # fmt: skip
def test_wrong_readings(readings, changed, message):
    with pytest.raises(InputError, match=message):
        analyse(readings.assign(**changed))
    with pytest.raises(InputError, match="no column 'arm'"):
        analyse(readings.drop(columns="arm"))


# --- planning ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("half", "share"), [(0.05, 0.73), (0.1, 0.5), (0.03, 0.9), (0.2, 0.01)])
def test_the_planned_size_is_the_smallest_that_reaches_the_width(half, share):
    found = sample_size(half, expected=share)

    def width(n: int) -> float:
        z = 1.959963984540054
        spread = np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return z / (1 + z * z / n) * spread

    assert width(found.cases) <= half < width(found.cases - 1)
    assert found.reached == pytest.approx(width(found.cases))
    assert found.readings == 2 * found.cases


def test_readers_who_agree_wholly_add_nothing_and_others_do():
    one = sample_size(0.05)
    assert sample_size(0.05, readers=3, icc=1.0).cases == one.cases
    assert sample_size(0.05, readers=3, icc=0.0).cases == -(-one.cases // 3)
    assert one.cases == 301
    assert "301 cases" in one._repr_html_()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"half_width": 0.5}, "half_width must be above 0 and below 0.5"),
     ({"half_width": 0.1, "expected": 1.0}, "expected must be above 0 and below 1"),
     ({"half_width": 0.1, "readers": 0}, "readers must be 1 or more"),
     ({"half_width": 0.1, "icc": 2}, "icc 0 to 1")],
)  # fmt: skip
def test_wrong_sizes(options, message):
    with pytest.raises(OptionError, match=message):
        sample_size(**options)
