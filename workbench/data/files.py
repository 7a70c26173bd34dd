"""Manifests as files: Parquet first, CSV in and out.

Parquet files hold no time stamps, no pandas index and no machine paths, and are written with fixed
settings: the same table gives the same bytes.

CSV files are opened with spreadsheets, which run a cell that begins with = + - or @ as a formula
(OWASP, "CSV Injection"). On the way out such a cell, and one that already begins with an
apostrophe, gets an apostrophe in front; on the way in it is taken away again. Nothing is lost.

Does not know: whether a manifest is right (`check`).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from workbench._store import whole_file
from workbench._tables import read_columns
from workbench.data.columns import BY_NAME, REPORT_COLUMNS
from workbench.data.frames import conform
from workbench.errors import InputError
from workbench.spreadsheet import FORMULA_STARTS

FORMAT = "1"
#: An apostrophe is guarded too, so that `restore` is exact.
_FORMULA = (*FORMULA_STARTS, "'")


def read_table(path: Path, *, reports: bool = True) -> pd.DataFrame:
    """Read a manifest file as it is; values that do not fit stay for the check to name.

    Args:
        path: .parquet or .csv.
        reports: False leaves the report columns empty, for work that has no business with them.

    Raises:
        InputError: no such file, not Parquet or CSV, or damaged.
    """
    if not path.is_file():
        raise InputError(
            f"{path.name}: no such file; expected a manifest (.parquet or .csv), which "
            "`workbench manifest build` writes"
        )
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise InputError(f"{path.name}: expected a manifest ending in .parquet or .csv")
    try:
        frame = (_read_csv if path.suffix.lower() == ".csv" else _read_parquet)(path, reports)
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


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a manifest; the ending of the name decides between Parquet and CSV.

    A file appears whole or not at all.

    Raises:
        InputError: the name ends in something else.
    """
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".csv"):
        raise InputError(f"{path.name}: a manifest is written as .parquet or .csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        if suffix == ".csv":
            write_csv(frame, partial)
        else:
            _write_parquet(frame, partial)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write any table as CSV whose texts no spreadsheet runs as a formula."""
    _texts(frame).to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def neutralise(text: pd.Series) -> pd.Series:
    """Return texts that no spreadsheet runs as a formula; `restore` is the inverse."""
    return text.mask(text.str.startswith(_FORMULA).fillna(False).astype(bool), "'" + text)


def restore(text: pd.Series) -> pd.Series:
    """Take the apostrophes of `neutralise` away again."""
    guarded = text.str.startswith("'").fillna(False).astype(bool)
    guarded &= text.str.slice(1, 2).isin(_FORMULA).fillna(False).astype(bool)
    return text.mask(guarded, text.str.slice(1))


def arrow_table(frame: pd.DataFrame) -> pa.Table:
    """Return the table with the types of the file and no trace of the machine it was made on."""
    arrays = {name: _arrow(name, frame[name]) for name in frame.columns}
    table = pa.table(arrays)
    return table.replace_schema_metadata({"manifest_format": FORMAT})


def _texts(frame: pd.DataFrame) -> pd.DataFrame:
    columns = {}
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype) and not column.cat.categories.empty:
            names = pd.Series(column.cat.categories, dtype="string")
            column = column.cat.rename_categories(neutralise(names).tolist())
        elif not pd.api.types.is_numeric_dtype(column.dtype):
            column = neutralise(column.astype("string"))
        columns[name] = column
    return pd.DataFrame(columns)


def _arrow(name: str, column: pd.Series) -> pa.Array:
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = pa.array(column.cat.codes.to_numpy(), mask=column.isna().to_numpy())
        return pa.DictionaryArray.from_arrays(codes, pa.array(column.cat.categories, pa.string()))
    if name == "age" and column.dtype == "Int16":
        return pa.array(column, pa.int16())
    return pa.array(column.astype("string"), pa.large_string()).cast(pa.string())


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    pyarrow.parquet.write_table(
        arrow_table(frame),
        path,
        compression="zstd",
        compression_level=3,
        version="2.6",
        row_group_size=100_000,
        use_dictionary=True,
        write_statistics=True,
        store_schema=True,
    )


def _read_parquet(path: Path, reports: bool) -> pd.DataFrame:
    names = pyarrow.parquet.read_schema(path).names
    kept = [name for name in names if reports or name not in REPORT_COLUMNS]
    table = pyarrow.parquet.read_table(path, columns=kept, use_threads=False)
    table.validate(full=True)
    return _to_frame(table)


def _read_csv(path: Path, reports: bool) -> pd.DataFrame:
    names, columns = read_columns(path)
    kept = [at for at, name in enumerate(names) if reports or name not in REPORT_COLUMNS]
    empty = pa.scalar(None, pa.large_string())
    cells = [pc.if_else(pc.equal(columns[at], ""), empty, columns[at]) for at in kept]
    table = pa.table(cells, names=[names[at] for at in kept])
    frame = _to_frame(table)
    if frame.columns.duplicated().any():
        return frame
    for name in frame.columns:
        column = BY_NAME.get(name)
        if column is not None and column.kind in ("category", "code"):
            values = frame[name].astype("category")
            words = restore(pd.Series(values.cat.categories, dtype="string"))
            same = words.nunique() == len(words)
            frame[name] = values.cat.rename_categories(words.tolist()) if same else values
        else:
            frame[name] = restore(frame[name].astype("string"))
    return frame


def _to_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as pandas columns that keep their text in Arrow."""

    def mapper(kind: pa.DataType):
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return pd.StringDtype("pyarrow")
        return pd.Int16Dtype() if pa.types.is_int16(kind) else None

    return table.to_pandas(types_mapper=mapper, split_blocks=True, self_destruct=True)
