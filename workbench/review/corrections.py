"""What reviewers found out about the references, as references: for scoring and for fine-tuning.

A verdict says what is true of a finding:

    model wrong, both right  the reference stays
    reference wrong          what the model said; where it said nothing, unknown
    label extraction wrong   the label where there is one; else unknown
    unclear                  uncertain
    `true` given             that

Of a disputed finding, "reference wrong" means that the label is wrong and the report right. Several
reviewers decide by majority, each with his last verdict about the finding; without a majority it is
uncertain. What is disputed and was not reviewed is uncertain, too: no policy may score it as yes or
no. Unknown never becomes absent. `provenance` of an export says who the reviewers were.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

import numpy as np
import pandas as pd

from workbench._repr import result
from workbench.data import Manifest
from workbench.data.columns import PROVENANCES, REPORT_COLUMNS
from workbench.data.frames import conform, save_frame
from workbench.data.mapping import from_cell, sections, to_cell
from workbench.errors import InputError, OptionError, unknown_name
from workbench.figures.tables import bullets, frame_table
from workbench.findings import ABSENT, CODES, NO_FINDING, NOT_MENTIONED, PRESENT, UNCERTAIN
from workbench.review.error_queue import ErrorQueue
from workbench.review.readings import CODE, CODE_NAMES, FINDINGS, SIDE_NAMES
from workbench.review.suspects import DISPUTE, FLIP, match_rows
from workbench.review.verdicts import Annotation, Annotations


@result()
class CorrectedReference:
    """References after review.

    Attributes:
        cases: source and id of each case.
        codes: (cases, findings) int8, index of `findings.CODES`.
        reviewed: (cases,) bool, whether a verdict stands.
        changes: columns source, id, finding, before, after, side, reviewers.
        reports: (source, id) -> the report as a reviewer wrote it.
        boxes: (source, id) -> boxes that reviewers drew, as a manifest has them, with the reader.
        notes: what a person should know.
    """

    cases: pd.DataFrame
    codes: np.ndarray = field(repr=False)
    reviewed: np.ndarray = field(repr=False)
    changes: pd.DataFrame
    reports: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)
    boxes: dict[tuple[str, str], list[dict]] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each case, as `workbench evaluate --references` takes it.

        Raises:
            InputError: two sources have one id, so that rows cannot be told apart.
        """
        if self.cases["id"].duplicated().any():
            raise InputError(
                "two sources of this run have one id, so references cannot be told apart by id; "
                "open the queue on the rows of one source"
            )
        columns = {name: CODE_NAMES[self.codes[:, at]] for at, name in enumerate(FINDINGS)}
        return pd.DataFrame({"id": self.cases["id"].to_numpy()} | columns)

    def save(self, path: str | os.PathLike) -> Path:
        """Write `to_frame` as .csv or .parquet."""
        return save_frame(self.to_frame(), path)

    def to_manifest(self, manifest: Manifest, *, provenance: str = "unknown") -> Manifest:
        """Return the reviewed rows of a manifest with the corrected labels, to fine-tune on.

        A row whose labels changed loses its report, which would teach the opposite, unless a
        reviewer wrote a new one. Boxes that reviewers drew come behind those that are there.

        Args:
            manifest: the rows, with images and splits.
            provenance: who reviewed the changed rows, one of `data.columns.PROVENANCES`.

        Raises:
            OptionError: unknown provenance.
        """
        if provenance not in PROVENANCES:
            raise OptionError(unknown_name("provenance", provenance, PROVENANCES))
        frame = manifest.to_frame()
        keys = frame[["source", "image_id"]].fillna("").astype(str)
        rows = match_rows(self.cases, keys.rename(columns={"image_id": "id"}))
        there = rows >= 0
        places = dict(
            zip(map(tuple, self.cases[there].to_numpy()), rows[there].tolist(), strict=True)
        )
        dropped = _apply(frame, self, places, provenance)
        for key in set(self.boxes) & set(places):
            cell = frame.loc[places[key], "boxes"]
            frame.loc[places[key], "boxes"] = to_cell([*from_cell(cell), *self.boxes[key]])
        keep = np.isin(np.arange(len(frame)), rows[self.reviewed])
        notes = (
            f"{len(self.changes):,} labels corrected by review",
            f"{dropped:,} reports left out, as they contradict a corrected label",
        )
        return manifest.with_frame(conform(frame, sort=False), notes=notes).select(keep)

    def _repr_html_(self) -> str:
        head = f"<p>{int(self.reviewed.sum()):,} cases reviewed, {len(self.changes):,} changes</p>"
        return head + bullets(self.notes) + frame_table(self.changes)


def corrected_reference(queue: ErrorQueue, annotations: Annotations) -> CorrectedReference:
    """Return the references of a queue, corrected by verdicts about its entries.

    >>> len(wb.review.corrected_reference(queue, notes).to_frame())
    6
    """
    joined = queue.joined
    cases = joined.cases[["source", "id"]].reset_index(drop=True)
    codes = np.where(joined.disputed, CODE[UNCERTAIN], joined.true).astype(np.int8)
    places = {key: at for at, key in enumerate(map(tuple, cases.to_numpy()))}
    reviewed = np.zeros(len(cases), dtype=bool)
    votes: dict[tuple[int, str], dict[str, Annotation]] = {}
    reports: dict[tuple[str, str], str] = {}
    boxes: dict[tuple[str, str], list[dict]] = {}
    lost = 0
    for item in annotations.current():
        if (at := places.get((item.source, item.id))) is None:
            lost += 1
            continue
        reviewed[at] = True
        if item.report:
            reports[item.source, item.id] = item.report
        for box in from_cell(item.boxes):
            drawn = {"finding": "", **box, "reader": item.reviewer}
            boxes.setdefault((item.source, item.id), []).append(drawn)
        if item.finding in FINDINGS:
            votes.setdefault((at, item.finding), {})[item.reviewer] = item
    changes = []
    for (at, finding), voters in votes.items():
        said, column = list(voters.values()), FINDINGS.index(finding)
        label, reported = (CODES[t[at, column]] for t in (joined.labels, joined.reported))
        after = _majority([_implied(item, label, reported) for item in said], tie=UNCERTAIN)
        before, codes[at, column] = CODES[joined.true[at, column]], CODE[after]
        side = _majority([_side(item, queue, at, column) for item in said], tie="")
        if after != before or side:
            who = "|".join(sorted(voters))
            changes.append((*cases.iloc[at], finding, before, after, side, who))
    names = ["source", "id", "finding", "before", "after", "side", "reviewers"]
    notes = (f"{lost:,} verdicts are about cases that are not in this queue",) if lost else ()
    table = pd.DataFrame(changes, columns=names)
    return CorrectedReference(cases, codes, reviewed, table, reports, boxes, notes)


def _implied(item: Annotation, label: str, reported: str) -> str:
    """Return the code that a verdict amounts to."""
    stays = label if label != NOT_MENTIONED else reported
    if item.true:
        return item.true
    if item.verdict == "unclear":
        return UNCERTAIN
    if item.kind == FLIP:
        return stays
    if item.verdict == "reference wrong":
        return reported if item.kind == DISPUTE else item.said or NOT_MENTIONED
    return label if item.verdict == "label extraction wrong" else stays


def _majority(votes: Sequence[str], *, tie: str) -> str:
    (first, most), *others = Counter(votes).most_common()
    return tie if others and others[0][1] == most else first


def _side(item: Annotation, queue: ErrorQueue, at: int, column: int) -> str:
    if item.side or item.kind != FLIP or item.verdict != "reference wrong":
        return item.side
    return SIDE_NAMES[queue.joined.said_sides[at, column]]


def _apply(
    frame: pd.DataFrame, found: CorrectedReference, places: Mapping[tuple, int], who: str
) -> int:
    """Write changes into the rows `places` of a frame; return how many reports were left out."""
    changed, texts, dropped = set(), list(REPORT_COLUMNS), 0
    columns = found.changes[["source", "id", "finding", "after", "side"]]
    for source, case, finding, after, side in columns.itertuples(index=False, name=None):
        changed.add((source, case))
        if (at := places.get((source, case))) is None:
            continue
        frame.loc[at, finding] = after
        if side:
            cell = frame.loc[at, "locations"]
            known = json.loads(cell) if isinstance(cell, str) else {}
            frame.loc[at, "locations"] = json.dumps(known | {finding: [side]}, sort_keys=True)
    for key in sorted((changed | set(found.reports)) & set(places)):
        at = places[key]
        if key in changed:
            frame.loc[at, "provenance"] = who
            known = {name: frame.at[at, name] for name in (*FINDINGS, NO_FINDING)}
            frame.loc[at, NO_FINDING] = _no_finding(known)
        dropped += key not in found.reports and bool(frame.loc[at, texts].notna().any())
        frame.loc[at, texts] = pd.NA
        for section, text in sections(found.reports.get(key, "")).items():
            frame.loc[at, f"report_{section}"] = text
    return dropped


def _no_finding(row: Mapping[str, object]) -> str:
    if any(row[name] == PRESENT for name in FINDINGS):
        return ABSENT
    return NOT_MENTIONED if row[NO_FINDING] == ABSENT else str(row[NO_FINDING])
