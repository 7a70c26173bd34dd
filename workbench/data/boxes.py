"""Boxes and masks of findings as JSON cells, and the consensus of several readers.

A box is {"finding", "label", "x", "y", "width", "height", "reader"}: left, top, width and height in
pixels of the published image, the label as the source writes it, and who drew it, where that is
known.

Does not know: images.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench._store import parse_json
from workbench.data.frames import read_numbers
from workbench.data.redact import shown
from workbench.errors import InputError, OptionError
from workbench.findings import cell_key

#: What a box is called where its label states no finding of the manifest.
OTHER = "other"
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
    names = ["x", "y", "width", "height"]
    names += [name for name in ("finding", "label", "reader") if name in known]
    columns = [known[name].astype(object).tolist() for name in names]
    columns[:4] = [[_number(value) for value in column] for column in columns[:4]]
    grouped: dict[str, list[dict]] = {}
    for image, *cells in zip(known["image_id"].tolist(), *columns, strict=True):
        said = {name: cell for name, cell in zip(names, cells, strict=True) if cell is not None}
        if finding is not None:
            said.setdefault("finding", finding)
        grouped.setdefault(image, []).append(said)
    return pd.Series({image: to_cell(boxes) for image, boxes in grouped.items()}, dtype=object)


def count_items(cells: pd.Series) -> int:
    """Return how many boxes or masks a column holds."""
    known = cells.dropna()
    items = known.str.count(r'"finding":')
    return int(items.sum())


def consensus_boxes(boxes: Sequence[dict], *, overlap: float = 0.4, readers: int = 2) -> list[dict]:
    """Merge boxes of one finding that several readers drew around the same place.

    Boxes join a group when their intersection over union with its first box reaches `overlap`; a
    group that fewer than `readers` different readers drew is left out; the others become the mean
    of their edges.

    Args:
        boxes: of one image, in pixels.
        overlap: intersection over union, in (0, 1].
        readers: how many different readers a box needs.

    Raises:
        OptionError: overlap is not in (0, 1].
    """
    if not 0 < overlap <= 1:
        raise OptionError(f"overlap must be above 0 and at most 1, got {overlap}")
    merged = []
    for finding in sorted({box["finding"] for box in boxes}):
        groups: list[list[dict]] = []
        for box in (item for item in boxes if item["finding"] == finding):
            home = next((g for g in groups if _overlap(g[0], box) >= overlap), None)
            groups.append([box]) if home is None else home.append(box)
        for group in groups:
            if len({box.get("reader") for box in group}) >= readers:
                merged.append(_mean(group) | {"finding": finding, "reader": "consensus"})
    return merged


def _number(value: object) -> float:
    return round(float(value), 3)


def _edges(box: dict) -> tuple[float, float, float, float]:
    return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]


def _overlap(one: dict, two: dict) -> float:
    a, b = _edges(one), _edges(two)
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    whole = one["width"] * one["height"] + two["width"] * two["height"] - shared
    return shared / whole if whole > 0 else 0.0


def _mean(group: list[dict]) -> dict:
    left, top, right, bottom = np.mean([_edges(box) for box in group], axis=0)
    return {
        "x": _number(left),
        "y": _number(top),
        "width": _number(right - left),
        "height": _number(bottom - top),
    }
