"""Examine a model on phantoms it has never seen, against what was drawn.

Phantoms are drawn, reported and forgotten in batches, so memory does not grow with their number.
Seeds from 10,000,000 up are kept for this; an examination on others is marked as not held out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
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
from workbench.bench.keys import PhantomKey, check_numbers, places
from workbench.bench.loop import BenchTable, flat_row, run_tasks
from workbench.figures.estimates import draw_forest
from workbench.figures.numbers import fixed
from workbench.figures.style import new_axes, style
from workbench.findings import NODULE, PHANTOM_FINDINGS
from workbench.generation import Generation
from workbench.interface import ChestXrayModel
from workbench.phantom.case import DOMAINS
from workbench.settings import FIRST_HELD_OUT_SEED

#: Phantoms in memory at a time.
_CHUNK = 32
_METRICS = ("precision", "recall", "f1", "laterality", "zone")


@dataclass(frozen=True)
class Batch:
    """Phantoms of one domain that are reported together: seeds first .. first + n - 1."""

    domain: str
    first: int
    n: int

    def __len__(self) -> int:
        return self.n


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
    n: int = 500,
    seed: int = FIRST_HELD_OUT_SEED,
    batch_size: int = 16,
    jobs: int = 1,
    kept: str | Path | None = None,
    progress: bool = True,
) -> PhantomExam:
    """Let a model report `n` phantoms of each domain and score what it states.

    Args:
        seed: internal phantoms have the seeds seed .. seed + n - 1, external ones
            seed + n .. seed + 2 n - 1.

    Raises:
        OptionError: a number is too small, or `kept` is of another model.
    """
    check_numbers(1, n=n, batch_size=batch_size)
    check_numbers(0, seed=seed)
    size = model.image_size
    starts = {name: seed + n * at for at, name in enumerate(DOMAINS)}
    step = max(1, _CHUNK // batch_size) * batch_size
    tasks = [
        Batch(domain, start + at, min(step, n - at))
        for domain, start in starts.items()
        for at in range(0, n, step)
    ]
    found = run_tasks(
        model,
        partial(report_batch, size=size, batch_size=batch_size),
        tasks,
        kind=Reported,
        benchmark="examination",
        options={"size": size, "batch_size": batch_size},
        seed=seed,
        kept=kept,
        jobs=jobs,
        progress=progress,
        cases_of=len,
    )
    scores = {}
    for domain, start in starts.items():
        own = [done for task, done in zip(tasks, found, strict=True) if task.domain == domain]
        scores[domain] = score_cases(
            [case for done in own for case in done.cases],
            seeds=(start, start + n),
            seconds=sum(done.seconds for done in own),
        )
    return PhantomExam(
        scores=scores,
        cases=tuple(case for done in found for case in done.cases),
        n=n,
        seed=seed,
        size=size,
        provenance=found[0].provenance,
    )


def report_batch(model: ChestXrayModel, task: Batch, *, size: int, batch_size: int) -> Reported:
    """Draw the phantoms of a batch and let a model report on them."""
    seeds = range(task.first, task.first + task.n)
    cases = [PhantomKey(seed, task.domain).open(size) for seed in seeds]
    began = time.perf_counter()
    answers = model.report_many([case.image for case in cases], batch_size=batch_size)
    seconds = time.perf_counter() - began
    found = []
    for case, answer in zip(cases, answers, strict=True):
        truth, stated = places(case.lesions), stated_places(answer.text)
        found.append(ExamCase(task.domain, case.seed, answer.text, truth, stated))
    return Reported(tuple(found), seconds, _provenance(answers[0]))


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
)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class PhantomExam(BenchTable):
    """How well a model reports phantoms.

    Attributes:
        seed: first seed of the internal phantoms; external ones start at seed + n.
    """

    name: ClassVar = "examination"
    head: ClassVar = ("domain", "finding", "n", *_METRICS)
    index: ClassVar = None

    scores: Mapping[str, DomainScore]
    cases: tuple[ExamCase, ...] = field(repr=False)
    n: int
    size: int

    @property
    def held_out(self) -> bool:
        """False when the seeds may have been trained on."""
        return self.seed >= FIRST_HELD_OUT_SEED

    def meets_bar(self) -> tuple[Bar, ...]:
        """Return every bar with whether it is reached."""
        bars = []
        for metric, domain, limit, at_least, required in BARS:
            score = self.scores[domain]
            nodule = metric == "nodule f1"
            found = score.per_finding[NODULE].f1 if nodule else getattr(score, metric)
            value = found.value
            reached = None if value is None else value >= limit if at_least else value <= limit
            measured = (value, found.low, found.high, reached)
            bars.append(Bar(metric, domain, limit, at_least, required, *measured))
        return tuple(bars)

    @property
    def passed(self) -> bool:
        """Whether every required bar is reached; an unmeasured bar is not."""
        return all(bar.reached for bar in self.meets_bar() if bar.required)

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
        notes = [f"{self._title()}, seed {self.seed:,} ({held}), 95 % intervals"]
        for domain, score in self.scores.items():
            notes += [
                f"{domain}: macro-F1 over six findings {score.macro_f1}; over eight "
                f"{score.macro_f1_all}; laterality {score.laterality} of {score.laterality.n}; "
                f"without edema {score.laterality_focal}; zone {score.zone}; false findings per "
                f"normal phantom {score.false_per_normal} of {score.normals}; "
                f"{fixed(score.seconds_per_report, 3, missing='?')} s a report"
            ]
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
            for name in PHANTOM_FINDINGS
        ]
        ax = ax or new_axes(8.5, 6)
        draw_forest(rows, ax, systems=systems)
        ax.set_title(self._title() + ("" if self.held_out else ", NOT held out"), pad=42)
        return ax

    def _title(self) -> str:
        return f"{self.provenance.get('model')} on {self.n} phantoms per domain"


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
