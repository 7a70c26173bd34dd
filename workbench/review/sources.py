"""Open what is reviewed, the rows of a run, and what is known of their images, the references."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet

from workbench._store import file_sha256, parse_json
from workbench._tables import listed
from workbench.data import Manifest
from workbench.data.columns import BY_NAME
from workbench.data.frames import conform, map_unique, read_table, report_texts
from workbench.errors import InputError, OptionError
from workbench.findings import CODES, NOT_MENTIONED, SIDES
from workbench.review.readings import CODE, FINDINGS, SIDE
from workbench.runs.record import kept_places, read_record
from workbench.runs.result import RunResult, load
from workbench.runs.store import DATABASE, DONE, FAILED, RESULTS

#: Columns of a run that a review needs, and what stands where a table does not have them.
COLUMNS = {
    "id": None,
    "text": None,
    "source": "",
    "task": "report",
    "status": DONE,
    "tokens": None,
    "mean_logprob": None,
    "warnings": "",
    "view": None,
}
_NUMBERS = ("tokens", "mean_logprob")
#: Facts of a case that a manifest has under these names.
FACTS = ("patient_id", "path", "view", "sex", "age")
#: Columns of a queue that a manifest's own column of the same name must not replace.
_OWN = frozenset(COLUMNS) | {
    "reference", "age group", "kind", "finding", "said", "said side", "reference side",
    "confidence", "evidence",
}  # fmt: skip
#: Rows whose images are looked for.
_LOOKED_AT = 1000

#: A folder of `wb.run`, its result, or a table with the columns id and text.
Run = str | os.PathLike[str] | RunResult | pd.DataFrame
#: A manifest or its file, or a table with its columns (`id` may stand for `image_id`). Columns that
#: a manifest does not know (device, hospital) stay: cases can be divided by them.
Known = Manifest | str | os.PathLike[str] | pd.DataFrame


class RunRows(NamedTuple):
    """The rows of one task of a run: columns `COLUMNS`, one row for each image that is done.

    `record` is the content of run.json, `failed` how many rows have no text; a table has no folder.
    """

    frame: pd.DataFrame
    folder: Path | None
    record: dict
    failed: int


def open_run(run: Run, *, task: str = "report") -> RunRows:
    """Open the rows of one task, whose answers are reports; for what is raised see `queue`."""
    folder, record = None, {}
    if isinstance(run, pd.DataFrame):
        frame = run
    elif isinstance(run, (str, os.PathLike, RunResult)):
        folder = run.folder if isinstance(run, RunResult) else Path(run)
        frame, record = _read(folder), read_record(folder)
    else:
        raise InputError(
            f"expected the folder of a run, its result or a table with the columns id and text; "
            f"got {type(run).__name__}"
        )
    frame = _typed(frame)
    tasks = [str(name) for name in frame["task"].unique()]
    if len(frame) and task not in tasks:
        raise OptionError(f"the run has no task {task!r}; it has: {', '.join(tasks)}")
    frame = frame[frame["task"] == task]
    done = (frame["status"] == DONE) & frame["text"].notna()
    rows = frame[done].reset_index(drop=True)
    twice = rows.duplicated(["source", "id"])
    if twice.any():
        raise InputError(
            f"id {rows.loc[twice, 'id'].iloc[0]!r} stands twice in the run; a review needs one row "
            "for each image, give every row of the manifest an image_id of its own"
        )
    return RunRows(rows, folder, record, int((frame["status"] == FAILED).sum()))


def _read(folder: Path) -> pd.DataFrame:
    """Return the rows of a folder: results.parquet where the run has ended, else its database."""
    path = folder / RESULTS
    if not path.is_file():
        if not (folder / DATABASE).is_file():
            raise InputError(
                f"{folder.name}: no run in this folder; expected what `workbench run --out` wrote"
            )
        return load(folder).to_frame()
    try:
        names = parquet.read_schema(path).names
        wanted = [name for name in COLUMNS if name in names]
        table = parquet.read_table(path, columns=wanted, use_threads=False)
        table.validate(full=True)
        return table.to_pandas()
    except (pa.ArrowException, OSError, ValueError):
        raise InputError(
            f"{folder.name}/{RESULTS}: cannot be read as Parquet; delete it and start the run "
            "again, which writes it from its rows"
        ) from None


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    if missing := [name for name in ("id", "text") if name not in frame]:
        raise InputError(f"the table has no column {missing[0]!r}; it has: {listed(frame.columns)}")
    typed = frame.reindex(columns=[*COLUMNS]).astype(object).reset_index(drop=True)
    for name, default in COLUMNS.items():
        typed[name] = typed[name].where(typed[name].notna(), default)
    for name in _NUMBERS:
        typed[name] = pd.to_numeric(typed[name], errors="coerce").astype("float64")
    return typed.assign(id=typed["id"].astype(str))


class References(NamedTuple):
    """What is known of each image.

    Attributes:
        frame: columns source, id, `FACTS`, report (missing where there is none) and `extra`.
        codes: (images, findings) int8, the labels, index of `findings.CODES`.
        sides: (images, findings) int8, index of `SIDE_NAMES`.
        extra: names of the columns that a manifest does not know; "manifest text" for one called
            text, as a column of the queue is.
        identity: "sha256" or "digest" as in run.json; None for a table.
        root: folder of the images, where that is known.
    """

    frame: pd.DataFrame
    codes: np.ndarray
    sides: np.ndarray
    extra: tuple[str, ...] = ()
    identity: str | None = None
    root: Path | None = None


def open_references(manifest: Known | None) -> References:
    """Open what is known, of no image where the manifest is None.

    `InputError` where it cannot be read, or an image stands twice.
    """
    root, identity = None, None
    if manifest is None:
        frame = conform(pd.DataFrame())
    elif isinstance(manifest, Manifest):
        frame, root, identity = manifest.frame, manifest.root, manifest.digest()
    elif isinstance(manifest, (str, os.PathLike)):
        path = Path(manifest)
        frame, root, identity = read_table(path), path.parent, file_sha256(path)
    elif isinstance(manifest, pd.DataFrame):
        frame = _named(manifest)
    else:
        raise InputError(f"expected a manifest, its file or a table; got {type(manifest).__name__}")
    return _references(frame, root, identity)


def find_manifest(rows: RunRows) -> Path | None:
    """Return the manifest of a run, found by name and SHA-256; None where it is gone or changed.

    It is looked for in the folder of the run, the one above, the current one, and where it lay.
    """
    wanted = rows.record.get("fixed", {}).get("manifest", {}).get("sha256")
    if rows.folder is None or wanted is None:
        return None
    names = dict.fromkeys(session.get("manifest", "") for session in rows.record["sessions"])
    kept = kept_places(rows.record, rows.folder, "manifest_folder")
    for folder in (rows.folder, rows.folder.resolve().parent, Path.cwd(), *kept):
        for name in names:
            path = folder / Path(name).name
            if name and path.is_file() and file_sha256(path) == wanted:
                return path
    return None


def image_root(known: References, manifest: Known | None, rows: RunRows) -> Path | None:
    """Return the folder of the images: that of a loaded manifest, of the run, or of the file."""
    if rows.folder is None or isinstance(manifest, Manifest):
        return known.root
    paths = [path for path in known.frame["path"].head(_LOOKED_AT) if path]
    for folder in kept_places(rows.record, rows.folder):
        if any(os.path.exists(folder / path) for path in paths):
            return folder
    return known.root


def _references(frame: pd.DataFrame, root: Path | None, identity: str | None) -> References:
    source, image = _text(frame["source"]).fillna(""), _text(frame["image_id"])
    key = pd.DataFrame({"source": source, "id": image})
    twice = key.duplicated() & image.notna()
    if twice.any():
        raise InputError(
            f"image {key.loc[twice, 'id'].iloc[0]!r} stands twice in the manifest; "
            "`workbench manifest check` lists all, keep one row for each image"
        )
    unknown = [name for name in frame.columns if name not in {*BY_NAME, "id", "report"}]
    renamed = {name: f"manifest {name}" if name in _OWN else name for name in unknown}
    facts = {name: _text(frame[name]) for name in FACTS}
    facts["age"] = pd.to_numeric(frame["age"], errors="coerce").astype("float64")
    report = report_texts(frame)
    facts["report"] = _text(report.fillna(frame["report"]) if "report" in frame else report)
    facts |= {new: frame[name].astype(object) for name, new in renamed.items()}
    codes = np.stack([_codes(frame[name]) for name in FINDINGS], axis=1)
    sides = _sides(frame["locations"])
    extra = tuple(renamed.values())
    return References(key.assign(**facts), codes, sides, extra, identity, root)


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    names = {"id": "image_id", "report": "report_findings"}
    frame = frame.rename(columns={old: new for old, new in names.items() if new not in frame})
    if "image_id" not in frame.columns:
        raise InputError(
            "the table of references has no column image_id (or id); it has: "
            f"{listed(frame.columns)}"
        )
    return conform(frame.reset_index(drop=True), sort=False)


def _text(values: pd.Series) -> pd.Series:
    return values.astype("string").astype(object).where(values.notna(), None)


def _codes(values: pd.Series) -> np.ndarray:
    """Return (n,) int8 codes of a column of a manifest; `InputError` where a cell is none."""
    if wrong := sorted(set(values.dropna().unique()) - set(CODES)):
        raise InputError(
            f"column {values.name!r} contains {str(wrong[0])[:40]!r}; expected {', '.join(CODES)}"
        )
    codes = pd.Categorical(values, categories=CODES).codes
    return np.where(codes < 0, CODE[NOT_MENTIONED], codes).astype(np.int8)


def _sides(locations: pd.Series) -> np.ndarray:
    """Return (n, findings) int8 sides out of the column of places."""
    silent = np.zeros(len(FINDINGS), dtype=np.int8)

    def read(cell: str) -> np.ndarray:
        places = parse_json(cell)
        found = silent.copy()
        for name, words in places.items() if isinstance(places, dict) else ():
            if name in FINDINGS:
                sides = {word for word in words if word in SIDES}
                side = "bilateral" if len(sides) > 1 else next(iter(sides), None)
                found[FINDINGS.index(name)] = SIDE[side]
        return found

    try:
        cells = map_unique(locations.where(locations.notna(), None), read, missing=silent)
    except (ValueError, AttributeError, TypeError):
        raise InputError(
            "column 'locations' contains a cell that is no JSON of finding -> places; "
            "`workbench manifest check` names it"
        ) from None
    return np.array(list(cells), dtype=np.int8).reshape(-1, len(FINDINGS))
