"""What came of a reader study: its numbers, its table, its figure and its page.

Success is grade A or B, of first readings; repeats only serve to ask whether a reader agrees with
himself. Over all readers, cases are resampled with all their readings, because readings of one
radiograph are alike; the difference between arms is paired by case. Where all or none are
acceptable every resample is the same, and the interval is Wilson's, one trial for each case. For a
single reader each report is one trial, with Wilson's interval.

Sources: Lee et al., Eur Radiol 2025 (grades, success; deviation: the paper's interval and order of
reading are not published in enough detail to be repeated); Wilson, J Am Stat Assoc 1927.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field, replace
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from workbench._repr import plain, result
from workbench.errors import InputError
from workbench.evaluation.intervals import (
    RESAMPLES,
    Estimate,
    bootstrap_weights,
    divided,
    estimate,
    ratio,
    wilson,
)
from workbench.figures.page import PAGE_STYLE, figure_html, html_file, html_page, scoped
from workbench.figures.style import INK, new_axes, style
from workbench.figures.tables import html_table
from workbench.review.kappa import MISSING, Agreement, agreement
from workbench.review.study_files import ARMS, MODEL, REFERENCE
from workbench.review.study_session import GRADES, SUCCESS

#: Of kappa: how bad it is to differ by some grades.
WEIGHTS = "linear"
#: From acceptable to not; safe for colour-blind readers, and in order in grey.
_COLOURS = {"A": "#0b5c8f", "B": "#7db8da", "C": "#f3c08a", "D": "#c4510a"}
_DARK = ("A", "D")


@result()
class StudyResult:
    """A study, unblinded.

    Attributes:
        title: of the study.
        readings: as `ReaderStudy.to_frame`, graded ones only.
        success: arm -> share of A and B over all readers, cases resampled.
        difference: success of the model minus that of the references, paired by case.
        by_reader: (reader, arm) -> share of A and B, Wilson's interval.
        between: agreement of readers about one report; None with one reader, or none in common.
        within: reader -> agreement of his two grades of one report; also "all".
        seconds: arm -> median seconds for a report, readings resampled by case.
        missing: readings without a grade.
        seed: of the bootstrap.
    """

    title: str
    readings: pd.DataFrame = field(repr=False)
    success: Mapping[str, Estimate]
    difference: Estimate
    by_reader: Mapping[tuple[str, str], Estimate]
    between: Agreement | None
    within: Mapping[str, Agreement]
    seconds: Mapping[str, Estimate]
    missing: int
    seed: int

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each reader and arm: readings, A to D, success, low, high."""
        rows = []
        for reader in ("all", *dict.fromkeys(self._first["reader"])):
            for arm in ARMS:
                found, grades = self._share(reader, arm), self._grades(reader, arm)
                row = {"reader": reader, "arm": arm, "readings": sum(grades.values()), **grades}
                rows.append(row | {"success": found.value, "low": found.low, "high": found.high})
        frame = pd.DataFrame(rows).astype(dict.fromkeys(("success", "low", "high"), float))
        return frame.set_index(["reader", "arm"])

    def to_dict(self) -> dict:
        """Return plain values for JSON; what is undefined is None."""
        return plain({
            "title": self.title,
            "readings": len(self.readings),
            "missing": self.missing,
            "counts": {arm: self._grades("all", arm) for arm in ARMS},
            "success": self.success,
            "difference": self.difference,
            "by_reader": {f"{r}, {arm}": found for (r, arm), found in self.by_reader.items()},
            "between_readers": None if self.between is None else self.between.to_dict(),
            "within_readers": {name: found.to_dict() for name, found in self.within.items()},
            "seconds": self.seconds,
            "seed": self.seed,
        })  # fmt: skip

    @style()
    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw shares of grades as stacked bars, and the interval of success above each."""
        counts = {arm: self._grades("all", arm) for arm in ARMS}
        ax = ax or new_axes(9.5, 3.4)
        for at, arm in enumerate(ARMS):
            _stack(ax, at, counts[arm], named=not at)
            found = self.success[arm]
            if found.bounded:
                known = np.array((found.low, found.value, found.high), dtype=float)
                above = at - 0.36
                ax.plot(known[[0, 2]], (above, above), color=INK, lw=2)
                ax.plot(known[1], above, "o", color=INK, ms=6, clip_on=False)
        readings = [f"{arm}\n{sum(counts[arm].values()):,} readings" for arm in ARMS]
        ax.set_yticks(range(len(ARMS)), readings)
        ax.set(xlim=(0, 1), ylim=(len(ARMS) - 0.55, -0.6))
        ax.set_xlabel("share of readings; black: A and B together, 95 % interval")
        ax.set_title(f"Acceptable: {self._acceptable()}")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2, fontsize=11)
        return ax

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as one HTML file that needs no network.

        Raises:
            InputError: the name does not end in .html.
        """
        with html_file(path) as partial:
            said = f"grades by arm; acceptable: {self._acceptable()}"
            picture = figure_html(self.plot(), said, dpi=150)
            page = html_page(self.title, PAGE_STYLE, self._body(picture))
            partial.write_text(page, encoding="utf-8")
        return Path(path)

    def _repr_html_(self) -> str:
        style = scoped(PAGE_STYLE, "study")
        return f'<style>{style}</style><div class="study">{self._body("")}</div>'

    @property
    def _first(self) -> pd.DataFrame:
        return self.readings[~self.readings["repeat"]]

    def _grades(self, reader: str, arm: str) -> dict[str, int]:
        """Return how often each grade was given at first reading; "all" stands for any reader."""
        first = self._first
        own = first["arm"].eq(arm) & (first["reader"].eq(reader) | (reader == "all"))
        given = first.loc[own, "grade"]
        return {grade: int((given == grade).sum()) for grade in GRADES}

    def _share(self, reader: str, arm: str) -> Estimate:
        return self.success[arm] if reader == "all" else self.by_reader[reader, arm]

    def _acceptable(self) -> str:
        return ", ".join(f"{arm} {self.success[arm].text()}" for arm in ARMS)

    def _body(self, picture: str) -> str:
        cases = self.readings.groupby(["source", "case"]).ngroups
        readers = self.readings["reader"].nunique()
        missing = (
            f'<p class="notes">{self.missing:,} reports are not graded yet: these numbers are not '
            "those of the whole study.</p>"
        )
        return (
            f"<h1>{escape(self.title)}</h1>"
            f'<p class="muted">{cases:,} cases, {readers} readers, {len(self.readings):,} '
            "readings, 95 % intervals. Acceptable: grade A or B.</p>"
            f"{missing if self.missing else ''}{picture}"
            f"<p>Model minus reference: <b>{self.difference.text(sign=True)}</b>, paired by "
            "case.</p>"
            f"<h2>Grades</h2>{self._grades_html()}"
            f"<h2>Do readers agree?</h2>{self._agreement()}"
            f"<h2>Time for a report</h2>{self._time()}"
            "<h2>How to read this</h2>"
            "<p>Over all readers, cases are resampled with all their readings; rows of one reader "
            "have Wilson's interval. Repeated reports count for agreement within a reader only. "
            f"Kappa has {WEIGHTS} weights. Grades: "
            + "; ".join(f"{grade} {text}" for grade, text in GRADES.items())
            + ". For research, not for clinical use.</p>"
        )

    def _grades_html(self) -> str:
        frame = self.to_frame()
        counts = frame[["readings", *GRADES]].to_numpy(int).tolist()
        rows = [
            [f"{reader}, {arm}", *map("{:,}".format, given), self._share(reader, arm).text()]
            for (reader, arm), given in zip(frame.index, counts, strict=True)
        ]
        return html_table(["reader and arm", "readings", *GRADES, "A or B [95 %]"], rows)

    def _agreement(self) -> str:
        rows = [
            (f"between readers: {name}", found.text(), f"{found.n:,}")
            for name, found in (() if self.between is None else self.between.measures)
        ]
        for reader, found in self.within.items():
            for name, value in ((found.measure, found.kappa), ("equal pairs", found.same)):
                rows.append((f"within {reader}: {name}", value.text(), f"{found.items:,}"))
        if not rows:
            return "<p>One reader and no repeats: agreement cannot be measured.</p>"
        return html_table(["agreement", "value [95 %]", "n"], rows)

    def _time(self) -> str:
        rows = [
            (arm, found.text(1, undefined="not measured"), f"{found.n:,}")
            for arm, found in self.seconds.items()
        ]
        return html_table(["arm", "median seconds [95 %]", "readings"], rows)


def _stack(ax: Axes, at: int, counts: Mapping[str, int], *, named: bool) -> None:
    """Draw the shares of the grades of one arm side by side, with the share where it fits."""
    total, left = max(1, sum(counts.values())), 0.0
    for grade, meaning in GRADES.items():
        share = counts[grade] / total
        said = f"{grade} {meaning}" if named else None
        bar = ax.barh(at, share, left=left, height=0.5, color=_COLOURS[grade], label=said)
        if share > 0.035:
            colour = "white" if grade in _DARK else INK
            ax.bar_label(bar, [f"{100 * share:.0f} %"], label_type="center", color=colour, size=12)
        left += share


def analyse(readings: pd.DataFrame, *, seed: int = 0, title: str = "Reader study") -> StudyResult:
    """Analyse readings.

    Args:
        readings: columns reader, source, case, arm ("model", "reference"), repeat (bool), grade
            ("A" to "D", missing where not given) and, where measured, seconds.
        seed: of the bootstrap.
        title: of the report.

    Raises:
        InputError: a column is missing, a grade is none of the four, or nothing is graded.

    >>> graded = pd.DataFrame({"arm": ["model", "reference"], "grade": ["A", "C"]})
    >>> graded = graded.assign(reader="AB", source="own", repeat=False, case=1)
    >>> wb.review.analyse(graded).to_frame()["success"].loc["all"].tolist()
    [1.0, 0.0]
    """
    graded = _checked(readings)
    first = graded[~graded["repeat"]]
    cases, unique = pd.factorize(first["source"].astype(str) + "\0" + first["case"].astype(str))
    drawn = bootstrap_weights(len(unique), np.random.default_rng([seed, len(unique)]))
    good = first["grade"].isin(SUCCESS).to_numpy(float)
    sums: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    by_reader = {}
    for arm in ARMS:
        own = (first["arm"] == arm).to_numpy(float)
        sums[arm] = (
            np.bincount(cases, good * own, len(unique)), np.bincount(cases, own, len(unique))
        )  # fmt: skip
    for reader in dict.fromkeys(graded["reader"]):
        for arm in ARMS:
            own = ((first["reader"] == reader) & (first["arm"] == arm)).to_numpy()
            by_reader[reader, arm] = wilson(int(good[own].sum()), int(own.sum()))
    return StudyResult(
        title, graded, {arm: _success(*sums[arm], drawn) for arm in ARMS},
        _difference(sums, drawn), by_reader, _between(first, seed), _within(graded, seed),
        {arm: _median(first[first["arm"] == arm], seed) for arm in ARMS},
        len(readings) - len(graded), seed,
    )  # fmt: skip


def _checked(readings: pd.DataFrame) -> pd.DataFrame:
    needed = ("reader", "case", "arm", "repeat", "grade")
    if lost := [name for name in needed if name not in readings]:
        raise InputError(f"the readings have no column {lost[0]!r}; expected {', '.join(needed)}")
    frame = pd.DataFrame({"source": "", "seconds": np.nan, **readings}, index=readings.index)
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
    found = divided(weights @ own, weights @ total) - divided(weights @ other, weights @ others)
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
