"""Build a manifest from the official files of a source, and load one that was built.

    manifest = build("nih", source="downloads/nih")
    manifest.save("nih.parquet")
    manifest = load("nih.parquet", root="downloads/nih")

Nothing is downloaded: the data card says what to fetch, where, and under which agreement. Counts
are compared with those that the card promises.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.data.cards import DataCard, card
from workbench.data.checking import check as run_check
from workbench.data.columns import AGE_RANGE, PROVENANCES, SPLITS, VOCABULARY
from workbench.data.download import Download
from workbench.data.frames import conform, read_table
from workbench.data.images import Root, fingerprint
from workbench.data.manifest import Manifest
from workbench.data.mapping import WORDS, read_cells
from workbench.data.sources import READERS
from workbench.errors import InputError, check_one_of

#: Rules that make a table unsafe or meaningless to use; `load` refuses it.
BLOCKING = VOCABULARY["blocking"].split()


def build(
    name: str,
    *,
    source: str | os.PathLike,
    labels: str | None = None,
    reports: bool = True,
    hash_files: bool = True,
    repair: bool = False,
    licence: str | None = None,
    provenance: str | None = None,
    workers: int = 2,
    show: bool = False,
) -> Manifest:
    """Build the manifest of a source from its files.

    Args:
        name: key of the source, e.g. "nih"; `workbench.data.SOURCES` lists them.
        source: folder of the downloaded files, or the annotation file.
        labels: which of the source's sets of labels; None for the first on its card.
        reports: whether report texts are kept where the source has them.
        hash_files: whether images at hand get both hashes, which takes as long as reading them all.
        repair: whether impossible ages are emptied; otherwise they stay, and the check names them.
        licence, provenance: for data of one's own (`folder`, `csv`).
        workers: threads for hashing.

    Raises:
        OptionError: the source, or an option, is not known.
        InputError: files are missing or not the published ones.

    >>> wb.data.build("phantom", source="images").summary()["rows"]
    6
    """
    if provenance is not None:
        check_one_of("provenance", provenance, PROVENANCES)
    files = Download(source, card(name), labels=labels, reports=reports, show=show)
    loose, notes = READERS[files.card.key](files)
    if loose.empty:
        notes = [*notes, "no rows here: the files hold a header and nothing below it"]
    frame = conform(_completed(loose, files.card, provenance))
    frame["licence"] = frame["licence"].fillna(licence or files.card.licence)
    if repair:
        frame, note = _repaired(frame)
        notes = [*notes, *note]
    root = Root(files.folder)
    at_hand = _some_exist(frame["path"], root)
    if hash_files and at_hand:
        hashes = fingerprint(frame["path"], root, workers=workers, show=show)
        frame[["sha256", "dhash"]] = hashes
    manifest = Manifest(frame, files.folder if at_hand else None, tuple(n for n in notes if n))
    counts = files.card.expected
    return replace(manifest, expected=tuple(_expected(counts, files.labels, manifest)))


def load(
    path: str | os.PathLike,
    *,
    root: str | os.PathLike | None = None,
    check: bool = True,
    reports: bool = True,
) -> Manifest:
    """Load a manifest file.

    Args:
        path: .parquet or .csv.
        root: what its image paths are relative to; None takes the folder of the file.
        check: whether a table that is unsafe or meaningless to use is refused (`BLOCKING`).
        reports: False leaves the report columns empty.

    Raises:
        InputError: no such file, damaged, or refused.

    >>> wb.data.load("m.parquet", root="images").summary()["rows"]
    6
    """
    path = Path(path)
    frame = read_table(path, reports=reports)
    manifest = Manifest(frame, Root(path.parent if root is None else root).folder)
    if check:
        result = run_check(manifest, rules=BLOCKING)
        if not result.ok:
            first = "; ".join(problem.sentence() for problem in result.problems[:3])
            raise InputError(
                f"{path.name}: {result.total:,} problems, such as {first}; "
                f"`workbench manifest check {path.name}` lists them"
            )
    return manifest


def _completed(loose: pd.DataFrame, card: DataCard, provenance: str | None) -> pd.DataFrame:
    """Read the words of closed vocabularies, and fill in what a source leaves to its card."""
    image = loose["image_id"]
    default = {"patient_id": image, "study_id": image, "provenance": card.provenance}
    given = {name: found for name, found in default.items() if name not in loose}
    given["source"] = card.key
    if provenance is not None:
        given["provenance"] = provenance
    read = {name: read_cells(loose[name], words) for name, words in WORDS.items() if name in loose}
    return loose.assign(**read | given)


def _repaired(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Empty ages that nobody can have; return the table and what was done."""
    years = pd.to_numeric(frame["age"], errors="coerce").astype("Float64")
    wrong = frame["age"].notna() & ~years.between(*AGE_RANGE).fillna(False).astype(bool)
    if not wrong.any():
        return frame, []
    frame = frame.assign(age=years.mask(wrong).round().astype("Int16"))
    return frame, [f"{int(wrong.sum())} ages outside {AGE_RANGE[0]} to {AGE_RANGE[1]} were emptied"]


def _some_exist(paths: pd.Series, root: Root) -> bool:
    """Say whether images are at hand, from a sample of 64 paths."""
    known = paths.dropna()
    sample = known.iloc[np.linspace(0, len(known) - 1, min(64, len(known))).astype(int)]
    return any(root.contains(path) and (root.folder / path).is_file() for path in sample)


def _expected(
    counts: Mapping[str, Mapping[str, int]], labels: str, manifest: Manifest
) -> Iterator[dict]:
    """Yield what the card promises beside what was found."""
    parts = {"": (counts.get(labels, {}), manifest)}
    for split in SPLITS:
        rows = manifest.frame["split"] == split
        if split in counts and rows.any():
            parts[f" ({split})"] = (counts[split], manifest.select(rows.to_numpy()))
    for said, (promised, part) in parts.items():
        summary = part.summary() if promised else {}
        for what, number in promised.items():
            found = summary[what]
            yield {"what": what + said, "expected": number, "found": found, "ok": found == number}
