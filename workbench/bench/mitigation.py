"""What mitigation mends and what it breaks: false and missed findings before and after, and time.

Each case is reported plainly, and once with every mitigation, each from a cold start. Everything is
paired: the same cases, the same resamples. F1 is the mean over the six findings of the paper, all
cases of a domain together; false and missed findings count all that are stated or present.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from workbench._repr import short_repr
from workbench.bench.loop import PhantomKey, both_domains, check_numbers, run_tasks, warn_of_seen
from workbench.bench.table import BenchTable, flat_row
from workbench.errors import OptionError
from workbench.evaluation.intervals import Estimate, estimate, stratified_weights
from workbench.evaluation.scorecard_counts import macro_f1
from workbench.figures.numbers import fixed, percent
from workbench.findings import NO_FINDING, NOT_MENTIONED, PAPER_FINDINGS, PRESENT, UNCERTAIN
from workbench.hallucination.contrast import ContrastiveDecoding
from workbench.hallucination.mitigation import Abstain, PollAndRewrite, Revise
from workbench.interface import ChestXrayModel, Mitigation
from workbench.reports import label
from workbench.settings import FIRST_HELD_OUT_SEED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Name of the reports without any mitigation.
PLAIN = "none"


class NamedMitigation(Mitigation, Protocol):
    """A mitigation with a name for tables."""

    @property
    def name(self) -> str: ...


#: What is compared unless something else is asked for.
MITIGATIONS: tuple[NamedMitigation, ...] = (
    ContrastiveDecoding(), PollAndRewrite(), Revise(), Abstain()
)  # fmt: skip


@dataclass(frozen=True)
class MitigatedCase:
    """One case, reported plainly and with every mitigation.

    Attributes:
        seed: of the case.
        domain: its group.
        drawn: findings that are there.
        stated: name of the mitigation -> findings stated as present; `PLAIN` is without any.
        doubted: name -> findings stated as uncertain.
        seconds: name -> wall time of the report.
    """

    seed: int
    domain: str
    drawn: tuple[str, ...]
    stated: Mapping[str, tuple[str, ...]]
    doubted: Mapping[str, tuple[str, ...]]
    seconds: Mapping[str, float]


def benchmark_mitigation(
    model: ChestXrayModel,
    *,
    mitigations: Sequence[NamedMitigation] = MITIGATIONS,
    n: int = 400,
    seed: int = FIRST_HELD_OUT_SEED,
    jobs: int = 1,
    resamples: int = 1000,
    kept: str | Path | None = None,
    progress: bool = True,
) -> MitigationTable:
    """Compare reports with and without mitigation on `n` phantoms, half of each domain.

    Args:
        model: writes the reports.
        mitigations: what to compare; names must differ.
        n: phantoms; internal ones have the seeds seed .. seed + ceil(n / 2) - 1, external ones
            the seeds that follow.
        seed: of the first phantom; below 10,000,000 is not unseen.
        resamples: of the bootstrap.
        jobs, kept, progress: see `workbench.bench.loop.run_tasks`.

    Raises:
        OptionError: a number is too small, no mitigation or two of one name; or `kept` is of other
            weights or mitigations.
        InputError: a mitigation needs a calibration, and none is shipped for the model.
    """
    check_numbers(1, n=n, jobs=jobs, resamples=resamples)
    check_numbers(0, seed=seed)
    names = [item.name for item in mitigations]
    if not names or len(set(names)) < len(names):
        raise OptionError(f"expected one mitigation or more, each with its own name, got {names}")
    identity = asdict(model.identity)
    options = {item.name: _options(item) for item in mitigations}
    cases = run_tasks(
        model,
        partial(mitigate_case, mitigations=tuple(mitigations)),
        both_domains(n, seed),
        kind=MitigatedCase,
        head={"benchmark": "mitigation", "sha256": identity["sha256"], "mitigations": options},
        kept=kept,
        jobs=jobs,
        progress=progress,
    )
    return tabulate(
        cases,
        seed=seed,
        resamples=resamples,
        options=options,
        provenance=identity,
        warnings=warn_of_seen(seed),
    )


def _options(mitigation: NamedMitigation) -> dict[str, Any]:
    """Return what a mitigation's results depend on, as plain values."""
    own = {name: value for name, value in vars(mitigation).items() if name != "calibration"}
    given = getattr(mitigation, "calibration", None)
    return own | ({} if given is None else {"calibration": given.to_dict()})


def mitigate_case(
    model: ChestXrayModel, key: PhantomKey, *, mitigations: Sequence[NamedMitigation]
) -> MitigatedCase:
    """Report on one case with and without every mitigation.

    Statements about findings of which nothing is known are left out.
    """
    case = key.open(model.image_size)
    stated, doubted, seconds = {}, {}, {}
    for mitigation in (None, *mitigations):
        model.forget_images()
        name = PLAIN if mitigation is None else mitigation.name
        found = model.report(case, mitigation=mitigation)
        rows = [
            row
            for row in label(found.text).rows
            if row.finding != NO_FINDING and case.code(row.finding) != NOT_MENTIONED
        ]
        stated[name] = tuple(row.finding for row in rows if row.code == PRESENT)
        doubted[name] = tuple(row.finding for row in rows if row.code == UNCERTAIN)
        seconds[name] = found.seconds
    return MitigatedCase(case.seed, case.group, case.present, stated, doubted, seconds)


@dataclass(frozen=True)
class MitigationRow:
    """One mitigation, over all cases or those of one domain.

    Attributes:
        name: what tables call it.
        false: findings stated and not there, per report.
        missed: findings there and not stated, per report.
        doubted: findings stated as uncertain, per report.
        f1: mean F1 over the six findings of the paper.
        false_change: change of `false` against none, as a share of it (-0.3 is 30 % fewer).
        missed_change: change of `missed`, per report.
        f1_change: change of `f1`.
        time: wall time, as a multiple of none's.
    """

    name: str
    false: Estimate
    missed: Estimate
    doubted: Estimate
    f1: Estimate
    false_change: Estimate
    missed_change: Estimate
    f1_change: Estimate
    time: float

    __repr__ = short_repr

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            name: vars(value) if isinstance(value, Estimate) else value
            for name, value in vars(self).items()
        }

    def cells(self) -> list[str]:
        """Return texts for the columns of a `MitigationTable`."""
        levels = [found.text(3) for found in (self.false, self.missed, self.doubted, self.f1)]
        changes = [_percent(self.false_change), self.missed_change.text(3), self.f1_change.text(3)]
        changes = ["-"] * 3 if self.name == PLAIN else changes
        return [self.name, *levels, *changes, f"{self.time:.1f}x"]


@dataclass(frozen=True, eq=False, kw_only=True)
class MitigationTable(BenchTable):
    """All mitigations of one benchmark.

    Attributes:
        rows: none first, then in the order that was asked for.
        by_domain: domain -> rows of its cases.
        options: name -> options of each mitigation.
        cases: cases.
    """

    name: ClassVar = "mitigation"
    head: ClassVar = (
        "mitigation", "false per report", "missed per report", "doubted", "F1", "false, change",
        "missed, change", "F1, change", "time",
    )  # fmt: skip
    index: ClassVar = "mitigation"

    rows: tuple[MitigationRow, ...]
    by_domain: Mapping[str, tuple[MitigationRow, ...]]
    options: Mapping[str, Mapping[str, Any]]
    cases: int

    __repr__ = short_repr

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "mitigations": [row.to_dict() for row in self.rows],
            "by_domain": {
                name: [row.to_dict() for row in rows] for name, rows in self.by_domain.items()
            },
            "options": {name: dict(values) for name, values in self.options.items()},
            "cases": self.cases,
            "seed": self.seed,
            "model": dict(self.provenance),
        }

    def _records(self) -> list[dict[str, Any]]:
        rows = [("all", row) for row in self.rows]
        rows += [(domain, row) for domain, own in self.by_domain.items() for row in own]
        return [
            {"mitigation": row.name, "domain": domain} | flat_row(row, without=("name",))
            for domain, row in rows
        ]

    def _cells(self) -> list[list[str]]:
        parts = [row.cells() for row in self.rows]
        for domain, rows in self.by_domain.items():
            parts += [[f"{row.name} ({domain})", *row.cells()[1:]] for row in rows]
        return parts

    def _notes(self) -> tuple[str, ...]:
        return (
            f"{self.cases} phantoms from seed {self.seed:,}; changes against none, 95 % intervals "
            "of paired resamples",
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw false against missed findings per report, one point for each mitigation."""
        from workbench.figures.estimates import plot_trade_off

        return plot_trade_off([(row.name, row.false, row.missed) for row in self.rows], ax)


def _percent(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return percent(found.value, sign=True, missing="undefined")
    low, high = (fixed(100 * end, 0, sign=True) for end in (found.low, found.high))
    return f"{percent(found.value, sign=True)} [{low}, {high}]"


def tabulate(
    cases: Sequence[MitigatedCase],
    *,
    seed: int,
    options: Mapping[str, Mapping[str, Any]],
    provenance: Mapping[str, Any],
    resamples: int = 1000,
    warnings: tuple[str, ...] = (),
) -> MitigationTable:
    """Make the table of cases.

    Args:
        cases: one or more.
        seed: of the first case, and of the resampling.
        options, provenance, warnings: see `MitigationTable`.
        resamples: of the bootstrap; cases are drawn, each domain in itself.
    """
    strata = np.array([case.domain for case in cases])
    rng = np.random.default_rng([seed, len(cases)])
    weights = stratified_weights(strata, rng, resamples=resamples)
    by_domain = {
        str(domain): _rows(
            [case for case in cases if case.domain == domain], weights[:, strata == domain]
        )
        for domain in dict.fromkeys(strata.tolist())
    }
    return MitigationTable(
        rows=_rows(cases, weights),
        by_domain=by_domain,
        options=dict(options),
        cases=len(cases),
        seed=seed,
        provenance=dict(provenance),
        warnings=warnings,
    )


def _rows(cases: Sequence[MitigatedCase], weights: np.ndarray) -> tuple[MitigationRow, ...]:
    """Return a row for every name, none first."""
    plain = _Counts(cases, PLAIN, weights)
    names = list(cases[0].stated)
    return tuple(_row(name, _Counts(cases, name, weights), plain) for name in names)


class _Counts:
    """What one name's reports count up to: a point and its resamples of each number."""

    def __init__(self, cases: Sequence[MitigatedCase], name: str, weights: np.ndarray) -> None:
        stated = [set(case.stated[name]) for case in cases]
        there = [set(case.drawn) for case in cases]
        sizes = [
            (len(said - true), len(true - said), len(case.doubted[name]))
            for said, true, case in zip(stated, there, cases, strict=True)
        ]
        self.n = len(cases)
        per_case = np.array(sizes, float)
        self.points = per_case.mean(0)
        self.drawn = weights @ per_case / weights.sum(1, keepdims=True)
        outcomes = np.array(
            [
                [_outcome(finding in said, finding in true) for finding in PAPER_FINDINGS]
                for said, true in zip(stated, there, strict=True)
            ],
            float,
        )
        self.f1 = float(macro_f1(outcomes.sum(0)))
        flat = weights @ outcomes.reshape(self.n, -1)
        self.f1_drawn = macro_f1(flat.reshape(len(weights), *outcomes.shape[1:]))
        self.seconds = sum(case.seconds[name] for case in cases)


def _outcome(said: bool, true: bool) -> tuple[bool, bool, bool, bool]:
    """Return true positive, false positive, true negative, false negative."""
    return said and true, said and not true, not (said or true), true and not said


def _row(name: str, own: _Counts, plain: _Counts) -> MitigationRow:
    levels = [estimate(own.points[k], own.drawn[:, k], own.n) for k in range(3)]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.divide(own.points[0], plain.points[0]) - 1
        shares = own.drawn[:, 0] / plain.drawn[:, 0] - 1
    shares[~np.isfinite(shares)] = np.nan
    return MitigationRow(
        name=name,
        false=levels[0],
        missed=levels[1],
        doubted=levels[2],
        f1=estimate(own.f1, own.f1_drawn, own.n),
        false_change=estimate(share if np.isfinite(share) else np.nan, shares, own.n),
        missed_change=estimate(
            own.points[1] - plain.points[1], own.drawn[:, 1] - plain.drawn[:, 1], own.n
        ),
        f1_change=estimate(own.f1 - plain.f1, own.f1_drawn - plain.f1_drawn, own.n),
        time=own.seconds / plain.seconds,
    )
