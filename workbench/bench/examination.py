"""Examine a model: what its reports state of phantoms it has never seen, or of radiographs.

Cases are drawn or read, reported and forgotten in batches, so memory does not grow with their
number. Seeds from 10,000,000 up are kept for this; an examination on others is marked as not held
out. Of a radiograph the codes of its row are the truth; side and zone are those of its reference
report, as the labeler reads it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.axes import Axes

from workbench.backends.levels import WRITER, needs
from workbench.bench.exam_scores import (
    DomainScore,
    ExamCase,
    FindingScore,
    score_cases,
    stated_places,
)
from workbench.bench.keys import (
    STATABLE,
    CaseKey,
    PhantomKey,
    Place,
    Radiographs,
    coded,
    places,
)
from workbench.bench.loop import BenchTable, flat_row, run_tasks
from workbench.cases import Case
from workbench.errors import check_whole
from workbench.evaluation.intervals import alone
from workbench.figures.estimates import draw_forest
from workbench.figures.numbers import fixed
from workbench.figures.style import new_axes, style
from workbench.findings import ABSENT, NODULE, PHANTOM_FINDINGS, PRESENT
from workbench.generation import Generation
from workbench.interface import ChestXrayModel
from workbench.phantom.case import DOMAINS, Phantom
from workbench.settings import FIRST_HELD_OUT_SEED

#: Cases in memory at a time; phantoms of each domain.
_CHUNK, _PHANTOMS = 32, 500
#: What the cases of a manifest are called in the place of a domain.
_REAL = "radiographs"
_METRICS = ("precision", "recall", "f1", "laterality", "zone")


@dataclass(frozen=True)
class Batch:
    """Cases of one domain that are reported together."""

    domain: str
    keys: tuple[CaseKey, ...]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Reported:
    """Reports of a batch, the wall time of the model alone, and what is known of the model."""

    cases: tuple[ExamCase, ...]
    seconds: float
    provenance: dict[str, Any]


@needs(WRITER)
def examine(
    model: ChestXrayModel,
    *,
    radiographs: Radiographs | None = None,
    n: int | None = None,
    domains: Sequence[str] = DOMAINS,
    seed: int = FIRST_HELD_OUT_SEED,
    batch_size: int = 16,
    jobs: int = 1,
    kept: str | Path | None = None,
    progress: bool = True,
) -> PhantomExam:
    """Let a model report `n` phantoms of each domain, or radiographs, and score what it states.

    Args:
        radiographs: a manifest with labels in the place of phantoms.
        n: 500 phantoms of each domain, or every labelled row.
        domains: of phantoms, in `wb.phantom` the choices of `domain`.
        seed: phantoms of the first domain have the seeds seed .. seed + n - 1, those of the next
            the n that follow, and so on.

    Raises:
        OptionError: a number is too small, or `kept` is of another model.
        InputError: the manifest cannot be read, or has no row with a label and an image.

    >>> list(exam.scores)
    ['internal']
    """
    check_whole(1, batch_size=batch_size, **({} if n is None else {"n": n}))
    check_whole(0, seed=seed)
    size, keys = model.image_size, _keys(n, domains, seed, radiographs)
    step = max(1, _CHUNK // batch_size) * batch_size
    tasks = [
        Batch(domain, tuple(own[at : at + step]))
        for domain, own in keys.items()
        for at in range(0, len(own), step)
    ]
    found = run_tasks(
        model,
        partial(report_batch, size=size, batch_size=batch_size),
        tasks,
        kind=Reported,
        benchmark="examination",
        options={"size": size, "batch_size": batch_size},
        seed=seed,
        radiographs=radiographs,
        kept=kept,
        jobs=jobs,
        progress=progress,
        cases_of=len,
    )
    scores = {}
    for domain, drawn in keys.items():
        own = [done for task, done in zip(tasks, found, strict=True) if task.domain == domain]
        cases = [case for done in own for case in done.cases]
        scores[domain] = score_cases(
            cases,
            seeds=(drawn[0].seed, drawn[0].seed + len(drawn)),
            seconds=sum(done.seconds for done in own),
            findings=_findings(cases),
        )
    cases = tuple(case for done in found for case in done.cases)
    return PhantomExam(
        scores=scores,
        cases=cases,
        n=len(keys[next(iter(keys))]),
        seed=seed,
        size=size,
        patients=len(set(alone([case.patient for case in cases]))),
        provenance=found[0].provenance,
    ).of(radiographs)


def _keys(
    n: int | None, domains: Sequence[str], seed: int, radiographs: Radiographs | None
) -> Mapping[str, Sequence[CaseKey]]:
    """Return the cases of each domain."""
    if radiographs is not None:
        return {_REAL: [key for key, _ in radiographs.rows(n, seed, coded)]}
    n = _PHANTOMS if n is None else n
    return {
        name: [PhantomKey(seed + n * at + own, name) for own in range(n)]
        for at, name in enumerate(domains)
    }


def _findings(cases: Sequence[ExamCase]) -> tuple[str, ...]:
    """Return what can be scored: what phantoms can have, or what is known of a radiograph."""
    some = {name for case in cases for name in case.known or ()}
    return tuple(name for name in STATABLE if name in some) or PHANTOM_FINDINGS


def report_batch(model: ChestXrayModel, task: Batch, *, size: int, batch_size: int) -> Reported:
    """Draw or read the cases of a batch and let a model report on them."""
    cases = [key.open(size) for key in task.keys]
    began = time.perf_counter()
    answers = model.report_many([case.image for case in cases], batch_size=batch_size)
    seconds = time.perf_counter() - began
    found = (
        _judged(task.domain, key, case, answer.text)
        for key, case, answer in zip(task.keys, cases, answers, strict=True)
    )
    return Reported(tuple(found), seconds, _provenance(answers[0]))


def _judged(domain: str, key: CaseKey, case: Phantom | Case, text: str) -> ExamCase:
    stated = stated_places(text)
    if isinstance(case, Phantom):
        return ExamCase(domain, case.seed, text, places(case.lesions), stated)
    told, names = stated_places(case.report), case.known(STATABLE, PRESENT, ABSENT)
    present = case.known(names, PRESENT)
    truth = {name: told.get(name, Place(None, None)) for name in present}
    scored = {name: place for name, place in stated.items() if name in names}
    doubtful = len(stated) - len(scored)
    return ExamCase(domain, key.seed, text, truth, scored, key.patient, tuple(names), doubtful)


def _provenance(answer: Generation) -> dict[str, Any]:
    known = asdict(answer.model)
    return {
        "model": known.pop("id"),
        **known,
        "prompt": answer.prompt,
        "template": answer.template,
        "settings": asdict(answer.settings),
        "versions": dict(answer.versions),
    }


@dataclass(frozen=True)
class Bar:
    """A limit that a model trained on phantoms is held to, and whether it is reached.

    Attributes:
        required: False for bars shown for information (the bar is stated for internal phantoms).
        value: what was measured, with `low` and `high`; None where undefined.
        reached: whether the value reaches the bar; None where there is no value.
    """

    metric: str
    domain: str
    limit: float
    at_least: bool
    required: bool
    value: float | None
    low: float | None
    high: float | None
    reached: bool | None

    def __str__(self) -> str:
        verdict = {True: "reached", False: "NOT reached", None: "not measured"}[self.reached]
        value, sign = fixed(self.value, 3, missing="undefined"), ">=" if self.at_least else "<="
        note = "" if self.required else " (for information)"
        return f"{self.domain} {self.metric} {value} {sign} {self.limit:.2f}: {verdict}{note}"


#: metric, domain, limit, at_least, required
BARS = (
    ("macro_f1", "internal", 0.85, True, True),
    ("macro_f1", "external", 0.65, True, True),
    ("laterality", "internal", 0.95, True, True),
    ("laterality", "external", 0.95, True, False),
    ("false_per_normal", "internal", 0.10, False, True),
    ("false_per_normal", "external", 0.10, False, False),
    ("nodule f1", "internal", 0.50, True, True),
    ("nodule f1", "external", 0.50, True, False),
    ("macro_f1", "ct", 0.85, True, False),
    ("laterality", "ct", 0.95, True, False),
    ("false_per_normal", "ct", 0.15, False, False),
)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class PhantomExam(BenchTable):
    """How well a model reports phantoms, or radiographs.

    Attributes:
        scores: domain of phantoms, or "radiographs" -> scores.
        n: cases of each domain.
        seed: first seed of the first domain; the next starts at seed + n, and so on.
    """

    name: ClassVar = "examination"
    head: ClassVar = ("domain", "finding", "n", *_METRICS)
    index: ClassVar = None

    scores: Mapping[str, DomainScore]
    cases: tuple[ExamCase, ...] = field(repr=False)
    n: int
    size: int

    @property
    def held_out(self) -> bool | None:
        """False when the seeds may have been trained on; None for radiographs: it is not known."""
        return None if self.source else self.seed >= FIRST_HELD_OUT_SEED

    def meets_bar(self) -> tuple[Bar, ...]:
        """Return every bar with whether it is reached; they are of phantoms only."""
        bars: list[Bar] = []
        if self.source:
            return ()
        for metric, domain, limit, at_least, required in BARS:
            if domain not in self.scores:
                continue
            score = self.scores[domain]
            nodule = metric == "nodule f1"
            found = score.per_finding[NODULE].f1 if nodule else getattr(score, metric)
            value = found.value
            reached = None if value is None else value >= limit if at_least else value <= limit
            measured = (value, found.low, found.high, reached)
            bars.append(Bar(metric, domain, limit, at_least, required, *measured))
        return tuple(bars)

    @property
    def passed(self) -> bool | None:
        """Whether every required bar is reached; an unmeasured bar is not. None without bars."""
        return None if self.source else all(bar.reached for bar in self.meets_bar() if bar.required)

    def _rows(self) -> Iterator[tuple[str, FindingScore]]:
        for domain, score in self.scores.items():
            for item in score.per_finding.values():
                yield domain, item

    def _records(self) -> list[dict[str, Any]]:
        rows = [{"domain": domain} | flat_row(item) for domain, item in self._rows()]
        for domain, score in self.scores.items():
            rows.append({
                "domain": domain, "finding": "macro (six findings)", **score.macro_f1.flat("f1"),
                **score.laterality.flat("laterality"), **score.zone.flat("zone"), "n": score.n,
            })  # fmt: skip
        return rows

    def _cells(self) -> list[list[str]]:
        return [
            [domain, item.finding, str(item.n), *(str(getattr(item, one)) for one in _METRICS)]
            for domain, item in self._rows()
        ]

    def _notes(self) -> tuple[str, ...]:
        held = "held out" if self.held_out else "NOT held out"
        seeds = "" if self.source else f", seed {self.seed:,} ({held})"
        notes = [f"{self._title()}{seeds}, 95 % intervals"]
        for domain, score in self.scores.items():
            notes += [
                f"{domain}: macro-F1 over six findings {score.macro_f1}; over all "
                f"{len(score.per_finding)} {score.macro_f1_all}; laterality {score.laterality} of "
                f"{score.laterality.n}; "
                f"without edema {score.laterality_focal}; zone {score.zone}; false findings per "
                f"normal case {score.false_per_normal} of {score.normals}; "
                f"{fixed(score.seconds_per_report, 3, missing='?')} s a report"
            ]
            left = [f"{one.finding} {one.left_out}" for one in score.per_finding.values()
                    if one.left_out]  # fmt: skip
            if left or score.doubtful:
                notes.append(
                    f"{domain}: not known, and left out, of {score.n} cases: "
                    f"{', '.join(left) or 'nothing'}; {score.doubtful} findings stated of which "
                    "nothing is known are in no score"
                )
        return (*notes, *map(str, self.meets_bar()))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **{domain: _domain_dict(score) for domain, score in self.scores.items()},
            "bars": [asdict(bar) for bar in self.meets_bar()],
            "passed": self.passed,
            "n": self.n,
            "seed": self.seed,
            "size": self.size,
            "held_out": self.held_out,
            "source": self.source or "phantoms",
            "patients": self.patients,
            "warnings": list(self.warnings),
            **self.provenance,
        }

    @style()
    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw F1 of each finding with its interval, one colour per domain; return the Axes."""
        systems = [
            f"{domain}, macro-F1 {fixed(score.macro_f1.value, missing='undefined')}"
            for domain, score in self.scores.items()
        ]
        rows = [
            (name, [score.per_finding[name].f1 for score in self.scores.values()], "")
            for name in next(iter(self.scores.values())).per_finding
        ]
        ax = ax or new_axes(8.5, 6)
        draw_forest(rows, ax, systems=systems)
        ax.set_title(self._title() + (", NOT held out" if self.held_out is False else ""), pad=42)
        return ax

    def _title(self) -> str:
        cases = f"{self.n} {self.origin}" if self.source else f"{self.n} phantoms per domain"
        return f"{self.provenance.get('model')} on {cases}"


def _domain_dict(score: DomainScore) -> dict[str, Any]:
    findings = {}
    for name, item in score.per_finding.items():
        sizes = {"laterality_n": item.laterality.n, "zone_n": item.zone.n}
        findings[name] = flat_row(item, without=("finding",)) | sizes
    return flat_row(score, without=("per_finding", "seeds")) | {
        "per_finding": findings,
        "laterality_n": score.laterality.n,
        "laterality_focal_n": score.laterality_focal.n,
        "zone_n": score.zone.n,
        "first_seed": score.seeds[0],
    }
