"""What mitigation mends and what it breaks: false and missed findings before and after, and time.

Each case is reported plainly, and once with every mitigation, each from a cold start. Everything is
paired: the same cases, the same resamples. F1 is the mean over the six findings of the paper, all
cases of a domain together; false and missed findings count all that are stated or present.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from matplotlib.axes import Axes

from workbench._repr import result
from workbench.backends.levels import READER, needs
from workbench.bench.keys import STATABLE, CaseKey, Radiographs, case_keys, known
from workbench.bench.loop import BenchTable, flat_row, run_tasks
from workbench.errors import InputError, OptionError, check_whole
from workbench.evaluation.counts import find_policy, macro_f1
from workbench.evaluation.intervals import Estimate, alone, estimate, grouped_weights
from workbench.figures.estimates import plot_trade_off
from workbench.figures.numbers import fixed, percent
from workbench.findings import NO_FINDING, PAPER_FINDINGS, PRESENT, UNCERTAIN
from workbench.hallucination.calibration import shipped_calibration
from workbench.hallucination.mitigation import Abstain, ContrastiveDecoding, PollAndRewrite, Revise
from workbench.interface import ChestXrayModel, Mitigation
from workbench.reports import label
from workbench.settings import FIRST_HELD_OUT_SEED

_LOG = logging.getLogger(__name__)

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
        stated: name of the mitigation -> findings stated as present; `PLAIN` is without any.
    """

    seed: int
    domain: str
    drawn: tuple[str, ...]
    stated: Mapping[str, tuple[str, ...]]
    doubted: Mapping[str, tuple[str, ...]]
    seconds: Mapping[str, float]
    patient: str = ""


@needs(READER)
def benchmark_mitigation(
    model: ChestXrayModel,
    *,
    mitigations: Sequence[NamedMitigation] | None = None,
    radiographs: Radiographs | None = None,
    domain: str | None = None,
    n: int | None = None,
    seed: int = FIRST_HELD_OUT_SEED,
    policy: str = "joint-definite",
    jobs: int = 1,
    resamples: int = 1000,
    kept: str | Path | None = None,
    progress: bool = True,
) -> MitigationTable:
    """Compare reports with and without mitigation, on phantoms of both domains or on radiographs.

    Args:
        mitigations: None takes `MITIGATIONS`, less those that need a calibration where none is
            shipped for the model, which is logged.
        radiographs: a manifest with labels; findings of which it says nothing are not counted. None
            draws phantoms.
        domain: of phantoms, "internal", "external" or "ct"; None draws half of the first two.
        n, seed: see `workbench.bench.keys.case_keys`; 400 phantoms, or every labelled row. Seeds
            below 10,000,000 are not unseen.
        policy: which findings count as there, a name in `workbench.evaluation.POLICIES`; what it
            leaves out is not counted.

    Raises:
        OptionError: a number is too small, the policy is unknown, no mitigation or two of one name;
            or `kept` is of other weights or options.
        InputError: a mitigation needs a calibration, and none is shipped for the model.

    >>> quick = {"n": 2, "seed": 100, "resamples": 10, "progress": False, "domain": "internal"}
    >>> polled = [wb.hallucination.PollAndRewrite()]
    >>> wb.bench.benchmark_mitigation(model, mitigations=polled, **quick).domain
    'internal'
    """
    check_whole(1, resamples=resamples)
    check_whole(0, seed=seed)
    find_policy(policy)
    if mitigations is None:
        mitigations = _usable(model)
    names = [item.name for item in mitigations]
    if not names or len(set(names)) < len(names):
        raise OptionError(f"expected one mitigation or more, each with its own name, got {names}")
    options = {item.name: _options(item) for item in mitigations}
    cases = run_tasks(
        model,
        partial(mitigate_case, mitigations=tuple(mitigations), policy=policy),
        case_keys(n, seed, radiographs, phantoms=400, domain=domain),
        kind=MitigatedCase,
        benchmark="mitigation",
        options={"mitigations": options, "policy": policy},
        seed=seed,
        radiographs=radiographs,
        kept=kept,
        jobs=jobs,
        progress=progress,
    )
    return tabulate(
        cases,
        seed=seed,
        resamples=resamples,
        options=options,
        policy=policy,
        provenance=asdict(model.identity),
    ).of(radiographs, domain)


def _usable(model: ChestXrayModel) -> tuple[NamedMitigation, ...]:
    try:
        shipped_calibration(model)
        return MITIGATIONS
    except InputError as error:
        found = tuple(item for item in MITIGATIONS if not hasattr(item, "calibration"))
        _LOG.warning("only %s are compared: %s", ", ".join(item.name for item in found), error)
        return found


def _options(mitigation: NamedMitigation) -> dict[str, Any]:
    """Return what a mitigation's results depend on, as plain values."""
    own = {name: value for name, value in vars(mitigation).items() if name != "calibration"}
    given = getattr(mitigation, "calibration", None)
    return own | ({} if given is None else {"calibration": given.to_dict()})


def mitigate_case(
    model: ChestXrayModel,
    key: CaseKey,
    *,
    mitigations: Sequence[NamedMitigation],
    policy: str = "joint-definite",
) -> MitigatedCase:
    """Report on one case with and without every mitigation."""
    case = key.open(model.image_size)
    present = find_policy(policy).present
    ways = {PLAIN: None} | {mitigation.name: mitigation for mitigation in mitigations}
    stated: dict[str, tuple[str, ...]] = dict.fromkeys(ways, ())
    doubted, seconds = stated.copy(), dict.fromkeys(ways, 0.0)
    # each is the first in turn, which takes longer: the processor has just drawn or read the image
    turn = case.seed % len(ways)
    for name in (*ways, *ways)[turn : turn + len(ways)]:
        model.forget_images()
        found = model.report(case, mitigation=ways[name])
        rows = [row for row in label(found.text).rows if row.finding != NO_FINDING]
        rows = [row for row in rows if known(case, row.finding, present)]
        stated[name] = tuple(row.finding for row in rows if row.code == PRESENT)
        doubted[name] = tuple(row.finding for row in rows if row.code == UNCERTAIN)
        seconds[name] = found.seconds
    codes = case.labels.items()
    there = tuple(name for name, code in codes if present[code] and name in STATABLE)
    return MitigatedCase(case.seed, case.domain, there, stated, doubted, seconds, key.patient)


@result(eq=True)
class MitigationRow:
    """One mitigation, over all cases or those of one domain.

    Attributes:
        false: findings stated and not there, per report.
        missed: findings there and not stated, per report.
        false_change: change of `false` against none, as a share of it (-0.3 is 30 % fewer).
        time: wall time, as a multiple of none's.
        per_finding: finding -> in how many cases it is stated and not there ("false"), there and
            not stated ("missed"), and there ("present").
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
    per_finding: Mapping[str, Mapping[str, int]]

    def cells(self) -> list[str]:
        """Return texts for the columns of a `MitigationTable`."""
        levels = [found.text(3) for found in (self.false, self.missed, self.doubted, self.f1)]
        changes = [_percent(self.false_change), self.missed_change.text(3), self.f1_change.text(3)]
        changes = ["-"] * 3 if self.name == PLAIN else changes
        return [self.name, *levels, *changes, f"{self.time:.1f}x"]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class MitigationTable(BenchTable):
    """All mitigations of one benchmark.

    Attributes:
        rows: none first, then in the order that was asked for.
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
    policy: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "mitigations": [asdict(row) for row in self.rows],
            "by_domain": {name: list(map(asdict, rows)) for name, rows in self.by_domain.items()},
            "options": {name: dict(values) for name, values in self.options.items()},
            "cases": self.cases,
            "policy": self.policy,
            **self._facts(),
        }

    def _records(self) -> list[dict[str, Any]]:
        return [
            {"mitigation": row.name, "domain": domain}
            | flat_row(row, without=("name", "per_finding"))
            for domain, rows in {"all": self.rows, **self.by_domain}.items()
            for row in rows
        ]

    def _cells(self) -> list[list[str]]:
        parts = [row.cells() for row in self.rows]
        for domain, rows in self.by_domain.items():
            parts += [[f"{row.name} ({domain})", *row.cells()[1:]] for row in rows]
        return parts

    def _notes(self) -> tuple[str, ...]:
        return (
            f"{self.cases} {self.origin}; changes against none, 95 % intervals of paired resamples",
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw false against missed findings per report, one point for each mitigation."""
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
    policy: str = "joint-definite",
) -> MitigationTable:
    """Make the table of one case or more; patients are resampled, each domain in itself."""
    strata = np.array([case.domain for case in cases])
    rng = np.random.default_rng([seed, len(cases)])
    patients = alone([case.patient for case in cases])
    weights = grouped_weights(patients, rng, strata=strata, resamples=resamples)
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
        policy=policy,
        seed=seed,
        patients=len(set(patients)),
        provenance=dict(provenance),
    )


def _rows(cases: Sequence[MitigatedCase], weights: np.ndarray) -> tuple[MitigationRow, ...]:
    """Return a row for every name, none first."""
    measured = {name: _measured(cases, name, weights) for name in cases[0].stated}
    seconds = {name: sum(case.seconds[name] for case in cases) for name in measured}
    rows = []
    for name, own in measured.items():
        found = own | _changes(own, measured[PLAIN])
        estimates = {key: estimate(*pair, len(cases)) for key, pair in found.items()}
        time, counts = seconds[name] / seconds[PLAIN], _per_finding(cases, name)
        rows.append(MitigationRow(name, **estimates, time=time, per_finding=counts))
    return tuple(rows)


def _per_finding(cases: Sequence[MitigatedCase], name: str) -> dict[str, dict[str, int]]:
    pairs = [(set(case.stated[name]), set(case.drawn)) for case in cases]
    counts = {
        "false": Counter(one for said, there in pairs for one in said - there),
        "missed": Counter(one for said, there in pairs for one in there - said),
        "present": Counter(one for _, there in pairs for one in there),
    }
    found = sorted(set().union(*counts.values()))
    return {one: {kind: counted[one] for kind, counted in counts.items()} for one in found}


def _measured(
    cases: Sequence[MitigatedCase], name: str, weights: np.ndarray
) -> dict[str, tuple[float, np.ndarray]]:
    """Return measure -> its value on the cases and on each resample of them."""
    stated, there = [set(case.stated[name]) for case in cases], [set(case.drawn) for case in cases]
    sizes = [
        (len(said - true), len(true - said), len(case.doubted[name]))
        for said, true, case in zip(stated, there, cases, strict=True)
    ]
    counts = np.array(sizes, float)
    drawn = weights @ counts / weights.sum(1, keepdims=True)
    names, points = ("false", "missed", "doubted"), counts.mean(0)
    measures = {key: (points[at], drawn[:, at]) for at, key in enumerate(names)}
    said = np.array([[one in found for one in PAPER_FINDINGS] for found in stated])
    true = np.array([[one in found for one in PAPER_FINDINGS] for found in there])
    codes = np.stack([said & true, said & ~true, ~said & ~true, ~said & true], -1).astype(float)
    flat = weights @ codes.reshape(len(cases), -1)
    f1_drawn = macro_f1(flat.reshape(len(weights), *codes.shape[1:]))
    return measures | {"f1": (float(macro_f1(codes.sum(0))), f1_drawn)}


def _changes(
    own: Mapping[str, tuple[float, np.ndarray]], plain: Mapping[str, tuple[float, np.ndarray]]
) -> dict[str, tuple[float, np.ndarray]]:
    """Return the changes against none: of `false` as a share of it, of the others in themselves."""
    found = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = [np.divide(a, b) - 1 for a, b in zip(own["false"], plain["false"], strict=True)]
    found["false_change"] = tuple(np.where(np.isfinite(share), share, np.nan) for share in shares)
    for key in ("missed", "f1"):
        found[f"{key}_change"] = tuple(a - b for a, b in zip(own[key], plain[key], strict=True))
    return found
