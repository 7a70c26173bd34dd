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
from workbench.data.columns import shown
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
    if not value:
        return None
    return _COMPACT.encode(value)


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
    """Return columns of edges as numbers; rows without any are no boxes and stay empty.

    Args:
        raw: the table.
        names: its columns of edges: left, top, width and height.
        corners: whether they are left, top, right and bottom.
        said: what the table is called.

    Raises:
        InputError: an edge is no number, a box lacks one or is less than nothing wide or
            high; the message names row and column.
    """
    read = {name: read_numbers(raw[name], rows=len(raw)) for name in names}
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
    return edges


def box_cells(frame: pd.DataFrame, *, finding: str | None = None) -> pd.Series:
    """Return one JSON cell of boxes for each image.

    Args:
        frame: columns image_id, x, y, width, height, and where there are such finding, label and
            reader; rows whose x is missing are not boxes.
        finding: of all boxes, where the frame has no such column.

    Returns:
        image_id -> cell, boxes in the order of the rows.
    """
    known = frame[frame["x"].notna()]
    edges = {name: known[name].astype(float).tolist() for name in EDGES}
    known = known.assign(**{k: [round(edge, 3) for edge in found] for k, found in edges.items()})
    names = [*EDGES, *(name for name in ("finding", "label", "reader") if name in known)]
    columns = [known[name].astype(object).tolist() for name in names]
    shared = {} if finding is None else {"finding": finding}
    grouped: dict[str, list[dict]] = {}
    for image, *cells in zip(known["image_id"].tolist(), *columns, strict=True):
        said = {name: cell for name, cell in zip(names, cells, strict=True) if cell is not None}
        grouped.setdefault(image, []).append(shared | said)
    return pd.Series({image: to_cell(boxes) for image, boxes in grouped.items()}, dtype=object)


def count_items(cells: pd.Series) -> int:
    """Return how many boxes or masks a column holds."""
    return int(cells.dropna().str.count(r'"finding":').sum())
