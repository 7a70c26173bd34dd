"""The result of the saliency benchmark: a row per method and baseline, with intervals.

Does not know: how maps are made or scored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench._repr import short_repr
from workbench.evaluation.intervals import Estimate, bootstrap_weights, ratio, wilson
from workbench.figures.names import method_name
from workbench.saliency.checks import RANDOMISED_LIMIT

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class SaliencyRow:
    """One method, or one baseline, over all cases.

    Attributes:
        method: name.
        baseline: True for fixed maps.
        pointing: share of cases in which the greatest cell touches the truth (Wilson's interval).
        energy: mean share of the positive sum inside the truth.
        iou: mean overlap with as many of the greatest cells.
        seconds: median wall time of a map.
        other_phrase: pointing of the same method asked about another finding; None for baselines.
        similarity: mean size of the rank correlation with maps of random weights, each at the stage
            that changes it least; None where not checked.
        checked: cases of that check.
        per_finding: finding -> (hits, cases).
    """

    method: str
    baseline: bool
    pointing: Estimate
    energy: Estimate
    iou: Estimate
    seconds: float
    other_phrase: Estimate | None = None
    similarity: float | None = None
    checked: int = 0
    per_finding: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    __repr__ = short_repr

    @property
    def randomisation_ok(self) -> bool | None:
        """Whether the map changes with random weights; None where it was not checked."""
        return None if self.similarity is None else abs(self.similarity) < RANDOMISED_LIMIT

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        other = self.other_phrase
        return {
            "method": self.method,
            "pointing": self.pointing.value,
            "low": self.pointing.low,
            "high": self.pointing.high,
            "energy": self.energy.value,
            "iou": self.iou.value,
            "cases": self.pointing.n,
            "seconds": self.seconds,
            "randomisation_ok": self.randomisation_ok,
            "randomisation_similarity": self.similarity,
            "randomisation_cases": self.checked,
            "other_phrase": None if other is None else other.value,
            "other_phrase_low": None if other is None else other.low,
            "other_phrase_high": None if other is None else other.high,
            "other_phrase_cases": 0 if other is None else other.n,
            "per_finding": {name: list(pair) for name, pair in self.per_finding.items()},
        }


@dataclass(frozen=True, eq=False)
class SaliencyTable:
    """All rows of one benchmark.

    Attributes:
        methods: rows of methods, best first.
        baselines: rows of fixed maps, best first.
        cases: phantoms whose finding the report states.
        drawn: phantoms drawn.
        missed: phantoms whose report misses the finding.
        seed: first phantom seed.
        provenance: which weights.
    """

    methods: tuple[SaliencyRow, ...]
    baselines: tuple[SaliencyRow, ...]
    cases: int
    drawn: int
    missed: int
    seed: int
    provenance: Mapping[str, Any]

    __repr__ = short_repr

    def to_dict(self) -> dict:
        """Return plain values for JSON; every method's row carries both kinds of baseline."""
        prior = self.baselines[0].pointing.value if self.baselines else None
        rows = [row.to_dict() | {"best_fixed_baseline": prior} for row in self.methods]
        return {
            "methods": rows,
            "baselines": [row.to_dict() for row in self.baselines],
            "cases": self.cases,
            "drawn": self.drawn,
            "missed": self.missed,
            "seed": self.seed,
            "model": dict(self.provenance),
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row per method and baseline, best first within each."""
        import pandas as pd

        rows = [
            row.to_dict() | {"baseline": row.baseline} for row in (*self.methods, *self.baselines)
        ]
        return pd.DataFrame(rows).drop(columns="per_finding").set_index("method")

    def per_finding(self) -> pd.DataFrame:
        """Return pointing by method (rows) and finding (columns); NaN where there is no case."""
        import pandas as pd

        return pd.DataFrame(
            {
                row.method: {
                    name: hits / cases if cases else np.nan
                    for name, (hits, cases) in row.per_finding.items()
                }
                for row in (*self.methods, *self.baselines)
            }
        ).T

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw pointing with intervals, beside the same methods asked about another phrase."""
        from workbench.saliency.figure import plot_truth_table

        rows = [
            row.to_dict() | {"baseline": row.baseline} for row in (*self.methods, *self.baselines)
        ]
        return plot_truth_table(rows, ax)

    def verdicts(self) -> dict:
        """Return the randomisation verdicts in the form that `cautions` reads."""
        return {
            "sha256": self.provenance.get("sha256"),
            "seed": self.seed,
            "methods": {
                row.method: {
                    "ok": row.randomisation_ok,
                    "similarity": round(row.similarity, 4),
                    "cases": row.checked,
                }
                for row in self.methods
                if row.similarity is not None
            },
        }

    def record(self, path: str | Path) -> Path:
        """Write the verdicts to a file."""
        path = Path(path)
        path.write_text(json.dumps(self.verdicts(), indent=1) + "\n")
        return path

    def _repr_html_(self) -> str:
        from workbench.figures.tables import html_table

        head = ("method", "cases", "pointing [95 %]", "other phrase", "energy", "IoU", "seconds")
        rows = [_cells(row) for row in (*self.methods, *self.baselines)]
        return (
            html_table([*head, "random weights"], rows)
            + f"<p>{self.cases:,} true positives of {self.drawn:,} phantoms from seed "
            f"{self.seed:,}; 95 % intervals; \u26a0 fails the randomisation check</p>"
        )

    def __str__(self) -> str:
        lines = [
            f"{'method':30} {'cases':>5} {'pointing (95 %)':22} {'other':>6} {'energy':>7} "
            f"{'IoU':>6} {'seconds':>8}  random weights"
        ]
        for row in (*self.methods, *self.baselines):
            low, high = _two(row.pointing.low), _two(row.pointing.high)
            rate = f"{_two(row.pointing.value)} ({low}-{high})"
            other = _two(row.other_phrase.value) if row.other_phrase else ""
            lines.append(
                f"{method_name(row.method):30} {row.pointing.n:5} {rate:22} {other:>6} "
                f"{_two(row.energy.value):>7} {_two(row.iou.value):>6} {row.seconds:8.2f}  "
                f"{_verdict(row)}"
            )
        return "\n".join(lines)


def tabulate(
    scores: Sequence[Any],
    *,
    methods: Sequence[str],
    drawn: int,
    missed: int,
    seed: int,
    provenance: Mapping[str, Any],
) -> SaliencyTable:
    """Put the scores of single maps together.

    Args:
        scores: `MapScore` of every map.
        methods: names of methods, in the order asked for.
        drawn: phantoms drawn.
        missed: phantoms whose report misses the finding.
        seed: first phantom seed; also of the resampling.
        provenance: which weights.
    """
    rng = np.random.default_rng([seed, drawn])
    fixed = list(dict.fromkeys(score.method for score in scores if score.kind == "fixed"))
    rows = [_row(scores, name, False, rng) for name in methods]
    lines = [_row(scores, name, True, rng) for name in fixed]
    best = sorted(rows, key=lambda row: -(row.pointing.value or 0))
    base = sorted(lines, key=lambda row: -(row.pointing.value or 0))
    return SaliencyTable(
        tuple(best), tuple(base), drawn - missed, drawn, missed, seed, dict(provenance)
    )


def _row(scores: Sequence[Any], name: str, baseline: bool, rng: np.random.Generator) -> SaliencyRow:
    own = [s for s in scores if s.method == name and s.kind == ("fixed" if baseline else "method")]
    other = [s for s in scores if s.method == name and s.kind == "other phrase"]
    weights = bootstrap_weights(len(own), rng)
    known = [s.similarity for s in own if s.similarity is not None]
    per_finding: dict[str, tuple[int, int]] = {}
    for score in own:
        hits, cases = per_finding.get(score.finding, (0, 0))
        per_finding[score.finding] = (hits + score.pointing, cases + 1)
    return SaliencyRow(
        method=name,
        baseline=baseline,
        pointing=wilson(sum(s.pointing for s in own), len(own)),
        energy=_mean([s.energy for s in own], weights),
        iou=_mean([s.iou for s in own], weights),
        seconds=float(np.median([s.seconds for s in own])) if own else 0.0,
        other_phrase=None if not other else wilson(sum(s.pointing for s in other), len(other)),
        similarity=float(np.mean(known)) if known else None,
        checked=len(known),
        per_finding=per_finding,
    )


def _mean(values: Sequence[float], weights: np.ndarray) -> Estimate:
    return ratio(np.array(values, float), np.ones(len(values)), weights)


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _verdict(row: SaliencyRow) -> str:
    if row.similarity is None:
        return "" if row.baseline else "not checked"
    return f"{'passes' if row.randomisation_ok else 'FAILS'} ({row.similarity:+.2f})"


def _cells(row: SaliencyRow) -> list[str]:
    failed = row.randomisation_ok is False
    return [
        method_name(row.method),
        f"{row.pointing.n:,}",
        row.pointing.text(undefined="\u2013"),
        _two(row.other_phrase.value) if row.other_phrase else "",
        _two(row.energy.value),
        _two(row.iou.value),
        f"{row.seconds:.2f}",
        f"\u26a0 {_verdict(row)}" if failed else _verdict(row),
    ]
