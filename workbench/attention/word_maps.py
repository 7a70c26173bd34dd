"""Where the language model looked while it chose certain words.

The rows are those of the positions that chose each token (`Trace`), so the map of a word shows what
was looked at when the word was decided, not when it was read afterwards.

Does not know: what the image positions stand for by then. A patch token has passed the whole vision
tower and may carry news of the entire film; `vision_rollout` follows it down.
Papers: Vaswani et al., NeurIPS 2017, arXiv 1706.03762, section 3.2 (the weights); for reading them
as maps, Xu et al., ICML 2015, arXiv 1502.03044.
"""

from __future__ import annotations

import time
from typing import Unpack

import numpy as np

from workbench.attention.choice import (
    Choice,
    alike_caution,
    choose,
    chosen_settings,
    head_words,
    layer_words,
    likeness,
    need_each_head,
    patch_rows,
    reduce_rows,
    target_of,
)
from workbench.attention.stack import AttentionStack
from workbench.trace import ImageMap, Selection, Trace

UNITS = {"mean": "share of attention", "max": "largest share of attention of any token"}


def to_image(
    trace: Trace,
    phrase: str | None = None,
    *,
    token: int | None = None,
    word: str | int | None = None,
    sentence: int | None = None,
    finding: str | None = None,
    occurrence: int = 0,
    layer: int | None = None,
    head: int | None = None,
    reduce: str = "mean",
) -> ImageMap:
    """Map the attention that a part of the text paid to the image.

    Args:
        trace: the run.
        phrase: characters of the text; case and white space do not matter. The whole text when
            nothing is named.
        token, word, sentence, finding, occurrence: other ways to name a part; see `Choice`.
        layer: number of a language layer, negative counted from the last; None averages those that
            were recorded.
        head: number of a head; None averages.
        reduce: over the tokens of the part: "mean", or "max" patch by patch.

    Returns:
        A map on the patch grid, in [0, 1]; with "mean" it sums to `scores["image_share"]`, the
        share of all attention that went to the image. `scores["like_other_words"]` is its
        correlation with the mean map of all other tokens; a caution says where that is high.

    Raises:
        OptionError: more than one part is named, a number is out of range, a layer was not
            recorded, or a head is asked for where heads were averaged.
        InputError: the phrase is empty or not in the text, or the finding is not named in it.
    """
    choice = Choice(
        token=token, word=word, sentence=sentence, finding=finding, occurrence=occurrence
    )
    selection = choose(trace, phrase, choice)
    return _map(trace, selection, layer=layer, head=head, reduce=reduce)


def by_layer(
    trace: Trace,
    phrase: str | None = None,
    *,
    head: int | None = None,
    reduce: str = "mean",
    **choice: Unpack[Choice],
) -> AttentionStack:
    """Map the attention of a part of the text in each recorded layer.

    Args:
        trace, phrase, head, reduce, **choice: see `to_image`.

    Returns:
        One map per layer, the first layer first.

    Raises:
        OptionError, InputError: see `to_image`.
    """
    selection = choose(trace, phrase, choice)
    layers = trace.language.layers
    maps = tuple(_map(trace, selection, layer=n, head=head, reduce=reduce) for n in layers)
    return AttentionStack(
        maps, layers, "layer", target_of(selection), head_words(trace.language, head)
    )


def by_head(
    trace: Trace,
    phrase: str | None = None,
    *,
    layer: int | None = None,
    reduce: str = "mean",
    **choice: Unpack[Choice],
) -> AttentionStack:
    """Map the attention of a part of the text in each head.

    Args:
        trace, phrase, layer, reduce, **choice: see `to_image`. With layer None, head h is the mean
            of the heads h of all recorded layers, which have little in common: name a layer.

    Returns:
        One map per head.

    Raises:
        OptionError: heads were averaged while recording; and as `to_image`.
        InputError: see `to_image`.
    """
    need_each_head(trace.language)
    selection = choose(trace, phrase, choice)
    numbers = tuple(range(trace.language.total_heads))
    maps = tuple(_map(trace, selection, layer=layer, head=h, reduce=reduce) for h in numbers)
    return AttentionStack(
        maps, numbers, "head", target_of(selection), layer_words(trace.language, layer)
    )


def _map(
    trace: Trace, selection: Selection, *, layer: int | None, head: int | None, reduce: str
) -> ImageMap:
    started = time.perf_counter()
    rows = patch_rows(trace, layer=layer, head=head)
    weights = reduce_rows(rows, selection, reduce)
    scores = {"image_share": float(rows[list(selection.tokens)].sum(1).mean())}
    others = np.delete(rows, list(selection.tokens), axis=0)
    if len(others):
        scores["like_other_words"] = likeness(weights, others.mean(0))
    alike = -1.0 if selection.kind == "text" else scores.get("like_other_words", -1.0)
    return ImageMap(
        weights.reshape(trace.layout.grid),
        trace.layout.geometry,
        trace.image,
        method="attention",
        target=target_of(selection),
        unit=UNITS[reduce],
        layer=layer_words(trace.language, layer),
        head=head_words(trace.language, head),
        caution=alike_caution(alike, "the other words"),
        settings=chosen_settings(trace, selection, layer=layer, head=head, reduce=reduce),
        scores=scores,
        seconds=time.perf_counter() - started,
    )
