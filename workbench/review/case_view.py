"""One case in front of a reviewer: both texts side by side, and what is suspected about them.

Does not know: verdicts (`verdicts`), or how films are drawn (`Radiograph.show`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench._repr import short_repr
from workbench.data.images import Root
from workbench.errors import InputError
from workbench.findings import CODES, NOT_MENTIONED
from workbench.model.licence import RESEARCH_NOTICE
from workbench.reports import label
from workbench.review.bulk import FINDINGS
from workbench.runs.record import turned_upright

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.radiograph import Radiograph
    from workbench.review.queue_result import ErrorQueue

_FACTS = ("source", "view", "sex", "age", "patient_id", "warnings")


@dataclass(frozen=True, eq=False)
class ReviewCase:
    """One case.

    Attributes:
        id, source: which.
        text: what the model wrote.
        reference: the reference report; None where there is none.
        entries: rows of `ErrorQueue.to_frame` about it.
        findings: one row for each finding that any side speaks of: said, label, reported, true,
            disputed.
        facts: what is known of it, for people.
        path: of the image, below `root`.
        root: folder of the images.
        upright: whether the model got the image turned as its file says.
    """

    id: str
    source: str
    text: str
    reference: str | None
    entries: pd.DataFrame = field(repr=False)
    findings: pd.DataFrame = field(repr=False)
    facts: dict[str, str] = field(default_factory=dict)
    path: str | None = None
    root: Path | None = None
    upright: bool = False

    __repr__ = short_repr

    def to_frame(self) -> pd.DataFrame:
        """Return the findings, side by side."""
        return self.findings.copy()

    def film(self) -> Radiograph:
        """Read the image, turned where the model got it turned.

        Raises:
            InputError: where the images are is not known, or the file cannot be read.
        """
        from workbench.imaging import load_radiograph

        if self.root is None:
            raise InputError(
                "it is not known where the images are; name the manifest with manifest= and its "
                "folder of images with root="
            )
        return load_radiograph(Root(self.root).image(self.path or ""), upright=self.upright)

    def _repr_html_(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items() if value)
        listed = "".join(
            f"<li><b>{escape(row['kind'])}</b> {escape(row['finding'])} {escape(_what(row))}</li>"
            for row in self.entries.to_dict("records")
        )
        reference = "<p>no reference report</p>"
        if self.reference is not None:
            reference = label(self.reference)._repr_html_()
        column = "flex:1 1 320px;min-width:0"
        return (
            f"<div style='font-family:system-ui,sans-serif;max-width:960px'>"
            f"<b>{escape(self.id)}</b> <small>{escape(facts)}</small><ul>{listed}</ul>"
            f"<div style='display:flex;gap:28px;flex-wrap:wrap'>"
            f"<div style='{column}'><b>Model</b>{label(self.text)._repr_html_()}</div>"
            f"<div style='{column}'><b>Reference</b>{reference}</div></div>"
            f"<small>{RESEARCH_NOTICE}</small></div>"
        )


def review_case(queue: ErrorQueue, key: str, source: str | None) -> ReviewCase:
    """Return one case of a queue.

    Raises:
        InputError: there is no such case, or several sources have it.
    """
    cases = queue.joined.cases
    at = np.flatnonzero((cases["id"] == str(key)).to_numpy())
    if source is not None:
        at = at[(cases["source"].to_numpy()[at] == source)]
    if len(at) != 1:
        first = ", ".join(map(repr, cases["id"].head(3)))
        raise InputError(
            f"no case {key!r}; the first are: {first}"
            if not len(at)
            else f"several sources have a case {key!r}; name one with source="
        )
    row = cases.iloc[at[0]]
    whole = queue.to_frame()
    own = whole[(queue.entries["case"] == at[0]).to_numpy()].reset_index(drop=True)
    facts = {name.replace("_id", ""): _plain(row[name]) for name in _FACTS}
    return ReviewCase(
        row["id"], row["source"], row["text"], row["reference"], own, _findings(queue, at[0]),
        facts, row["path"], queue.root, turned_upright(queue.record),
    )  # fmt: skip


def _findings(queue: ErrorQueue, at: int) -> pd.DataFrame:
    joined = queue.joined
    names = np.array(CODES, dtype=object)
    columns = {
        "said": names[joined.said[at]],
        "label": names[joined.labels[at]],
        "reported": names[joined.reported[at]],
        "true": names[joined.true[at]],
        "disputed": joined.disputed[at],
    }
    frame = pd.DataFrame(columns, index=pd.Index(FINDINGS, name="finding"))
    spoken = (frame[["said", "label", "reported"]] != NOT_MENTIONED).any(axis=1)
    return frame[spoken]


def _what(row: dict) -> str:
    if row["evidence"]:
        return f"({row['evidence']})"
    said, known = row["said side"], row["reference side"]
    place = f", {said} for {known}" if said and known and said != known else ""
    return f"(said {row['said']}, known {row['reference']}{place})" if row["said"] else ""


def _plain(value: object) -> str:
    if value is None or value != value:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
