"""Joins of two tables of a source: counted, and refused where nothing meets.

Keys meet in any case, with or without blanks, folders and endings, the .0 of a spreadsheet, and
where the source counts its patients and studies, the letter in front. Where two of them become
one that way, only equal ones meet.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from workbench.data.columns import shown
from workbench.data.frames import map_unique
from workbench.errors import InputError
from workbench.findings import cell_key, is_silent

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")
_COUNTED = re.compile(r"[ps]?0*(\d+)(?:\.0*)?", re.ASCII)


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
        table: (m, columns) of text, keys in `on`.
        what: what the table holds, for the note: "labels".
        things: what the keys stand for: "studies".
        said: what the table is called.
        form: how keys are compared.

    Raises:
        InputError: nothing meets, or two rows say different things of one key.
    """
    left, right = meet(keys, table[on], form, distinct=keys)
    _refuse_contradiction(table, on, right, said)
    rows = table.set_axis(right, axis=0)
    rows = rows[~rows.index.duplicated() & (rows.index != "")]
    total, found = left[left != ""].nunique(), left[left.isin(rows.index)].nunique()
    if total and not found:
        raise InputError(_nothing(keys, table[on], what, things, said, total))
    spare = int((~right.isin(left)).sum())
    note = f"{what} for {found:,} of {total:,} {things}"
    note += f"; {spare:,} of {len(right):,} rows of {said} belong to none of them" * bool(spare)
    return rows.reindex(left).fillna("").reset_index(drop=True), note


def owners(
    keys: pd.Series, images: pd.Series, *, things: str, said: str
) -> tuple[pd.Series, np.ndarray]:
    """Return (m,) which of (n,) images each of (m,) rows is of, and (m,) bool: whether of any.

    Args:
        keys: (m,) names of images in the table that `said` names.
        images: (n,) identifiers.
        things: what the rows hold: "boxes".

    Raises:
        InputError: not one row is of an image.
    """
    known = pd.DataFrame({"image": images.to_numpy(object)}).drop_duplicates()
    left, right = meet(keys, known["image"], name_form, distinct=known["image"])
    found = left.map(dict(zip(right, known["image"], strict=True)))
    met = found.notna().to_numpy(bool)
    if len(known) and len(keys) and not met.any():
        raise InputError(_nothing(images, keys, things, "images", said, len(known)))
    return found.astype(object), met


def _folded(keys: pd.Series, form: Callable[[str], str], known: dict[object, str]) -> pd.Series:
    """Return (n,) forms of keys; `known` keeps those that were found before."""

    def folded(key: object) -> str:
        if key not in known:
            known[key] = "" if is_silent(key) else form(str(key))
        return known[key]

    return pd.Series(map_unique(keys, folded, missing=""), dtype=object)


def meet(
    keys: pd.Series, others: pd.Series, form: Callable[[str], str], *, distinct: pd.Series
) -> tuple[pd.Series, pd.Series]:
    """Return (n,) and (m,) texts to compare (n,) keys and (m,) others by; empty for silent ones.

    That is their form, or themselves where it would merge two things: two of the `distinct` keys
    that are written differently.
    """
    known: dict[object, str] = {}
    left, right = _folded(keys, form, known), _folded(others, form, known)
    raw = pd.Series(distinct.unique(), dtype="str").str.strip().drop_duplicates()
    once = _folded(raw, form, known)
    merged = set(once[once.duplicated() & (once != "")])
    if form is number_form or not merged:  # s5 and 5 are one study
        return left, right
    first, second = (
        folded.mask(folded.isin(merged), pd.Series(plain.str.strip().to_numpy(object)))
        for plain, folded in ((keys, left), (others, right))
    )
    return first, second


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


def _nothing(keys, others, what: str, things: str, said: str, total: int) -> str:
    here = shown("image_id", next((k for k in keys if str(k).strip()), ""))
    there = shown("image_id", next((k for k in others if str(k).strip()), "")) or "no row"
    return (
        f"{what} for 0 of {total:,} {things}: no key of {said} ({there}, ...) is one of the "
        f"{things} ({here}, ...); expected files of one release, or leave {said} out of the folder"
    )
