"""Examine a model on phantoms it has never seen, against what was drawn.

Phantoms are drawn, reported and forgotten in batches, so memory does not grow with their number.
Seeds from 10,000,000 up are kept for this; an examination on others is marked as not held out.
Anything with `report_many(images, batch_size=...)` can be examined.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from workbench._repr import short_repr
from workbench.bench.exam_scores import (
    Bar,
    DomainScore,
    ExamCase,
    FindingScore,
    check_bars,
    score_cases,
    stated_places,
)
from workbench.bench.loop import PhantomKey, check_numbers, run_tasks, warn_of_seen
from workbench.bench.table import BenchTable, flat_row
from workbench.errors import InputError, OptionError
from workbench.evaluation.scorecard_figure import draw_forest
from workbench.figures.style import new_figure, style
from workbench.findings import PHANTOM_FINDINGS
from workbench.generation.options import DecodingSettings
from workbench.phantom.case import DOMAINS
from workbench.radiograph import Radiograph
from workbench.settings import FIRST_HELD_OUT_SEED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Phantoms in memory at a time.
_CHUNK = 32
_METRICS = ("precision", "recall", "f1", "laterality", "zone")


class ReportWriter(Protocol):
    """What can be examined."""

    def report_many(self, images: list[Radiograph], *, batch_size: int) -> Sequence[Any]:
        """Return one object with a `text` for each image."""
        ...


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
    """Reports of a batch.

    Attributes:
        cases: in order.
        seconds: wall time of the model alone.
        provenance: what is known of the model, as plain values.
    """

    cases: tuple[ExamCase, ...]
    seconds: float
    provenance: dict[str, Any]


def examine(
    model: ReportWriter,
    *,
    n: int = 500,
    seed: int = FIRST_HELD_OUT_SEED,
    domains: Sequence[str] = DOMAINS,
    batch_size: int = 16,
    size: int | None = None,
    jobs: int = 1,
    kept: str | Path | None = None,
    progress: bool = True,
) -> PhantomExam:
    """Let a model report `n` phantoms of each domain and score what it states.

    Args:
        model: what `load_model` returns, or anything with its `report_many`.
        n: phantoms per domain.
        seed: internal phantoms have the seeds seed .. seed + n - 1, external ones
            seed + n .. seed + 2 n - 1, whichever domains are asked for.
        domains: "internal", "external" or both.
        batch_size: passed to the model.
        size: pixels along each edge of a phantom; None asks the model for `image_size` and
            takes 512 where it has none.
        jobs, kept, progress: see `workbench.bench.loop.run_tasks`.

    Raises:
        OptionError: a number is too small, a domain is unknown, or `kept` is of another model.
        InputError: the model has no `report_many`, or does not return a text for each image.
    """
    _check(model, domains)
    check_numbers(1, n=n, batch_size=batch_size, jobs=jobs)
    check_numbers(0, seed=seed)
    size = size or int(getattr(model, "image_size", None) or 512)
    starts = {name: seed + n * at for at, name in enumerate(DOMAINS) if name in domains}
    tasks = _batches(starts, n, max(1, _CHUNK // batch_size) * batch_size)
    identity = getattr(model, "identity", None)
    found = run_tasks(
        model,
        partial(report_batch, size=size, batch_size=batch_size),
        tasks,
        kind=Reported,
        head={
            "benchmark": "examination",
            "sha256": getattr(identity, "sha256", None),
            "size": size,
            "batch_size": batch_size,
        },
        kept=kept,
        jobs=jobs,
        progress=progress,
        cases_of=len,
    )
    return PhantomExam(
        scores={
            domain: _score(domain, range(start, start + n), tasks, found)
            for domain, start in starts.items()
        },
        cases=tuple(case for done in found for case in done.cases),
        n=n,
        seed=seed,
        size=size,
        held_out=seed >= FIRST_HELD_OUT_SEED,
        provenance=found[0].provenance,
        warnings=warn_of_seen(seed),
    )


def _batches(starts: Mapping[str, int], n: int, step: int) -> list[Batch]:
    """Return `n` phantoms of each domain, `step` at a time."""
    return [
        Batch(domain, start + at, min(step, n - at))
        for domain, start in starts.items()
        for at in range(0, n, step)
    ]


def _score(
    domain: str, seeds: range, tasks: Sequence[Batch], found: Sequence[Reported]
) -> DomainScore:
    own = [done for task, done in zip(tasks, found, strict=True) if task.domain == domain]
    return score_cases(
        [case for done in own for case in done.cases],
        domain=domain,
        seeds=(seeds.start, seeds.stop),
        seconds=sum(done.seconds for done in own),
    )


def _check(model: object, domains: Sequence[str]) -> None:
    if not callable(getattr(model, "report_many", None)):
        raise InputError(
            f"{type(model).__name__} has no report_many(images, batch_size=...); "
            "pass what wb.load_model returns"
        )
    unknown = [name for name in domains if name not in DOMAINS]
    if unknown or isinstance(domains, str) or not domains:
        raise OptionError(
            f"domains is {domains!r}; expected a sequence of one or more of: {', '.join(DOMAINS)}"
        )


def report_batch(model: ReportWriter, task: Batch, *, size: int, batch_size: int) -> Reported:
    """Draw the phantoms of a batch and let a model report on them."""
    seeds = range(task.first, task.first + task.n)
    cases = [PhantomKey(seed, task.domain).open(size) for seed in seeds]
    began = time.perf_counter()
    answers = list(model.report_many([case.image for case in cases], batch_size=batch_size))
    seconds = time.perf_counter() - began
    texts = [getattr(answer, "text", None) for answer in answers]
    if len(texts) != len(cases) or not all(isinstance(text, str) for text in texts):
        raise InputError(
            f"report_many gave {len(answers)} answers for {len(cases)} images; expected "
            "one object with a str `text` for each image, in order"
        )
    found = tuple(
        ExamCase(task.domain, case.seed, str(text), dict(case.places), stated_places(str(text)))
        for case, text in zip(cases, texts, strict=True)
    )
    return Reported(found, seconds, _provenance(model, answers[0]))


def _provenance(model: object, answer: object) -> dict[str, Any]:
    """Return what is known of the model, as plain values; what is not known is None."""
    identity = getattr(answer, "model", None)
    settings = getattr(answer, "settings", None)
    known = ("sha256", "revision", "dtype", "device")
    return {
        "model": getattr(identity, "id", None) or type(model).__name__,
        **{name: getattr(identity, name, None) for name in known},
        "prompt": getattr(answer, "prompt", None),
        "template": getattr(answer, "template", None),
        "settings": asdict(settings) if isinstance(settings, DecodingSettings) else None,
        "versions": dict(getattr(answer, "versions", None) or {}),
    }


@dataclass(frozen=True, eq=False, kw_only=True)
class PhantomExam(BenchTable):
    """How well a model reports phantoms.

    Attributes:
        scores: domain -> scores.
        cases: every phantom with its report, what was drawn and what was stated.
        n: phantoms per domain.
        seed: first seed of the internal phantoms; external ones start at seed + n.
        size: pixels along each edge.
        held_out: False when the seeds may have been trained on.
    """

    name: ClassVar = "examination"
    head: ClassVar = ("domain", "finding", "n", *_METRICS)
    index: ClassVar = None

    scores: Mapping[str, DomainScore]
    cases: tuple[ExamCase, ...] = field(repr=False)
    n: int
    size: int
    held_out: bool

    __repr__ = short_repr

    def meets_bar(self) -> tuple[Bar, ...]:
        """Return every bar with whether it is reached."""
        return check_bars(self.scores)

    @property
    def passed(self) -> bool:
        """Whether every required bar is reached; an unmeasured bar is not."""
        return all(bar.reached for bar in self.meets_bar() if bar.required)

    def _rows(self) -> list[tuple[str, FindingScore]]:
        return [
            (domain, item)
            for domain, score in self.scores.items()
            for item in score.per_finding.values()
        ]

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
            [
                domain,
                item.finding,
                str(item.n),
                *(str(getattr(item, metric)) for metric in _METRICS),
            ]
            for domain, item in self._rows()
        ]

    def _notes(self) -> tuple[str, ...]:
        held = "held out" if self.held_out else "NOT held out"
        notes = [f"{self._title()}, seed {self.seed:,} ({held}), 95 % intervals"]
        for domain, score in self.scores.items():
            took = score.seconds_per_report
            notes += [
                f"{domain}: macro-F1 over six findings {score.macro_f1}; over eight "
                f"{score.macro_f1_all}; laterality {score.laterality} of {score.laterality.n}; "
                f"without edema {score.laterality_focal}; zone {score.zone}; false findings per "
                f"normal phantom {score.false_per_normal} of {score.normals}; "
                f"{'?' if took is None else f'{took:.3f}'} s a report"
            ]
        return (*notes, *map(str, self.meets_bar()))

    def to_dict(self) -> dict[str, Any]:
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

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw F1 of each finding with its interval, one colour per domain; return the Axes."""
        systems = []
        for domain, score in self.scores.items():
            macro = score.macro_f1.value
            said = "undefined" if macro is None else f"{macro:.2f}"
            systems.append(f"{domain}, macro-F1 {said}")
        rows = [
            (name, [score.per_finding[name].f1 for score in self.scores.values()], "")
            for name in PHANTOM_FINDINGS
        ]
        with style():
            if ax is None:
                ax = new_figure(figsize=(8.5, 6), layout="constrained").add_subplot()
            draw_forest(rows, ax, systems=systems)
            ax.set_title(self._title() + ("" if self.held_out else ", NOT held out"), pad=42)
        return ax

    def _title(self) -> str:
        return f"{self.provenance.get('model')} on {self.n} phantoms per domain"


def _domain_dict(score: DomainScore) -> dict[str, Any]:
    row = flat_row(score, without=("domain", "per_finding", "seeds"))
    findings = {
        name: flat_row(item, without=("finding",))
        | {"laterality_n": item.laterality.n, "zone_n": item.zone.n}
        for name, item in score.per_finding.items()
    }
    return row | {
        "per_finding": findings,
        "laterality_n": score.laterality.n,
        "laterality_focal_n": score.laterality_focal.n,
        "zone_n": score.zone.n,
        "first_seed": score.seeds[0],
    }
