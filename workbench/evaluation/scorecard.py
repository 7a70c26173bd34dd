"""Score reports against references, finding by finding: `wb.evaluation.score`.

    card = wb.evaluation.score("run.csv", "references.csv", policy="joint-definite")

Both sides are read by `workbench.reports` (or come as labels), paired by id, and counted under one
policy (`counts`). Rates have Wilson's intervals; F1 and the averages have percentile intervals
of a bootstrap over patients, stratified by whether a patient has any finding in the references:
patients are drawn, not pairs, because reports of one patient are alike.

A finding that neither side mentions is unknown, and no number here turns it into a negative unless
the policy is named for that.

Source: Lee et al., Eur Radiol 2025, arXiv 2310.18341 (labels on both texts, 1,000 resamples).
Deviation: the paper does not say that it resampled patients, or how.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from html import escape
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench._repr import result
from workbench._version import __version__
from workbench.backends.levels import TEXTS, needs
from workbench.errors import InputError, OptionError, check_whole
from workbench.evaluation.counts import (
    AVERAGE_NAMES,
    OUTCOMES,
    REASONS,
    Average,
    FindingRow,
    Pairs,
    Policy,
    count_pairs,
    find_policy,
    why_not_scored,
)
from workbench.evaluation.intervals import Estimate
from workbench.evaluation.protocol import protocol_of
from workbench.evaluation.report_set import (
    NO_PREDICTION,
    NO_REFERENCE,
    NO_TEXT,
    STATUSES,
    ReportSet,
    pair_up,
    read_reports,
    status_rows,
)
from workbench.evaluation.scorecard_figure import plot_confusions, plot_coverage, plot_forest
from workbench.evaluation.variety import Variety, variety
from workbench.figures.numbers import fixed, percent
from workbench.figures.page import PAGE_STYLE, notes_html, scoped
from workbench.figures.tables import html_table
from workbench.findings import ALL_FINDINGS, NO_FINDING, standard_name
from workbench.reports.text_metrics import TextMetrics, measure_texts

#: A coverage below this is said in words.
_LOW_COVERAGE = 0.5

#: Findings that are scored unless others are asked for: "no finding" follows from the others.
SCORED_FINDINGS = tuple(name for name in ALL_FINDINGS if name != NO_FINDING)


@result()
class ScoreCard:
    """How well predictions agree with references, finding by finding.

    Attributes:
        averages: "macro", "micro", "weighted", and "macro of six" where more than the paper's
            findings are scored.
        rows: one row for every id that went in, with its status (`scorecard_rows`).
        warnings: what a reader must know before quoting the numbers.
        provenance: where the inputs came from, and versions.
        texts: metrics of the wording, where asked for.
        variety: how different the predictions are from patient to patient; None for labels.
        protocol: the protocol card, name of a line -> what is known.
    """

    name: str
    policy: Policy
    per_finding: Mapping[str, FindingRow]
    averages: Mapping[str, Average]
    pairs: Pairs = field(repr=False)
    resamples: int
    seed: int
    rows: pd.DataFrame = field(repr=False)
    warnings: tuple[str, ...]
    provenance: Mapping[str, Any] = field(repr=False)
    texts: TextMetrics | None = field(repr=False)
    variety: Variety | None = field(repr=False)
    protocol: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def coverage(self) -> float | None:
        """Share of all pairs of a report and a finding that could be scored."""
        total = sum(row.pairs for row in self.per_finding.values())
        return sum(row.n for row in self.per_finding.values()) / total if total else None

    @property
    def statuses(self) -> dict[str, int]:
        """How many of the ids that went in have which status."""
        counts = self.rows["status"].value_counts()
        return {status: int(counts.get(status, 0)) for status in STATUSES}

    def not_scored(self) -> pd.DataFrame:
        """Return why pairs were not scored: findings by reasons, counts."""
        tables = np.array([row.confusion for row in self.per_finding.values()])
        reasons = why_not_scored(tables, self.policy)
        return pd.DataFrame(reasons, index=list(self.per_finding), columns=list(REASONS))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding, indexed by name; what is undefined is NaN."""
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
            result |= self.averages[name].f1.flat(f"{name}_f1")
        result["averages"] = {name: item.to_dict() for name, item in self.averages.items()}
        result |= {"pairs": len(self.pairs.ids), "coverage": self.coverage}
        result |= {"patients": len(set(self.pairs.patients)), "rows": self.statuses}
        result |= {"resamples": self.resamples, "seed": self.seed}
        result |= {"warnings": list(self.warnings), "provenance": dict(self.provenance)}
        result["protocol"] = dict(self.protocol)
        result["variety"] = None if self.variety is None else self.variety.to_dict()
        return result | {"text_metrics": None if self.texts is None else self.texts.to_dict()}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw F1 of every finding and every average with intervals; return the Axes."""
        title = f"{self.name}: {len(self.pairs.ids):,} pairs of reports, {self.policy.name}"
        return plot_forest(self.per_finding, self.averages, ax, title)

    def plot_coverage(self, ax: Axes | None = None) -> Axes:
        """Draw how many pairs were scored, and why the others were not; return the Axes."""
        title = f"{self.name}: what {self.policy.name} could score"
        return plot_coverage(self.per_finding, self.not_scored(), ax, title)

    def plot_confusion(self) -> Figure:
        """Draw reference code by prediction code of every finding that is mentioned."""
        title = f"{self.name}: codes of {len(self.pairs.ids):,} pairs; framed cells are scored"
        return plot_confusions(self.per_finding, self.policy.outcomes(), title)

    def summary_html(self) -> str:
        """Return numbers, table and notes as HTML, without pictures and without a style."""
        pairs, patients = len(self.pairs.ids), len(set(self.pairs.patients))
        big = {"pairs of reports": f"{pairs:,}"}
        big["of report and finding scored"] = percent(self.coverage)
        for one in ("macro", "micro"):
            big[f"{one} F1"] = fixed(self.averages[one].f1.value, missing="undefined")
        boxes = [f"<div><b>{value}</b><small>{name}</small></div>" for name, value in big.items()]
        came = ", ".join(f"{count:,} {name}" for name, count in self.statuses.items() if count)
        return (
            f"<h1>Score card: {escape(self.name)}</h1>"
            f'<p class="muted">{pairs:,} pairs of {patients:,} patients, 95 % intervals</p>'
            f'<div class="figures">{"".join(boxes)}</div>'
            f"<p><b>{escape(self.policy.name)}.</b> {escape(self.policy.says)}</p>"
            f"{notes_html('Before quoting these numbers', self.warnings)}"
            f"<h2>Finding by finding</h2>{self._table()}"
            + (f'<p class="muted">{escape(self.variety.said)}</p>' if self.variety else "")
            + (f'<p class="muted">Rows in: {escape(came)}.</p>' if came else "")
            + html_table(("protocol", self.name), list(self.protocol.items()))
        )

    def _table(self) -> str:
        head = ("finding", "pairs scored", "coverage", "positive", *map(str.upper, OUTCOMES),
                "precision", "recall", "specificity", "F1")  # fmt: skip
        rows = [
            (row.finding, f"{row.n:,}", percent(row.coverage), f"{row.support:,}",
             *(f"{getattr(row, one):,}" for one in OUTCOMES),
             *map(_interval, (row.precision, row.recall, row.specificity, row.f1)))
            for row in self.per_finding.values() if row.mentioned
        ]  # fmt: skip
        never = ", ".join(row.finding for row in self.per_finding.values() if not row.mentioned)
        silent = f'<p class="muted">{escape(never)}: never mentioned, undefined</p>'
        averages = [
            (f"{AVERAGE_NAMES[name]}, over {len(item.members)} findings", _interval(item.f1))
            for name, item in self.averages.items()
        ]
        table = html_table(head, rows) + (silent if never else "")
        return table + html_table(("average", "F1"), averages)

    def _repr_html_(self) -> str:
        style = scoped(PAGE_STYLE, "scorecard")
        return f'<style>{style}</style><div class="scorecard">{self.summary_html()}</div>'


def _interval(found: Estimate) -> str:
    return found.text().replace(" [", "\n[")


class Scoring(TypedDict, total=False):
    """Options of `score` that are the same for several systems."""

    policy: str
    patients: Mapping[Any, Any] | str | None
    findings: Sequence[str] | None
    resamples: int
    seed: int


@needs(TEXTS)
def score(
    predictions: object,
    references: object,
    *,
    policy: str = "joint-definite",
    patients: Mapping[Any, Any] | str | None = None,
    findings: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    text_metrics: bool = False,
    name: str | None = None,
) -> ScoreCard:
    """Score predictions against references.

    Args:
        predictions, references: reports or labels by id, as `read_reports` takes them (the folder
            of a run, a manifest); what that returned where the columns of a table have other names.
        policy: one of `POLICIES`; omission is counted under every one.
        patients: id -> patient, or the name of a column of either table. When None those of a
            manifest, else every id is its own patient, and the card says so.
        findings: what to score; all but "no finding" when None, and only those that a label table
            has columns for.
        resamples: bootstrap resamples; 0 leaves out the intervals of F1.
        text_metrics: measure the wording too (BLEU, ROUGE-L and the rest), where both are texts.

    Raises:
        InputError: an input cannot be read (see `report_set`), no id occurs on both sides, or a
            paired id has no patient.
        OptionError: unknown policy or finding, or a number out of range.

    >>> truth = {"a": "No nodule.", "b": "Nodule in the left lung."}
    >>> wb.evaluation.score(truth, truth).per_finding["nodule"].f1.value
    1.0
    """
    chosen = find_policy(policy)
    check_whole(0, resamples=resamples)
    column = patients if isinstance(patients, str) else None
    predicted = read_reports(predictions, role="predictions", name=name, patient_column=column)
    expected = read_reports(references, role="references", patient_column=column)
    names = _findings(findings, predicted, expected)
    pairs = pair_up(predicted, expected, names, patients)
    known = patients is not None or bool(predicted.patients or expected.patients)
    rows, averages = count_pairs(pairs, chosen, resamples=resamples, seed=seed)
    provenance = {
        "predictions": f"{predicted.name} ({predicted.kind})",
        "references": f"{expected.name} ({expected.kind})",
        "patients": "given" if known else "one for each id",
        "workbench": __version__,
        "numpy": np.__version__,
    }
    card = ScoreCard(
        name=predicted.name,
        policy=chosen,
        per_finding=rows,
        averages=averages,
        pairs=pairs,
        resamples=resamples,
        seed=seed,
        rows=status_rows(predicted, expected, pairs, chosen),
        warnings=(),
        provenance=provenance,
        texts=_measure(predicted, expected, pairs) if text_metrics else None,
        variety=variety(predicted, pairs),
        protocol=protocol_of(predicted, expected, pairs, chosen, patients=known),
    )
    return replace(card, warnings=_warnings(card, known))


def _warnings(card: ScoreCard, patients_given: bool) -> tuple[str, ...]:
    notes = _row_notes(card.rows)
    if card.variety is not None and card.variety.collapsed:
        notes.insert(0, f"Different images get the same report: {card.variety.said}")
    if card.coverage is not None and card.coverage < _LOW_COVERAGE:
        notes.append(
            f"Under {card.policy.name}, {percent(card.coverage)} of all pairs of a report and a "
            "finding could be scored; the scores say nothing about the others."
        )
    notes += _finding_notes(list(card.per_finding.values()), card.resamples)
    if not patients_given:
        notes.append(
            "Every id was taken as its own patient; with several reports of a patient the "
            "intervals are too narrow (give patients)."
        )
    return tuple(notes)


def _findings(
    wished: Sequence[str] | None, predicted: ReportSet, expected: ReportSet
) -> tuple[str, ...]:
    if wished is not None:
        names = [wished] if isinstance(wished, str) else list(wished)
        if not names:
            raise OptionError("findings is empty; name at least one, or leave it out for all")
        return tuple(dict.fromkeys(standard_name(name) for name in names))
    names = SCORED_FINDINGS
    for side in (predicted, expected):
        if side.findings is not None:
            names = tuple(name for name in names if name in side.findings)
    if not names:
        raise InputError(
            "no finding has a column on both sides besides 'no finding'; name what to score "
            "with findings="
        )
    return names


def _measure(predicted: ReportSet, expected: ReportSet, pairs: Pairs) -> TextMetrics | None:
    if "labels" in (predicted.kind, expected.kind):
        return None
    sides = [
        {key: text for key in pairs.ids if isinstance(text := side.entries[key], str)}
        for side in (predicted, expected)
    ]
    return measure_texts(*sides)


def _row_notes(rows: pd.DataFrame) -> list[str]:
    """Return what to know about ids that are in no count."""
    counts = rows["status"].value_counts()
    empty = rows.loc[rows["status"] == NO_TEXT, "detail"]
    silent = int(empty.str.contains("predictions").sum())
    said = [
        (silent, "prediction", "text", "; a system is not punished here for staying silent"),
        (len(empty) - silent, "reference", "text", ""),
        (counts.get(NO_PREDICTION, 0), "id", "a prediction", ""),
        (counts.get(NO_REFERENCE, 0), "id", "a reference", ""),
    ]
    return [
        f"{number:,} {noun}{'' if number == 1 else 's'} without {what}: in no count{more}."
        for number, noun, what, more in said
        if number
    ]


def _finding_notes(rows: Sequence[FindingRow], resamples: int) -> list[str]:
    """Return what to know about single findings: unmentioned, undefined, without any error."""
    never = [row.finding for row in rows if not row.mentioned]
    undefined = [row.finding for row in rows if row.f1.value is None and row.mentioned]
    perfect = [row.finding for row in rows if row.f1.value == 1 and row.f1.low == 1]
    shaky = [row for row in rows if row.f1.undefined and row.f1.low is not None]
    counted = [f"{row.finding} ({row.f1.undefined})" for row in shaky]
    said = (
        (never, "Never mentioned on either side, and not scored: {}."),
        (undefined, "F1 is undefined (no case scored as positive on either side) for {}; averages "
         "are over the other findings."),
        (perfect, "No error was seen for {}: resampling cannot widen the interval of such an F1; "
         "read the intervals of precision and recall."),
        (counted, f"F1 was undefined in some of {resamples} resamples, which its interval leaves "
         "out: {}."),
    )  # fmt: skip
    return [text.format(", ".join(names)) for names, text in said if names]
