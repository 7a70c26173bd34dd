"""The loop of every benchmark: work over many cases that can be stopped, resumed and shared out.

A task says what to do with which case. Its result is stored on a line of a file as soon as it is
known, so that a run which was stopped resumes from there. Several processes share the tasks, each
with the model and one thread; the results are the same, in the same order.

A benchmark goes through keys. A key is small and plain: it is stored with the result of its case,
it is sent to other processes, and it opens its case there. A case is an image and what is known of
it; any part but the image may be missing. Phantoms are the source of cases so far; another source
adds a key of its own whose `open` returns a `Case`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool
from pydantic import TypeAdapter
from tqdm.auto import tqdm

from workbench._repr import short_repr
from workbench._store import StoredResults
from workbench.errors import OptionError
from workbench.findings import PRESENT
from workbench.interface import ChestXrayModel, load_model
from workbench.phantom.case import DOMAINS, phantom, seen_warning
from workbench.phantom.scene import Lesion
from workbench.phantom.wording import by_finding
from workbench.radiograph import Radiograph

logger = logging.getLogger(__name__)

Model = TypeVar("Model")
Task = TypeVar("Task", bound=Hashable)
Result = TypeVar("Result")

#: The model of a worker process.
_loaded: list[ChestXrayModel] = []


def run_tasks(
    model: Model,
    work: Callable[[Model, Task], Result],
    tasks: Sequence[Task],
    *,
    kind: Any,
    benchmark: str,
    options: Mapping[str, object],
    seed: int,
    kept: str | Path | None,
    jobs: int,
    progress: bool,
    cases_of: Callable[[Task], int] = lambda task: 1,
) -> list[Result]:
    """Return `work(model, task)` of every task, in order; stored results are not made again.

    A warning is logged where a model may have been trained on the phantoms from `seed` up.

    Args:
        model: given to `work`. Processes load it again from where it was loaded, and need a
            `ChestXrayModel` for that.
        work: a function of a module, so that other processes find it.
        tasks: one or more frozen dataclasses of plain values.
        kind: type of a result, made of dataclasses and plain values.
        options: what results of this benchmark depend on besides their task and the weights.
        kept: a JSON Lines file that stores finished tasks; a run that was stopped resumes from it.
        jobs: processes; 1 works in this one.
        cases_of: how many cases a task has, for the bar.

    Raises:
        OptionError: `kept` is of other weights or options.
        RunError: `kept` cannot be written.
    """
    check_numbers(1, jobs=jobs)
    if warning := seen_warning(seed):
        logger.warning(warning)
    sha256 = getattr(getattr(model, "identity", None), "sha256", None)
    head = {"benchmark": benchmark, "sha256": sha256, **options}
    keys, results = TypeAdapter(type(tasks[0])), TypeAdapter(kind)
    done: StoredResults[Task, Result] = StoredResults(
        kept,
        head,
        encode=lambda task, result: {
            "task": keys.dump_python(task),
            "result": results.dump_python(result),
        },
        decode=lambda row: (
            keys.validate_python(row["task"]),
            results.validate_python(row["result"]),
        ),
    )
    left = [task for task in tasks if task not in done]
    total = sum(map(cases_of, tasks))
    before = total - sum(map(cases_of, left))
    with tqdm(total=total, initial=before, desc="cases", disable=not progress) as bar:
        for task, found in zip(left, _worked(model, work, left, jobs), strict=True):
            done[task] = found
            bar.update(cases_of(task))
    return [done[task] for task in tasks]


def _worked(
    model: Model, work: Callable[[Model, Task], Result], tasks: Sequence[Task], jobs: int
) -> Iterator[Result]:
    if jobs == 1 or not isinstance(model, ChestXrayModel):
        yield from (work(model, task) for task in tasks)
        return
    loaded = model.loaded
    source = "mini" if loaded.card.name == "mini" else str(loaded.directory)
    options = {name: getattr(loaded.placement, name) for name in ("device", "dtype", "quantize")}
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_load, initargs=(source, options)
    ) as pool:
        yield from pool.map(partial(_here, work), tasks)


def _load(source: str, options: Mapping[str, Any]) -> None:
    """Give a worker process its model and one thread."""
    import torch

    torch.set_num_threads(1)
    _loaded.append(load_model(source, **options))


def _here(work: Callable[[Any, Task], Result], task: Task) -> Result:
    return work(_loaded[0], task)


def check_numbers(least: int, **numbers: int) -> None:
    """Raise `OptionError` for the first number below `least`."""
    for name, value in numbers.items():
        if value < least:
            raise OptionError(f"{name} must be {least} or more, got {value}")


class Place(NamedTuple):
    """Where a finding is: side, and zones joined by ", " (None where it has none)."""

    side: str | None
    zone: str | None


@dataclass(frozen=True, eq=False)
class Case:
    """One image and what is known of it.

    Attributes:
        id: names the case.
        image: what a model is shown.
        seed: decides what an analysis of this case leaves to chance.
        group: stratum of the case; intervals come from resamples that keep each group's size.
        labels: finding -> code; an unnamed finding is unknown.
        masks: finding -> (H, W), True where it is; a box is a filled rectangle.
        places: finding -> side and zone of what is present.
        report: the reference report.
    """

    id: str
    image: Radiograph
    seed: int = 0
    group: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    masks: Mapping[str, Bool[np.ndarray, "H W"]] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    report: str | None = None
    patient: str | None = None

    __repr__ = short_repr

    @property
    def present(self) -> tuple[str, ...]:
        """Findings that are there."""
        return tuple(name for name, code in self.labels.items() if code == PRESENT)


@dataclass(frozen=True)
class PhantomKey:
    """A phantom that has not been drawn yet; without `findings` the seed decides what it has."""

    seed: int
    domain: str = "internal"
    findings: tuple[str, ...] | None = None

    def open(self, size: int) -> Case:
        """Draw the phantom, `size` pixels along each edge."""
        drawn = phantom(self.seed, findings=self.findings, domain=self.domain, size=size)
        name = f"phantom seed {self.seed} ({self.domain})"
        return Case(
            id=name,
            image=drawn.image,
            seed=self.seed,
            group=self.domain,
            labels=drawn.labels,
            masks=drawn.masks,
            places=places(drawn.lesions),
            report=drawn.report,
            patient=name,
        )


def places(lesions: Iterable[Lesion]) -> dict[str, Place]:
    """Return finding -> place of what is drawn."""
    found = by_finding(lesions)
    return {finding: Place(lesion.side, lesion.zone) for finding, lesion in found.items()}


def both_domains(n: int, seed: int) -> list[PhantomKey]:
    """Return `n` phantoms, half of each domain.

    Internal ones have the seeds seed .. seed + ceil(n / 2) - 1, external ones those that follow.
    """
    half = (n + 1) // 2
    return [PhantomKey(seed + at, DOMAINS[at >= half]) for at in range(n)]
