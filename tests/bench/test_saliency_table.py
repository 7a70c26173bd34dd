"""The truth table from scores by hand: shares, intervals, verdicts, and what is unknown."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.bench.saliency_table import MapScore, SaliencyTable, tabulate

#: The machine-readable contract, for methods and baselines alike.
KEYS = {"method", "pointing", "low", "high", "energy", "iou", "seconds", "randomisation_ok"}


def score(method: str, kind: str = "method", *, hit: bool = True, **fields) -> MapScore:
    values = {"seed": 0, "finding": "nodule", "energy": 0.5, "iou": 0.25} | fields
    return MapScore(method, kind, pointing=hit, **values)


def table_of(scores, methods=("good", "bad"), **fields) -> SaliencyTable:
    options = {"drawn": 5, "missed": 1, "seed": 7, "provenance": {"sha256": "ab", "id": "toy"}}
    return tabulate(scores, methods=methods, **options | fields)


@pytest.fixture
def table() -> SaliencyTable:
    """Four cases: "bad" hits one, "good" three; one fixed map hits two, another none."""
    scores = []
    for at, finding in enumerate(("nodule", "nodule", "edema", "edema")):
        common = {"seed": at, "finding": finding}
        scores += [
            score("bad", hit=at == 0, energy=0.1, iou=0.0, seconds=4.0 - at, **common),
            score("bad", "other phrase", hit=at < 2, seconds=99.0, **common),
            score(
                "good",
                hit=at > 0,
                energy=0.2 * at,
                iou=0.5,
                seconds=(1.0, 2.0, 30.0, 4.0)[at],
                similarity={1: 0.4, 3: 0.8}.get(at),
                **common,
            ),
            score("lung prior", "fixed", hit=at > 1, energy=0.3, **common),
            score("random", "fixed", hit=False, **common),
        ]
    return table_of(scores)


# ---------------------------------------------------------------- numbers


def test_shares_by_hand(table):
    good, bad = table.methods
    assert (good.method, bad.method) == ("good", "bad"), "best first"
    assert (good.pointing.value, good.pointing.n) == (0.75, 4)
    assert good.energy.value == pytest.approx(0.2 * 6 / 4)
    assert good.iou.value == 0.5
    assert good.seconds == 3.0, "the median"
    assert bad.pointing.value == 0.25
    assert (bad.other_phrase.pointing.value, bad.other_phrase.pointing.n) == (0.5, 4)
    assert bad.other_phrase.energy.value == 0.5
    assert good.other_phrase is None
    assert bad.seconds == 2.5, "other phrases are not counted"


def test_baselines_are_apart_and_best_first(table):
    assert [row.method for row in table.baselines] == ["lung prior", "random"]
    assert [row.pointing.value for row in table.baselines] == [0.5, 0.0]
    assert all(row.baseline for row in table.baselines)
    assert not any(row.baseline for row in table.methods)


def test_intervals_hold_the_share_and_repeat_by_seed(table):
    for row in (*table.methods, *table.baselines):
        assert 0 <= row.pointing.low <= row.pointing.value <= row.pointing.high <= 1
    good = table.methods[0].pointing
    assert good.low < 0.75 < good.high
    scores = [score("good", energy=(n * 0.37) % 1, seed=n) for n in range(30)]
    one, again, other = (table_of(scores, ("good",), seed=seed) for seed in (1, 1, 2))
    assert one.methods[0].energy == again.methods[0].energy
    assert one.methods[0].energy != other.methods[0].energy


def test_verdict_is_that_of_the_mean_similarity(table):
    good, bad = table.methods
    assert good.similarity == pytest.approx(0.6)
    assert (good.checked, good.randomisation_ok) == (2, False)
    assert (bad.similarity, bad.checked, bad.randomisation_ok) == (None, 0, None)
    passing = table_of([score("good", similarity=s) for s in (-0.6, 0.7)], ("good",))
    assert passing.methods[0].randomisation_ok is True


def test_per_finding_by_hand(table):
    found = table.per_finding()
    assert found.loc["good", "pointing"].to_dict() == {"nodule": 0.5, "edema": 1.0}
    assert found.loc["good", "energy"].to_dict() == pytest.approx({"nodule": 0.1, "edema": 0.5})
    assert found.loc["lung prior", "pointing"].to_dict() == {"nodule": 0.0, "edema": 1.0}
    assert set(found["cases"]) == {2}


def test_causal_cases_are_measured_alone():
    causal = {0: True, 1: None, 2: False, 3: True}
    scores = [
        score(name, kind, hit=at == 3, energy=0.1 * at, f1=0.2 * at, causal=causal[at])
        for at in causal
        for name, kind in (("good", "method"), ("lung prior", "fixed"))
    ]
    table = table_of(scores, ("good",))
    for row in table.to_dict()["methods"] + table.to_dict()["baselines"]:
        assert (row["cases"], row["causal"]["cases"]) == (4, 2)
        assert (row["pointing"], row["causal"]["pointing"]) == (0.25, 0.5)
        assert row["causal"]["low"] < 0.5 < row["causal"]["high"]
        assert row["causal"]["energy"] == pytest.approx(0.15)
        assert row["causal"]["f1"] == pytest.approx(0.3)
    assert "in the 2 of 4 whose answer turns round" in str(table)
    assert table.to_frame().loc["good", "causal_cases"] == 2
    nobody = table_of([score("good")], ("good",))
    assert nobody.to_dict()["methods"][0]["causal"] is None
    assert "turns round" not in str(nobody)


def test_cases_are_drawn_less_missed(table):
    assert (table.cases, table.drawn, table.missed) == (4, 5, 1)


# ---------------------------------------------------------------- the contract


def test_dict_has_the_agreed_keys(table):
    result = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert {"methods", "baselines", "cases"} <= set(result)
    assert result["cases"] == 4
    for row in (*result["methods"], *result["baselines"]):
        assert set(row) >= KEYS
    for row in result["methods"]:
        assert row["best_fixed_baseline"] == 0.5
        assert "other_phrase" in row
    good, bad = result["methods"]
    assert (good["method"], good["pointing"], good["randomisation_ok"]) == ("good", 0.75, False)
    assert (bad["other_phrase"], bad["other_phrase_cases"]) == (0.5, 4)
    assert good["other_phrase"] is None
    assert [row["randomisation_ok"] for row in result["baselines"]] == [None, None]
    assert [row["cases"] for row in (*result["methods"], *result["baselines"])] == [4] * 4
    assert result["model"] == {"sha256": "ab", "id": "toy"}


def test_unknown_is_null_and_never_zero():
    empty = table_of([], drawn=3, missed=3)
    result = json.loads(json.dumps(empty.to_dict(), allow_nan=False))
    assert result["cases"] == 0
    for row in result["methods"]:
        assert [row[key] for key in ("pointing", "low", "high", "energy", "iou")] == [None] * 5
        assert row["best_fixed_baseline"] is None
    assert result["baselines"] == []
    assert "-" in str(empty)
    empty.plot()
    assert "0 true positives of 3 phantoms" in empty._repr_html_()


# ---------------------------------------------------------------- verdicts


def test_verdicts_are_of_checked_methods_only(table, tmp_path):
    path = table.record(tmp_path / "checks.json")
    verdicts = json.loads(path.read_text())
    assert verdicts["sha256"] == "ab"
    assert verdicts["methods"] == {"good": {"ok": False, "similarity": 0.6, "cases": 2}}


# ---------------------------------------------------------------- for readers


def test_text_and_html_show_every_row(table):
    text, html = str(table), table._repr_html_()
    for row in (*table.methods, *table.baselines):
        assert row.method in text
        assert row.method in html
    good = next(line for line in text.splitlines() if line.startswith("good"))
    assert "0.75 [" in good
    assert "FAILS (+0.60)" in good
    assert "not checked" in next(line for line in text.splitlines() if line.startswith("bad"))
    assert "4 true positives of 5 phantoms" in html


def test_frame_has_a_row_for_each(table):
    frame = table.to_frame()
    assert frame.index.tolist() == ["good", "bad", "lung prior", "random"]
    assert frame["baseline"].tolist() == [False, False, True, True]
    assert frame.loc["bad", "pointing"] == 0.25


def test_figure_has_a_point_for_each(table):
    ax = table.plot()
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert {label.split("\u26a0")[0].strip() for label in labels} == {
        "good",
        "bad",
        "lung prior",
        "random",
    }
    drawn = {float(x) for line in ax.lines for x in np.atleast_1d(line.get_xdata())}
    assert {0.75, 0.25, 0.5, 0.0} <= drawn
    assert table.plot(ax) is ax
