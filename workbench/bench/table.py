"""The result of a benchmark: a row for each thing measured, with estimates and their intervals.

Every benchmark returns a `BenchTable` of its own columns. Showing it in a notebook, a terminal, a
data frame, a JSON file or on a page is the same for all and is done here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from html import escape
from pathlib import Path
from typing import Any, ClassVar, cast

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench._repr import short_repr, to_json
from workbench.evaluation.intervals import Estimate
from workbench.figures.page import PAGE_STYLE, embedded_png, html_page
from workbench.figures.tables import html_table
from workbench.phantom.case import seen_warning


@dataclass(frozen=True, eq=False, kw_only=True)
class BenchTable(ABC):
    """What a benchmark found.

    Attributes:
        name: of the benchmark, and of its files.
        head: names of the columns as people read them.
        index: column of `to_frame` that names the rows; None leaves them numbered.
        seed: of the first case, and of the resampling.
        provenance: which weights, by name of the fact.
    """

    name: ClassVar[str]
    head: ClassVar[tuple[str, ...]]
    index: ClassVar[str | None]

    seed: int
    provenance: Mapping[str, Any] = field(repr=False)

    __repr__ = short_repr

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before quoting the numbers."""
        warning = seen_warning(self.seed)
        return () if warning is None else (warning,)

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
        """Write the table as JSON, its figures as PNG, and both as a page; return name -> path.

        The folder is made if needed, and files of the same names are replaced.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        figures = {
            name: cast("Figure", ax.get_figure(root=True)) for name, ax in self.plots().items()
        }
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", bbox_inches="tight")
        texts = {"json": to_json(self.to_dict()) + "\n", "html": self._page(figures)}
        for ending, text in texts.items():
            (folder / f"{self.name}.{ending}").write_text(text, encoding="utf-8")
        names = [f"{self.name}.{ending}" for ending in texts] + [f"{name}.png" for name in figures]
        return {name: folder / name for name in names}

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
        notes = "".join(f"<li>{escape(note)}</li>" for note in (*self._notes(), *self.warnings))
        return f"{html_table(self.head, self._cells())}<ul>{notes}</ul>"

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
