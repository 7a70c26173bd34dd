"""`wb.review.queue`: the suspected errors of a run, in the order in which to look at them.

    queue = wb.review.queue("runs/first", manifest="manifest.parquet")
    queue.slices.worse                       where the model errs more than elsewhere
    queue.sample(50).to_frame()              fifty of them, every kind having its turn
    queue.case("radiograph-17")              both texts side by side

The first opening reads all texts, a few thousand a second, and stores the readings beside the run;
later ones only look them up. The queue lists what contradicts what is known; whether the model is
wrong is for a person to say (`verdicts`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from workbench.backends.levels import TEXTS, needs
from workbench.data.frames import save_frame
from workbench.errors import OptionError
from workbench.evaluation.intervals import wilson
from workbench.figures.page import card
from workbench.figures.style import CYCLE, new_axes, style
from workbench.figures.tables import html_table
from workbench.findings import standard_name
from workbench.model.licence import RESEARCH_NOTICE
from workbench.review.cases import ReviewCase, find_case, review_case, stratified
from workbench.review.readings import FINDINGS
from workbench.review.slices import SliceTable, attribute_table, legend_below, slices_of
from workbench.review.sources import (
    Known,
    References,
    Run,
    RunRows,
    find_manifest,
    image_root,
    open_references,
    open_run,
)
from workbench.review.suspects import KINDS, Joined, check_kinds, error_masks, find_suspects, join
from workbench.runs.record import stated_notice, turned_upright

if TYPE_CHECKING:
    from workbench.hallucination import GroundingTable

_SHOWN = ("source", "view", "sex", "age group", "patient_id", "path", "mean_logprob", "tokens")
_NOTE = (
    "border-left:4px solid #b36b00;background:#fff4dc;color:#5c3a00;padding:6px 14px;margin:10px 0"
)


@dataclass(frozen=True, eq=False)
class ErrorQueue:
    """Suspected errors, the most suspect kind first.

    Attributes:
        entries: one row for each, columns `suspects.COLUMNS`.
        joined: the cases behind them.
        slices: where errors are more frequent than elsewhere.
        task: of the run.
        folder: of the run; None for a table.
        root: of the images, where that is known.
        failed: rows of the run that have no text.
        notes: what a person should know before trusting the list.
        record: what run.json contains.
    """

    entries: pd.DataFrame
    joined: Joined = field(repr=False)
    slices: SliceTable = field(repr=False)
    task: str = "report"
    folder: Path | None = None
    root: Path | None = None
    failed: int = 0
    notes: tuple[str, ...] = ()
    record: dict = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def counts(self) -> dict[str, int]:
        """How many entries each kind has; kinds without any are 0."""
        found = self.entries["kind"].value_counts()
        return {kind: int(found.get(kind, 0)) for kind in KINDS}

    @property
    def pairs(self) -> dict[str, int]:
        """How many pairs of report and finding are known, disputed and unknown."""
        table = self.per_finding()
        return {name: int(table[name].sum()) for name in ("known", "disputed", "unknown")}

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each entry with the facts of its case.

        Columns: id, kind, finding, said, reference, said side, reference side, confidence (0 to 1,
        of the report), evidence, source, view, sex, age group, patient_id, path, mean_logprob
        (nats a token), tokens, and the columns that a manifest does not know.
        """
        names = ["id", *_SHOWN, *self.joined.extra]
        facts = self.joined.cases[names].iloc[self.entries["case"].to_numpy()]
        own = self.entries.drop(columns="case").reset_index(drop=True)
        return pd.concat([facts.reset_index(drop=True), own], axis=1)[["id", *own, *names[1:]]]

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
        table = attribute_table(self.joined, where)
        for name, value in where.items():
            inside = (table[name].astype(str) == str(value)).to_numpy()
            keep &= inside[self.entries["case"].to_numpy()]
        return replace(self, entries=self.entries[keep].reset_index(drop=True))

    def sample(
        self, n: int, *, by: Sequence[str] = ("kind", "finding"), seed: int = 0
    ) -> ErrorQueue:
        """Draw n entries, evenly over the strata that the columns `by` of `to_frame` make.

        "weight" says how many entries of its stratum each stands for.

        Raises:
            OptionError: n is below 1, or there is no such column.
        """
        rows, weights = stratified(self.to_frame(), n, by=tuple(by), seed=seed)
        entries = self.entries.iloc[rows].reset_index(drop=True)
        return replace(self, entries=entries.assign(weight=weights))

    def per_finding(self) -> pd.DataFrame:
        """Return one row for each finding: known, false, missed, flipped, disputed, unknown, rate.

        "rate" is errors (false or missed) per known pair, with Wilson's interval "low" to "high".
        """
        counts = {name: mask.sum(axis=0) for name, mask in error_masks(self.joined).items()}
        frame = pd.DataFrame(
            {"known": self.joined.known.sum(axis=0), **counts}, index=pd.Index(FINDINGS)
        ).rename_axis("finding")
        frame["disputed"] = self.joined.disputed.sum(axis=0)
        frame["unknown"] = len(self.joined.known) - frame["known"] - frame["disputed"]
        errors = frame["false"] + frame["missed"]
        rates = [wilson(*row) for row in zip(errors, frame["known"], strict=True)]
        for name, end in (("rate", "value"), ("low", "low"), ("high", "high")):
            frame[name] = np.array([getattr(rate, end) for rate in rates], dtype=float)
        return frame

    def find_slices(self, *, kind: str = "any", by: Sequence[str] | None = None) -> SliceTable:
        """Find the slices in which errors of one kind are more frequent than elsewhere.

        Args:
            kind: "any", "false finding", "missed finding" or "laterality flip".
            by: names of attributes; all when None.

        Raises:
            OptionError: unknown kind or attribute.

        >>> queue.find_slices().tested  # none has 10 patients
        0
        """
        return slices_of(self.joined, kind=kind, by=by)

    def case(self, key: str, *, source: str | None = None) -> ReviewCase:
        """Return one case with both texts and its entries.

        Raises:
            InputError: there is no such case, or several sources have it.

        >>> queue.case("phantom-internal-4").source
        'phantom'
        """
        at = find_case(self.joined.cases, key, source)
        own = self.to_frame()[(self.entries["case"] == at).to_numpy()].reset_index(drop=True)
        upright = turned_upright(self.record)
        return review_case(self.joined, at, own, root=self.root, upright=upright)

    def summary(self) -> dict:
        """Return counts and the worst slices as plain values for JSON; no text is among them."""
        return {
            "task": self.task,
            "cases": len(self.joined.cases),
            "failed": self.failed,
            "unmatched": self.joined.unmatched,
            "entries": len(self.entries),
            "kinds": self.counts,
            **{f"{name}_pairs": count for name, count in self.pairs.items()},
            "slices_tested": self.slices.tested,
            "worse_slices": [item.to_dict() for item in self.slices.worse],
            "texts_read_now": self.joined.read,
            "notes": list(self.notes),
        }

    @style()
    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw how many entries there are for each finding, by kind, the most at the top."""
        finding = self.entries["finding"].replace("", "whole report")
        counts = pd.crosstab(finding, self.entries["kind"].astype(str))
        counts = counts.loc[counts.sum(axis=1).sort_values(kind="stable").index]
        # errors of one sort have neighbouring tones
        tones = (CYCLE[1], "#f2b48a", CYCLE[3], CYCLE[0], CYCLE[4], *["#8c8c8c"] * 4, "#c8c8c8")
        ax = ax or new_axes(9.5, 2.3 + 0.42 * max(1, len(counts)))
        left = np.zeros(len(counts))
        for kind, colour in zip(KINDS, tones, strict=True):
            if kind in counts:
                ax.barh(counts.index, counts[kind], left=left, color=colour, label=kind)
                left += counts[kind].to_numpy()
        ax.set_xlabel("entries")
        ax.set_title(f"{len(self):,} entries about {len(self.joined.cases):,} reports")
        ax.grid(axis="x")
        if len(counts):
            legend_below(ax)
        else:
            ax.text(0.5, 0.5, "nothing is suspect", transform=ax.transAxes, ha="center")
        return ax

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write `to_frame` as CSV whose cells no spreadsheet runs, or as Parquet.

        Patient and path are left out: files that are sent around should not tell whose radiographs
        they are about. The manifest has both, under source and id.
        """
        return save_frame(self.to_frame().drop(columns=["patient_id", "path"]), path)

    def __repr__(self) -> str:
        return f"<ErrorQueue {len(self):,} entries about {len(self.joined.cases):,} reports>"

    def _repr_html_(self) -> str:
        pairs = ", ".join(f"{count:,} {name}" for name, count in self.pairs.items())
        notes = "".join(f"<div style='{_NOTE}'>{escape(note)}</div>" for note in self.notes)
        rows = [[kind, f"{count:,}"] for kind, count in self.counts.items() if count]
        kinds = html_table(["kind", "entries"], rows) if rows else "<p>Nothing is suspect.</p>"
        return card(
            f"<b>Error queue</b>: {len(self):,} entries about {len(self.joined.cases):,} reports"
            f"<p>Pairs of report and finding: {pairs}. Only known ones can be wrong.</p>"
            f"{notes}{kinds}{self.slices._repr_html_()}"
        )


@needs(TEXTS)
def queue(
    run: Run,
    *,
    manifest: Known | None = None,
    root: str | os.PathLike[str] | None = None,
    task: str = "report",
    grounding: pd.DataFrame | GroundingTable | None = None,
    confident: float = 0.5,
    whole: bool = False,
    progress: bool = False,
) -> ErrorQueue:
    """Open the error queue of a run.

    Args:
        run: folder of `wb.run`, its result, or a table with the columns id and text.
        manifest: what is known of the images: a `Manifest`, its file, or a table with its columns.
            When None, the manifest of the run is used where it still lies beside the run, in the
            current folder or where it lay, unchanged; else nothing is known, and only what needs no
            reference is listed.
        root: folder of the images; when None, the one that the run was made with where its images
            are there, else that of the manifest.
        task: of the run; one whose answers are reports.
        grounding: what `wb.hallucination.ground_table` returned, or a table with the columns id,
            finding, code and contribution.
        confident: a false finding counts as a confident one where at least this share of reports
            has a lower token confidence, 0 to 1.
        whole: list every report of the run; those without a suspected error come last, as
            "nothing suspect".
        progress: show a bar while texts are read for the first time.

    Raises:
        InputError: the run, the manifest or the grounding cannot be read.
        OptionError: unknown task, or `confident` is out of range.

    >>> wb.review.queue(run, manifest=manifest, root="images").to_frame().columns.tolist()[:3]
    ['id', 'kind', 'finding']
    """
    if not 0 <= confident <= 1:
        raise OptionError(f"confident must be between 0 and 1, got {confident!r}")
    rows = open_run(run, task=task)
    if manifest is None:
        manifest = find_manifest(rows)
    known = open_references(manifest)
    joined = join(rows, known, show=progress)
    if grounding is not None and not isinstance(grounding, pd.DataFrame):
        grounding = grounding.to_frame()
    entries = find_suspects(joined, confident=confident, grounding=grounding, whole=whole)
    folder = Path(root) if root is not None else image_root(known, manifest, rows)
    return ErrorQueue(
        entries, joined, slices_of(joined), task, rows.folder, folder, rows.failed,
        _notes(rows, known, joined), rows.record,
    )  # fmt: skip


def _notes(rows: RunRows, known: References, joined: Joined) -> tuple[str, ...]:
    """Return what a person should know before trusting the list."""
    notice = stated_notice(rows.record)
    notes = [notice] if notice else []
    if known.frame.empty:
        notes.append(
            "no references: nothing is known of these images, so false, missed and flipped "
            "findings cannot be listed; name the manifest of the images with manifest="
        )
    else:
        made_of = rows.record.get("fixed", {}).get("manifest", {})
        wanted = made_of.get("sha256") or made_of.get("digest")
        if wanted and known.identity and known.identity != wanted:
            notes.append(
                "the manifest is not the one of the run, or has changed since; rows were joined by "
                "source and id"
            )
        if joined.unmatched:
            notes.append(f"{joined.unmatched:,} reports have no row in the manifest")
    if rows.failed:
        notes.append(f"{rows.failed:,} rows of the run failed and are not in the queue")
    disputed = int(joined.disputed.sum())
    if disputed:
        notes.append(
            f"{disputed:,} pairs of report and finding are disputed: label and reference report "
            "disagree; what the model said about them is not counted as an error"
        )
    if not joined.cases["mean_logprob"].notna().any():
        notes.append("no log-probabilities: no false finding is called a confident one")
    if not notice:
        notes.append(RESEARCH_NOTICE)
    return tuple(notes)
