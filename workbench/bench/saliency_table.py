"""The table of saliency methods and fixed maps, from the scores of single maps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from workbench._repr import result, short_repr
from workbench.bench.loop import BenchTable
from workbench.evaluation.intervals import Estimate, alone, grouped_weights, ratio, wilson
from workbench.figures.estimates import draw_estimate, name_rows
from workbench.figures.numbers import fixed, method_name, percent
from workbench.figures.style import AMBER, BLUE, GRID, MUTED, VERMILION, new_axes, style
from workbench.saliency.randomisation import RANDOMISED_LIMIT

#: Cells above this quantile of a map are taken as what it marks.
QUANTILE = 0.95

#: What the column of causal cases says.
_CAUSAL = (
    "causal cases: pointing in the {:,} of {:,} whose answer turns round when the truth is painted "
    "over (inpainted, blurred and noise alike), and not when as much elsewhere is"
)

#: What is averaged over cases.
_MEANS = ("energy", "iou", "iou_quantile", "f1")

#: The mark of a method that was asked about another phrase.
_CROSS = {"color": VERMILION, "marker": "x", "markersize": 10, "mew": 2.6, "linestyle": "none"}


@result(eq=True)
class MapScore:
    """One map against the truth.

    Attributes:
        kind: "method", "other phrase" or "fixed".
        pointing: the greatest cell touches the mask.
        energy: share of the positive sum inside the mask.
        iou: overlap of the mask with as many of the greatest cells.
        seconds: wall time of the map; 0 for fixed ones.
        iou_quantile, f1: of the mask with the cells above the quantile `QUANTILE` of the map.
        causal: the report rests on what the mask shows (`saliency.rests_on`); None where not asked,
            or where the mask cannot be moved off itself.
        similarity: size of the rank correlation with the map of random weights, at the stage that
            changes it least; None where not checked, or where a map was constant.
    """

    method: str
    kind: str
    seed: int
    finding: str
    pointing: bool
    energy: float
    iou: float
    seconds: float = 0.0
    similarity: float | None = None
    iou_quantile: float = 0.0
    f1: float = 0.0
    causal: bool | None = None
    patient: str = ""


@dataclass(frozen=True, kw_only=True)
class Measures:
    """How well the maps of some cases match the truth.

    Attributes:
        pointing: share of cases in which the greatest cell touches the truth (Wilson's interval,
            unless patients have several images).
        energy, iou, iou_quantile, f1: means of those of `MapScore`; patients are resampled.
    """

    pointing: Estimate
    energy: Estimate
    iou: Estimate
    iou_quantile: Estimate
    f1: Estimate

    __repr__ = short_repr

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: all numbers, with the ends of their intervals."""
        ends = {"low": self.pointing.low, "high": self.pointing.high}
        means = (getattr(self, name).flat(name) for name in _MEANS)
        return {"pointing": self.pointing.value, **ends, "cases": self.pointing.n} | dict(
            pair for one in means for pair in one.items()
        )


_NOBODY = Measures(**dict.fromkeys(("pointing", *_MEANS), Estimate(None, None, None, 0)))


@dataclass(frozen=True, kw_only=True)
class SaliencyRow(Measures):
    """One method, or one baseline, over all cases.

    Attributes:
        causal: of the causal cases alone; None where nobody asked.
        seconds: median wall time of a map.
        other_phrase: of the same method asked about another finding; None for baselines.
        similarity: mean `MapScore.similarity` over the `checked` cases; None where not checked.
        per_finding: finding -> of its cases alone.
    """

    method: str
    baseline: bool
    seconds: float
    causal: Measures | None = None
    other_phrase: Measures | None = None
    similarity: float | None = None
    checked: int = 0
    per_finding: Mapping[str, Measures] = field(default_factory=dict)

    __repr__ = short_repr

    @property
    def randomisation_ok(self) -> bool | None:
        """Whether the map changes with random weights; None where it was not checked."""
        return None if self.similarity is None else abs(self.similarity) < RANDOMISED_LIMIT

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        other = (self.other_phrase or _NOBODY).to_dict()
        return {
            "method": self.method,
            **super().to_dict(),
            "quantile": QUANTILE,
            "causal": self.causal and self.causal.to_dict(),
            "seconds": self.seconds,
            "randomisation_ok": self.randomisation_ok,
            "randomisation_similarity": self.similarity,
            "randomisation_cases": self.checked,
            "other_phrase": other["pointing"],
            "other_phrase_cases": other["cases"],
            **{f"other_phrase_{name}": other[name] for name in ("low", "high", *_MEANS)},
            "per_finding": {name: one.to_dict() for name, one in self.per_finding.items()},
        }

    def cells(self) -> list[str]:
        """Return texts for the columns of a `SaliencyTable`."""
        return [
            method_name(self.method),
            f"{self.pointing.n:,}",
            self.pointing.text(undefined="-"),
            fixed(self.other_phrase.pointing.value) if self.other_phrase else "",
            fixed(self.energy.value),
            fixed(self.iou.value),
            fixed(self.f1.value),
            self.causal.pointing.text(undefined="-") if self.causal else "",
            f"{self.seconds:.2f}",
            self._verdict(),
        ]

    def _verdict(self) -> str:
        if self.similarity is None:
            return "" if self.baseline else "not checked"
        said = "passes" if self.randomisation_ok else "\u26a0 FAILS"
        return f"{said} ({self.similarity:+.2f})"

    def draw(self, ax: Axes, y: float) -> None:
        """Draw pointing with its interval at the height `y`, and that about another phrase."""
        colour = MUTED if self.baseline else AMBER if self.randomisation_ok is False else BLUE
        draw_estimate(ax, self.pointing, y, colour, marker="o", ms=11)
        elsewhere = self.other_phrase and self.other_phrase.pointing.value
        if elsewhere is not None:
            ax.plot(elsewhere, y, **_CROSS)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SaliencyTable(BenchTable):
    """All methods and baselines, best first; the report of `missed` cases misses the finding."""

    name: ClassVar = "saliency"
    head: ClassVar = (
        "method", "cases", "pointing [95 %]", "other phrase", "energy", "IoU", "F1",
        "causal cases", "seconds", "random weights",
    )  # fmt: skip
    index: ClassVar = "method"

    methods: tuple[SaliencyRow, ...]
    baselines: tuple[SaliencyRow, ...]
    drawn: int
    missed: int

    @property
    def cases(self) -> int:
        """Cases whose finding the report states."""
        return self.drawn - self.missed

    @property
    def rows(self) -> tuple[SaliencyRow, ...]:
        """Methods, then baselines."""
        return (*self.methods, *self.baselines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; every method's row carries both kinds of baseline."""
        prior = self.baselines[0].pointing.value if self.baselines else None
        return {
            "methods": [row.to_dict() | {"best_fixed_baseline": prior} for row in self.methods],
            "baselines": [row.to_dict() for row in self.baselines],
            "cases": self.cases,
            "drawn": self.drawn,
            "missed": self.missed,
            **self._facts(),
        }

    def per_finding(self) -> pd.DataFrame:
        """Return one row for each method or baseline and each finding: `Measures.to_dict`."""
        pairs = [(row.method, *item) for row in self.rows for item in row.per_finding.items()]
        found = [{"method": row, "finding": name, **one.to_dict()} for row, name, one in pairs]
        columns = ["method", "finding", "cases"]
        return pd.DataFrame(found, columns=None if found else columns).set_index(columns[:2])

    def _records(self) -> list[dict[str, Any]]:
        apart = ("per_finding", "causal")
        return [
            {name: value for name, value in row.to_dict().items() if name not in apart}
            | {"baseline": row.baseline}
            | {f"causal_{name}": one for name, one in (row.causal or _NOBODY).to_dict().items()}
            for row in self.rows
        ]

    def _cells(self) -> list[list[str]]:
        return [row.cells() for row in self.rows]

    def _notes(self) -> tuple[str, ...]:
        causal = next((row.causal.pointing.n for row in self.rows if row.causal), None)
        return (
            f"{self.cases:,} true positives of {self.drawn:,} {self.origin}; "
            "95 % intervals; \u26a0 fails the randomisation check",
            f"IoU of as many cells as the truth has; F1 of the greatest {percent(1 - QUANTILE)}",
            *([] if causal is None else [_CAUSAL.format(causal, self.cases)]),
        )

    @style()
    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw pointing with intervals, beside the same methods asked about another phrase."""
        rows = [row for row in self.rows if row.pointing.value is not None]
        ax = ax or new_axes(9.6, 0.52 * len(rows) + 1.9)
        failed = [row.randomisation_ok is False for row in rows]
        names = [method_name(row.method) for row in rows]
        names = [name + "  \u26a0" * bad for name, bad in zip(names, failed, strict=True)]
        for row, y in zip(rows, name_rows(ax, names), strict=True):
            row.draw(ax, y)
        best = max((row.pointing.value or 0 for row in rows if row.baseline), default=None)
        if best is not None:
            ax.axvspan(-0.02, best, color=GRID, alpha=0.5, lw=0)
        ax.set_xlim(-0.02, 1.02)
        ax.set_title("Which maps point at the truth?")
        ax.set_xlabel("share of cases whose greatest cell touches the truth")
        below = {"bbox_to_anchor": (0, -0.9 / max(len(rows), 1) - 0.04), "borderaxespad": 0}
        ax.legend(handles=_key(any(failed)), loc="upper left", ncols=2, fontsize=12, **below)
        return ax

    def verdicts(self) -> dict[str, Any]:
        """Return the randomisation verdicts in the form that `saliency.methods` reads."""
        verdicts = {
            row.method: {
                "ok": row.randomisation_ok,
                "similarity": round(row.similarity, 4),
                "cases": row.checked,
            }
            for row in self.methods
            if row.similarity is not None
        }
        return {"sha256": self.provenance.get("sha256"), "seed": self.seed, "methods": verdicts}

    def record(self, path: str | Path) -> Path:
        """Write the verdicts to a file."""
        path = Path(path)
        path.write_text(json.dumps(self.verdicts(), indent=1) + "\n")
        return path


def _key(failed: bool) -> list[Line2D | Patch]:
    """Return what the marks of the figure mean."""
    bar = {"lw": 2.2, "marker": "o", "markersize": 11}
    warning = "\u26a0 fails the randomisation check"
    return [
        Line2D([], [], color=BLUE, label="a method, 95 % interval", **bar),
        Line2D([], [], color=MUTED, label="a fixed map", **bar),
        Line2D([], [], label="the method, asked about another phrase", **_CROSS),
        Patch(color=GRID, alpha=0.5, label="no better than a fixed map"),
        *([Line2D([], [], color=AMBER, label=warning, **bar)] if failed else []),
    ]


def tabulate(
    scores: Sequence[MapScore],
    *,
    methods: Sequence[str],
    drawn: int,
    missed: int,
    seed: int,
    provenance: Mapping[str, Any],
) -> SaliencyTable:
    """Put the scores of single maps together; `seed` is also that of the resampling."""
    rng = np.random.default_rng([seed, drawn])
    fixed = dict.fromkeys(score.method for score in scores if score.kind == "fixed")
    rows = [_row(scores, name, False, rng) for name in methods]
    rows += [_row(scores, name, True, rng) for name in fixed]
    rows.sort(key=lambda row: -(row.pointing.value or 0))
    known = {"drawn": drawn, "missed": missed, "seed": seed, "provenance": dict(provenance)}
    known |= {"patients": len({score.patient or score.seed for score in scores})}
    return SaliencyTable(
        methods=tuple(row for row in rows if not row.baseline),
        baselines=tuple(row for row in rows if row.baseline),
        **known,
    )


def _row(
    scores: Sequence[MapScore], name: str, baseline: bool, rng: np.random.Generator
) -> SaliencyRow:
    own = [s for s in scores if s.method == name and s.kind == ("fixed" if baseline else "method")]
    other = [s for s in scores if s.method == name and s.kind == "other phrase"]
    asked = any(s.causal is not None for s in own)
    known = [s.similarity for s in own if s.similarity is not None]
    found = dict.fromkeys(s.finding for s in own)
    return SaliencyRow(
        method=name,
        baseline=baseline,
        **_measured(own, rng),
        causal=_alone([s for s in own if s.causal]) if asked else None,
        seconds=float(np.median([s.seconds for s in own])) if own else 0.0,
        other_phrase=_alone(other) if other else None,
        similarity=float(np.mean(known)) if known else None,
        checked=len(known),
        per_finding={one: _alone([s for s in own if s.finding == one]) for one in found},
    )


def _alone(scores: Sequence[MapScore]) -> Measures:
    """Measure some of the cases of a row, with draws of their own."""
    return Measures(**_measured(scores, np.random.default_rng(len(scores))))


def _measured(scores: Sequence[MapScore], rng: np.random.Generator) -> dict[str, Estimate]:
    weights = grouped_weights([score.patient for score in scores], rng)
    ones = np.ones(len(scores))
    means = {
        name: ratio(np.array([getattr(score, name) for score in scores]), ones, weights)
        for name in _MEANS
    }
    return {"pointing": _pointing(scores), **means}


def _pointing(scores: Sequence[MapScore]) -> Estimate:
    """Estimate how often maps point at the truth; patients with several images are resampled."""
    units = alone([score.patient for score in scores])
    if len(set(units)) == len(units):
        return wilson(sum(score.pointing for score in scores), len(scores))
    weights = grouped_weights(units, np.random.default_rng(len(units)))
    return ratio(np.array([s.pointing for s in scores], float), np.ones(len(units)), weights)
