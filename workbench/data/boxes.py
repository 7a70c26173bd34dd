"""Boxes and masks of findings as JSON cells.

A box is {"finding", "label", "x", "y", "width", "height", "reader"}: left, top, width and height in
pixels of the published image, the label as the source writes it, and who drew it, where that is
known.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench._store import parse_json
from workbench.data.cards import DataCard
from workbench.data.columns import shown
from workbench.data.joins import owners
from workbench.data.mapping import read_numbers
from workbench.errors import InputError
from workbench.findings import cell_key

#: What a box is called where its label states no finding of the manifest.
OTHER = "other"
EDGES = ("x", "y", "width", "height")
_COMPACT = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_NAN = re.compile(r"(?<![^\s\[(,])nan(?![^\s\]),])")


def to_cell(value: object) -> str | None:
    """Return compact JSON with keys in order; None for an empty list or dictionary."""
    return _COMPACT.encode(value) if value else None


def from_cell(cell: object) -> list | dict:
    """Return what a cell holds; an empty list for an empty cell.

    Raises:
        InputError: the cell is not JSON.
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
        said: what the table is called.

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
        names, corners: as in `read_edges`.
        things, said: as in `owners`.
    """
    image, label = columns
    owner, met = owners(raw[image], images, things=things, said=said)
    edges = read_edges(raw, names, said, corners=corners)
    finding = {name: (card.findings_of(name) or (OTHER,))[0] for name in raw[label].unique()}
    boxes = {"image_id": owner, "finding": raw[label].map(finding), "label": raw[label]}
    return pd.DataFrame(boxes).join(edges)[met]


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
