"""The loop of every benchmark: work over many cases that can be stopped, resumed and shared out.

A task says what to do with which case. Its result is stored on a line of a file as soon as it is
known, so that a run which was stopped resumes from there. Several processes share the tasks, each
with the model and one thread; the results are the same, in the same order.

Every benchmark returns a `BenchTable` of its own columns; showing it in a notebook, a terminal, a
data frame, a JSON file or on a page is the same for all.
"""

from __future__ import annotations

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import partial
from html import escape
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import TypeAdapter
from tqdm.auto import tqdm

from workbench._repr import short_repr, to_json
from workbench._store import StoredResults
from workbench.bench.keys import Radiographs
from workbench.errors import check_whole
from workbench.evaluation.intervals import Estimate
from workbench.figures.page import PAGE_STYLE, embedded_png, html_page, save_files
from workbench.figures.tables import bullets, html_table
from workbench.interface import ChestXrayModel, load_model
from workbench.phantom.case import seen_warning

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
    radiographs: Radiographs | None = None,
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
        radiographs: where the cases come from, unless they are phantoms.
        kept: a JSON Lines file that stores finished tasks; a run that was stopped resumes from it.
        jobs: processes; 1 works in this one.
        cases_of: how many cases a task has, for the bar.

    Raises:
        OptionError: `kept` is of other weights or options.
        RunError: `kept` cannot be written.
    """
    check_whole(1, jobs=jobs)
    if radiographs is not None:
        options = {**options, "manifest": radiographs.sha256}
    elif warning := seen_warning(seed):
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
    source, options = model.origin
    options = {**options, "prompts": model.prompts}
    # on Linux one process imports what all work with, and the others are its copies
    context = get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_load, initargs=(source, options)
    ) as pool:
        yield from pool.map(partial(_here, work), tasks)


def _load(source: str, options: Mapping[str, Any]) -> None:
    """Give a worker process its model and one thread."""
    torch.set_num_threads(1)
    _loaded.append(load_model(source, **options))


def _here(work: Callable[[Any, Task], Result], task: Task) -> Result:
    return work(_loaded[0], task)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class BenchTable(ABC):
    """What a benchmark found.

    Attributes:
        name: of the benchmark, and of its files.
        head: names of the columns as people read them.
        index: column of `to_frame` that names the rows; None leaves them numbered.
        seed: of the first case, and of the resampling.
        source: file of the manifest that the cases are of; empty for phantoms.
        domain: of phantoms, where one was asked for.
        patients: of the cases; they are what is resampled.
        provenance: which weights, by name of the fact.

    >>> issubclass(wb.bench.SaliencyTable, wb.bench.BenchTable)
    True
    """

    name: ClassVar[str]
    head: ClassVar[tuple[str, ...]]
    index: ClassVar[str | None]

    seed: int
    source: str = ""
    domain: str | None = None
    patients: int = 0
    provenance: Mapping[str, Any] = field(repr=False)

    __repr__ = short_repr

    def of(self, radiographs: Radiographs | None, domain: str | None = None) -> Self:
        """Return the table with where its cases come from."""
        return replace(self, source=radiographs.name if radiographs else "", domain=domain)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before quoting the numbers."""
        warning = None if self.source else seen_warning(self.seed)
        return () if warning is None else (warning,)

    @property
    def origin(self) -> str:
        """What the cases are, in words."""
        if not self.source:
            kind = f"{self.domain} phantoms" if self.domain else "phantoms"
            return f"{kind} from seed {self.seed:,}"
        return f"radiographs of {self.source}, {self.patients:,} patients"

    def _facts(self) -> dict[str, Any]:
        """Return what every table says of its cases and model, for JSON."""
        return {
            "patients": self.patients,
            "source": self.source or "phantoms",
            **({"domain": self.domain} if self.domain else {}),
            "seed": self.seed,
            "model": dict(self.provenance),
        }

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; undefined numbers are None."""

    @abstractmethod
    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the main numbers with their intervals; return the Axes."""

    @abstractmethod
    def _records(self) -> list[dict[str, Any]]:
        """Return plain values of every row by column, for a data frame."""

    @abstractmethod
    def _cells(self) -> Sequence[Sequence[str]]:
        """Return every row as texts below `head`."""

    @abstractmethod
    def _notes(self) -> tuple[str, ...]:
        """Return what stands below the table: counts, seeds, comparisons."""

    def to_frame(self) -> pd.DataFrame:
        """Return the rows; estimates have columns for both ends of their interval."""
        frame = pd.DataFrame(self._records())
        return frame if self.index is None else frame.set_index(self.index)

    def plots(self) -> dict[str, Axes]:
        """Draw everything there is to draw, by name of its file."""
        return {self.name: self.plot()}

    def save(self, folder: str | Path) -> dict[str, Path]:
        """Write the table as JSON, its figures as PNG, and both as a page; return name -> path."""
        drawn = self.plots()
        figures = {name: cast("Figure", ax.get_figure(root=True)) for name, ax in drawn.items()}
        texts = {"json": to_json(self.to_dict()) + "\n", "html": self._page(figures)}
        named = {f"{self.name}.{ending}": text for ending, text in texts.items()}
        return save_files(folder, named, figures, "png")

    def _page(self, figures: Mapping[str, Figure]) -> str:
        title = f"Benchmark: {self.name}"
        pictures = "".join(embedded_png(one, f"Figure: {name}") for name, one in figures.items())
        origin = ", ".join(f"{name}: {value}" for name, value in self.provenance.items())
        return html_page(
            title,
            PAGE_STYLE,
            f"<h1>{escape(title)}</h1>{self._repr_html_()}{pictures}"
            f"<p><small>{escape(origin)}. For research, not for clinical use.</small></p>",
        )

    def _repr_html_(self) -> str:
        table = html_table(self.head, self._cells())
        return table + bullets((*self._notes(), *self.warnings))

    def __str__(self) -> str:
        rows = [self.head, *self._cells()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, *self._notes(), *self.warnings])


def flat_row(row: Any, *, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return the fields of a dataclass as plain values, each `Estimate` as three of them."""
    plain: dict[str, Any] = {}
    for one in fields(row):
        value = getattr(row, one.name)
        if one.name not in without:
            plain |= value.flat(one.name) if isinstance(value, Estimate) else {one.name: value}
    return plain
