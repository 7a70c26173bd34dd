"""Down through the vision tower: rollout and flow of attention, from words to the patches.

Behind the last layer of the tower, "patch 37" is the sum of what 37 was and of everything it
attended to on the way. Both methods take each layer as a matrix that mixes tokens, a share of it
the residual connection, and push the attention of the words to the image tokens through:

- rollout multiplies the layers;
- flow takes them as pipes, a weight being how much a pipe carries. The value at a place is the
  largest flow from the words to it, by itself. A deep tower has so many ways round that mostly the
  last pipes into the place bind, and then the map is the same for any words.

Neither knows values, MLPs and norms, which decide how much of a token really moves, nor heads that
disagree, which are averaged. `scores["like_everywhere"]` tells how much a map owes to the words.

Paper: Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, arXiv 2005.00928,
section 3.
Deviations: the residual share is an option (the paper's 0.5 by default); the paper starts at one
token, here the words' attention to the image tokens is the row above the tower's (scaled to sum 1
for flow, as the paper's rows do); `discard` is not in the paper (the idea is from Gildenblat,
Exploring Explainability for Vision Transformers, 2020). For flow, patches are pooled into regions
(rows averaged, columns added), because one maximum flow is solved for each place; exact when
`regions` is the patch grid. Capacities are whole numbers of 1e-6.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import block_diag, csr_array
from scipy.sparse.csgraph import maximum_flow

from workbench.attention.word_maps import (
    likeness,
    patch_rows,
    reduce_rows,
    words_described,
)
from workbench.backends.levels import READER, needs
from workbench.errors import InputError, OptionError
from workbench.figures.numbers import method_name
from workbench.trace import ImageMap, Selection, SelectionOptions, Trace

#: Capacity of a pipe of weight 1.
SCALE = 1_000_000

EVERYWHERE = "all image tokens alike"


@needs(READER)
def rollout_matrix(
    trace: Trace, *, residual: float = 0.5, discard: float = 0.0
) -> Float[np.ndarray, "out in"]:
    """Multiply the vision tower's layers, heads averaged.

    Args:
        residual: share of each layer that stays with the token, in [0, 1].
        discard: share of the smallest weights of each row that are set to 0 before the row is
            scaled back to sum 1, in [0, 1).

    Returns:
        (N + 1, N + 1) float64. Row i: what token i at the end was mixed from; every row sums to 1.
        The first row and column belong to the class token.

    Raises:
        InputError: the trace holds no vision rows, or not those of every layer.
        OptionError: residual or discard is outside its range.

    >>> wb.attention.rollout_matrix(trace).sum(axis=1).round(3).tolist()[:2]  # rows sum to 1
    [1.0, 1.0]
    """
    mixed, *rest = mixing_layers(trace, residual=residual, discard=discard)
    for layer in rest:
        mixed = layer @ mixed
    return mixed


@needs(READER)
def rollout(
    trace: Trace,
    phrase: str | Selection | None = None,
    *,
    layer: int | None = None,
    head: int | None = None,
    reduce: str = "mean",
    residual: float = 0.5,
    discard: float = 0.0,
    **named: Unpack[SelectionOptions],
) -> ImageMap:
    """Map what a part of the text looked at, followed down to the patches that came in.

    Args:
        phrase, **named: the words whose attention to the image tokens is pushed down, see
            `Trace.select`; every image token counts alike when nothing is named.
        layer, head, reduce: of the language model; see `to_image`.
        residual, discard: see `rollout_matrix`.

    Returns:
        A map on the patch grid, in [0, 1]. With `scores["class_token"]`, the share that ends at no
        place, it sums to `scores["image_share"]` (1 when nothing is named).
        `scores["like_everywhere"]` is the correlation with the map of all image tokens alike; a
        caution says where that is high, because the map then tells of the tower and not of the
        words.

    Raises:
        InputError, OptionError: see `rollout_matrix` and `to_image`.

    >>> wb.attention.rollout(trace, "left").unit
    'share of attention, through the vision tower'
    """
    started = time.perf_counter()
    matrix = rollout_matrix(trace, residual=residual, discard=discard)
    weights, described = _start(trace, phrase, named, layer=layer, head=head, reduce=reduce)
    arrived = weights @ matrix[1:]
    return _map(
        trace,
        arrived[1:].reshape(trace.layout.grid),
        described,
        lambda: matrix[1:, 1:].mean(0),
        started,
        method=method_name("rollout"),
        unit="share of attention, through the vision tower",
        scores={"class_token": float(arrived[0]), "image_share": float(weights.sum())},
        settings={"residual": residual, "discard": discard},
    )


@needs(READER)
def flow(
    trace: Trace,
    phrase: str | Selection | None = None,
    *,
    layer: int | None = None,
    head: int | None = None,
    reduce: str = "mean",
    residual: float = 0.5,
    regions: tuple[int, ...] = (8, 8),
    **named: Unpack[SelectionOptions],
) -> ImageMap:
    """Map the maximum flow of attention from a part of the text to each region of the image.

    Args:
        trace, phrase, layer, head, reduce, residual, **named: see `rollout`.
        regions: rows and columns that patches are pooled into; at most the patch grid, and cut
            down to it where it is smaller.

    Returns:
        A map on the regions, each value in [0, 1]. Values are flows of separate problems and need
        not sum to anything. The class token takes part as a way round, and has no value.

    >>> wb.attention.flow(trace, finding="pleural effusion").unit
    'maximum flow, 1 is all that leaves the words'
    """
    started = time.perf_counter()
    layers = mixing_layers(trace, residual=residual)
    weights, described = _start(trace, phrase, named, layer=layer, head=head, reduce=reduce)
    groups, shape = region_of(trace.layout.grid, regions)
    pooled = [pool(matrix, groups) for matrix in layers]

    def arriving(leaving: np.ndarray) -> np.ndarray:
        sent = np.bincount(groups, np.concatenate(([0.0], leaving / leaving.sum())))
        return max_flows(pooled, sent)[1:]

    return _map(
        trace,
        arriving(weights).reshape(shape),
        described,
        lambda: arriving(np.ones(len(weights))),
        started,
        method=method_name("flow"),
        unit="maximum flow, 1 is all that leaves the words",
        scores={"image_share": float(weights.sum())},
        settings={"residual": residual, "regions": list(shape)},
    )


def mixing_layers(
    trace: Trace, *, residual: float, discard: float = 0.0
) -> list[Float[np.ndarray, "out in"]]:
    """Return residual * I + (1 - residual) * attention of each vision layer, in order."""
    if not 0 <= residual <= 1:
        raise OptionError(f"residual is a share between 0 and 1, got {residual}")
    if not 0 <= discard < 1:
        raise OptionError(f"discard is a share from 0 to below 1, got {discard}")
    rows = trace.need_vision()
    if len(rows.layers) != rows.total_layers:
        raise InputError(
            f"the trace holds {len(rows.layers)} of {rows.total_layers} vision layers, and what "
            "the others mixed is unknown; trace again with vision='each' or vision='mean'"
        )
    mixed = []
    for number in rows.layers:
        attention = rows.pick(number).astype(np.float64)
        if count := int(discard * attention.shape[1]):
            smallest = np.argpartition(attention, count - 1, axis=1)[:, :count]
            np.put_along_axis(attention, smallest, 0.0, axis=1)
        attention /= attention.sum(1, keepdims=True)
        mixed.append(residual * np.eye(len(attention)) + (1 - residual) * attention)
    return mixed


def _start(
    trace: Trace, phrase: str | Selection | None, named: SelectionOptions, **read: Any
) -> tuple[Float[np.ndarray, " N"], dict[str, Any]]:
    """Return the weight of each image token, all alike where nothing is named, and what it is.

    `read` are layer, head and reduce, of the language model.
    """
    if phrase is None and trace.select(**named).kind == "text":
        count, identity = trace.layout.image_tokens, trace.generation.model
        settings = {"kind": "everywhere", "model": identity.id, "sha256": identity.sha256}
        described = {"target": EVERYWHERE, "layer": "vision layers", "settings": settings}
        return np.full(count, 1 / count), described
    selection = trace.layout.choose(phrase, **named)
    described = words_described(trace, selection, **read)
    described["layer"] += ", then the vision layers"
    rows = patch_rows(trace, layer=read["layer"], head=read["head"])
    return reduce_rows(rows, selection, read["reduce"]), described


def _map(
    trace: Trace,
    values: Float[np.ndarray, "rows columns"],
    described: dict[str, Any],
    everywhere: Callable[[], Float[np.ndarray, " cells"]],
    started: float,
    *,
    scores: dict[str, float],
    settings: dict[str, object],
    **made: str,
) -> ImageMap:
    """Return the map of what arrived; of words, compared with what arrives from everywhere."""
    if described["target"] != EVERYWHERE:
        like, described["caution"] = likeness(values.ravel(), everywhere(), "no words at all")
        scores["like_everywhere"] = like
    described["settings"] |= settings
    seconds = time.perf_counter() - started
    geometry = trace.layout.geometry
    return ImageMap(
        values, geometry, trace.image, scores=scores, seconds=seconds, **made, **described
    )


def max_flows(
    layers: Sequence[Float[np.ndarray, "G G"]], start: Float[np.ndarray, " G"]
) -> Float[np.ndarray, " G"]:
    """Return the maximum flow from a source to each input node of a layered network.

    `layers` are capacities, that nearest the input first; [i, j] is the pipe from node i above to
    node j below. `start` is the capacity of the pipe from the source to each node on top.
    """
    # Nodes are the inputs, layer by layer those above, and the source: pipes lead one layer down.
    count = len(start)
    pipes = [np.zeros((count, 0)), *layers, start[None], np.zeros((0, 1))]
    graph = csr_array(block_diag([np.floor(p * SCALE + 1e-6).astype(np.int32) for p in pipes]))
    source = (len(layers) + 1) * count
    return np.array([maximum_flow(graph, source, j).flow_value / SCALE for j in range(count)])


def region_of(
    grid: tuple[int, int], regions: tuple[int, ...]
) -> tuple[Int[np.ndarray, " tokens"], tuple[int, int]]:
    """Return the node of each token (the class token is node 0), and the shape of the regions."""
    if len(regions) != 2 or any(not isinstance(n, int) or n < 1 for n in regions):
        raise OptionError(
            f"regions must be two whole numbers from 1 up (rows, columns), got {regions!r}"
        )
    high, wide = (min(asked, there) for asked, there in zip(regions, grid, strict=True))
    row, column = np.indices(grid).reshape(2, -1)
    node = 1 + (row * high // grid[0]) * wide + column * wide // grid[1]
    return np.concatenate(([0], node)), (high, wide)


def pool(
    matrix: Float[np.ndarray, "tokens tokens"], groups: Int[np.ndarray, " tokens"]
) -> Float[np.ndarray, "G G"]:
    """Average rows and add columns that share a node; rows that sum to 1 still do."""
    member = np.eye(groups.max() + 1)[groups]
    return (member / member.sum(0)).T @ matrix @ member
