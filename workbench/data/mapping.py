"""From the labels of a source to the findings of a manifest, through its data card.

Only what a source says becomes a code. A label that is not ticked is "not mentioned", except where
the card says that every label was looked for in every image (`closed`).

Does not know: files.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from workbench.data.cards import DataCard
from workbench.data.columns import FINDING_COLUMNS
from workbench.data.frames import codes_from_masks
from workbench.findings import ABSENT, CHEXPERT_CELLS, PRESENT, UNCERTAIN

#: Findings that a more specific opacity implies; see the card of VinDr-CXR.
OPACITIES = (
    "consolidation",
    "infiltration",
    "atelectasis",
    "pulmonary edema",
    "pneumonia",
    "lung lesion",
    "nodule",
    "mass",
    "tuberculosis",
)


def plain(word: str) -> str:
    """Return a word without accents, in lower case, with single blanks."""
    decomposed = unicodedata.normalize("NFKD", word)
    kept = "".join(c for c in decomposed if not unicodedata.combining(c) or c == "\u0303")
    return " ".join(unicodedata.normalize("NFC", kept).casefold().split())


def findings_of(card: DataCard, label: str, *, separator: str | None = None):
    """Return what a label states present, None for a label the card does not know.

    Args:
        card: the source.
        label: as the source writes it.
        separator: what stands between a label and its qualifiers, as in Opacity/lung/base.
    """
    head = label.partition(separator)[0].strip() if separator else label.strip()
    found = card.findings_of(head)
    return card.findings_of(plain(head)) if found is None else found


def present_from_lists(
    card: DataCard, lists: pd.Series, *, separator: str | None = None
) -> dict[str, pd.Categorical]:
    """Return finding -> (n,) codes, present where one of the labels of a row states it.

    Args:
        card: the source.
        lists: (n,) labels joined by |.
        separator: see `findings_of`.
    """
    codes, unique = pd.factorize(lists.fillna(""))
    table = np.zeros((len(FINDING_COLUMNS), len(unique)), dtype=bool)
    for column, text in enumerate(unique):
        for label in text.split("|"):
            for finding in findings_of(card, label, separator=separator) or ():
                table[FINDING_COLUMNS.index(finding), column] = True
    return {
        finding: codes_from_masks(len(lists), {PRESENT: row[codes]})
        for finding, row in zip(FINDING_COLUMNS, table, strict=True)
        if row.any()
    }


def codes_from_columns(
    card: DataCard,
    frame: pd.DataFrame,
    columns: Iterable[str],
    *,
    words: Mapping[str, str] | None = None,
) -> dict[str, pd.Categorical | pd.Series]:
    """Return finding -> (n,) codes from one column for each label.

    Args:
        card: the source.
        frame: the columns, as text.
        columns: names of label columns that the card knows.
        words: cell -> code; None for 1.0 / 0.0 / -1.0 of CheXpert. An empty cell says nothing; a
            cell that is not a word stays as it is, for the check to name.
    """
    words = CHEXPERT_CELLS if words is None else words
    masks: dict[str, dict[str, np.ndarray]] = {}
    odd: dict[str, pd.Series] = {}
    for name in columns:
        cells = frame[name].str.strip()
        strange = cells[(cells != "") & ~cells.isin(list(words))]
        for finding in card.labels[name]:
            if len(strange):
                odd[finding] = strange
            known = masks.setdefault(finding, {})
            for cell, code in words.items():
                hit = (cells == cell).to_numpy(bool)
                known[code] = known.get(code, np.zeros(len(frame), bool)) | hit
    codes = {finding: codes_from_masks(len(frame), known) for finding, known in masks.items()}
    return codes | {finding: _with_odd(codes[finding], cells) for finding, cells in odd.items()}


def _with_odd(codes: pd.Categorical, cells: pd.Series) -> pd.Series:
    values = pd.Series(codes).astype(object)
    values.loc[cells.index] = cells
    return values


def marked_columns(frame: pd.DataFrame, columns: Iterable[str], cells: Iterable[str]) -> pd.Series:
    """Return (n,) names of the columns whose cell is one of `cells`, joined by |."""
    wanted = set(cells)
    joined = pd.Series([""] * len(frame), dtype=object)
    for name in columns:
        hit = frame[name].str.strip().isin(wanted).to_numpy(bool)
        joined = joined.mask(hit, joined + "|" + name)
    return joined.str.removeprefix("|")


def codes_from_votes(
    card: DataCard, votes: pd.DataFrame, readers: np.ndarray, *, consensus: str
) -> dict[str, pd.Categorical]:
    """Return finding -> (n,) codes from how many readers marked each label.

    Args:
        card: a closed source: a label that nobody marked is absent.
        votes: (n, labels) how many readers marked the label.
        readers: (n,) how many looked.
        consensus: "majority" (more than half), "any" or "unanimous"; fewer marks are uncertain.
    """
    needed = {"any": np.ones_like(readers), "unanimous": readers}.get(consensus, readers // 2 + 1)
    result: dict[str, dict[str, np.ndarray]] = {}
    for label in votes.columns:
        count = votes[label].to_numpy()
        present, some = count >= needed, count > 0
        for finding in card.labels.get(label, ()):
            known = result.setdefault(finding, {})
            for code, hit in (
                (PRESENT, present),
                (UNCERTAIN, some & ~present),
                (ABSENT, ~some),
            ):
                known[code] = known.get(code, np.zeros(len(votes), bool)) | hit
    if "lung opacity" in result:
        specific = [result[name] for name in OPACITIES if name in result]
        marked = np.zeros(len(votes), bool)
        for known in specific:
            marked |= known[PRESENT] | known[UNCERTAIN]
        result["lung opacity"][ABSENT] &= ~marked
    return {finding: codes_from_masks(len(votes), known) for finding, known in result.items()}
