"""`ErrorQueue`: suspected errors in the order in which to look at them.

Does not know: how they were found (`suspects`), or whether the model is wrong (`verdicts`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.errors import OptionError
from workbench.evaluation.intervals import wilson
from workbench.findings import standard_name
from workbench.review.attributes import attribute_table, slices_of
from workbench.review.bulk import FINDINGS
from workbench.review.joined import Joined
from workbench.review.sampling import stratified
from workbench.review.slices import SliceTable
from workbench.review.suspects import KINDS, check_kinds, error_masks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.review.case_view import ReviewCase
    from workbench.review.verdicts import Annotations

#: Columns that stay out of files.
_PRIVATE = ("patient_id", "path")
_SHOWN = ("source", "view", "sex", "age group", "patient_id", "path", "mean_logprob", "tokens")


@dataclass(frozen=True, eq=False)
class ErrorQueue:
    """Suspected errors, the most suspect kind first.

    Attributes:
        entries: one row for each: see `suspects.COLUMNS`.
        joined: the cases behind them.
        slices: where errors are more frequent than elsewhere.
        task: of the run.
        folder: of the run; None for a table.
        root: folder of the images, where that is known.
        failed: rows of the run that have no text.
        notes: what a person should know before trusting the list.
        record: what run.json says.
    """

    entries: pd.DataFrame
    joined: Joined = field(repr=False)
    slices: SliceTable = field(repr=False)
    task: str = "report"
    folder: Path | None = None
    root: Path | None = None
    failed: int = 0
    notes: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of what cases can be divided by."""
        return tuple(attribute_table(self.joined).columns)

    @property
    def counts(self) -> dict[str, int]:
        """How many entries each kind has; kinds without any are 0."""
        found = self.entries["kind"].value_counts()
        return {kind: int(found.get(kind, 0)) for kind in KINDS}

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each entry with the facts of its case.

        Columns: id, kind, finding, said, reference, said side, reference side, confidence (0 to 1,
        of the report), evidence, source, view, sex, age group, patient_id, path, mean_logprob
        (nats a token), tokens, and the columns that a manifest does not know.
        """
        rows = self.entries["case"].to_numpy()
        names = ["id", *_SHOWN, *self.joined.extra]
        facts = self.joined.cases[names].iloc[rows].reset_index(drop=True)
        own = self.entries.drop(columns="case").reset_index(drop=True)
        order = ["id", *own.columns, *names[1:]]
        return pd.concat([facts, own], axis=1)[order]

    def select(
        self,
        *,
        kind: str | Sequence[str] | None = None,
        finding: str | None = None,
        **where: str,
    ) -> ErrorQueue:
        """Return a part of the queue.

        Args:
            kind: one of `KINDS`, or several.
            finding: standard name or synonym.
            **where: values of attributes, such as view="AP"; a blank in a name is written "_".

        Raises:
            OptionError: there is no such kind, finding or attribute.
        """
        keep = np.ones(len(self.entries), dtype=bool)
        if kind is not None:
            kinds = [kind] if isinstance(kind, str) else list(kind)
            check_kinds(kinds)
            keep &= self.entries["kind"].isin(kinds).to_numpy()
        if finding is not None:
            keep &= (self.entries["finding"] == standard_name(finding)).to_numpy()
        table = attribute_table(self.joined) if where else None
        for name, value in where.items():
            name = name if name in table else name.replace("_", " ")
            if name not in table:
                raise OptionError(
                    f"cases cannot be divided by {name!r}; expected: {', '.join(table.columns)}"
                )
            inside = (table[name].astype(str) == str(value)).to_numpy()
            keep &= inside[self.entries["case"].to_numpy()]
        return replace(self, entries=self.entries[keep].reset_index(drop=True))

    def sample(
        self, n: int, *, by: Sequence[str] = ("kind", "finding"), seed: int = 0
    ) -> ErrorQueue:
        """Draw entries so that every stratum has its turn; "weight" says what each stands for.

        Args:
            n: entries; all where there are fewer.
            by: columns of `to_frame` whose values make the strata.
            seed: of the draw.
        """
        rows, weights = stratified(self.to_frame(), n, by=tuple(by), seed=seed)
        entries = self.entries.iloc[rows].reset_index(drop=True)
        return replace(self, entries=entries.assign(weight=weights))

    def unreviewed(self, annotations: Annotations, *, reviewer: str | None = None) -> ErrorQueue:
        """Return the entries without a verdict, or without one of a reviewer."""
        judged = {a.key for a in annotations.current() if reviewer in (None, a.reviewer)}
        keys = self.to_frame()[["source", "id", "kind", "finding"]].astype(str)
        keep = [key not in judged for key in keys.itertuples(index=False, name=None)]
        return replace(self, entries=self.entries[keep].reset_index(drop=True))

    def per_finding(self) -> pd.DataFrame:
        """Return one row for each finding: known, false, missed, flipped, disputed, unknown, rate.

        "rate" is errors (false or missed) per known pair, with Wilson's interval "low" to "high".
        """
        masks = error_masks(self.joined)
        known = self.joined.known
        rows = []
        for at, name in enumerate(FINDINGS):
            false, missed = int(masks["false"][:, at].sum()), int(masks["missed"][:, at].sum())
            rate = wilson(false + missed, int(known[:, at].sum()))
            row = {"finding": name, "known": rate.n, "false": false, "missed": missed}
            row |= {"flipped": int(masks["flipped"][:, at].sum())}
            row |= {"disputed": int(self.joined.disputed[:, at].sum())}
            row |= {"unknown": len(known) - rate.n - row["disputed"]}
            rows.append(row | {"rate": rate.value, "low": rate.low, "high": rate.high})
        frame = pd.DataFrame(rows).set_index("finding")
        return frame.astype(dict.fromkeys(("rate", "low", "high"), float))

    def find_slices(self, *, kind: str = "any", by: Sequence[str] | None = None) -> SliceTable:
        """Find the slices in which errors are more frequent than elsewhere.

        Args:
            kind: "any", "false finding", "missed finding" or "laterality flip".
            by: names of attributes; all when None.

        Raises:
            OptionError: unknown kind or attribute.
        """
        return slices_of(self.joined, kind=kind, by=by)

    def case(self, key: str, *, source: str | None = None) -> ReviewCase:
        """Return one case with both texts and its entries.

        Raises:
            InputError: there is no such case, or several sources have it.
        """
        from workbench.review.case_view import review_case

        return review_case(self, key, source)

    def summary(self) -> dict:
        """Return counts and the worst slices as plain values for JSON; no text is among them."""
        joined = self.joined
        return {
            "task": self.task,
            "cases": len(joined.cases),
            "failed": self.failed,
            "unmatched": joined.unmatched,
            "entries": len(self.entries),
            "kinds": self.counts,
            "known_pairs": int(joined.known.sum()),
            "disputed_pairs": int(joined.disputed.sum()),
            "unknown_pairs": int(joined.known.size - joined.known.sum() - joined.disputed.sum()),
            "slices_tested": self.slices.tested,
            "worse_slices": [item.to_dict() for item in self.slices.worse],
            "texts_read_now": joined.read,
            "notes": list(self.notes),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw how many entries of each kind there are, by finding."""
        from workbench.review.queue_figure import plot_queue

        return plot_queue(self, ax)

    def save(self, path: str | os.PathLike) -> Path:
        """Write `to_frame` as CSV whose cells no spreadsheet runs, or as Parquet.

        Patient and path are left out: files that are sent around should not say whose films they
        are about. The manifest has both, under source and id.
        """
        from workbench.review.exports import save_frame

        return save_frame(self.to_frame().drop(columns=list(_PRIVATE), errors="ignore"), path)

    def __repr__(self) -> str:
        return f"<ErrorQueue {len(self):,} entries about {len(self.joined.cases):,} reports>"

    def _repr_html_(self) -> str:
        from workbench.review.queue_html import queue_html

        return queue_html(self)
