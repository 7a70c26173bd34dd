"""From the cells and labels of a source to the codes and boxes of a manifest, through its card.

Only what a source says becomes a code. A label that is not ticked is "not mentioned"; a cell that
is not understood stays as it is, for the check to name.

Boxes and masks are JSON cells. A box is {"finding", "label", "x", "y", "width", "height",
"reader"}: left, top, width and height in pixels of the published image, the label as the source
writes it, and who drew it, where that is known.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from workbench._store import parse_json
from workbench.data.cards import DataCard
from workbench.data.columns import FINDING_COLUMNS, PROVENANCES, REPORT_SECTIONS, VOCABULARY, shown
from workbench.data.frames import map_unique, meet, name_form, nothing_meets, refuse_two
from workbench.errors import InputError
from workbench.findings import ABSENT, NOT_MENTIONED, PRESENT, TICKS, UNCERTAIN, cell_key, read_cell

#: What a reader can say of one label: seen or not.
TICKED = {"1": PRESENT, "0": ABSENT}


def _words(said: Mapping[str, Iterable[str]]) -> dict[str, str]:
    return {word: value for value, words in said.items() for word in words}


#: Column -> what sources and people write -> the value that is meant.
WORDS = {column: _words(said) for column, said in VOCABULARY["words"].items()}
WORDS["provenance"] = {name: name for name in PROVENANCES}
#: A sentence, and not just the name of an examination.
_SAYS_SOMETHING = re.compile(r"\w+ \w+ \w+[^.]*\.(?:\s|$)")
_RULE = re.compile(r"_{10,}")
#: What a box is called where its label states no finding of the manifest.
OTHER = "other"
EDGES = ("x", "y", "width", "height")
_COMPACT = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_NAN = re.compile(r"(?<![^\s\[(,])nan(?![^\s\]),])")


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
            refuse_two(owner.get(finding), name, finding)
            owner[finding] = name
            codes[finding] = said
    return codes | {"source_labels": marked(hits, len(frame))}


def marked(hits: Mapping[str, np.ndarray | pd.Series], rows: int) -> pd.Series:
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
    found: pd.Series = images.map(unknown.groupby("image_id")["label"].agg("|".join)).fillna("")
    both = labels.str.cat(found, sep="|").map(lambda text: join_labels(str(text).split("|")))
    return labels.mask(found != "", both)


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


# ---------------------------------------------------------------- boxes


def to_cell(value: object) -> str | None:
    """Return compact JSON with keys in order; None for an empty list or dictionary."""
    return _COMPACT.encode(value) if value else None


def from_cell(cell: object) -> list | dict:
    """Return what a cell holds; an empty list for an empty cell.

    Raises:
        InputError: the cell is not JSON.

    >>> wb.data.from_cell('[{"finding": "nodule"}]')
    [{'finding': 'nodule'}]
    """
    if not isinstance(cell, str) or not cell:
        return []
    try:
        return parse_json(cell)
    except ValueError:
        raise InputError(
            "a cell of boxes, masks, locations or severity is not JSON; run "
            "`workbench manifest check` on the manifest, which names the row"
        ) from None


def parse_list(cell: str) -> list | None:
    """Return the list that a published cell holds in Python's notation; None for anything else.

    An empty cell is an empty list; nan in a list, which pandas writes for nothing, is None.
    """
    if not cell_key(cell):
        return []
    try:
        found = ast.literal_eval(_NAN.sub("None", cell.strip()))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return list(found) if isinstance(found, (list, tuple)) else None


def read_edges(
    raw: pd.DataFrame, names: Sequence[str], said: str, *, corners: bool = False
) -> pd.DataFrame:
    """Return (n,) x, y, width and height as numbers; rows without any are no boxes and stay empty.

    Args:
        names: columns: left, top, width and height, or with `corners` left, top, right and bottom.

    Raises:
        InputError: an edge is no number, a box lacks one or has a negative width or height.
    """
    read = {name: read_numbers(raw[name]) for name in names}
    edges = pd.DataFrame({name: numbers.to_numpy() for name, (numbers, _) in read.items()})
    boxed = edges.notna().any(axis=1).to_numpy() | np.any([odd for _, odd in read.values()], axis=0)
    for name in names:
        wrong = boxed & edges[name].isna().to_numpy()
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            cell = shown(None, raw[name].iloc[row]) or "an empty cell"
            raise InputError(
                f"{said}, row {row + 1}, column {name!r}: {cell} is no edge of a box; expected a "
                "number, or all edges empty where there is no box"
            )
    for name, start in zip(names[2:], names[:2], strict=True):
        size = edges[name] - (edges[start] if corners else 0)
        if (size < 0).any():
            row = int(np.flatnonzero(size < 0)[0])
            raise InputError(
                f"{said}, row {row + 1}, column {name!r}: {edges[name].iloc[row]:g} gives a box "
                "less than nothing wide or high; expected left, top, "
                + ("right and bottom" if corners else "width and height")
            )
        edges[name] = size
    return edges.set_axis(EDGES, axis=1)


def read_boxes(
    card: DataCard,
    raw: pd.DataFrame,
    images: pd.Series,
    columns: tuple[str, str],
    names: Sequence[str],
    *,
    things: str,
    said: str,
    corners: bool = False,
) -> pd.DataFrame:
    """Return the boxes that are on these images: image_id, finding, label, and their edges.

    Args:
        raw: one row for each box; `columns` hold its image and its label.
        names, said, corners: as in `read_edges`.
        things: what the rows are called: "boxes".

    Raises:
        InputError: as in `read_edges`, or not one row is of an image.
    """
    image, label = columns
    known = images.drop_duplicates()
    forms, keys = meet(known, raw[image], name_form)
    owner = keys.map(dict(zip(forms, known, strict=True))).astype(object)
    if len(known) and len(raw) and owner.isna().all():
        raise InputError(nothing_meets(images, raw[image], things, "images", said, len(known)))
    edges = read_edges(raw, names, said, corners=corners)
    finding = {name: (card.findings_of(name) or (OTHER,))[0] for name in raw[label].unique()}
    boxes = {"image_id": owner, "finding": raw[label].map(finding), "label": raw[label]}
    return pd.DataFrame(boxes).join(edges)[owner.notna()]


def box_cells(boxes: pd.DataFrame) -> dict[str, str | None]:
    """Return image -> JSON cell of its boxes, in the order of the rows.

    Columns are image_id, x, y, width, height, and where there are such finding, label and reader;
    rows whose x is missing are not boxes.
    """
    known = boxes[boxes["x"].notna()]
    known = known.assign(
        **{name: [round(float(edge), 3) for edge in known[name]] for name in EDGES}
    )
    names = [*EDGES, *(name for name in ("finding", "label", "reader") if name in known)]
    grouped: dict[str, list[dict]] = {}
    for image, box in zip(known["image_id"], known[names].to_dict("records"), strict=True):
        grouped.setdefault(image, []).append(box)
    return {image: to_cell(found) for image, found in grouped.items()}


def count_items(cells: pd.Series) -> int:
    """Return how many boxes or masks a column holds."""
    return int(cells.dropna().str.count(r'"finding":').sum())
