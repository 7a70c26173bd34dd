"""Cohorts: patient-disjoint splits, small subsets, and lists that somebody published.

Splits are drawn by iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011): the
rarest finding is shared out first, each time to the part that still wants most of it. Here patients
are shared out, with all their images, so no patient is in two parts; the paper shares out single
examples. scikit-learn's `StratifiedGroupKFold` stratifies by one label only. Whether a split is
fair to a subgroup, the summary of each part shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from workbench._tables import listed, read_rows
from workbench.data.columns import FINDING_COLUMNS, SPLITS, VOCABULARY
from workbench.data.frames import meet, name_form, number_form, plain_form, within_source
from workbench.data.manifest import Manifest
from workbench.errors import InputError, OptionError, check_one_of, check_whole
from workbench.findings import PRESENT, standard_name

FRACTIONS = {"train": 0.7, "validate": 0.1, "test": 0.2}
#: Column of a published list -> what its names are; the first that is there is taken.
LIST_COLUMNS = VOCABULARY["list_columns"]


def split(
    manifest: Manifest,
    *,
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
    within: str | None = None,
    replace: bool = False,
) -> Manifest:
    """Divide patients into train, validate and test.

    Rows that have a split keep it, so that an official one is honoured: only rows without one are
    divided, and a patient who is in a part already goes there with all images.

    Args:
        fractions: part -> share of the images; None for 0.7, 0.1 and 0.2.
        within: divide one part of an existing split, e.g. "train" into train and validate.
        replace: True throws an existing split away.

    Raises:
        OptionError: a part or share is not allowed, or there is nothing to divide.

    >>> divided = wb.data.split(manifest, fractions={"train": 0.5, "validate": 0.5})
    >>> divided.to_frame()["split"].value_counts().to_dict()
    {'train': 3, 'validate': 3, 'test': 0}
    """
    shares = _shares(FRACTIONS if fractions is None else fractions)
    frame = manifest.frame
    new = frame["split"].astype(object)
    if within is not None and not (new == within).any():
        raise OptionError(f"no row is in the split {within!r}; within names an existing part")
    if within is not None:
        new = new.mask(new == within)
    elif replace:
        new[:] = None
    patients, _ = pd.factorize(within_source(frame, "patient_id"))
    if not replace:
        new = new.fillna(new.groupby(patients).transform("first"))
    open_rows = np.flatnonzero(new.isna())
    if open_rows.size == 0:
        raise OptionError(
            "every row has a split already, which is honoured; divide one part of it with "
            "within='train', or throw it away with replace=True"
        )
    new.iloc[open_rows] = _stratified(frame.iloc[open_rows], patients[open_rows], shares, seed)
    note = f"{open_rows.size:,} rows divided with seed {seed}: " + ", ".join(
        f"{name} {share:g}" for name, share in shares.items()
    )
    return _divided(manifest, new, note)


def subset(
    manifest: Manifest,
    *,
    per_finding: int = 50,
    findings: Sequence[str] | None = None,
    seed: int = 0,
) -> Manifest:
    """Pick a small manifest in which each finding is present in about `per_finding` images.

    The rarest finding is served first, and an image counts for every finding it shows. New patients
    are preferred to more images of the same. "no finding" counts as a finding, so that normal
    radiographs are among them. Findings that fall short are said in the notes. By default every
    finding that is present somewhere is wanted.

    Raises:
        OptionError: per_finding is not positive, or a finding is not known.

    >>> len(wb.data.subset(manifest, per_finding=1, findings=["nodule"]).to_frame())
    1
    """
    check_whole(1, per_finding=per_finding)
    asked = findings or FINDING_COLUMNS
    names = [name if name in FINDING_COLUMNS else standard_name(name) for name in asked]
    frame = manifest.frame
    imaged = frame["path"].notna().to_numpy()
    present = {name: (frame[name] == PRESENT).to_numpy() & imaged for name in names}
    wanted = sorted((int(rows.sum()), name) for name, rows in present.items())
    rng = np.random.default_rng(seed)
    rank = rng.permutation(len(frame))
    patients, _ = pd.factorize(within_source(frame, "patient_id"))
    chosen, met = np.zeros(len(frame), bool), np.zeros(patients.max(initial=0) + 1, bool)
    notes = []
    for total, name in wanted:
        if total == 0 and not findings:
            continue
        missing = per_finding - int((present[name] & chosen).sum())
        if missing > 0:
            candidates = np.flatnonzero(present[name] & ~chosen)
            picked = _fresh_first(candidates, patients, met, rank)[:missing]
            chosen[picked] = True
            met[patients[picked]] = True
        if total < per_finding:
            notes.append(f"{name}: only {total} of {per_finding} images show it")
    head = f"{int(chosen.sum()):,} images, {per_finding} for each finding, seed {seed}"
    return manifest.select(chosen, notes=(head, *notes))


def apply_split(
    manifest: Manifest,
    list_file: str | Path,
    *,
    name: str = "test",
    column: str | None = None,
) -> Manifest:
    """Apply a published list, such as the test list of a model, as a part of the split.

    The split of other rows of these patients is emptied, so that no patient is in two parts.

    Args:
        list_file: one name for each line, or a CSV file with a header; images (name or path),
            studies (with or without the s of MIMIC-CXR) and patients are understood.
        name: the part that listed rows go to.
        column: column of the CSV file; None for the first of `LIST_COLUMNS` that is there.

    Raises:
        InputError: the file cannot be read or names no row of the manifest.
        OptionError: name is not a part.

    >>> manifest.to_frame()[["path"]].head(2).to_csv("test.csv", index=False)
    >>> divided = wb.data.apply_split(manifest, "test.csv", column="path")
    >>> divided.to_frame()["split"].tolist()[:2]
    ['test', 'test']
    """
    check_one_of("name", name, SPLITS)
    wanted, kind = _names(Path(list_file), column)
    frame = manifest.frame
    mimic = bool((frame["source"] == "mimic-cxr").fillna(False).any())
    counted = number_form if mimic else plain_form
    # A bare number could be a study or a patient; images come first, then the smaller unit.
    units = (
        ("image", name_form, ["path", "image_id"]),
        ("study", counted, ["study_id"]),
        ("patient", counted, ["patient_id"]),
    )
    listed, met = np.zeros(len(frame), bool), 0
    for unit, form, columns in units:
        if kind in (None, unit) and not listed.any():
            listed, met = _listed([frame[name] for name in columns], wanted, form)
    if not listed.any():
        raise InputError(
            f"{Path(list_file).name}: none of its {len(wanted):,} names is in the manifest; "
            "expected image, study or patient identifiers of the same source"
        )
    patients, _ = pd.factorize(within_source(frame, "patient_id"))
    others = np.isin(patients, patients[listed]) & ~listed
    cleared = int((others & frame["split"].notna()).sum())
    new = frame["split"].astype(object).mask(others).mask(listed, name)
    note = (
        f"{int(listed.sum()):,} rows are {name} by {Path(list_file).name}, {met:,} of whose "
        f"{len(wanted):,} names are in the manifest; {cleared:,} other rows of their patients lost "
        "their split"
    )
    return _divided(manifest, new, note)


def _shares(fractions: Mapping[str, float]) -> dict[str, float]:
    total = sum(fractions.values())
    odd = set(fractions) - set(SPLITS)
    if odd or not fractions or min(fractions.values()) < 0 or total <= 0:
        raise OptionError(
            f"fractions must give {', '.join(SPLITS)} shares of at least 0, got {dict(fractions)}"
        )
    return {name: fractions[name] / total for name in SPLITS if fractions.get(name, 0) > 0}


def _divided(manifest: Manifest, parts: pd.Series, note: str) -> Manifest:
    split = pd.Categorical(parts, categories=SPLITS)
    return manifest.with_frame(manifest.frame.assign(split=split), notes=(note,))


def _stratified(
    frame: pd.DataFrame, patients: np.ndarray, shares: dict[str, float], seed: int
) -> np.ndarray:
    """Return (n,) parts of rows; every patient is in one."""
    groups, group = np.unique(patients, return_inverse=True)
    present = np.stack([(frame[f] == PRESENT).to_numpy() for f in FINDING_COLUMNS], axis=1)
    counts = np.zeros((groups.size, present.shape[1] + 1))
    np.add.at(counts, group, np.column_stack([present, np.ones(len(frame))]).astype(float))
    names = list(shares)
    wish = np.array([shares[name] for name in names])[:, None] * counts.sum(axis=0)
    order = np.random.default_rng(seed).permutation(groups.size)
    part = np.full(groups.size, -1)
    while (waiting := order[part[order] < 0]).size:
        left = counts[waiting].sum(axis=0)
        label = int(np.argmin(np.where(left[:-1] > 0, left[:-1], np.inf)))
        if left[label] == 0 or label >= present.shape[1]:
            label = present.shape[1]
        for one in waiting[counts[waiting, label] > 0]:
            best = int(np.lexsort((wish[:, -1], wish[:, label]))[-1])
            part[one] = best
            wish[best] -= counts[one]
    return np.array(names, dtype=object)[part[group]]


def _fresh_first(candidates, patients, met, rank) -> np.ndarray:
    """Return rows in random order: one of each new patient first, then the others."""
    ordered = candidates[np.argsort(rank[candidates], kind="stable")]
    repeated = pd.Series(patients[ordered]).duplicated().to_numpy() | met[patients[ordered]]
    return np.concatenate([ordered[~repeated], ordered[repeated]])


def _names(path: Path, column: str | None) -> tuple[set[str], str | None]:
    """Return the names in a list, and what they are, where a header says so."""
    if not path.is_file():
        raise InputError(f"{path.name}: no such file; expected a list of identifiers")
    table = path.suffix.lower() in (".csv", ".tsv")
    rows = list(read_rows(path, delimiter=None if table else ","))
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if column is not None and column.lower() not in header:
        raise InputError(f"{path.name}: no column {column!r}; it has: {listed(header)}")
    pick = [column.lower()] if column else [name for name in LIST_COLUMNS if name in header]
    at = header.index(pick[0]) if pick else 0
    found = {row[at].strip() for row in rows[1 if pick else 0 :] if len(row) > at}
    return found - {""}, LIST_COLUMNS.get(pick[0]) if pick else None


def _listed(
    columns: list[pd.Series], wanted: set[str], form: Callable[[str], str]
) -> tuple[np.ndarray, int]:
    """Return (n,) bool: a column holds one of the names; and how many of the names that are."""
    names = pd.Series(sorted(wanted), dtype=object)
    rows, met = np.zeros(len(columns[0]), bool), np.zeros(len(names), bool)
    for column in columns:
        keys, others = meet(column, names, form)
        rows |= (keys.isin(set(others)) & (keys != "")).to_numpy(bool)
        met |= others.isin(set(keys)).to_numpy(bool)
    return rows, int(met.sum())
