"""`wb.review.queue`: the suspected errors of a run, in the order in which to look at them.

    queue = wb.review.queue("runs/first", manifest="films.parquet")
    queue.slices.worse                       where the model errs more than elsewhere
    queue.sample(50).to_frame()              fifty of them, every kind having its turn
    queue.case("film-17")                    both texts side by side

The first opening reads all texts, a few thousand a second, and keeps what it read beside the run;
later ones only look it up.

Does not know: whether the model is wrong. It lists what contradicts what is known, and a person
decides (`verdicts`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import OptionError
from workbench.model.licence import RESEARCH_NOTICE
from workbench.review.attributes import slices_of
from workbench.review.joined import Joined, join
from workbench.review.queue_result import ErrorQueue
from workbench.review.references import References, find_manifest, image_root, open_references
from workbench.review.sources import RunRows, open_run
from workbench.review.suspects import find_suspects
from workbench.runs.record import stated_notice


def queue(
    run: Any,
    *,
    manifest: Any = None,
    root: str | os.PathLike | None = None,
    task: str = "report",
    grounding: Any = None,
    confident: float = 0.5,
    by: Sequence[str] | None = None,
    progress: bool = False,
) -> ErrorQueue:
    """Open the error queue of a run.

    Args:
        run: folder of `wb.run`, its result, or a table with the columns id and text.
        manifest: what is known of the images: a `Manifest`, its file, a table with its columns, or
            a mapping id -> phantom. When None, the manifest of the run is used where it still lies
            beside the run, in the current folder or where it lay, unchanged; else nothing is
            known, and only what needs no reference is listed.
        root: folder of the images; when None, the one that the run was made with where its images
            are there, else that of the manifest.
        task: of the run; one whose answers are reports.
        grounding: table with the columns id, finding, code and contribution, or an object whose
            `to_frame` returns one (`wb.hallucination.ground_table`).
        confident: a false finding counts as a confident one where this share of reports was less
            sure, 0 to 1.
        by: attributes to divide cases by; view, sex, age group, source, support device and every
            further column of the manifest when None.
        progress: show a bar while texts are read for the first time.

    Raises:
        InputError: the run, the manifest or the grounding cannot be read.
        OptionError: unknown task or attribute, or `confident` is out of range.
    """
    if not 0 <= confident <= 1:
        raise OptionError(f"confident must be between 0 and 1, got {confident!r}")
    rows = open_run(run, task=task)
    if manifest is None:
        manifest = find_manifest(rows)
    known = None if manifest is None else open_references(manifest)
    folder = rows.folder
    joined = join(rows, known, folder=folder, show=progress)
    if grounding is not None and not isinstance(grounding, pd.DataFrame):
        grounding = grounding.to_frame()
    entries = find_suspects(joined, confident=confident, grounding=grounding)
    return ErrorQueue(
        entries,
        joined,
        slices_of(joined, by=by),
        task,
        folder,
        Path(root) if root is not None else image_root(known, manifest, rows),
        rows.failed,
        _notes(rows, known, joined),
        rows.record,
    )


def _notes(rows: RunRows, known: References | None, joined: Joined) -> tuple[str, ...]:
    """Return what a person should know before trusting the list."""
    notice = stated_notice(rows.record)
    notes = [notice] if notice else []
    if known is None:
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
