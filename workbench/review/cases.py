"""Cases in front of a reviewer: one with both texts side by side, and how some are drawn."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import field
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from workbench._repr import result
from workbench._tables import listed
from workbench.data.images import Root
from workbench.errors import InputError, OptionError, check_whole
from workbench.findings import NOT_MENTIONED
from workbench.model.licence import RESEARCH_NOTICE
from workbench.radiograph import Radiograph
from workbench.reports import label
from workbench.review.readings import CODE_NAMES, FINDINGS
from workbench.review.suspects import Joined

_FACTS = ("source", "view", "sex", "age", "patient_id", "warnings")


@result()
class ReviewCase:
    """One case.

    Attributes:
        id, source: which.
        text: what the model wrote.
        reference: the reference report; None where there is none.
        entries: rows of `ErrorQueue.to_frame` about it.
        findings: one row for each finding that any side mentions: said, label, reported, true,
            disputed.
        facts: name -> what is known of the case, as text.
        path: of the image, below `root`, the folder of the images.
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

    def radiograph(self) -> Radiograph:
        """Read the radiograph, turned where the model got it turned.

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


def review_case(
    joined: Joined, at: int, entries: pd.DataFrame, *, root: Path | None, upright: bool
) -> ReviewCase:
    """Return the case in a row of `joined.cases`; for the rest see `ReviewCase`."""
    row = joined.cases.iloc[at]
    tables = {"said": joined.said, "label": joined.labels, "reported": joined.reported}
    codes = {name: CODE_NAMES[table[at]] for name, table in tables.items()}
    findings = pd.DataFrame(
        codes | {"true": CODE_NAMES[joined.true[at]], "disputed": joined.disputed[at]},
        index=pd.Index(FINDINGS, name="finding"),
    )
    mentioned = (findings[[*codes]] != NOT_MENTIONED).any(axis=1)
    facts = {name.replace("_id", ""): _text(row[name]) for name in _FACTS}
    return ReviewCase(
        row["id"], row["source"], row["text"], row["reference"], entries, findings[mentioned],
        facts, row["path"], root, upright,
    )  # fmt: skip


def find_case(cases: pd.DataFrame, key: str, source: str | None) -> int:
    """Return the row of a case, by id, and by source where one is given; see `ErrorQueue.case`."""
    found = cases["id"] == str(key)
    if source is not None:
        found &= cases["source"] == source
    at = np.flatnonzero(found)
    if len(at) > 1:
        raise InputError(f"several sources have a case {key!r}; name one with source=")
    if not len(at):
        first = ", ".join(map(repr, cases["id"].head(3)))
        raise InputError(f"no case {key!r}; the first are: {first}")
    return int(at[0])


def stratified(
    frame: pd.DataFrame, n: int, *, by: tuple[str, ...], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw n rows, all where there are fewer, as evenly over the strata as they allow.

    Small strata are taken whole, and what they leave over goes to the larger ones.

    Returns:
        (n,) int row numbers, ascending, and (n,) float weights: how many rows of its stratum each
        stands for. With them, shares in the sample become shares in the whole.
    """
    check_whole(1, n=n)
    if lost := [name for name in by if name not in frame.columns]:
        raise OptionError(f"no column {lost[0]!r}; there is: {listed(frame.columns)}")
    rng = np.random.default_rng(seed)
    stratum = frame.groupby(list(by), sort=True, observed=True, dropna=False).ngroup().to_numpy()
    order = rng.permutation(len(frame))
    # every stratum has one row in each turn; chance decides which have one in the last
    turn = pd.Series(stratum[order]).groupby(stratum[order]).cumcount().to_numpy()
    rows = np.sort(order[np.lexsort((rng.random(len(order)), turn))[:n]])
    sizes, taken = np.bincount(stratum), np.bincount(stratum[rows])
    return rows, sizes[stratum[rows]] / taken[stratum[rows]]


def _what(row: Mapping[Hashable, str]) -> str:
    if row["evidence"]:
        return f"({row['evidence']})"
    said, known = row["said side"], row["reference side"]
    place = f", {said} for {known}" if said and known and said != known else ""
    return f"(said {row['said']}, known {row['reference']}{place})" if row["said"] else ""


def _text(value: object) -> str:
    if value is None or value != value:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
