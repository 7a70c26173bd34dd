"""Tables: that of a manifest, typed and in one order; its file; and joins of tables of a source.

The order of rows and columns is part of the contract, and files are written with fixed settings:
two builds of one source are equal byte for byte. Values that do not fit are left as they are, so
that a check can name them.

CSV files are opened with spreadsheets, which run a cell that begins with = + - or @ as a formula
(OWASP, "CSV Injection"). On the way out such a cell, and one that already begins with an
apostrophe, gets an apostrophe in front; on the way in it is taken away again. Nothing is lost.

A join is counted, and refused where nothing meets. Keys meet in any case, with or without blanks,
folders and endings, the .0 of a spreadsheet, and where the source counts its patients and studies,
the letter in front. Where two of them become one that way, only equal ones meet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from pandas.api.extensions import ExtensionArray
from pandas.api.types import is_numeric_dtype

from workbench._store import whole_file
from workbench._tables import FORMULA_STARTS, read_columns
from workbench.data.columns import BY_NAME, COLUMN_NAMES, FINDING_COLUMNS, REPORT_COLUMNS, shown
from workbench.errors import InputError
from workbench.findings import NOT_MENTIONED, cell_key

FORMAT = "1"
_CATEGORIES = ("category", "code")
#: What an empty cell of a column stands for.
_FILL: dict[str, str] = dict.fromkeys(FINDING_COLUMNS, NOT_MENTIONED)
_FILL |= {"view": "unknown", "sex": "unknown", "provenance": "unknown"}
_ORDER = ["source", "patient_id", "study_id", "image_id"]
#: An apostrophe is guarded too, so that `restore` is exact.
_FORMULA = (*FORMULA_STARTS, "'")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")
_COUNTED = re.compile(r"[ps]?0*(\d+)(?:\.0*)?", re.ASCII)


def conform(frame: pd.DataFrame, *, sort: bool = True) -> pd.DataFrame:
    """Return a table with every column of a manifest, typed, in the order of the contract.

    A missing finding, or an empty cell in one, is "not mentioned". Columns that a manifest does not
    know are kept behind the others, by name. A file that is read is not sorted, so that row numbers
    of problems are those of the file.
    """
    columns = {name: _typed(name, frame.get(name), len(frame)) for name in COLUMN_NAMES}
    others = sorted(str(name) for name in frame.columns if name not in BY_NAME)
    columns |= {name: frame[name].reset_index(drop=True) for name in others}
    table = pd.DataFrame(columns)
    return sort_rows(table) if sort else table


def sort_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows by source, patient, study and image; equal keys keep their order."""
    keys = [frame[name].fillna("").astype(str).to_numpy() for name in reversed(_ORDER)]
    order = np.lexsort([pd.factorize(key, sort=True)[0] for key in keys])
    return frame.iloc[order].reset_index(drop=True)


def within_source(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return (n,) identifiers that are different in different sources."""
    source = frame["source"].astype("string").fillna("")
    return source + "\x00" + frame[name].astype("string").fillna("")


def report_texts(frame: pd.DataFrame) -> pd.Series:
    """Return (n,) findings and impression of the reports of a manifest; missing without either."""
    parts = frame[["report_findings", "report_impression"]].astype("string").fillna("")
    report = (parts["report_findings"] + " " + parts["report_impression"]).str.strip()
    return report.mask(report == "")


def map_unique(
    values: pd.Series, function: Callable[..., object], *, missing: object = None
) -> np.ndarray:
    """Return (n,) what a slow function gives, applied once to every different value."""
    codes, unique = pd.factorize(values)
    results = np.empty(len(unique) + 1, dtype=object)
    for index, value in enumerate(unique.tolist()):
        results[index] = function(value)
    results[-1] = missing
    return results[codes]


def read_table(path: Path, *, reports: bool = True) -> pd.DataFrame:
    """Read a manifest file as it is; values that do not fit stay for the check to name.

    Without `reports` the report columns are empty, for work that has no business with them.

    Raises:
        InputError: no such file, not Parquet or CSV, or damaged.
    """
    if not path.is_file():
        raise InputError(
            f"{path.name}: no such file; expected a manifest (.parquet or .csv), which "
            "`workbench manifest build` writes"
        )
    read = {".csv": _read_csv, ".parquet": _read_parquet}.get(path.suffix.lower())
    if read is None:
        raise InputError(f"{path.name}: expected a manifest ending in .parquet or .csv")
    try:
        frame = read(path, reports)
    except (pa.ArrowException, OSError, InputError) as error:
        cause = f" ({error})" if isinstance(error, InputError) else ""
        raise InputError(
            f"{path.name}: cannot be read as {path.suffix[1:].upper()}{cause}; it is damaged or "
            "another kind of file, build or export it again"
        ) from None
    twice = [str(name) for name in frame.columns[frame.columns.duplicated()]]
    if twice:
        raise InputError(f"{path.name}: the column {twice[0]!r} stands twice; keep one of them")
    return conform(frame, sort=False)


def write_table(frame: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a manifest as `save_frame` does, with its types and no trace of the machine."""
    return save_frame(frame, path, _write_parquet)


def save_frame(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    parquet: Callable[[pd.DataFrame, Path], None] | None = None,
) -> Path:
    """Write any table as Parquet, or as CSV whose texts no spreadsheet runs, whole or not at all.

    Raises:
        InputError: the name ends in neither .parquet nor .csv.
    """
    parquet = parquet or partial(pd.DataFrame.to_parquet, index=False)
    path = Path(path)
    write = {".csv": write_csv, ".parquet": parquet}.get(path.suffix.lower())
    if write is None:
        raise InputError(f"{path.name}: a table is written as .parquet or .csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partly:
        write(frame, partly)
    return path


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write any table as CSV whose texts no spreadsheet runs as a formula."""
    safe = {
        name: cells if is_numeric_dtype(cells.dtype) else neutralise(cells.astype("string"))
        for name, cells in frame.items()
    }
    pd.DataFrame(safe).to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def neutralise(text: pd.Series) -> pd.Series:
    """Return texts that no spreadsheet runs as a formula; `restore` is the inverse."""
    return text.mask(text.str.startswith(_FORMULA).fillna(False).astype(bool), "'" + text)


def restore(text: pd.Series) -> pd.Series:
    """Take the apostrophes of `neutralise` away again."""
    guarded = text.str.startswith("'").fillna(False).astype(bool)
    guarded &= text.str.slice(1, 2).isin(_FORMULA).fillna(False).astype(bool)
    return text.mask(guarded, text.str.slice(1))


def _typed(name: str, given: pd.Series | None, rows: int) -> pd.Series | ExtensionArray:
    kind = BY_NAME[name].kind
    if kind in _CATEGORIES:
        return _category(name, given, rows)
    if given is None:
        return pd.Series(pd.NA, index=range(rows), dtype="Int16" if name == "age" else "string")
    if kind == "integer":
        return _integer(given.reset_index(drop=True))
    text = given.astype("string").reset_index(drop=True)
    return text.mask(text.str.len() == 0)


def _category(name: str, given: pd.Series | None, rows: int) -> ExtensionArray:
    """Return the values of the column first, then those that no manifest knows, sorted."""
    if given is None:
        codes, unique = np.full(rows, -1), []
    elif isinstance(given.dtype, pd.CategoricalDtype):
        codes, unique = pd.factorize(given)
    else:
        codes, unique = pd.factorize(given.astype("string"))
    names, allowed = [str(value) for value in unique], list(BY_NAME[name].values)
    values = [*allowed, *sorted({*names} - {*allowed, ""})]
    missing = values.index(_FILL[name]) if name in _FILL else -1
    places = {value: at for at, value in enumerate(values)} | {"": missing}
    found = np.array([*(places[each] for each in names), missing])[codes]
    return pd.Categorical.from_codes(found, dtype=pd.CategoricalDtype(values))


def _integer(given: pd.Series) -> pd.Series:
    """Return Int16 where every value is a whole number that fits, else the values as text."""
    if not is_numeric_dtype(given.dtype):
        silent = map_unique(given.astype(object), cell_key) == ""
        given = given.mask(silent, pd.NA)
    numbers = pd.to_numeric(given, errors="coerce")
    odd = numbers.isna() & given.notna()
    whole = numbers.dropna()
    if odd.any() or (whole % 1 != 0).any() or (whole.abs() > 32_767).any():
        return given.astype("string")
    return numbers.astype("Float64").astype("Int16")


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({"manifest_format": FORMAT})
    pyarrow.parquet.write_table(
        table, path, compression="zstd", compression_level=3, row_group_size=100_000
    )


def _read_parquet(path: Path, reports: bool) -> pd.DataFrame:
    names = pyarrow.parquet.read_schema(path).names
    kept = [name for name in names if reports or name not in REPORT_COLUMNS]
    table = pyarrow.parquet.read_table(path, columns=kept, use_threads=False)
    table.validate(full=True)
    return table.to_pandas(split_blocks=True, self_destruct=True)


def _read_csv(path: Path, reports: bool) -> pd.DataFrame:
    names, columns = read_columns(path)
    frame = pa.table(columns, names=names).to_pandas()
    if not reports:
        frame = frame.loc[:, ~frame.columns.isin(REPORT_COLUMNS)]
    return frame.apply(lambda cells: restore(cells.mask(cells == "")))


# ---------------------------------------------------------------- joins


def name_form(key: str) -> str:
    """Return how names of images are compared: the file's name in lower case, without ending."""
    name = key.strip().casefold().replace("\\", "/").rsplit("/", 1)[-1]
    while name.endswith(IMAGE_SUFFIXES):
        name = name[: name.rindex(".")]
    return name


def number_form(key: str) -> str:
    """Return how counted keys are compared: s50414267, 50414267.0 and 50414267 are one."""
    text = key.strip().casefold()
    found = _COUNTED.fullmatch(text)
    return found[1] if found else text


def plain_form(key: str) -> str:
    """Return how other keys are compared: lower case, no blanks around."""
    return key.strip().casefold()


def join(
    keys: pd.Series,
    table: pd.DataFrame,
    on: str,
    *,
    what: str,
    things: str,
    said: str,
    form: Callable[[str], str] = name_form,
) -> tuple[pd.DataFrame, str]:
    """Return (n, columns) cells of a table, empty where it has no such key; and how many met.

    Args:
        keys: (n,) what is looked up; a key may occur often.
        table: (m, columns) of text, keys in `on`; `said` is what it is called.
        what: what the table holds, for the note: "labels".
        things: what the keys stand for: "studies".

    Raises:
        InputError: nothing meets, or two rows say different things of one key.
    """
    left, right = meet(keys, table[on], form)
    _refuse_contradiction(table, on, right, said)
    rows = table.set_axis(right, axis=0)
    rows = rows[~rows.index.duplicated() & (rows.index != "")]
    total, found = left[left != ""].nunique(), left[left.isin(rows.index)].nunique()
    if total and not found:
        raise InputError(nothing_meets(keys, table[on], what, things, said, total))
    spare = int((~right.isin(left)).sum())
    note = f"{what} for {found:,} of {total:,} {things}"
    note += f"; {spare:,} of {len(right):,} rows of {said} belong to none of them" * bool(spare)
    return rows.reindex(left).fillna("").reset_index(drop=True), note


def _folded(keys: pd.Series, form: Callable[[str], str]) -> pd.Series:
    """Return (n,) forms of keys; empty for silent ones."""
    found = map_unique(keys, lambda key: form(str(key)) if cell_key(key) else "", missing="")
    return pd.Series(found, dtype=object)


def meet(
    keys: pd.Series, others: pd.Series, form: Callable[[str], str]
) -> tuple[pd.Series, pd.Series]:
    """Return (n,) and (m,) texts to compare (n,) keys and (m,) others by; empty for silent ones.

    That is their form, or themselves where it would merge two keys that are written differently.
    """
    left, right = _folded(keys, form), _folded(others, form)
    raw = pd.Series(keys.to_numpy(object), dtype="str").str.strip()
    forms = pd.DataFrame({"form": left, "raw": raw}).drop_duplicates()["form"]
    merged = set(forms[forms.duplicated() & (forms != "")])
    if form is number_form or not merged:  # s5 and 5 are one study
        return left, right
    more = pd.Series(others.to_numpy(object), dtype="str").str.strip()
    return left.mask(left.isin(merged), raw), right.mask(right.isin(merged), more)


def _refuse_contradiction(table: pd.DataFrame, on: str, keys: pd.Series, said: str) -> None:
    """Raise where two rows of one key differ."""
    rows = table.drop(columns=on).assign(**{on: keys})
    again = keys.duplicated(keep=False) & keys.ne("")
    twice = rows[again].apply(lambda column: column.map(cell_key)).drop_duplicates()
    wrong = twice[twice[on].duplicated(keep=False)]
    if len(wrong):
        one, two = wrong.index[wrong[on] == wrong[on].iloc[0]][:2]
        column = next(
            name for name in rows.columns if str(wrong.at[one, name]) != str(wrong.at[two, name])
        )
        raise InputError(
            f"{said}: rows {one + 1} and {two + 1} are both of "
            f"{shown('image_id', table.at[one, on])} and differ in {column!r}; keep one of them"
        )


def nothing_meets(
    keys: pd.Series, others: pd.Series, what: str, things: str, said: str, total: int
) -> str:
    """Return what is said of a join without a match; arguments as in `join`."""
    here = shown("image_id", next((k for k in keys if str(k).strip()), ""))
    there = shown("image_id", next((k for k in others if str(k).strip()), "")) or "no row"
    return (
        f"{what} for 0 of {total:,} {things}: no key of {said} ({there}, ...) is one of the "
        f"{things} ({here}, ...); expected files of one release, or leave {said} out of the folder"
    )


def refuse_two(one: str | None, two: str, meaning: str, said: str = "") -> None:
    """Raise where a column of this meaning was met before, in the table that `said` names."""
    if one is not None:
        where = f"{said}: " if said else ""
        raise InputError(f"{where}two columns stand for {meaning}: {one!r} and {two!r}; keep one")
