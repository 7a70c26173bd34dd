"""Two systems on the same references: what differs, and whether chance could do it.

Only pairs that the policy can score for both systems are compared, finding by finding, so that a
system gains nothing by hedging on the hard cases; how many pairs that leaves is shown. Differences
of F1 have percentile intervals of a bootstrap over patients in which both systems see the same
resamples. McNemar's exact test asks, per finding, whether one system is right more often where
they disagree; Holm's correction keeps the chance of any false alarm at the level over all findings.

McNemar's test takes pairs as independent: with several reports of a patient trust the intervals.
Sources: McNemar, Psychometrika 1947; Holm, Scand J Stat 1979; Efron and Tibshirani 1993, ch. 8.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html import escape

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from workbench._repr import short_repr
from workbench.errors import InputError, OptionError
from workbench.evaluation.intervals import Estimate, estimate, holm, mcnemar
from workbench.evaluation.policies import NOT_SCORED, OUTCOMES
from workbench.evaluation.scorecard import ScoreCard
from workbench.evaluation.scorecard_counts import (
    Pairs,
    f1_of,
    macro_f1,
    micro_f1,
    per_patient,
    resampled_totals,
    weighted_f1,
)
from workbench.figures.estimates import draw_estimate, name_rows
from workbench.figures.numbers import fixed, p_text
from workbench.figures.style import BLUE, INK, VERMILION, new_axes, style
from workbench.figures.tables import html_table

#: A p-value below this survives.
_SURE = 0.05
_AVERAGES = {"macro": macro_f1, "micro": micro_f1, "weighted": weighted_f1}


@dataclass(frozen=True)
class FindingDifference:
    """One finding, or an average, of two systems on pairs that both could be scored on.

    Attributes:
        finding: standard name, or "macro", "micro", "weighted".
        n: pairs scored for both, which all numbers are about.
        difference: first minus second, with its bootstrap interval.
        a_only: pairs that only the first gets right.
        b_only: pairs that only the second gets right.
        p: McNemar's exact p-value, two-sided; None for averages and where nothing was scored.
        p_holm: after Holm's correction over the findings tested.
    """

    finding: str
    n: int
    f1_a: float | None
    f1_b: float | None
    difference: Estimate
    a_only: int | None = None
    b_only: int | None = None
    p: float | None = None
    p_holm: float | None = None

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        found = self.difference
        row = {"n": self.n, "f1_a": self.f1_a, "f1_b": self.f1_b, "difference": found.value}
        row |= {"low": found.low, "high": found.high, "undefined_resamples": found.undefined}
        return row | {name: getattr(self, name) for name in ("a_only", "b_only", "p", "p_holm")}

    def draw(self, ax: Axes, y: float, *, average: bool) -> None:
        """Draw a mark with its interval at the height `y`."""
        colour = VERMILION if (self.difference.value or 0) < 0 else BLUE
        face = colour if self.p_holm is not None and self.p_holm < _SURE else "white"
        mark = {"marker": "D" if average else "o", "mfc": face, "ms": 8, "mew": 1.8}
        draw_estimate(ax, self.difference, y, colour, undefined=" undefined", **mark)

    @property
    def note(self) -> str:
        """What stands beside the mark: pairs, and the test."""
        tested = f"   {self.a_only} : {self.b_only}   p {p_text(self.p_holm)} (Holm)"
        return f"n {self.n:,}" + ("" if self.p_holm is None else tested)


@dataclass(frozen=True)
class Comparison:
    """Two systems, `a` and `b`, compared.

    Attributes:
        averages: "macro", "micro", "weighted" -> difference.
        pairs: how many ids both systems and the references have.
        left_out: ids that only one of the systems has.
    """

    a: str
    b: str
    policy: str
    per_finding: dict[str, FindingDifference]
    averages: dict[str, FindingDifference]
    pairs: int
    left_out: tuple[str, ...] = field(repr=False)
    resamples: int
    seed: int

    __repr__ = short_repr

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding and average; what is undefined is NaN."""
        items = {**self.per_finding, **self.averages}
        rows = [{"finding": name} | item.to_dict() for name, item in items.items()]
        frame = pd.DataFrame(rows).set_index("finding")
        return frame.astype({c: float for c in frame if c not in ("n", "undefined_resamples")})

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return {
            "a": self.a,
            "b": self.b,
            "policy": self.policy,
            "per_finding": {name: item.to_dict() for name, item in self.per_finding.items()},
            "averages": {name: item.to_dict() for name, item in self.averages.items()},
            "pairs": self.pairs,
            "left_out": len(self.left_out),
            "resamples": self.resamples,
            "seed": self.seed,
        }

    @style()
    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw F1 of the first minus that of the second; a filled mark survives Holm's test."""
        drawn = [item for item in self.per_finding.values() if item.n]
        items = [*drawn, *self.averages.values()]
        ax = ax or new_axes(11, 2.6 + 0.42 * len(items))
        names, notes = [item.finding for item in items], [item.note for item in items]
        places = name_rows(ax, names, notes, split=len(drawn))
        for item, y in zip(items, places, strict=True):
            item.draw(ax, y, average=y > len(drawn))
        ax.axvline(0, color=INK, lw=1.2)
        edge = max(0.11, *np.abs(ax.get_xlim()))
        ax.set_xlim(-edge, edge)
        ax.set_xlabel(f"\u2190 {self.b} better     difference of F1     {self.a} better \u2192")
        ax.set_title(f"{self.a} against {self.b}, {self.pairs:,} pairs, {self.policy}", pad=14)
        return ax

    def _repr_html_(self) -> str:
        head = ("finding", "pairs", f"F1 {self.a}", f"F1 {self.b}", "difference [95 %]")
        head += (f"only {self.a} correct", f"only {self.b} correct", "p", "p (Holm)")
        rows, unscored = [], []
        for name, item in {**self.per_finding, **self.averages}.items():
            if name in self.per_finding and not item.n:
                unscored.append(name)
                continue
            cells = [name, f"{item.n:,}", fixed(item.f1_a), fixed(item.f1_b)]
            cells += [item.difference.text(sign=True), item.a_only, item.b_only]
            rows.append([*cells, p_text(item.p), p_text(item.p_holm)])
        left = f"<p>No pair scored for both: {escape(', '.join(unscored))}.</p>" if unscored else ""
        return html_table(head, rows) + left


def compare(a: ScoreCard, b: ScoreCard) -> Comparison:
    """Compare two score cards of the same references; resamples and seed are those of `a`.

    Raises:
        OptionError: the cards have different policies or findings.
        InputError: they share no id, or their references or patients differ.
    """
    if a.policy.name != b.policy.name:
        raise OptionError(
            f"the cards have the policies {a.policy.name} and {b.policy.name}; "
            "score both with the same"
        )
    findings = a.pairs.findings
    if findings != b.pairs.findings:
        raise OptionError("the cards score different findings; pass the same findings= to both")
    first, second, left_out = _aligned(a.pairs, b.pairs)
    outcomes = a.policy.outcomes()
    scored = np.stack([outcomes[side.reference, side.prediction] for side in (first, second)])
    both = (scored != NOT_SCORED).all(0)
    scored = np.where(both, scored, NOT_SCORED)
    counts, drawn = _counted(scored, first, a.resamples, a.seed)
    averages = {}
    for name, average in _AVERAGES.items():
        sides = [counts, drawn]
        if name == "macro":
            sides = [_defined_for_both(side) for side in sides]
        (first_mean, second_mean), (first_drawn, second_drawn) = (
            [average(side) for side in pair] for pair in sides
        )
        averages[name] = _difference(
            name, int(both.sum()), float(first_mean), float(second_mean), first_drawn, second_drawn
        )
    return Comparison(
        a=a.name,
        b=b.name if b.name != a.name else f"{b.name} (2)",
        policy=a.policy.name,
        per_finding=_rows(findings, scored, counts, drawn),
        averages=averages,
        pairs=len(first.ids),
        left_out=left_out,
        resamples=a.resamples,
        seed=a.seed,
    )


def _aligned(a: Pairs, b: Pairs) -> tuple[Pairs, Pairs, tuple[str, ...]]:
    at_a, at_b = ({key: at for at, key in enumerate(side.ids)} for side in (a, b))
    common = [key for key in a.ids if key in at_b]
    if not common:
        raise InputError("the two cards have no id in common; score both on the same references")
    first, second = a.take([at_a[key] for key in common]), b.take([at_b[key] for key in common])
    if not np.array_equal(first.reference, second.reference):
        differ = np.flatnonzero((first.reference != second.reference).any(axis=1))
        raise InputError(
            f"the references of {len(differ)} ids differ between the two cards (first: "
            f"{common[differ[0]]!r}); score both on the same references"
        )
    if first.patients != second.patients:
        raise InputError("the two cards group ids into patients differently; give both the same")
    left_out = tuple(key for key in (*a.ids, *b.ids) if (key in at_a) != (key in at_b))
    return first, second, left_out


def _counted(
    scored: np.ndarray, pairs: Pairs, resamples: int, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return counts (findings, 4) and resampled counts (resamples, findings, 4) of both."""
    shape = (len(pairs.findings), len(OUTCOMES))
    totals = np.concatenate([per_patient(side, pairs) for side in scored], axis=1)
    drawn = resampled_totals(totals, pairs, resamples=resamples, seed=seed)
    counts = [half.reshape(shape) for half in np.split(totals.sum(0), 2)]
    return counts, [half.reshape(-1, *shape) for half in np.split(drawn, 2, axis=1)]


def _defined_for_both(counts: list[np.ndarray]) -> list[np.ndarray]:
    """Return counts without findings whose F1 one system lacks: a mean over the same findings."""
    known = ~np.logical_or(*(np.isnan(f1_of(side)) for side in counts))
    return [side * known[..., None] for side in counts]


def _rows(
    findings: tuple[str, ...], scored: np.ndarray, counts: list[np.ndarray], drawn: list[np.ndarray]
) -> dict[str, FindingDifference]:
    right = np.isin(scored, (OUTCOMES.index("tp"), OUTCOMES.index("tn")))
    a_only, b_only = (right & ~right[::-1]).sum(1).tolist()
    n = (scored[0] != NOT_SCORED).sum(0).tolist()
    p = [mcnemar(x, y) if k else None for x, y, k in zip(a_only, b_only, n, strict=True)]
    corrected = holm(p)
    values = [f1_of(side).T for side in (*counts, *drawn)]
    rows = {}
    for at, finding in enumerate(findings):
        found = _difference(finding, n[at], *(side[at] for side in values))
        test = {"a_only": a_only[at], "b_only": b_only[at], "p": p[at], "p_holm": corrected[at]}
        rows[finding] = replace(found, **test)
    return rows


def _difference(
    name: str, n: int, a: float, b: float, drawn_a: np.ndarray, drawn_b: np.ndarray
) -> FindingDifference:
    known = [None if np.isnan(value) else float(value) for value in (a, b)]
    return FindingDifference(name, n, known[0], known[1], estimate(a - b, drawn_a - drawn_b, n))
