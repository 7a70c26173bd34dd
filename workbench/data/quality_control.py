"""Look at every image of a manifest before any model does: readable, and what the contract says.

Each image is read once with `workbench.imaging`; its input contract, its difference hash and how
much it looks like a frontal film are kept. The work is done in processes and written down line by
line, so that it can be stopped and taken up again.

Does not know: quality of exposure or positioning; only what file and grey values can tell.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd

from workbench._progress import progress
from workbench._store import parse_json
from workbench.data.hashes import dhash
from workbench.data.manifest import Manifest
from workbench.data.paths import Root
from workbench.data.quality_table import QualityTable
from workbench.errors import InputError, OptionError

_CHUNK = 16
#: Raised when the reading of images changes, so that older lines of a journal are not believed.
_READING = 2


def quality(
    manifest: Manifest,
    *,
    root: str | os.PathLike | None = None,
    out: str | os.PathLike | None = None,
    workers: int = 2,
    fit: str = "crop",
    show: bool = False,
) -> QualityTable:
    """Read every image of a manifest and gather what is known of it.

    Args:
        manifest: rows with a path are looked at.
        root: what the paths are relative to; None for that of the manifest.
        out: folder for `quality.jsonl`; images that are in it, unchanged, are not read again. None
            keeps nothing.
        workers: processes; 1 stays in this one.
        fit: "crop" or "pad", for the crop loss.
        show: whether a bar may appear.

    Raises:
        InputError: there is no root.
        OptionError: workers is not positive, or fit is not known.
    """
    folder = Path(root) if root is not None else manifest.root
    if folder is None:
        raise InputError("no image is at hand; name the folder of the images with root=")
    if workers < 1 or fit not in ("crop", "pad"):
        raise OptionError(f"workers must be at least 1 and fit crop or pad, got {workers}, {fit!r}")
    images = manifest.frame[manifest.frame["path"].notna()]
    journal = None if out is None else Path(out) / "quality.jsonl"
    done = _finished(journal, fit)
    tasks = []
    base = Root(folder)
    for path in images["path"]:
        stamp = _stamp(base, path)
        if done.get(path, {}).get("stamp") != stamp:
            tasks.append((path, stamp, base.contains(path)))
    records = {path: record for path, record in done.items() if path in set(images["path"])}
    for record in _recorded(journal, tasks, folder, workers, fit, show):
        records[record["path"]] = record
    table = pd.DataFrame([records[path] for path in images["path"]])
    table = table.drop(columns=["stamp", "fit", "reading"], errors="ignore")
    for name in ("image_id", "patient_id", "source"):
        table[name] = images[name].to_numpy(object)
    table["stated_view"] = images["view"].astype(str).to_numpy(object)
    return QualityTable.judged(table, folder)


def look_at(task: tuple[str, list, bool], *, folder: Path, fit: str) -> dict:
    """Read one image and return what is known of it as plain values.

    Args:
        task: path, (size, time) of the file, and whether it stays below the root.
        folder: the root.
        fit: as in `quality`.
    """
    from workbench.imaging import load_radiograph
    from workbench.radiograph import frontal_layout

    path, stamp, inside = task
    record = {"path": path, "stamp": stamp, "fit": fit, "reading": _READING}
    record |= {"readable": False, "error": None}
    if not inside:
        return record | {"error": "its path leads out of the root"}
    try:
        image = load_radiograph(folder / path, fit=fit)
    except InputError as error:
        return record | {"error": str(error)}
    contract = image.contract
    low, high = contract.stored_range
    return record | {
        "readable": True,
        "rows": image.size[0],
        "columns": image.size[1],
        "bits": contract.bits,
        "lowest": float(low),
        "highest": float(high),
        "inverted": bool(contract.inverted),
        "view": contract.view,
        "modality": contract.modality,
        "file_format": contract.file_format,
        "domain": contract.domain,
        "crop_loss": round(float(contract.crop_loss), 3),
        "warnings": "|".join(contract.codes),
        "layout": round(frontal_layout(image.pixels), 4),
        "seen": dhash(image.pixels),
    }


def _recorded(journal, tasks, folder, workers, fit, show) -> Iterator[dict]:
    """Yield what was seen, and write each line down before the next is looked at."""
    handle = None
    if journal is not None and tasks:
        journal.parent.mkdir(parents=True, exist_ok=True)
        handle = journal.open("a", encoding="utf-8")
    try:
        seen = _seen(tasks, folder, workers, fit)
        for record in progress(seen, total=len(tasks), label="images", show=show):
            if handle is not None:
                handle.write(json.dumps(record, ensure_ascii=False) + "\n")
                handle.flush()
            yield record
    finally:
        if handle is not None:
            handle.close()


def _seen(tasks: list, folder: Path, workers: int, fit: str) -> Iterator[dict]:
    look = partial(look_at, folder=folder, fit=fit)
    if workers == 1 or len(tasks) < 2 * _CHUNK:
        yield from map(look, tasks)
        return
    pool = ProcessPoolExecutor(max_workers=workers)
    try:
        yield from pool.map(look, tasks, chunksize=_CHUNK)
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(journal: Path | None, fit: str) -> dict[str, dict]:
    """Return path -> record of an earlier run; torn and older lines are passed over."""
    if journal is None or not journal.is_file():
        return {}
    found = {}
    for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if record.get("fit") == fit and record.get("reading") == _READING:
            found[record["path"]] = record
    return found


def _stamp(root: Root, path: str) -> list:
    """Return size and time of change of a file, which tell whether it is the one that was seen."""
    try:
        status = os.stat(root.folder / path)
    except (OSError, ValueError):
        return [0, 0]
    return [status.st_size, status.st_mtime_ns]
