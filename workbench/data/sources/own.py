"""Data of one's own: a folder of images, a CSV file with image paths and whatever else is known, or
phantoms that `workbench phantom` drew, of which the JSON files beside them say everything.

Column names are recognised in the spellings that people use. Labels come as one column of names
joined by | , ; or as columns called after findings, with one of the four codes in each cell.
Numbers are not guessed at: 0 can mean absent or unknown, and only its author knows which.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from workbench._progress import progress
from workbench._store import read_json
from workbench._tables import listed
from workbench.data.cards import folded
from workbench.data.columns import COLUMN_NAMES, FINDING_COLUMNS, VOCABULARY, shown
from workbench.data.download import Download
from workbench.data.frames import refuse_two, restore
from workbench.data.images import Root
from workbench.data.mapping import codes_from_lists, read_cells, sections, to_cell
from workbench.errors import InputError, OptionError
from workbench.findings import (
    ABSENT,
    CODE_CELLS,
    NO_FINDING,
    NOT_MENTIONED,
    PRESENT,
    cell_key,
    read_cell,
    standard_name,
)

#: Column of the manifest -> how people call it.
SPELLINGS = VOCABULARY["spellings"]
#: What a table can state only once.
ONE_TRUTH = ("view", "sex", "age", "split", "labels", "licence")
#: What the file of a phantom must state.
PHANTOM_KEYS = ("image", "seed", "domain", "labels")
_SEPARATORS = re.compile(r"\s*[|;,]\s*")


def read_folder(files: Download) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each image file; nothing is known of any finding."""
    paths = [files.only.name] if files.only else files.images()
    if not paths:
        raise InputError(
            f"no images in {files.folder.name}; expected {', '.join(files.card.files)} below it"
        )
    path = pd.Series(paths, dtype=object)
    stem = path.str.rsplit(".", n=1).str[0]
    nested = path.str.contains("/")
    frame = pd.DataFrame(
        {
            "image_id": stem.where(~stem.duplicated(keep=False), path),
            "path": path,
            "patient_id": path.str.partition("/")[0].where(nested, stem),
            "study_id": path.str.rsplit("/", n=1).str[0].where(nested, stem),
        }
    )
    notes = []
    if not nested.any():
        notes.append("no sub-folders: every file counts as a patient of its own")
    tables = sorted(item.name for end in ("csv", "tsv") for item in files.folder.glob(f"*.{end}"))
    if tables and files.only is None:
        notes.append(f"not read: {', '.join(tables)}; the source `csv` reads a table")
    return frame, notes


def read_csv(files: Download) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each row of a CSV file, or of the one in a folder."""
    path = _table(files)
    raw = files.table(path, [])
    names = _recognised(raw, path.name)
    if "path" not in names:
        raise InputError(
            f"{path.name}: no column of image paths; expected one called "
            f"{', '.join(SPELLINGS['path'].split()[:4])}, found: {listed(raw.columns)}"
        )
    frame = _identity(raw, names, Root(files.folder))
    if "labels" in names:
        lists = raw[names["labels"]].str.strip().str.replace(_SEPARATORS, "|", regex=True)
        lists = lists.map(lambda cell: "" if not cell_key(cell) else cell)
        frame = frame.assign(source_labels=lists, **codes_from_lists(files.card, lists))
    used = set(names.values())
    owner: dict[str, str] = {}
    for column in raw.columns.difference(list(names.values()), sort=False):
        finding = _finding(column)
        if finding is not None:
            refuse_two(owner.get(finding), column, finding, path.name)
            owner[finding] = column
            said = read_cells(raw[column], CODE_CELLS)
            frame[finding] = _with_list(frame.get(finding), said, names.get("labels"), column)
        elif _key(column) in COLUMN_NAMES and _key(column) not in frame:
            frame[_key(column)] = restore(raw[column].astype("string"))
        else:
            continue
        used.add(column)
    if not files.reports:
        frame = frame.drop(columns=[c for c in frame if str(c).startswith("report_")])
    unread = [name for name in raw.columns if name not in used]
    notes = [f"columns read from {path.name}: {', '.join(sorted(used))}"]
    notes += [f"columns not read: {listed(unread, most=len(unread))}"] if unread else []
    return frame, notes


def _with_list(
    listed: pd.Series | None, said: np.ndarray, labels: str | None, column: str
) -> np.ndarray:
    """Return (n,) codes of a column, and present where the list of labels says so."""
    if listed is None:
        return said
    present = (listed == PRESENT).to_numpy(bool)
    against = np.flatnonzero(present & ~pd.isna(said) & (said != PRESENT))
    if against.size:
        raise InputError(
            f"row {against[0] + 1}: column {labels!r} names {listed.name}, and column {column!r} "
            f"holds {shown(str(listed.name), said[against[0]])}; correct one of them"
        )
    return np.where(present, PRESENT, said)


def _table(files: Download) -> Path:
    if files.only is not None:
        return files.only
    ends = ("*.csv", "*.csv.gz", "*.tsv", "*.tsv.gz")
    tables = [path for end in ends for path in sorted(files.folder.glob(end))]
    tables = [path for path in tables if path.name == "manifest.csv"] or tables
    if len(tables) != 1:
        raise InputError(
            f"{len(tables)} CSV files in {files.folder.name}; name the one to read: --source FILE"
        )
    return tables[0]


def _recognised(raw: pd.DataFrame, said: str) -> dict[str, str]:
    """Return column of the manifest -> column of the table.

    Raises:
        InputError: two columns of one name, or of one meaning in `ONE_TRUTH` that differ.
    """
    lowered: dict[str, str] = {}
    for name in raw.columns:
        refuse_two(lowered.get(_key(name)), name, repr(_key(name)), said)
        lowered[_key(name)] = name
    found: dict[str, str] = {}
    for target, spellings in SPELLINGS.items():
        hits = [lowered[word] for word in spellings.split() if word in lowered]
        hits = [name for name in hits if name not in found.values()]
        if hits:
            found[target] = hits[0]
        for other in hits[1:]:
            one, two = (raw[name].str.strip().str.casefold() for name in (hits[0], other))
            if target in ONE_TRUTH and (one != two).any():
                raise InputError(
                    f"{said}: two columns stand for {target}: {hits[0]!r} and {other!r}, and "
                    f"differ in row {int(np.flatnonzero(one != two)[0]) + 1}; keep one"
                )
    return found


def _key(column: str) -> str:
    return folded(column).replace(" ", "_")


def _finding(column: str) -> str | None:
    name = folded(column)
    try:
        return name if name in FINDING_COLUMNS else standard_name(name)
    except OptionError:
        return None


def _identity(raw: pd.DataFrame, names: dict[str, str], root: Root) -> pd.DataFrame:
    cells = {target: raw[name].str.strip() for target, name in names.items() if target != "labels"}
    cells["path"] = cells["path"].map(root.relative)
    stem = cells["path"].str.rsplit(".", n=1).str[0]
    name = stem.str.rsplit("/", n=1).str[-1]
    image = cells.get("image_id", name.where(~name.duplicated(keep=False), stem))
    return pd.DataFrame({"image_id": image} | cells)


# ---------------------------------------------------------------- phantoms


def read_phantoms(files: Download) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each phantom."""
    paths = sorted(files.folder.rglob("phantom_*.json"))
    if not paths:
        raise InputError(
            f"no phantom_*.json in {files.folder.name}; draw some first: "
            f"workbench phantom --count 24 --out {files.folder.name}"
        )
    rows = []
    for path in progress(paths, label="phantoms", show=files.show):
        record = _record(path)
        codes = _codes(record["labels"], path.name)
        prefix = path.parent.relative_to(files.folder).as_posix()
        prefix = "" if prefix == "." else prefix + "/"
        rows.append(_row(record, codes, prefix, files.reports))
    return pd.DataFrame(rows), []


def _record(path: Path) -> dict:
    try:
        record = read_json(path)
        missing = [key for key in PHANTOM_KEYS if key not in record]
    except (OSError, TypeError, ValueError):
        record, missing = {}, ["JSON"]
    if missing:
        raise InputError(
            f"{path.name}: no {', '.join(missing)}; expected a file that "
            "`workbench phantom` wrote, draw it again"
        )
    return record


def _codes(labels: object, said: str) -> dict[str, str]:
    """Return finding -> code, by standard names; a code that is none stays."""
    found: dict[str, str] = {}
    for name, code in labels.items() if isinstance(labels, dict) else [(str(labels), "")]:
        try:
            finding = standard_name(name)
        except OptionError as error:
            raise InputError(f"{said}, labels: {error}") from None
        if finding in found:
            raise InputError(f"{said}: two labels stand for {finding}: {name!r} is one; keep one")
        read = read_cell(code, CODE_CELLS)
        found[finding] = str(code) if read is None else read or NOT_MENTIONED
    return found


def _row(record: dict, codes: dict[str, str], prefix: str, reports: bool) -> dict:
    from workbench.phantom.case import usual_view  # with scipy, which other sources do without

    name = f"phantom-{record['domain']}-{record['seed']}"
    usual = usual_view(record["domain"])
    view = record.get("view", usual)
    present = [name for name, code in codes.items() if code == PRESENT and name != NO_FINDING]
    masks = record.get("masks", {}).items()
    clear = all(code == ABSENT for code in codes.values())
    row = {
        "image_id": name if view == usual else f"{name}-{str(view).lower()}",
        "patient_id": name,
        "path": prefix + record["image"],
        "view": view,
        "licence": record.get("licence"),
        "source_labels": "|".join(present),
        "locations": _places(record.get("lesions", [])),
        "masks": to_cell([{"finding": finding, "path": prefix + path} for finding, path in masks]),
        NO_FINDING: ABSENT if present else PRESENT if clear else NOT_MENTIONED,
    }
    if reports and record.get("report"):
        parts = sections(record["report"])
        row |= {f"report_{section}": text for section, text in parts.items()}
        row["report_language"] = "en"
    return row | codes


def _places(lesions: list[dict]) -> str | None:
    places: dict[str, set[str]] = {}
    for lesion in lesions:
        named = (lesion.get(name) for name in ("side", "zone", "lobe"))
        words = {word for word in named if isinstance(word, str) and word}
        if words:
            places.setdefault(lesion["finding"], set()).update(words)
    return to_cell({finding: sorted(words) for finding, words in places.items()})
