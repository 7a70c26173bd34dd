"""A manifest: one table of images, patients, labels and reports that every part consumes.

Where its rows come from is a matter of `workbench.data.build`, whether they are right of
`workbench.data.check`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from workbench.data.columns import FINDING_COLUMNS, REPORT_COLUMNS, SPLITS
from workbench.data.frames import sort_rows, within_source, write_table
from workbench.data.images import Root
from workbench.data.mapping import count_items
from workbench.errors import InputError
from workbench.findings import ABSENT, ALL_FINDINGS, NOT_MENTIONED, PRESENT, UNCERTAIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.data.checking import CheckResult

#: Codes that are counted; the rest is not mentioned.
COUNTED = (PRESENT, ABSENT, UNCERTAIN)
#: Colour of what nobody mentioned.
NOTHING = "#e8e8e8"


@dataclass(frozen=True, eq=False)
class Manifest:
    """Rows of images, and the folder that their paths are relative to.

    Attributes:
        frame: one row for each image, columns as in `workbench.data.columns`, in fixed order.
        root: what the paths are relative to; None where no image is at hand. It is not part of the
            file: a manifest can be moved, and says nothing of the machine it was made on.
        notes: what a person should know about how it was made.
        expected: rows of {"what", "expected", "found", "ok"}: counts that the card promises.
    """

    frame: pd.DataFrame
    root: Path | None = None
    notes: tuple[str, ...] = ()
    expected: tuple[dict, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table; changing it leaves the manifest as it is."""
        return self.frame.copy()

    def select(self, rows: npt.ArrayLike, *, notes: tuple[str, ...] = ()) -> Manifest:
        """Return some rows, (n,) bool or row numbers, as a manifest with more notes."""
        chosen = np.asarray(rows)
        picked = self.frame[chosen] if chosen.dtype == bool else self.frame.iloc[chosen]
        return self.with_frame(picked.reset_index(drop=True), notes=notes)

    def with_frame(self, frame: pd.DataFrame, *, notes: tuple[str, ...] = ()) -> Manifest:
        """Return the same manifest with another table, without the counts its card promised."""
        return replace(self, frame=frame, notes=(*self.notes, *notes), expected=())

    def path(self, row: int) -> Path:
        """Return the image file of a row.

        Raises:
            InputError: the manifest has no root, the row no image, or its path leaves the root.
        """
        if self.root is None:
            raise InputError(
                "the manifest does not know where its images are; load it with root= (the folder "
                "that its paths are relative to)"
            )
        return Root(self.root).resolve(self.frame["path"].iloc[row])

    def check(
        self,
        *,
        root: str | os.PathLike | None = None,
        against: Manifest | None = None,
        rules: Sequence[str] | None = None,
    ) -> CheckResult:
        """Check the manifest, as `workbench.data.check` does."""
        from workbench.data.checking import check

        return check(self, root=root, against=against, rules=rules)

    def save(self, path: str | Path) -> Path:
        """Write the manifest as .parquet or .csv and return the path."""
        return write_table(self.frame, path)

    def digest(self) -> str:
        """Return the SHA-256 of the content, 64 hexadecimal digits; the file format is no part."""
        parts = column_digests(self.frame)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def summary(self) -> dict:
        """Return counts as plain values; no text of a report is among them."""
        frame = self.frame
        sources = frame["source"].fillna("")
        findings = {name: _code_counts(frame[name]) for name in FINDING_COLUMNS}
        reports = frame[list(REPORT_COLUMNS)].notna().any(axis=1)
        return {
            "rows": len(frame),
            "images": int(frame["path"].notna().sum()),
            "patients": within_source(frame, "patient_id").nunique(),
            "studies": within_source(frame, "study_id").nunique(),
            "boxes": count_items(frame["boxes"]),
            "masks": count_items(frame["masks"]),
            "report_texts": within_source(frame[reports], "study_id").nunique(),
            "findings": findings,
            "splits": {name: int((frame["split"] == name).sum()) for name in SPLITS},
            "views": {str(k): int(n) for k, n in frame["view"].value_counts().items() if n},
            "sources": {str(k): int(n) for k, n in sources.value_counts().sort_index().items()},
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw one bar for each finding: shares present, uncertain, absent, not mentioned.

        Findings of reports are always drawn, so that what was never asked is seen; others where
        they occur.
        """
        from workbench.figures.style import BLUE, MUTED, ORANGE, VERMILION, new_figure, style

        counts = {
            name: n
            for name, n in self.summary()["findings"].items()
            if name in ALL_FINDINGS or any(n[code] for code in COUNTED)
        }
        colours = {PRESENT: VERMILION, UNCERTAIN: ORANGE, ABSENT: BLUE, NOT_MENTIONED: NOTHING}
        shares = pd.DataFrame.from_dict(counts, orient="index") / max(1, len(self))
        with style():
            figsize = (11, 0.42 * max(3, len(counts)) + 1.7)
            axes = ax or new_figure(figsize=figsize, layout="constrained").add_subplot()
            left = np.zeros(len(counts))
            for code, colour in colours.items():
                axes.barh(list(counts), shares[code], 0.72, left, color=colour, label=code)
                left = left + shares[code].to_numpy()
            for at, n in enumerate(counts.values()):
                axes.text(1.01, at, f"{n[PRESENT]:,} present", va="center", color=MUTED)
            axes.invert_yaxis()
            axes.set(xlim=(0, 1), xlabel=f"share of {len(self):,} images")
            axes.set_title("What is known of each finding", pad=34)
            axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1), fontsize=12)
        return axes

    def __repr__(self) -> str:
        sources = ", ".join(sorted(self.frame["source"].dropna().unique()))
        patients = self.frame["patient_id"].nunique()
        return f"<Manifest {len(self):,} rows, {patients:,} patients, source {sources or 'none'}>"

    def _repr_html_(self) -> str:
        from workbench.figures.tables import bullets, html_table

        counts = self.summary()
        head = ", ".join(
            f"{counts[name]:,} {name}" for name in ("rows", "patients", "studies", "boxes")
        )
        rows = [
            (name, *(f"{n[code]:,}" for code in COUNTED))
            for name, n in counts["findings"].items()
            if any(n[code] for code in COUNTED)
        ]
        table = html_table(("finding", *COUNTED), rows)
        return f"<p><b>Manifest</b>: {head}</p>{table}{bullets(self.notes)}"


def column_digests(frame: pd.DataFrame) -> dict[str, str]:
    """Return the SHA-256 of each column, in the order of `sort_rows`."""
    frame = sort_rows(frame)
    return {name: _digest(frame[name]) for name in sorted(frame.columns)}


def _digest(column: pd.Series) -> str:
    try:
        values = column.astype("string").fillna("\x01").to_numpy(dtype=object)
    except UnicodeEncodeError:
        raise InputError(
            f"a value of the column {column.name!r} holds half a character (a byte that is not "
            "UTF-8), which no file of results can take; rename the file, or write the value in "
            "UTF-8, and build the manifest again"
        ) from None
    return hashlib.sha256("\x00".join(values).encode("utf-8", "surrogatepass")).hexdigest()


def _code_counts(column: pd.Series) -> dict[str, int]:
    counts = column.value_counts()
    found = {code: int(counts.get(code, 0)) for code in COUNTED}
    return found | {NOT_MENTIONED: int(len(column) - sum(found.values()))}
