"""Attention rollout: what the patch tokens at the end of the vision tower were mixed from.

Behind the last layer of the tower, "patch 37" is the sum of what 37 was and of everything it
attended to on the way. Rollout treats each layer as a matrix that mixes tokens, half of it the
residual connection, and multiplies the layers.

Does not know: values, MLPs, and norms, which decide how much of a token really moves; heads that
disagree, which are averaged.
Paper: Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, arXiv 2005.00928,
section 3 ("attention rollout").
Deviations: the residual share is an option (the paper's 0.5 by default); the paper starts at one
token, here the attention of the words to the image tokens is pushed through, as the language
model's row above the tower's; `discard` is not in the paper (the idea is from Gildenblat, Exploring
Explainability for Vision Transformers, 2020).
"""

from __future__ import annotations

import time
from typing import Unpack

import numpy as np
from jaxtyping import Float

from workbench.attention.choice import (
    Choice,
    alike_caution,
    choose,
    chosen_settings,
    head_words,
    is_named,
    layer_words,
    likeness,
    patch_rows,
    reduce_rows,
    target_of,
)
from workbench.errors import InputError, OptionError
from workbench.figures.names import method_name
from workbench.trace import ImageMap, Trace

EVERYWHERE = "all image tokens alike"


def rollout_matrix(
    trace: Trace, *, residual: float = 0.5, discard: float = 0.0
) -> Float[np.ndarray, "out in"]:
    """Multiply the vision tower's layers.

    Args:
        trace: the run, with vision rows; their mean over heads is used.
        residual: share of each layer that stays with the token, in [0, 1].
        discard: share of the smallest weights of each row that are set to 0 before the row is
            scaled back to sum 1, in [0, 1).

    Returns:
        (N + 1, N + 1) float64. Row i: what token i at the end was mixed from; every row sums to 1.
        The first row and column belong to the class token. The identity where residual is 1.

    Raises:
        InputError: the trace holds no vision rows, or not those of every layer.
        OptionError: residual or discard is outside its range.
    """
    mixed = None
    for layer in mixing_layers(trace, residual=residual, discard=discard):
        mixed = layer if mixed is None else layer @ mixed
    return mixed


def rollout(
    trace: Trace,
    phrase: str | None = None,
    *,
    layer: int | None = None,
    head: int | None = None,
    reduce: str = "mean",
    residual: float = 0.5,
    discard: float = 0.0,
    **choice: Unpack[Choice],
) -> ImageMap:
    """Map what a part of the text looked at, followed down to the patches that came in.

    Args:
        trace: the run, with vision rows.
        phrase, **choice: the words whose attention to the image tokens is pushed down; every image
            token counts alike when nothing is named.
        layer, head, reduce: of the language model; see `to_image`.
        residual, discard: see `rollout_matrix`.

    Returns:
        A map on the patch grid, in [0, 1]. The share that ends at the class token belongs to no
        place; it is left out and kept as `scores["class_token"]`. Map and class token together sum
        to `scores["image_share"]` (1 when nothing is named). `scores["like_everywhere"]` is the
        correlation with the map of all image tokens alike; a caution says where that is high,
        because the map then tells of the tower and not of the words.

    Raises:
        InputError: there are no vision rows; the phrase is not in the text.
        OptionError: an option is out of range.
    """
    started = time.perf_counter()
    matrix = rollout_matrix(trace, residual=residual, discard=discard)
    weights, described = starting_weights(
        trace, phrase, choice, layer=layer, head=head, reduce=reduce
    )
    arrived = weights @ matrix[1:]
    scores = {"class_token": float(arrived[0]), "image_share": float(weights.sum())}
    caution = None
    if is_named(phrase, choice):
        scores["like_everywhere"] = likeness(arrived[1:], matrix[1:, 1:].mean(0))
        caution = alike_caution(scores["like_everywhere"], "no words at all")
    described["settings"] |= {"residual": residual, "discard": discard}
    return ImageMap(
        arrived[1:].reshape(trace.layout.grid),
        trace.layout.geometry,
        trace.image,
        method=method_name("rollout"),
        unit="share of attention, through the vision tower",
        caution=caution,
        scores=scores,
        seconds=time.perf_counter() - started,
        **described,
    )


def mixing_layers(
    trace: Trace, *, residual: float, discard: float = 0.0
) -> list[Float[np.ndarray, "out in"]]:
    """Return residual * I + (1 - residual) * attention of each vision layer, the first one first.

    Raises:
        InputError, OptionError: see `rollout_matrix`.
    """
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
        attention = _without_smallest(rows.pick(number).astype(np.float64), discard)
        attention /= attention.sum(1, keepdims=True)
        mixed.append(residual * np.eye(len(attention)) + (1 - residual) * attention)
    return mixed


def starting_weights(
    trace: Trace,
    phrase: str | None,
    choice: Choice,
    *,
    layer: int | None,
    head: int | None,
    reduce: str,
) -> tuple[Float[np.ndarray, " N"], dict]:
    """Return the weight of each image token, and target, layer, head and settings of the map."""
    options = {"layer": layer, "head": head, "reduce": reduce}
    if not is_named(phrase, choice):
        count = trace.layout.image_tokens
        weights = np.full(count, 1 / count)
        described = {"target": EVERYWHERE, "layer": "vision layers", "head": "mean of heads"}
        identity = trace.generation.model
        settings = {"kind": "everywhere", "model": identity.id, "sha256": identity.sha256}
        return weights, described | {"settings": settings}
    selection = choose(trace, phrase, choice)
    rows = patch_rows(trace, layer=layer, head=head)
    described = {
        "target": target_of(selection),
        "layer": f"{layer_words(trace.language, layer)}, then the vision layers",
        "head": head_words(trace.language, head),
        "settings": chosen_settings(trace, selection, **options),
    }
    return reduce_rows(rows, selection, reduce), described


def _without_smallest(
    attention: Float[np.ndarray, "out in"], discard: float
) -> Float[np.ndarray, "out in"]:
    """Set the smallest weights of each row to 0."""
    count = int(discard * attention.shape[1])
    if count:
        smallest = np.argpartition(attention, count - 1, axis=1)[:, :count]
        np.put_along_axis(attention, smallest, 0.0, axis=1)
    return attention
