"""The analysis of a reader study: acceptable reports by arm, agreement between and within readers.

Success is grade A or B, of first readings; repeats only serve to ask whether a reader agrees with
himself. Over all readers, cases are resampled with all their readings, because readings of one
radiograph are alike; the difference between arms is paired by case. Where all or none are
acceptable every resample is the same, and the interval is Wilson's, one trial for each case. For a
single reader each report is one trial, with Wilson's interval.

Source: Lee et al., Eur Radiol 2025 (grades, success). Deviation: the paper's interval and order of
reading are not published in enough detail to be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from workbench.errors import InputError
from workbench.evaluation.intervals import (
    RESAMPLES,
    Estimate,
    bootstrap_weights,
    estimate,
    ratio,
    wilson,
)
from workbench.review.kappa import MISSING, Agreement, agreement
from workbench.review.study_files import ARMS, MODEL, REFERENCE
from workbench.review.study_result import StudyResult
from workbench.review.study_session import GRADES, SUCCESS


def analyse(
    readings: pd.DataFrame,
    *,
    seed: int = 0,
    weights: str = "linear",
    title: str = "Reader study",
    resamples: int = RESAMPLES,
) -> StudyResult:
    """Analyse readings.

    Args:
        readings: columns reader, source, case, arm ("model", "reference"), repeat (bool), grade
            ("A" to "D", missing where not given) and, where measured, seconds.
        seed: of the bootstrap.
        weights: of kappa: "linear", "quadratic" or "nominal".
        title: of the report.
        resamples: of the bootstrap.

    Raises:
        InputError: a column is missing, a grade is none of the four, or nothing is graded.
    """
    graded = _checked(readings)
    first = graded[~graded["repeat"]]
    cases, unique = pd.factorize(first["source"].astype(str) + "\0" + first["case"].astype(str))
    drawn = bootstrap_weights(len(unique), np.random.default_rng([seed, len(unique)]),
                              resamples=resamples)  # fmt: skip
    good = first["grade"].isin(SUCCESS).to_numpy(float)
    sums: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for arm in ARMS:
        own = (first["arm"] == arm).to_numpy(float)
        sums[arm] = (
            np.bincount(cases, good * own, len(unique)), np.bincount(cases, own, len(unique))
        )  # fmt: skip
    by_reader = {
        (reader, arm): wilson(int(part["grade"].isin(SUCCESS).sum()), len(part))
        for reader in dict.fromkeys(graded["reader"])
        for arm in ARMS
        for part in [first[(first["reader"] == reader) & (first["arm"] == arm)]]
    }
    return StudyResult(
        title,
        graded,
        {arm: _count(first[first["arm"] == arm]) for arm in ARMS},
        {arm: _success(*sums[arm], drawn) for arm in ARMS},
        _difference(sums, drawn),
        by_reader,
        _between(first, weights, seed),
        _within(graded, weights, seed),
        {arm: _median(first[first["arm"] == arm], seed) for arm in ARMS},
        len(readings) - len(graded),
        weights,
        seed,
    )


def _checked(readings: pd.DataFrame) -> pd.DataFrame:
    needed = ("reader", "case", "arm", "repeat", "grade")
    lost = [name for name in needed if name not in readings.columns]
    if lost:
        raise InputError(f"the readings have no column {lost[0]!r}; expected {', '.join(needed)}")
    frame = readings.copy()
    for name, value in (("source", ""), ("seconds", np.nan)):
        if name not in frame.columns:
            frame[name] = value
    graded = frame[frame["grade"].notna()].reset_index(drop=True)
    wrong = graded[~graded["grade"].isin(GRADES) | ~graded["arm"].isin(ARMS)]
    if len(wrong):
        bad = wrong.iloc[0]
        raise InputError(
            f"grade {bad['grade']!r} in arm {bad['arm']!r}: expected grades {', '.join(GRADES)} "
            f"and arms {', '.join(ARMS)}"
        )
    if graded.empty:
        raise InputError("nothing is graded yet; there is nothing to analyse")
    return graded.astype({"repeat": bool})


def _count(part: pd.DataFrame) -> dict[str, int]:
    return {grade: int((part["grade"] == grade).sum()) for grade in GRADES}


def _success(good: np.ndarray, read: np.ndarray, drawn: np.ndarray) -> Estimate:
    """Return the share of acceptable readings; where all or none are, Wilson's over cases."""
    found = ratio(good, read, drawn)
    if found.value not in (0.0, 1.0):
        return found
    cases = int((read > 0).sum())
    alone = wilson(int(found.value) * cases, cases)
    return replace(found, low=alone.low, high=alone.high)


def _difference(sums: Mapping[str, tuple[np.ndarray, np.ndarray]], drawn: np.ndarray) -> Estimate:
    """Return success of the model minus that of the references, over resampled cases."""
    weights = np.vstack([np.ones(drawn.shape[1]), drawn])
    (own, total), (other, others) = sums[MODEL], sums[REFERENCE]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (weights @ own) / (weights @ total) - (weights @ other) / (weights @ others)
    found = np.where(np.isfinite(found), found, np.nan)
    return estimate(found[0], found[1:], int((total + others > 0).sum()))


def _between(first: pd.DataFrame, weights: str, seed: int) -> Agreement | None:
    names = sorted(dict.fromkeys(first["reader"]))
    grid = first.assign(code=_codes(first)).pivot_table(
        index=["source", "case", "arm"], columns="reader", values="code", aggfunc="first"
    )
    several = grid[grid.notna().sum(axis=1) > 1]
    if len(names) < 2 or several.empty:
        return None
    table = several.reindex(columns=names).fillna(MISSING).to_numpy(int)
    return agreement(table, categories=tuple(GRADES), raters=names, weights=weights, seed=seed)


def _within(graded: pd.DataFrame, weights: str, seed: int) -> dict[str, Agreement]:
    """Return the agreement of each reader with himself, and of all, where there are repeats."""
    keys = ["reader", "source", "case", "arm"]
    frame = graded.assign(code=_codes(graded))
    again = frame[frame["repeat"]].drop_duplicates(keys)
    first = frame[~frame["repeat"]].drop_duplicates(keys)
    pairs = again.merge(first, on=keys, suffixes=("_2", "_1"))
    parts = {"all": pairs} | {
        name: pairs[pairs["reader"] == name] for name in sorted(set(pairs["reader"]))
    }
    return {
        name: agreement(
            part[["code_1", "code_2"]].to_numpy(int), categories=tuple(GRADES),
            raters=("first", "again"), weights=weights, seed=seed,
        )
        for name, part in parts.items() if len(part)
    }  # fmt: skip


def _codes(frame: pd.DataFrame) -> np.ndarray:
    return pd.Categorical(frame["grade"], categories=list(GRADES)).codes


def _median(part: pd.DataFrame, seed: int) -> Estimate:
    """Return the median of seconds, with a percentile interval over resampled cases."""
    known = part[part["seconds"].notna()]
    values, cases = known["seconds"].to_numpy(float), pd.factorize(known["case"].astype(str))[0]
    if not len(values):
        return Estimate(None, None, None, 0)
    rng = np.random.default_rng([seed, len(values)])
    groups = [values[cases == at] for at in range(cases.max() + 1)]
    drawn = rng.integers(len(groups), size=(RESAMPLES, len(groups)))
    medians = [np.median(np.concatenate([groups[at] for at in row])) for row in drawn]
    return estimate(float(np.median(values)), np.array(medians), len(values))
