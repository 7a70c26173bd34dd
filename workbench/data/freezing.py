"""Freeze a cohort: a small JSON file with hashes that a run records and a later run verifies.

The file lists the images of each split and the SHA-256 of every column. It holds no labels and no
reports, so a cohort of a data set under agreement can be shared as its identifiers allow. Keep the
commands that made it beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from pydantic import TypeAdapter

from workbench._progress import progress
from workbench._repr import result
from workbench._store import file_sha256, read_json, whole_file
from workbench.data.columns import SPLITS
from workbench.data.images import Root
from workbench.data.manifest import Manifest, column_digests
from workbench.errors import InputError

FORMAT = 1
WITHOUT = "none"


@result()
class Cohort:
    """A frozen cohort."""

    name: str
    rows: int
    patients: int
    sources: dict[str, int]  # source -> rows
    images: dict[str, list[str]]  # split, or "none" -> sorted "source/image_id"
    columns: dict[str, str]  # column -> SHA-256 of its content
    digest: str  # SHA-256 of the whole; equal for equal manifests, whatever their file format
    notes: tuple[str, ...]  # how it was made

    def save(self, path: str | Path) -> Path:
        """Write the cohort as JSON and return the path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"format": FORMAT} | asdict(self)
        text = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False)
        with whole_file(path) as partial:
            partial.write_text(text + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | os.PathLike) -> Cohort:
        """Read a cohort file.

        Raises:
            InputError: no such file, not a cohort, or changed by hand.
        """
        path = Path(path)
        try:
            record = read_json(path)
            form = record.pop("format")
            cohort = TypeAdapter(cls).validate_python(record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"{path.name}: not a cohort file; expected JSON that `workbench manifest freeze` "
                "wrote"
            ) from None
        if form != FORMAT or cohort.digest != _digest(cohort.columns, cohort.images):
            raise InputError(
                f"{path.name}: its hash does not fit its content; it was changed after it was "
                "frozen, take the original file"
            )
        return cohort


@result(eq=True)
class Verification:
    """Whether a manifest is the cohort that was frozen."""

    ok: bool
    digest: str  # of the cohort
    problems: tuple[str, ...]  # what differs, without any value of the manifest but identifiers

    def __bool__(self) -> bool:
        return self.ok

    def require(self) -> Verification:
        """Return the verification where nothing differs, else raise an InputError."""
        if not self.ok:
            raise InputError(
                "the manifest is not the frozen cohort: " + "; ".join(self.problems[:3]) + "; "
                "build it again from the same files, or freeze a new cohort"
            )
        return self


def freeze(
    manifest: Manifest, path: str | Path | None = None, *, name: str | None = None
) -> Cohort:
    """Freeze a manifest, and write the cohort as JSON where a path is given.

    By default it is called as its file.

    >>> wb.data.freeze(manifest, name="first").rows
    6
    """
    frame = manifest.frame
    parts = _parts(frame)
    images = {
        part: sorted(parts.index[parts == part])
        for part in (*SPLITS, WITHOUT)
        if (parts == part).any()
    }
    columns, counts = column_digests(frame), manifest.summary()
    cohort = Cohort(
        name=name or (Path(path).stem if path is not None else "cohort"),
        rows=counts["rows"],
        patients=counts["patients"],
        sources=counts["sources"],
        images=images,
        columns=columns,
        digest=_digest(columns, images),
        notes=manifest.notes,
    )
    if path is not None:
        cohort.save(path)
    return cohort


def verify(
    manifest: Manifest,
    cohort: Cohort | str | os.PathLike,
    *,
    root: str | os.PathLike | None = None,
    show: bool = False,
) -> Verification:
    """Compare a manifest with a frozen cohort, or the file of one.

    With `root`, the folder of the images, every file is compared with its SHA-256 too.

    Raises:
        InputError: the cohort file cannot be read, or was changed.

    >>> cohort = wb.data.freeze(manifest, "cohort.json")
    >>> wb.data.verify(manifest, "cohort.json").ok
    True
    """
    frozen = cohort if isinstance(cohort, Cohort) else Cohort.load(cohort)
    frame = manifest.frame
    problems = [*_image_problems(frame, frozen), *_column_problems(frame, frozen)]
    if root is not None:
        problems += _file_problems(frame, Root(root), show)
    return Verification(not problems, frozen.digest, tuple(problems))


def _image_problems(frame: pd.DataFrame, frozen: Cohort) -> list[str]:
    here = _parts(frame).to_dict()
    there = {image: part for part, names in frozen.images.items() for image in names}
    said = {
        "images of the cohort are missing": there.keys() - here.keys(),
        "images are not in the cohort": here.keys() - there.keys(),
        "images are in another split": {
            image for image in there.keys() & here.keys() if here[image] != there[image]
        },
    }
    return [f"{len(names):,} {what} (first: {min(names)})" for what, names in said.items() if names]


def _column_problems(frame: pd.DataFrame, frozen: Cohort) -> list[str]:
    now, then = column_digests(frame), frozen.columns
    changed = sorted(name for name in now | then if now.get(name) != then.get(name))
    return [f"the content of {', '.join(changed)} differs"] if changed else []


def _file_problems(frame: pd.DataFrame, root: Root, show: bool) -> list[str]:
    known = frame[frame["sha256"].notna() & frame["path"].notna()]
    pairs = zip(known["path"], known["sha256"], strict=True)
    changed = []
    for path, digest in progress(pairs, total=len(known), label="files", show=show):
        full = root.folder / path
        if not root.contains(path) or not full.is_file() or file_sha256(full) != digest:
            changed.append(path)
    if not changed:
        return []
    return [f"{len(changed):,} files are missing or changed (first: {changed[0]})"]


def _parts(frame: pd.DataFrame) -> pd.Series:
    """Return "source/image_id" -> part of the split."""
    keys = frame["source"].astype(str) + "/" + frame["image_id"].astype(str)
    return frame["split"].astype("string").fillna(WITHOUT).set_axis(keys)


def _digest(columns: dict[str, str], images: dict[str, list[str]]) -> str:
    text = json.dumps([columns, images], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
