"""`PhantomExam`: the outcome of an examination, to read, to plot and to save.

Does not know: how it was made (`phantom_exam`) or how scores are computed (`phantom_scores`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING

from workbench._repr import short_repr
from workbench.evaluation.bars import Bar, check_bars
from workbench.evaluation.intervals import Estimate
from workbench.evaluation.phantom_scores import DomainScore, ExamCase, FindingScore

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_METRICS = ("precision", "recall", "f1", "laterality", "zone")
_COLOURS = {"internal": "#0072b2", "external": "#d55e00"}


@dataclass(frozen=True)
class PhantomExam:
    """How well a model reports phantoms.

    Attributes:
        scores: domain -> scores.
        cases: every phantom with its report, what was drawn and what was stated.
        n: phantoms per domain.
        seed: first seed of the internal phantoms; external ones start at seed + n.
        size: pixels along each edge.
        held_out: False when the seeds may have been trained on.
        provenance: model id, hash and revision, prompt, decoding settings, package versions.
        warnings: what a person should know before quoting the numbers.
    """

    scores: dict[str, DomainScore]
    cases: tuple[ExamCase, ...] = field(repr=False)
    n: int
    seed: int
    size: int
    held_out: bool
    provenance: dict = field(repr=False)
    warnings: tuple[str, ...] = ()

    __repr__ = short_repr

    def meets_bar(self) -> tuple[Bar, ...]:
        """Return every bar with whether it is reached."""
        return check_bars(self.scores)

    @property
    def passed(self) -> bool:
        """Whether every required bar is reached; an unmeasured bar is not."""
        return all(bar.reached for bar in self.meets_bar() if bar.required)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per domain and finding, and one per domain for the macro mean."""
        import pandas as pd

        rows = []
        for domain, score in self.scores.items():
            rows += [
                {"domain": domain, **_finding_row(item)} for item in score.per_finding.values()
            ]
            rows.append(
                {
                    "domain": domain,
                    "finding": "macro (six findings)",
                    **_flat("f1", score.macro_f1),
                    **_flat("laterality", score.laterality),
                    **_flat("zone", score.zone),
                    "n": score.n,
                }
            )
        return pd.DataFrame(rows)

    def cases_frame(self) -> pd.DataFrame:
        """Return one row per phantom: what was drawn, stated, missed and invented."""
        import pandas as pd

        rows = [
            {
                "domain": case.domain,
                "seed": case.seed,
                "drawn": ", ".join(case.truth),
                "stated": ", ".join(case.stated),
                "missed": ", ".join(case.missed),
                "invented": ", ".join(case.invented),
                "text": case.text,
            }
            for case in self.cases
        ]
        return pd.DataFrame(rows)

    def to_dict(self) -> dict:
        """Return plain values for JSON; undefined numbers are None."""
        return {
            **{domain: _domain_dict(score) for domain, score in self.scores.items()},
            "bars": [asdict(bar) for bar in self.meets_bar()],
            "passed": self.passed,
            "n": self.n,
            "seed": self.seed,
            "size": self.size,
            "held_out": self.held_out,
            "warnings": list(self.warnings),
            **self.provenance,
        }

    def summary(self) -> str:
        """Return the numbers and the bars as a few lines of text."""
        held = "held out" if self.held_out else "NOT held out"
        lines = [
            f"{self.provenance.get('model')}: {self.n} phantoms per domain, seed {self.seed} "
            f"({held}), 95 % intervals"
        ]
        for domain, score in self.scores.items():
            lines += [
                f"{domain} (seeds {score.seeds[0]} to {score.seeds[1] - 1})",
                *(_finding_line(item) for item in score.per_finding.values()),
                f"  macro-F1 over six findings {score.macro_f1}; over eight {score.macro_f1_all}",
                f"  laterality {score.laterality} of {score.laterality.n}; "
                f"without edema {score.laterality_focal}; zone {score.zone}",
                f"  false findings per normal phantom {score.false_per_normal} "
                f"of {score.normals}; {_seconds(score)} s a report",
            ]
        return "\n".join([*lines, *(str(bar) for bar in self.meets_bar()), *self.warnings])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw F1 of each finding with its interval, one colour per domain; return the Axes."""
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
        for index, (domain, score) in enumerate(self.scores.items()):
            items = list(score.per_finding.values())
            for row, item in enumerate(items):
                if item.f1.value is not None:
                    height = row + 0.18 * (index - (len(self.scores) - 1) / 2) * 2
                    ax.plot([item.f1.low, item.f1.high], [height] * 2, color=_COLOURS[domain])
                    ax.plot(item.f1.value, height, "o", color=_COLOURS[domain])
            ax.set_yticks(range(len(items)), [item.finding for item in items])
            macro = "undefined" if score.macro_f1.value is None else f"{score.macro_f1.value:.2f}"
            ax.plot([], [], "o-", color=_COLOURS[domain], label=f"{domain}, macro-F1 {macro}")
        ax.set(xlim=(0, 1.02), xlabel="F1 with 95 % interval", title=self._title())
        ax.invert_yaxis()
        ax.legend(loc="lower left", frameon=False)
        return ax

    def _title(self) -> str:
        held = "" if self.held_out else ", NOT held out"
        return f"{self.provenance.get('model')} on {self.n} phantoms per domain{held}"

    def _repr_html_(self) -> str:
        from workbench.figures.tables import html_table

        rows = []
        for domain, score in self.scores.items():
            for item in score.per_finding.values():
                cells = [domain, item.finding, str(item.n)]
                rows.append([*cells, *(str(getattr(item, metric)) for metric in _METRICS)])
        notes = [*(str(bar) for bar in self.meets_bar()), *self.warnings]
        listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
        table = html_table(["domain", "finding", "n", *_METRICS], rows)
        return f"<b>{escape(self._title())}</b>{table}<ul>{listed}</ul>"


def _flat(name: str, item: Estimate) -> dict:
    return {name: item.value, f"{name}_low": item.low, f"{name}_high": item.high}


def _finding_row(item: FindingScore) -> dict:
    row: dict = {"finding": item.finding}
    for metric in _METRICS:
        row |= _flat(metric, getattr(item, metric))
    return row | {"n": item.n}


def _finding_dict(item: FindingScore) -> dict:
    row = _finding_row(item)
    del row["finding"]
    return row | {"laterality_n": item.laterality.n, "zone_n": item.zone.n}


def _domain_dict(score: DomainScore) -> dict:
    numbers: dict = {}
    for name in (
        "macro_f1",
        "macro_f1_all",
        "laterality",
        "laterality_focal",
        "zone",
        "false_per_normal",
    ):
        numbers |= _flat(name, getattr(score, name))
    return {
        **numbers,
        "per_finding": {name: _finding_dict(item) for name, item in score.per_finding.items()},
        "laterality_n": score.laterality.n,
        "laterality_focal_n": score.laterality_focal.n,
        "zone_n": score.zone.n,
        "normals": score.normals,
        "seconds_per_report": score.seconds_per_report,
        "n": score.n,
        "first_seed": score.seeds[0],
    }


def _finding_line(item: FindingScore) -> str:
    return f"  {item.finding:<17} n {item.n:>4}  precision {item.precision!s:<21}  recall " + (
        f"{item.recall!s:<21}  F1 {item.f1}"
    )


def _seconds(score: DomainScore) -> str:
    return "?" if score.seconds_per_report is None else f"{score.seconds_per_report:.3f}"
