"""A table of one's own: a CSV file with image paths and whatever else is known.

Column names are recognised in the spellings that people use (`file`, `image`, `Path`, `subject_id`,
`gender`, ...). Labels come as one column of names joined by | , ; or as columns called after
findings with the words present, absent, uncertain, not mentioned. Numbers are not guessed at: 0 can
mean absent or unknown, and only its author knows which.

Does not know: what an empty cell was meant to say; it is not mentioned.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from workbench._tables import listed
from workbench.data.cards import DataCard
from workbench.data.columns import COLUMN_NAMES, FINDING_COLUMNS, PROVENANCES, SPLITS
from workbench.data.download import Download
from workbench.data.files import restore
from workbench.data.frames import codes_or_cells, read_cells
from workbench.data.mapping import present_from_lists
from workbench.data.paths import Root
from workbench.data.redact import shown
from workbench.errors import InputError, OptionError
from workbench.findings import CODE_CELLS, PRESENT, cell_key, standard_name

SPELLINGS = {
    "path": "path file filename image image_path filepath file_path img image_file",
    "image_id": "image_id id imageid dicom_id",
    "patient_id": "patient_id patient patientid subject_id subject",
    "study_id": "study_id study studyid accession",
    "view": "view view_position viewposition projection",
    "sex": "sex gender patient_sex",
    "age": "age patient_age",
    "split": "split set fold subset",
    "labels": "labels label finding_labels findings_list source_labels",
    "report_findings": "report_findings findings report text",
    "report_impression": "report_impression impression",
    "licence": "licence license",
    "provenance": "provenance",
}
VIEW = {
    "PA": "PA",
    "AP": "AP",
    "L": "lateral",
    "LL": "lateral",
    "LAT": "lateral",
    "LATERAL": "lateral",
    "FRONTAL": "frontal",
    "OTHER": "other",
    "UNKNOWN": "unknown",
}
SEX = {
    "M": "male",
    "F": "female",
    "male": "male",
    "female": "female",
    "O": "other",
    "other": "other",
    "unknown": "unknown",
}
SPLIT = {name: name for name in SPLITS} | {
    "training": "train",
    "val": "validate",
    "valid": "validate",
    "validation": "validate",
    "dev": "validate",
    "testing": "test",
}
#: What a table can state only once.
ONE_TRUTH = ("view", "sex", "age", "split", "labels", "licence")
_SEPARATORS = re.compile(r"\s*[|;,]\s*")


def read(
    files: Download, card: DataCard, *, labels: str, reports: bool, show: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each row of the table, and notes.

    Args:
        files: the CSV file, or a folder that holds one (`manifest.csv` is preferred).
        card: data card "csv".
        labels: not used; there is one set.
        reports: whether report texts are kept.
        show: not used.

    Raises:
        InputError: no table, several tables, or no column of paths.
    """
    path = _table(files)
    raw = files.table(path, [])
    names, unread = _recognised(raw, path.name)
    if "path" not in names:
        raise InputError(
            f"{path.name}: no column of image paths; expected one called "
            f"{', '.join(SPELLINGS['path'].split()[:4])}, found: {listed(raw.columns)}"
        )
    frame = _identity(raw, names, Root(files.folder))
    used = set(names.values())
    if "labels" in names:
        lists = raw[names["labels"]].str.strip().str.replace(_SEPARATORS, "|", regex=True)
        lists = lists.map(lambda cell: "" if not cell_key(cell) else cell)
        frame = frame.assign(source_labels=lists, **present_from_lists(card, lists))
    owner: dict[str, str] = {}
    for column in raw.columns:
        finding = _finding(column)
        if finding is not None and column not in used:
            if finding in owner:
                raise InputError(
                    f"{path.name}: two columns stand for {finding}: {owner[finding]!r} and "
                    f"{column!r}; keep one"
                )
            owner[finding] = column
            said = read_cells(raw[column], CODE_CELLS, rows=len(raw))
            frame[finding] = _with_list(frame.get(finding), said, names.get("labels"), column)
        elif _key(column) in COLUMN_NAMES and column not in used and _key(column) not in frame:
            frame[_key(column)] = restore(raw[column].astype("string"))
        elif column not in used and column not in unread:
            unread.append(column)
    if not reports:
        frame = frame.drop(columns=[c for c in frame if c.startswith("report_")])
    unread = [name for name in unread if name not in owner.values()]
    notes = [f"columns read from {path.name}: {', '.join(sorted(used | set(owner.values())))}"]
    notes += [f"columns not read: {listed(unread, most=len(unread))}"] if unread else []
    return frame, notes


def _with_list(
    listed: pd.Series | None, said: np.ndarray, labels: str | None, column: str
) -> pd.Categorical:
    """Return (n,) codes of a column, and present where the list of labels says so.

    Raises:
        InputError: list and column contradict each other; the message names the row.
    """
    if listed is None:
        return codes_or_cells(said)
    present = (listed == PRESENT).to_numpy(bool)
    against = np.flatnonzero(present & ~pd.isna(said) & (said != PRESENT))
    if against.size:
        raise InputError(
            f"row {against[0] + 1}: column {labels!r} names {listed.name}, and column {column!r} "
            f"holds {shown(str(listed.name), said[against[0]])}; correct one of them"
        )
    return codes_or_cells(np.where(present, PRESENT, said))


def _table(files: Download):
    if files.only is not None:
        return files.only
    ends = ("*.csv", "*.csv.gz", "*.tsv", "*.tsv.gz")
    tables = [path for end in ends for path in sorted(files.folder.glob(end))]
    preferred = [path for path in tables if path.name == "manifest.csv"]
    if len(preferred or tables) != 1:
        raise InputError(
            f"{len(tables)} CSV files in {files.folder.name}; name the one to read: --source FILE"
        )
    return (preferred or tables)[0]


def _recognised(raw: pd.DataFrame, said: str) -> tuple[dict[str, str], list[str]]:
    """Return column of the manifest -> column of the table; and other spellings, not read.

    Raises:
        InputError: two columns of one name, or of one meaning that differ, of a kind that has one
            truth: sex, age, view, split, labels.
    """
    lowered: dict[str, str] = {}
    for name in raw.columns:
        key = _key(name)
        if key in lowered:
            raise InputError(
                f"{said}: two columns stand for {key!r}: {lowered[key]!r} and {name!r}; keep one"
            )
        lowered[key] = name
    found: dict[str, str] = {}
    unread: list[str] = []
    for target, spellings in SPELLINGS.items():
        hits = [lowered[word] for word in spellings.split() if word in lowered]
        hits = [name for name in hits if name not in found.values()]
        if not hits:
            continue
        found[target] = hits[0]
        for other in hits[1:]:
            differs = (
                raw[other].str.strip().str.casefold() != raw[hits[0]].str.strip().str.casefold()
            )
            if target in ONE_TRUTH and differs.any():
                raise InputError(
                    f"{said}: two columns stand for {target}: {hits[0]!r} and {other!r}, and "
                    f"differ in row {int(np.flatnonzero(differs)[0]) + 1}; keep one"
                )
            unread.append(other)
    return found, unread


def _key(column: str) -> str:
    return "_".join(column.casefold().replace("_", " ").split())


def _finding(column: str) -> str | None:
    name = _key(column).replace("_", " ")
    if name in FINDING_COLUMNS:
        return name
    try:
        return standard_name(name)
    except OptionError:
        return None


def _identity(raw: pd.DataFrame, names: dict[str, str], root: Root) -> pd.DataFrame:
    rows = len(raw)

    def column(name: str) -> pd.Series | None:
        return raw[names[name]].str.strip() if name in names else None

    path = column("path").map(root.relative)
    stem = path.str.rsplit(".", n=1).str[0]
    image = column("image_id")
    image = stem.str.rsplit("/", n=1).str[-1] if image is None else image
    image = image.where(~image.duplicated(keep=False), stem) if "image_id" not in names else image
    patient = column("patient_id")
    patient = image if patient is None else patient
    frame = pd.DataFrame({"image_id": image, "path": path, "patient_id": patient})
    study = column("study_id")
    frame["study_id"] = image if study is None else study
    frame["view"] = read_cells(column("view"), VIEW, rows=rows)
    frame["sex"] = read_cells(column("sex"), SEX, rows=rows)
    frame["split"] = read_cells(column("split"), SPLIT, rows=rows)
    for name in ("age", "licence", "report_findings", "report_impression"):
        if name in names:
            frame[name] = column(name)
    if "provenance" in names:
        words = {name: name for name in PROVENANCES}
        frame["provenance"] = read_cells(column("provenance"), words, rows=rows)
    return frame
