"""From the cells and labels of a source to the codes of a manifest, through its data card.

Only what a source says becomes a code. A label that is not ticked is "not mentioned"; a cell that
is not understood stays as it is, for the check to name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from workbench.data.cards import DataCard
from workbench.data.columns import FINDING_COLUMNS, REPORT_SECTIONS, VOCABULARY
from workbench.data.frames import map_unique
from workbench.errors import InputError
from workbench.findings import (
    ABSENT,
    NOT_MENTIONED,
    PRESENT,
    TICKS,
    UNCERTAIN,
    cell_key,
    read_cell,
)

#: What a reader can say of one label: seen or not.
TICKED = {"1": PRESENT, "0": ABSENT}


def _words(said: Mapping[str, Iterable[str]]) -> dict[str, str]:
    return {word: value for value, words in said.items() for word in words}


#: Column -> what sources and people write -> the value that is meant.
WORDS = {column: _words(said) for column, said in VOCABULARY["words"].items()}
#: A sentence, and not just the name of an examination.
_SAYS_SOMETHING = re.compile(r"\w+ \w+ \w+[^.]*\.(?:\s|$)")
_RULE = re.compile(r"_{10,}")


def read_cells(
    values: pd.Series, words: Mapping[str, str], *, empty: str | None = None
) -> np.ndarray:
    """Return (n,) what cells of a closed vocabulary say (`workbench.findings.read_cell`).

    Words are in any case. A cell that is not understood stays as it is.
    """
    table = {cell_key(word): said for word, said in words.items()}

    def said(cell: object) -> object:
        found = read_cell(cell, table)
        return str(cell).strip() if found is None else found or empty

    return map_unique(values, said, missing=empty)


def read_numbers(values: pd.Series) -> tuple[pd.Series, np.ndarray]:
    """Return (n,) float numbers, missing where there is none, and (n,) bool: what is no number."""
    cells = pd.Series(map_unique(values, cell_key, missing=""))
    numbers = pd.to_numeric(cells.where(cells != ""), errors="coerce").astype(float)
    odd = ~np.isfinite(numbers.to_numpy()) & (cells != "").to_numpy(bool)
    return numbers.mask(odd), odd


def agreed(keys: pd.Series, said: Iterable[object]) -> pd.Series:
    """Return key -> what all its rows say; rows that contradict each other are joined by |."""
    table = pd.DataFrame({"key": keys.to_numpy(object), "said": list(said)}).dropna()
    return table.drop_duplicates().groupby("key")["said"].agg("|".join).astype(object)


def join_labels(labels: Iterable[str]) -> str:
    """Return labels joined by |, in their order, each once, without empty ones."""
    return "|".join(dict.fromkeys(label.strip() for label in labels if label.strip()))


def codes_from_masks(masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return (n,) codes from code -> (n,) bool: present beats uncertain beats absent."""
    known = [code for code in (PRESENT, UNCERTAIN, ABSENT) if code in masks]
    found = np.select([masks[code] for code in known], known, NOT_MENTIONED)
    return found.astype(object)


def codes_from_lists(card: DataCard, lists: pd.Series) -> dict[str, np.ndarray]:
    """Return finding -> (n,) codes, present where one of the labels, joined by |, states it."""
    codes, unique = pd.factorize(lists.fillna(""))
    table = np.zeros((len(FINDING_COLUMNS), len(unique)), dtype=bool)
    for column, text in enumerate(unique):
        for label in text.split("|"):
            for finding in card.findings_of(label) or ():
                table[FINDING_COLUMNS.index(finding), column] = True
    return {
        finding: codes_from_masks({PRESENT: row[codes]})
        for finding, row in zip(FINDING_COLUMNS, table, strict=True)
        if row.any()
    }


def codes_from_columns(
    card: DataCard,
    frame: pd.DataFrame,
    columns: Iterable[str] | None = None,
    *,
    words: Mapping[str, str] = TICKS,
) -> dict[str, pd.Series | np.ndarray]:
    """Return finding -> (n,) codes from columns of labels; by default all that are there.

    "source_labels" are the names of the columns that say present, joined by |. Words are cell ->
    code; 1, 0 and -1 of CheXpert by default. A cell that is no code stays, for the check to name.

    Raises:
        InputError: two columns stand for one finding.
    """
    owner: dict[str, str] = {}
    codes: dict[str, pd.Series | np.ndarray] = {}
    hits = {}
    for name in columns or [name for name in card.labels if name in frame]:
        said = read_cells(frame[name], words)
        hits[name] = said == PRESENT
        for finding in card.labels[name]:
            if finding in owner:
                raise InputError(
                    f"two columns stand for {finding}: {owner[finding]!r} and {name!r}; keep one"
                )
            owner[finding] = name
            codes[finding] = said
    return codes | {"source_labels": marked(hits, len(frame))}


def marked(hits: Mapping[str, np.ndarray], rows: int) -> pd.Series:
    """Return (rows,) names of labels that a row has, joined by |, from label -> (rows,) bool."""
    joined = pd.Series([""] * rows, dtype=object)
    for name, hit in hits.items():
        joined = joined.mask(hit, joined + "|" + name)
    return joined.str.removeprefix("|")


def with_unknown(
    card: DataCard, labels: pd.Series, images: pd.Series, boxes: pd.DataFrame
) -> pd.Series:
    """Return (n,) labels, joined by |, with those of boxes that the card does not know."""
    unknown = boxes[boxes["label"].map(card.findings_of).isna()]
    if unknown.empty:
        return labels
    found = images.map(unknown.groupby("image_id")["label"].agg(list))
    both = [
        label if not isinstance(more, list) else join_labels([*label.split("|"), *more])
        for label, more in zip(labels, found, strict=True)
    ]
    return pd.Series(both, dtype=object)


def sections(text: str) -> dict[str, str]:
    """Return section -> text with single blanks, for the `REPORT_SECTIONS` that a report has.

    The headings are those of `workbench.reports`; "FINDINGS AND IMPRESSION" counts as findings.
    What no heading claims counts as findings where these have none, and so do an addendum or a
    first reading where there is no impression either.
    """
    from workbench.reports import divide

    found: dict[str, str] = {}
    for section in divide(text):
        name = section.name or ("body" if section.start else "lead")
        said = _RULE.sub(" ", text[section.body : section.end])
        if name in ("lead", "body", "other") and section.skipped:
            continue
        found[name] = " ".join(f"{found.get(name, '')} {said}".split())
    result = {key: found[key] for key in REPORT_SECTIONS if found.get(key)}
    lead, body = found.get("lead", ""), found.get("body", "")
    if "findings" not in result and (_SAYS_SOMETHING.search(lead) or not (result or body)):
        body = f"{lead} {body}".strip()
    if not body and not result.keys() & {"findings", "impression"}:
        body = found.get("other", "")
    if "findings" not in result and body:
        result["findings"] = body
    return {key: result[key] for key in REPORT_SECTIONS if key in result}
