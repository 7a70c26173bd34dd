"""The numbers of a reader study: how many cases it needs, and what came of it.

Success is grade A or B, of first readings; repeats only serve to ask whether a reader agrees with
himself. Over all readers, cases are resampled with all their readings, because readings of one
radiograph are alike; the difference between arms is paired by case. Where all or none are
acceptable every resample is the same, and the interval is Wilson's, one trial for each case. For a
single reader each report is one trial, with Wilson's interval.

For a share such as "acceptable", Wilson's interval has the half width

    z / (1 + z^2/n) * sqrt(p (1 - p) / n + z^2 / (4 n^2)),

which falls with n; `sample_size` searches for the smallest n that reaches the wanted width. Several
readers of one case do not count as several cases: with R readings of each case that agree as far as
the intra-class correlation says, n readings are worth n / (1 + (R - 1) icc) independent ones.

Sources: Lee et al., Eur Radiol 2025 (grades, success; deviation: the paper's interval and order of
reading are not published in enough detail to be repeated); Wilson, J Am Stat Assoc 1927; design
effect: Donner and Klar 2000, section 2.1.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import pandas as pd
from scipy.special import ndtri

from workbench._repr import short_repr
from workbench.errors import InputError, OptionError
from workbench.evaluation.intervals import (
    LEVEL,
    RESAMPLES,
    Estimate,
    bootstrap_weights,
    estimate,
    ratio,
    wilson,
)
from workbench.review.kappa import MISSING, Agreement, agreement
from workbench.review.study_files import ARMS, MODEL, REFERENCE
from workbench.review.study_result import WEIGHTS, StudyResult
from workbench.review.study_session import GRADES, SUCCESS

#: Cases at most.
_MOST = 10_000_000


def analyse(readings: pd.DataFrame, *, seed: int = 0, title: str = "Reader study") -> StudyResult:
    """Analyse readings.

    Args:
        readings: columns reader, source, case, arm ("model", "reference"), repeat (bool), grade
            ("A" to "D", missing where not given) and, where measured, seconds.
        seed: of the bootstrap.
        title: of the report.

    Raises:
        InputError: a column is missing, a grade is none of the four, or nothing is graded.
    """
    graded = _checked(readings)
    first = graded[~graded["repeat"]]
    cases, unique = pd.factorize(first["source"].astype(str) + "\0" + first["case"].astype(str))
    drawn = bootstrap_weights(len(unique), np.random.default_rng([seed, len(unique)]))
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
        {arm: _success(*sums[arm], drawn) for arm in ARMS},
        _difference(sums, drawn),
        by_reader,
        _between(first, seed),
        _within(graded, seed),
        {arm: _median(first[first["arm"] == arm], seed) for arm in ARMS},
        len(readings) - len(graded),
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


def _between(first: pd.DataFrame, seed: int) -> Agreement | None:
    names = sorted(dict.fromkeys(first["reader"]))
    grid = first.assign(code=_codes(first)).pivot_table(
        index=["source", "case", "arm"], columns="reader", values="code", aggfunc="first"
    )
    several = grid[grid.notna().sum(axis=1) > 1]
    if len(names) < 2 or several.empty:
        return None
    table = several.reindex(columns=names).fillna(MISSING).to_numpy(int)
    return agreement(table, categories=tuple(GRADES), raters=names, weights=WEIGHTS, seed=seed)


def _within(graded: pd.DataFrame, seed: int) -> dict[str, Agreement]:
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
            raters=("first", "again"), weights=WEIGHTS, seed=seed,
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


@dataclass(frozen=True)
class SampleSize:
    """A planned study; for what was assumed see `sample_size`.

    Attributes:
        cases: radiographs, each with one report of the model and one reference.
        readings: reports graded in all, repeats aside: cases x 2 x readers of a case.
        reached: half width with this many cases.
    """

    cases: int
    readings: int
    half_width: float
    reached: float
    expected: float
    readers: int
    icc: float

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        return (
            f"<p><b>{self.cases:,} cases</b>, {self.readings:,} readings: a share of "
            f"{self.expected:.2f} gets a {100 * LEVEL:.0f} % interval of &plusmn; "
            f"{self.reached:.3f} ({self.readers} readings of each report, correlation "
            f"{self.icc:.2f})</p>"
        )


def sample_size(
    half_width: float, *, expected: float = 0.73, readers: int = 1, icc: float = 0.3
) -> SampleSize:
    """Return how many cases give an interval of a wanted width.

    Args:
        half_width: of the 95 % interval of the share of acceptable reports, 0 to 0.5 excluded.
        expected: share that is expected; 0.5 is the most cautious. The default is that of
            CXR-LLaVA's reports (72.7 %, Lee et al. 2025).
        readers: readings of each report.
        icc: correlation of readings of one report, 0 to 1.

    Raises:
        OptionError: a number is out of range.
    """
    for name, value, high in (("half_width", half_width, 0.5), ("expected", expected, 1)):
        if not 0 < value < high:
            raise OptionError(f"{name} must be above 0 and below {high}, got {value!r}")
    if readers < 1 or not 0 <= icc <= 1:
        raise OptionError(f"readers must be 1 or more and icc 0 to 1, got {readers!r} and {icc!r}")
    cases = 1 + bisect_left(
        range(1, _MOST), -half_width, key=lambda n: -_reached(n, expected, readers, icc)
    )
    reached = _reached(cases, expected, readers, icc)
    return SampleSize(cases, 2 * cases * readers, half_width, reached, expected, readers, icc)


def _reached(cases: int, share: float, readers: int, icc: float) -> float:
    n = max(1.0, cases * readers / (1 + (readers - 1) * icc))
    z = float(ndtri(0.5 + LEVEL / 2))
    return z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
