"""`ScoreCard`: what `score` returns, to read, to plot, to save and to hand on as JSON.

Does not know: how it was counted (`scorecard_counts`), drawn (`scorecard_figure`) or laid out
(`scorecard_html`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench._repr import short_repr
from workbench.evaluation.intervals import Estimate
from workbench.evaluation.policies import OUTCOMES, REASONS, Policy, why_not_scored

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.reports.text_metrics import TextMetrics


@dataclass(frozen=True, eq=False)
class Pairs:
    """Codes of both sides, paired by id.

    Attributes:
        ids: (pairs,) identifiers that have a text or labels on both sides.
        patients: (pairs,) whose they are.
        findings: (findings,) standard names.
        reference: (pairs, findings) int8, index of `findings.CODES`.
        prediction: (pairs, findings) int8, the same.
    """

    ids: tuple[str, ...]
    patients: tuple[str, ...]
    findings: tuple[str, ...]
    reference: np.ndarray
    prediction: np.ndarray

    __repr__ = short_repr


@dataclass(frozen=True, eq=False)
class FindingRow:
    """One finding.

    Attributes:
        finding: standard name.
        pairs: pairs of reports, scored or not.
        tp: scored pairs positive on both sides.
        fp: positive in the prediction only.
        tn: negative on both sides.
        fn: positive in the reference only.
        precision: TP / (TP + FP), Wilson's interval.
        recall: TP / (TP + FN), Wilson's interval.
        specificity: TN / (TN + FP), Wilson's interval.
        f1: 2 TP / (2 TP + FP + FN), bootstrap interval over patients.
        omission: share of findings present in the reference that the prediction does not mention.
        omitted: how many those are.
        confusion: (4, 4) int64, reference code by prediction code, in the order of `CODES`.
    """

    finding: str
    pairs: int
    tp: int
    fp: int
    tn: int
    fn: int
    precision: Estimate
    recall: Estimate
    specificity: Estimate
    f1: Estimate
    omission: Estimate
    omitted: int
    confusion: np.ndarray = field(repr=False)

    __repr__ = short_repr

    @property
    def n(self) -> int:
        """Pairs that the policy could score."""
        return self.tp + self.fp + self.tn + self.fn

    @property
    def mentioned(self) -> bool:
        """Whether any side of any pair mentions the finding."""
        return bool(self.confusion.sum() > self.confusion[-1, -1])

    @property
    def support(self) -> int:
        """Scored pairs that are positive in the reference."""
        return self.tp + self.fn

    @property
    def coverage(self) -> float | None:
        """Share of pairs that the policy could score."""
        return self.n / self.pairs if self.pairs else None

    def to_dict(self) -> dict:
        """Return plain values for JSON; `low` and `high` belong to `f1`."""
        row: dict[str, Any] = {"n": self.n, "pairs": self.pairs, "coverage": self.coverage}
        row["support"] = self.support
        row |= {name: getattr(self, name) for name in OUTCOMES}
        for name in ("precision", "recall", "specificity"):
            row |= _flat(name, getattr(self, name))
        row |= {"f1": self.f1.value, "low": self.f1.low, "high": self.f1.high}
        row["undefined_resamples"] = self.f1.undefined
        row |= {"omitted": self.omitted, "omission_of": self.omission.n}
        return row | _flat("omission", self.omission)


@dataclass(frozen=True)
class Average:
    """An F1 over several findings.

    Attributes:
        name: "macro" (mean over findings), "micro" (all counts together), "weighted" (mean over
            findings, each with its support) or "macro of six" (the findings of the paper).
        f1: with its bootstrap interval.
        members: findings it is over.
        undefined: findings left out because their F1 is undefined.
        fewer: resamples in which a member was undefined, so that the average was over fewer.
    """

    name: str
    f1: Estimate
    members: tuple[str, ...]
    undefined: tuple[str, ...]
    fewer: int

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        found = {"f1": self.f1.value, "low": self.f1.low, "high": self.f1.high}
        found |= {"findings": list(self.members), "undefined": list(self.undefined)}
        return found | {
            "undefined_resamples": self.f1.undefined,
            "resamples_over_fewer": self.fewer,
        }


@dataclass(frozen=True, eq=False)
class ScoreCard:
    """How well predictions agree with references, finding by finding.

    Attributes:
        name: of the predictions.
        policy: what was scored.
        per_finding: finding -> row.
        averages: "macro", "micro", "weighted", and "macro of six" where more than the paper's
            findings are scored.
        pairs: the codes behind it.
        resamples: bootstrap resamples.
        seed: of the resampling.
        rows: one row for every id that went in, with its status (`scorecard_rows`).
        warnings: what a reader must know before quoting the numbers.
        provenance: where the inputs came from, and versions.
        texts: metrics of the wording, where asked for.
    """

    name: str
    policy: Policy
    per_finding: Mapping[str, FindingRow]
    averages: Mapping[str, Average]
    pairs: Pairs = field(repr=False)
    resamples: int = 1000
    seed: int = 0
    rows: pd.DataFrame | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)
    texts: TextMetrics | None = field(default=None, repr=False)

    __repr__ = short_repr

    def with_rows(self, rows: pd.DataFrame, **fields: Any) -> ScoreCard:
        """Return the card with the status of every row, and what else belongs to it."""
        return replace(self, rows=rows, **fields)

    @property
    def coverage(self) -> float | None:
        """Share of all pairs of a report and a finding that could be scored."""
        total = sum(row.pairs for row in self.per_finding.values())
        return sum(row.n for row in self.per_finding.values()) / total if total else None

    @property
    def never_mentioned(self) -> tuple[str, ...]:
        """Findings that no side of any pair mentions."""
        return tuple(name for name, row in self.per_finding.items() if not row.mentioned)

    @property
    def statuses(self) -> dict[str, int]:
        """How many of the ids that went in have which status."""
        from workbench.evaluation.scorecard_rows import STATUSES

        counts = {} if self.rows is None else self.rows["status"].value_counts()
        return {status: int(counts.get(status, 0)) for status in STATUSES}

    def not_scored(self) -> pd.DataFrame:
        """Return why pairs were not scored: findings by reasons, counts."""
        import pandas as pd

        tables = np.array([row.confusion for row in self.per_finding.values()])
        reasons = why_not_scored(tables, self.policy)
        return pd.DataFrame(reasons, index=list(self.per_finding), columns=list(REASONS))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding, indexed by name; what is undefined is NaN."""
        import pandas as pd

        rows = [{"finding": name} | row.to_dict() for name, row in self.per_finding.items()]
        frame = pd.DataFrame(rows).set_index("finding")
        counts = {"n", "pairs", "support", *OUTCOMES, "omitted", "omission_of"}
        floats = [c for c in frame if c not in counts | {"undefined_resamples"}]
        return frame.astype(dict.fromkeys(floats, float))

    def to_dict(self) -> dict:
        """Return plain values for JSON; undefined numbers are None."""
        result: dict[str, Any] = {
            "name": self.name,
            "policy": self.policy.name,
            "policy_says": self.policy.says,
            "per_finding": {
                name: row.to_dict() | {"confusion": row.confusion.tolist()}
                for name, row in self.per_finding.items()
            },
        }
        for name in ("macro", "micro", "weighted"):
            result |= _flat(f"{name}_f1", self.averages[name].f1)
        result["averages"] = {name: item.to_dict() for name, item in self.averages.items()}
        result |= {"pairs": len(self.pairs.ids), "coverage": self.coverage}
        result |= {"patients": len(set(self.pairs.patients)), "rows": self.statuses}
        result |= {"resamples": self.resamples, "seed": self.seed}
        result |= {"warnings": list(self.warnings), "provenance": dict(self.provenance)}
        return result | {"text_metrics": None if self.texts is None else self.texts.to_dict()}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw F1 of every finding and every average with intervals; return the Axes."""
        from workbench.evaluation.scorecard_figure import plot_card

        return plot_card(self, ax)

    def plot_coverage(self, ax: Axes | None = None) -> Axes:
        """Draw how many pairs were scored, and why the others were not; return the Axes."""
        from workbench.evaluation.scorecard_figure import plot_card_coverage

        return plot_card_coverage(self, ax)

    def plot_confusion(self) -> Figure:
        """Draw reference code by prediction code of every finding that is mentioned."""
        from workbench.evaluation.scorecard_figure import plot_card_confusion

        return plot_card_confusion(self)

    def save(self, folder: str | Path, *, compared: tuple = ()) -> dict[str, Path]:
        """Write scorecard.html, .csv, .json, rows.csv and the figures (PNG and SVG).

        Args:
            folder: made if needed; files of the same names are replaced.
            compared: `Comparison`s to show on the page.

        Returns:
            File name -> path.
        """
        from workbench.evaluation.scorecard_html import save_card

        return save_card(self, Path(folder), compared=compared)

    def _repr_html_(self) -> str:
        from workbench.evaluation.scorecard_html import card_html

        return card_html(self)


def _flat(name: str, item: Estimate) -> dict:
    return {name: item.value, f"{name}_low": item.low, f"{name}_high": item.high}
