"""Two systems on the same references.

Only pairs that the policy can score for both are compared, finding by finding, so that
a system gains nothing by hedging on the hard cases; how many pairs that leaves is shown.
Differences of F1 have percentile intervals of a bootstrap over patients in which both systems see
the same resamples. McNemar's exact test asks, per finding, whether one system is right more often
where they disagree; Holm's correction keeps the chance of any false alarm at the level over all
findings. McNemar's test takes pairs as independent: with several reports of a patient trust the
intervals. Sources: McNemar, Psychometrika 1947; Holm, Scand J Stat 1979; Efron and Tibshirani 1993,
ch. 8.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any, Unpack

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from workbench._repr import result
from workbench.backends.levels import TEXTS, needs
from workbench.errors import InputError, OptionError
from workbench.evaluation.counts import (
    AVERAGES,
    NOT_SCORED,
    OUTCOMES,
    Pairs,
    f1_of,
    per_patient,
    resampled_totals,
)
from workbench.evaluation.intervals import Estimate, estimate, holm, mcnemar
from workbench.evaluation.protocol import differing
from workbench.evaluation.scorecard import ScoreCard, Scoring, score
from workbench.figures.estimates import draw_estimate, draw_forest, name_rows
from workbench.figures.numbers import p_text
from workbench.figures.style import BLUE, INK, VERMILION, new_axes, style
from workbench.figures.tables import html_table

#: A p-value below this survives.
_SURE = 0.05


@dataclass(frozen=True)
class FindingDifference:
    """One finding, or an average, of two systems on pairs that both could be scored on.

    Attributes:
        finding: standard name, or "macro", "micro", "weighted".
        n: pairs scored for both, which all numbers are about.
        a, b: F1 of each system on these pairs, with its bootstrap interval.
        difference: first minus second, with its bootstrap interval.
        p: McNemar's exact p-value, two-sided; None for averages and where nothing was scored.
    """

    finding: str
    n: int
    a: Estimate
    b: Estimate
    difference: Estimate
    a_only: int | None = None
    b_only: int | None = None
    p: float | None = None
    p_holm: float | None = None

    f1_a = property(lambda self: self.a.value, doc="F1 of the first system, or None.")
    f1_b = property(lambda self: self.b.value, doc="F1 of the second system, or None.")

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        found = self.difference
        row = {"n": self.n, **self.a.flat("f1_a"), **self.b.flat("f1_b")}
        row |= {"difference": found.value, "low": found.low, "high": found.high}
        row["undefined_resamples"] = found.undefined
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


@result(eq=True)
class Comparison:
    """Two systems, `a` and `b`, compared.

    Attributes:
        averages: "macro", "micro", "weighted" -> difference.
        pairs: how many ids both systems and the references have.
        left_out: ids that only one of the systems has.
        protocol: line of the protocol cards that differs -> (of a, of b).
        unknown: lines that are unknown in either.
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
    protocol: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    unknown: tuple[str, ...] = field(default=(), repr=False)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding and average; what is undefined is NaN."""
        items = {**self.per_finding, **self.averages}
        rows = [{"finding": name} | item.to_dict() for name, item in items.items()]
        frame = pd.DataFrame(rows).set_index("finding")
        return frame.astype({c: float for c in frame if c not in ("n", "undefined_resamples")})

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        found = {name: getattr(self, name) for name in ("a", "b", "policy", "pairs")}
        for name in ("per_finding", "averages"):
            found[name] = {key: item.to_dict() for key, item in getattr(self, name).items()}
        found["left_out"] = len(self.left_out)
        found["protocol"] = {"differ": dict(self.protocol), "unknown": list(self.unknown)}
        return found | {"resamples": self.resamples, "seed": self.seed}

    @style()
    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw F1 of the first minus that of the second; a filled mark survives Holm's test."""
        items, split = self._scored()
        ax = ax or new_axes(11, 2.6 + 0.42 * len(items))
        names, notes = [item.finding for item in items], [item.note for item in items]
        places = name_rows(ax, names, notes, split=split)
        for item, y in zip(items, places, strict=True):
            item.draw(ax, y, average=y > split)
        ax.axvline(0, color=INK, lw=1.2)
        edge = max(0.11, *np.abs(ax.get_xlim()))
        ax.set_xlim(-edge, edge)
        ax.set_xlabel(f"\u2190 {self.b} better     difference of F1     {self.a} better \u2192")
        ax.set_title(f"{self.a} against {self.b}, {self.pairs:,} pairs, {self.policy}", pad=14)
        return ax

    @style()
    def plot_scores(self, ax: Axes | None = None) -> Axes:
        """Draw F1 of both on the same pairs, with intervals."""
        items, split = self._scored()
        ax = ax or new_axes(11, 2.6 + 0.42 * len(items))
        rows = [(item.finding, (item.a, item.b), f"n {item.n:,}") for item in items]
        draw_forest(rows, ax, systems=(self.a, self.b), split=split)
        ax.set_title(f"{self.pairs:,} pairs, {self.policy}", loc="left", pad=14)
        return ax

    def _scored(self) -> tuple[list[FindingDifference], int]:
        """Return the findings with a pair, then the averages; and how many the findings are."""
        found = [item for item in self.per_finding.values() if item.n]
        return [*found, *self.averages.values()], len(found)

    @property
    def protocols(self) -> str:
        """How far both were scored alike, in one sentence."""
        differ = f"differ in: {', '.join(self.protocol)}" if self.protocol else "do not differ"
        unknown = f"; unknown in either: {', '.join(self.unknown)}" if self.unknown else ""
        return f"Protocols {differ}{unknown}."

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Return names of columns and rows of cells, for people; findings with a pair only."""
        names = [f"F1 {name} [95 %]" for name in (self.a, self.b)]
        only = [f"only {name} correct" for name in (self.a, self.b)]
        rows = []
        for item in self._scored()[0]:
            cells = [item.finding, f"{item.n:,}", item.a.text(), item.b.text()]
            cells += [item.difference.text(sign=True), item.a_only, item.b_only]
            rows.append([*cells, p_text(item.p), p_text(item.p_holm)])
        return ["finding", "pairs", *names, "difference [95 %]", *only, "p", "p (Holm)"], rows

    def _repr_html_(self) -> str:
        unscored = [name for name, item in self.per_finding.items() if not item.n]
        left = f"<p>No pair scored for both: {escape(', '.join(unscored))}.</p>" if unscored else ""
        said = f"<p>{escape(self.protocols)}</p>"
        rows = [(name, *pair) for name, pair in self.protocol.items()]
        lines = html_table(["protocol", self.a, self.b], rows) if rows else ""
        return html_table(*self.table()) + left + said + lines


@needs(TEXTS)
def compare(
    a: object, b: object, references: object = None, **scoring: Unpack[Scoring]
) -> Comparison:
    """Compare two systems on the same references; resamples and seed are those of `a`.

    Args:
        a, b: score cards, or with `references` predictions as `score` takes them: two runs, say.
        references: what both are scored against, such as the manifest of the runs.
        **scoring: options of `score`.

    Raises:
        OptionError: the cards have different policies or findings.
        InputError: they share no id, or their references or patients differ.

    >>> truth = {"a": "No nodule.", "b": "Nodule in the left lung."}
    >>> denied = dict.fromkeys(truth, "No nodule.")
    >>> wb.evaluation.compare(truth, denied, references=truth).pairs
    2
    """
    if references is not None:
        a, b = (score(side, references, **scoring) for side in (a, b))
    if not (isinstance(a, ScoreCard) and isinstance(b, ScoreCard)):
        got = f"{type(a).__name__} and {type(b).__name__}"
        raise InputError(f"expected two score cards, got {got}; to score runs give references=")
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
    averages: dict[str, FindingDifference] = {}
    for name, average in AVERAGES.items():
        sides = [_defined_for_both(side) if name == "macro" else side for side in (counts, drawn)]
        averages[name] = _difference(name, int(both.sum()), *map(average, sides))
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
        protocol=(lines := differing(a.protocol, b.protocol))[0],
        unknown=lines[1],
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
) -> tuple[np.ndarray, np.ndarray]:
    """Return counts (2, findings, 4) and resampled counts (2, resamples, findings, 4)."""
    totals = np.concatenate([per_patient(side, pairs) for side in scored], axis=1)
    drawn = resampled_totals(totals, pairs, resamples=resamples, seed=seed)
    shape = (2, len(pairs.findings), len(OUTCOMES))
    return totals.sum(0).reshape(shape), drawn.reshape(-1, *shape).swapaxes(0, 1)


def _defined_for_both(counts: np.ndarray) -> np.ndarray:
    """Return counts without findings whose F1 one system lacks: a mean over the same findings."""
    first, second = np.isnan(f1_of(counts))
    return counts * ~(first | second)[..., None]


def _rows(
    findings: tuple[str, ...], scored: np.ndarray, counts: np.ndarray, drawn: np.ndarray
) -> dict[str, FindingDifference]:
    right = np.isin(scored, (OUTCOMES.index("tp"), OUTCOMES.index("tn")))
    a_only, b_only = (right & ~right[::-1]).sum(1).tolist()
    n = (scored[0] != NOT_SCORED).sum(0).tolist()
    p = [mcnemar(x, y) if k else None for x, y, k in zip(a_only, b_only, n, strict=True)]
    tests = zip(a_only, b_only, p, holm(p), strict=True)
    f1, f1_drawn = f1_of(counts), f1_of(drawn)
    return {
        finding: _difference(finding, n[at], f1[:, at], f1_drawn[..., at], *test)
        for at, (finding, test) in enumerate(zip(findings, tests, strict=True))
    }


def _difference(
    name: str, n: int, values: np.ndarray, drawn: np.ndarray, *test: Any
) -> FindingDifference:
    a, b = (estimate(float(value), each, n) for value, each in zip(values, drawn, strict=True))
    found = estimate(float(values[0] - values[1]), drawn[0] - drawn[1], n)
    return FindingDifference(name, n, a, b, found, *test)
