"""Turn loose columns into a manifest table: every column there, types set, rows in one order.

The order of rows and columns is part of the contract: two builds of one source are equal byte for
byte. Values that do not fit are left as they are, so that a check can name them.

Does not know: data sets or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from workbench.data.columns import BY_NAME, COLUMN_NAMES, FINDING_COLUMNS
from workbench.findings import CODES, NOT_MENTIONED, cell_key, read_cell

_CATEGORIES = ("category", "code")
_FILL = {"view": "unknown", "sex": "unknown", "provenance": "unknown"}
_ORDER = ["source", "patient_id", "study_id", "image_id"]


def conform(frame: pd.DataFrame, *, sort: bool = True) -> pd.DataFrame:
    """Return a table with every column of a manifest, typed, in the order of the contract.

    A missing finding, or an empty cell in one, is "not mentioned". Columns that a manifest does not
    know are kept behind the others, by name.

    Args:
        frame: any table; only the names of its columns matter.
        sort: whether rows are put in order; a file that is read keeps its own, so that row numbers
            of problems are those of the file.
    """
    columns = {}
    for name in COLUMN_NAMES:
        given = frame[name] if name in frame.columns else None
        columns[name] = _typed(name, given, len(frame))
    others = sorted(str(name) for name in frame.columns if name not in BY_NAME)
    columns |= {name: frame[name].reset_index(drop=True) for name in others}
    table = pd.DataFrame(columns)
    return sort_rows(table) if sort else table


def sort_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows by source, patient, study and image; equal keys keep their order."""
    keys = [frame[name].fillna("").astype(str).to_numpy() for name in reversed(_ORDER)]
    order = np.lexsort([pd.factorize(key, sort=True)[0] for key in keys])
    return frame.iloc[order].reset_index(drop=True)


def codes_from_masks(rows: int, masks: Mapping[str, np.ndarray]) -> pd.Categorical:
    """Return (rows,) codes; where masks overlap, present beats uncertain beats absent.

    Args:
        rows: length.
        masks: code -> (rows,) bool.
    """
    codes = np.full(rows, CODES.index(NOT_MENTIONED), dtype=np.int8)
    for name in ("absent", "uncertain", "present"):
        if name in masks:
            codes[np.asarray(masks[name], dtype=bool)] = CODES.index(name)
    return pd.Categorical.from_codes(codes, categories=list(CODES))


def codes_or_cells(said: np.ndarray) -> pd.Categorical:
    """Return (n,) codes from `read_cells`; cells that are no codes stay, for the check to name."""
    odd = sorted(set(pd.unique(said)) - {None, *CODES})
    return pd.Categorical(said, categories=[*CODES, *odd]).fillna(NOT_MENTIONED)


def map_unique(values: pd.Series, function, *, missing: object = None) -> np.ndarray:
    """Apply a slow function to every different value once.

    Returns:
        (n,) of object; `missing` where the value is missing.
    """
    codes, unique = pd.factorize(values)
    results = np.empty(len(unique) + 1, dtype=object)
    for index, value in enumerate(unique.tolist()):
        results[index] = function(value)
    results[-1] = missing
    return results[codes]


def read_cells(
    values: pd.Series | None, words: Mapping[str, str], *, rows: int, empty: str | None = None
) -> np.ndarray:
    """Return what cells of a closed vocabulary say (`workbench.findings.read_cell`).

    Args:
        values: (n,) cells; None where the source has no such column.
        words: cell -> what it says, in any case.
        rows: n, for a column that is not there.
        empty: what an empty cell says.

    Returns:
        (n,) of object; a cell that is not understood stays as it is, for the check to name.
    """
    if values is None:
        return np.full(rows, empty, dtype=object)
    table = {cell_key(word): said for word, said in words.items()}

    def said(cell: object) -> object:
        found = read_cell(cell, table)
        return str(cell).strip() if found is None else found or empty

    return map_unique(values, said, missing=empty)


def read_numbers(values: pd.Series | None, *, rows: int) -> tuple[pd.Series, np.ndarray]:
    """Return (n,) float numbers, missing where there is none, and (n,) bool: what is no number."""
    if values is None:
        return pd.Series(np.nan, index=range(rows), dtype=float), np.zeros(rows, dtype=bool)
    cells = pd.Series(map_unique(values, cell_key, missing=""))
    numbers = pd.to_numeric(cells.replace("", None), errors="coerce").astype(float)
    odd = ~np.isfinite(numbers.to_numpy()) & (cells != "").to_numpy(bool)
    return numbers.mask(odd), odd


def agreed(keys: pd.Series, said: Iterable[object]) -> pd.Series:
    """Return key -> what all its rows say; rows that contradict each other stay, joined by |.

    Args:
        keys: (n,) what a row speaks of.
        said: (n,) from `read_cells`; None says nothing.
    """
    table = pd.DataFrame({"key": keys.to_numpy(object), "said": list(said)}).dropna()
    table = table.drop_duplicates()
    several = table["key"].duplicated(keep=False)
    joined = table[several].groupby("key")["said"].agg(lambda words: "|".join(map(str, words)))
    once = table[~several].set_index("key")["said"]
    return pd.concat([once, joined]).sort_index().astype(object)


def join_labels(labels: Iterable[str]) -> str:
    """Return labels joined by |, in their order, each once, without empty ones."""
    return "|".join(dict.fromkeys(label.strip() for label in labels if label.strip()))


def _typed(name: str, given: pd.Series | None, rows: int):
    column = BY_NAME[name]
    if column.kind in _CATEGORIES:
        return _category(name, given, rows)
    if given is None:
        return pd.Series(pd.NA, index=range(rows), dtype="Int16" if name == "age" else "string")
    if column.kind == "integer":
        return _integer(given)
    text = given.astype("string").reset_index(drop=True)
    return text.mask(text.str.len() == 0)


def _category(name: str, given: pd.Series | None, rows: int) -> pd.Categorical:
    allowed = list(BY_NAME[name].values)
    fill = NOT_MENTIONED if name in FINDING_COLUMNS else _FILL.get(name)
    if given is None:
        if fill is None:
            return pd.Categorical.from_codes(np.full(rows, -1, dtype=np.int8), categories=allowed)
        codes = np.full(rows, allowed.index(fill), dtype=np.int8)
        return pd.Categorical.from_codes(codes, categories=allowed)
    if not isinstance(given.dtype, pd.CategoricalDtype):
        given = given.astype("string").replace("", pd.NA).astype("category")
    values = given.cat.rename_categories([str(value) for value in given.cat.categories])
    used = [value for value in values.cat.categories if value not in allowed]
    kept = sorted(set(values.cat.remove_unused_categories().cat.categories) & set(used))
    values = values.cat.set_categories([*allowed, *kept])
    return (values if fill is None else values.fillna(fill)).array


def _integer(given: pd.Series) -> pd.Series:
    """Return Int16 where every value is a whole number that fits, else the values as text."""
    given = given.reset_index(drop=True)
    if not pd.api.types.is_numeric_dtype(given.dtype):
        silent = map_unique(given.astype(object), cell_key) == ""
        given = given.mask(silent, pd.NA)
    numbers = pd.to_numeric(given, errors="coerce")
    odd = numbers.isna() & given.notna()
    whole = numbers.dropna()
    if odd.any() or (whole % 1 != 0).any() or (whole.abs() > 32_767).any():
        return given.astype("string")
    return numbers.astype("Float64").astype("Int16")
