"""A table of one's own: a CSV file with image paths and whatever else is known.

Column names are recognised in the spellings that people use (`file`, `image`, `Path`, `subject_id`,
`gender`, ...). Labels come as one column of names joined by | , ; or as columns called after
findings with the words present, absent, uncertain, not mentioned. Numbers are not guessed at: 0 can
mean absent or unknown, and only its author knows which.

Does not know: what an empty cell was meant to say; it is not mentioned.
"""

from __future__ import annotations

import re

import pandas as pd

from workbench.data.cards import DataCard
from workbench.data.columns import COLUMN_NAMES, FINDING_COLUMNS, PROVENANCES, SPLITS
from workbench.data.download import Download
from workbench.data.files import restore
from workbench.data.frames import map_words
from workbench.data.mapping import present_from_lists
from workbench.data.paths import Root
from workbench.errors import InputError, OptionError
from workbench.findings import standard_name

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
}
SEX = {
    "M": "male",
    "F": "female",
    "male": "male",
    "female": "female",
    "O": "other",
    "other": "other",
}
SPLIT = {name: name for name in SPLITS} | {
    "training": "train",
    "val": "validate",
    "valid": "validate",
    "validation": "validate",
    "dev": "validate",
    "testing": "test",
}
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
    names = _recognised(raw)
    if "path" not in names:
        raise InputError(
            f"{path.name}: no column of image paths; expected one called "
            f"{', '.join(SPELLINGS['path'].split()[:4])}, found: {', '.join(raw.columns[:12])}"
        )
    frame = _identity(raw, names, Root(files.folder))
    used = set(names.values())
    if "labels" in names:
        lists = raw[names["labels"]].str.strip().str.replace(_SEPARATORS, "|", regex=True)
        frame = frame.assign(source_labels=lists, **present_from_lists(card, lists))
    for column in raw.columns:
        finding = _finding(column)
        if finding is not None and column not in used:
            frame[finding] = raw[column].str.strip()
        elif column in COLUMN_NAMES and column not in used and column not in frame:
            frame[column] = restore(raw[column].astype("string"))
    if not reports:
        frame = frame.drop(columns=[c for c in frame if c.startswith("report_")])
    return frame, [f"columns read from {path.name}: {', '.join(sorted(used))}"]


def _table(files: Download):
    if files.only is not None:
        return files.only
    tables = sorted(files.folder.glob("*.csv")) + sorted(files.folder.glob("*.csv.gz"))
    preferred = [path for path in tables if path.name == "manifest.csv"]
    if len(preferred or tables) != 1:
        raise InputError(
            f"{len(tables)} CSV files in {files.folder.name}; name the one to read: --source FILE"
        )
    return (preferred or tables)[0]


def _recognised(raw: pd.DataFrame) -> dict[str, str]:
    """Return column of the manifest -> column of the table."""
    lowered = {name.lower().replace(" ", "_"): name for name in reversed(list(raw.columns))}
    found = {}
    for target, spellings in SPELLINGS.items():
        hit = next((lowered[word] for word in spellings.split() if word in lowered), None)
        if hit is not None and hit not in found.values():
            found[target] = hit
    return found


def _finding(column: str) -> str | None:
    name = " ".join(column.lower().replace("_", " ").split())
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
    frame["view"] = _kept(column("view"), VIEW, rows)
    frame["sex"] = _kept(column("sex"), SEX, rows)
    frame["split"] = _kept(column("split"), SPLIT, rows)
    for name in ("age", "licence", "report_findings", "report_impression"):
        if name in names:
            frame[name] = column(name)
    if "provenance" in raw:
        frame["provenance"] = _kept(raw["provenance"], {p: p for p in PROVENANCES}, rows)
    return frame


def _kept(values: pd.Series | None, table: dict[str, str], rows: int):
    """Return values translated; an unknown word stays, for the check to name."""
    if values is None:
        return None
    known = map_words(values, table, rows=rows, default=None)
    return pd.Series(known, dtype=object).where(pd.notna(known), values.replace("", None))
