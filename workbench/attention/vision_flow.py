"""Attention flow: how much could run from words to a place in the image if attention were pipes.

The layers of the vision tower are a network of pipes; a weight, the residual share included, is how
much a pipe carries. The words are one more node on top, joined to the image tokens by their own
attention. The value at a place is the largest flow from the words to it, by itself.

Does not know: values, MLPs, norms. It is bounded by the narrowest cut between words and place. A
deep tower has so many ways round that mostly the last pipes into the place bind, and then the map
is the same for any words: `scores["like_everywhere"]` tells, and the map carries a caution.
Paper: Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, arXiv 2005.00928,
section 3 ("attention flow").
Deviations: patches are pooled into regions (rows averaged, columns added), because one maximum flow
is solved for each place; exact when `regions` is the patch grid. Capacities are whole numbers of
1e-6. The words' attention to the image tokens is scaled to sum 1, as the paper's rows do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Unpack

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from workbench.attention.choice import Choice, alike_caution, is_named, likeness
from workbench.attention.vision_rollout import mixing_layers, starting_weights
from workbench.errors import OptionError
from workbench.figures.names import method_name
from workbench.trace import ImageMap, Trace

#: Capacity of a pipe of weight 1.
SCALE = 1_000_000


def flow(
    trace: Trace,
    phrase: str | None = None,
    *,
    layer: int | None = None,
    head: int | None = None,
    reduce: str = "mean",
    residual: float = 0.5,
    regions: tuple[int, ...] = (8, 8),
    **choice: Unpack[Choice],
) -> ImageMap:
    """Map the maximum flow of attention from a part of the text to each region of the image.

    Args:
        trace: the run, with vision rows.
        phrase, **choice: the words; every image token counts alike when nothing is named.
        layer, head, reduce: of the language model; see `to_image`.
        residual: share of each vision layer that stays with the token, in [0, 1].
        regions: rows and columns that patches are pooled into; at most the patch grid, and cut
            down to it where it is smaller.

    Returns:
        A map on the regions, each value in [0, 1]. Values are flows of separate problems and need
        not sum to anything. The class token takes part as a way round, and has no value.
        `scores["like_everywhere"]` as in `rollout`.

    Raises:
        InputError: there are no vision rows; the phrase is not in the text.
        OptionError: an option is out of range.
    """
    started = time.perf_counter()
    layers = mixing_layers(trace, residual=residual)
    weights, described = starting_weights(
        trace, phrase, choice, layer=layer, head=head, reduce=reduce
    )
    groups, shape = region_of(trace.layout.grid, regions)
    pooled = [pool(matrix, groups) for matrix in layers]
    found = max_flows(pooled, _start(weights, groups))[1:]
    scores, caution = {"image_share": float(weights.sum())}, None
    if is_named(phrase, choice):
        everywhere = max_flows(pooled, _start(np.ones(len(weights)), groups))[1:]
        scores["like_everywhere"] = likeness(found, everywhere)
        caution = alike_caution(scores["like_everywhere"], "no words at all")
    described["settings"] |= {"residual": residual, "regions": list(shape)}
    return ImageMap(
        found.reshape(shape),
        trace.layout.geometry,
        trace.image,
        method=method_name("flow"),
        unit="maximum flow, 1 is all that leaves the words",
        caution=caution,
        scores=scores,
        seconds=time.perf_counter() - started,
        **described,
    )


def max_flows(
    layers: Sequence[Float[np.ndarray, "G G"]], start: Float[np.ndarray, " G"]
) -> Float[np.ndarray, " G"]:
    """Return the maximum flow from a source to each input node of a layered network.

    Args:
        layers: capacities, the layer nearest the input first; [i, j] is the pipe from node i above
            to node j below. Not negative.
        start: capacity of the pipe from the source to each node on top.

    Returns:
        (G,) in units of capacity, rounded down to 1e-6 at each pipe.
    """
    count, depth = len(start), len(layers)
    sources = [np.zeros(count, np.int64)]
    targets = [1 + depth * count + np.arange(count)]
    capacities = [start]
    above, below = np.indices((count, count)).reshape(2, -1)
    for level, matrix in enumerate(layers, 1):
        sources.append(1 + level * count + above)
        targets.append(1 + (level - 1) * count + below)
        capacities.append(matrix.ravel())
    whole = np.floor(np.concatenate(capacities) * SCALE + 1e-6).astype(np.int32)
    size = 1 + (depth + 1) * count
    pipes = (np.concatenate(sources), np.concatenate(targets))
    graph = csr_array((whole, pipes), shape=(size, size), dtype=np.int32)
    graph.eliminate_zeros()
    return np.array([maximum_flow(graph, 0, 1 + j).flow_value / SCALE for j in range(count)])


def region_of(
    grid: tuple[int, int], regions: tuple[int, ...]
) -> tuple[Int[np.ndarray, " tokens"], tuple[int, int]]:
    """Return the node of each token (the class token is node 0), and the shape of the regions.

    Raises:
        OptionError: regions is not two whole numbers from 1 up.
    """
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


def _start(
    weights: Float[np.ndarray, " N"], groups: Int[np.ndarray, " tokens"]
) -> Float[np.ndarray, " G"]:
    """Return what the words send to each node, 1 in all; nothing to the class token."""
    return np.bincount(groups, np.concatenate(([0.0], weights / weights.sum())))
