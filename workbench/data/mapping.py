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
from workbench.data.frames import codes_from_masks, codes_or_cells, join_labels, read_cells
from workbench.errors import InputError
from workbench.findings import ABSENT, PRESENT, TICKS, UNCERTAIN

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
    words: Mapping[str, str] = TICKS,
) -> dict[str, pd.Categorical]:
    """Return finding -> (n,) codes from one column for each label.

    Args:
        card: the source.
        frame: the columns, as text.
        columns: names of label columns that the card knows.
        words: cell -> code; 1, 0 and -1 of CheXpert by default. An empty cell says nothing; a cell
            that is not a word stays as it is, for the check to name.

    Raises:
        InputError: two columns stand for one finding.
    """
    owner: dict[str, str] = {}
    codes = {}
    for name in columns:
        said = read_cells(frame[name], words, rows=len(frame))
        for finding in card.labels[name]:
            if finding in owner:
                raise InputError(
                    f"two columns stand for {finding}: {owner[finding]!r} and {name!r}; keep one"
                )
            owner[finding] = name
            codes[finding] = codes_or_cells(said)
    return codes


def label_columns(card: DataCard, frame: pd.DataFrame, said: str) -> list[str]:
    """Return the columns of a table that are labels of the source.

    Raises:
        InputError: there is none.
    """
    columns = [name for name in card.labels if name in frame.columns]
    if not columns:
        raise InputError(
            f"{said} has none of the label columns of {card.title}; expected "
            f"{', '.join(list(card.labels)[:3])}, ..."
        )
    return columns


def marked_columns(
    frame: pd.DataFrame, columns: Iterable[str], *, words: Mapping[str, str] = TICKS
) -> pd.Series:
    """Return (n,) names of the columns whose cell says present, joined by |."""
    joined = pd.Series([""] * len(frame), dtype=object)
    for name in columns:
        hit = read_cells(frame[name], words, rows=len(frame)) == PRESENT
        joined = joined.mask(hit, joined + "|" + name)
    return joined.str.removeprefix("|")


def with_unknown(card: DataCard, labels: pd.Series, images: pd.Series, boxes: pd.DataFrame):
    """Return (n,) labels of a source, with those of boxes that its card does not know.

    Args:
        card: the source.
        labels: (n,) labels joined by |.
        images: (n,) identifiers.
        boxes: columns image_id and label.
    """
    unknown = [name for name in boxes["label"].unique() if findings_of(card, name) is None]
    extra = boxes[boxes["label"].isin(unknown)].drop_duplicates(["image_id", "label"])
    if extra.empty:
        return labels
    found = images.map(extra.groupby("image_id")["label"].agg(list).to_dict())
    both = [
        label if not isinstance(more, list) else join_labels([*label.split("|"), *more])
        for label, more in zip(labels, found, strict=True)
    ]
    return pd.Series(both, dtype=object)


def codes_from_votes(
    card: DataCard, votes: pd.DataFrame, asked: pd.DataFrame, *, consensus: str
) -> dict[str, pd.Categorical]:
    """Return finding -> (n,) codes from how many readers marked each label.

    Args:
        card: a closed source: a label that everybody looked for and nobody marked is absent.
        votes: (n, labels) how many readers marked the label.
        asked: (n, labels) how many readers said whether they saw it.
        consensus: "majority" (more than half), "any" or "unanimous"; fewer marks are uncertain.
    """
    result: dict[str, dict[str, np.ndarray]] = {}
    for label in votes.columns:
        count, readers = votes[label].to_numpy(), asked[label].to_numpy()
        majority = readers // 2 + 1
        needed = {"any": np.ones_like(readers), "unanimous": readers}.get(consensus, majority)
        some = count > 0
        present = some & (count >= needed)
        for finding in findings_of(card, label) or ():
            none = np.zeros(len(votes), bool)
            known = result.setdefault(finding, {PRESENT: none, UNCERTAIN: none, ABSENT: ~none})
            known[PRESENT] = known[PRESENT] | present
            known[UNCERTAIN] = known[UNCERTAIN] | (some & ~present)
            known[ABSENT] = known[ABSENT] & ~some & (readers > 0)
    if "lung opacity" in result:
        specific = [result[name] for name in OPACITIES if name in result]
        marked = np.zeros(len(votes), bool)
        for known in specific:
            marked |= known[PRESENT] | known[UNCERTAIN]
        result["lung opacity"][ABSENT] = result["lung opacity"][ABSENT] & ~marked
    return {finding: codes_from_masks(len(votes), known) for finding, known in result.items()}
