"""Where the language model looked while it chose certain words; and which words, layers and heads
every analysis of attention chooses.

The rows are those of the positions that chose each token (`Trace`), so the map of a word shows what
was looked at when the word was decided, not when it was read afterwards.

What the image positions stand for by then is another matter: a patch token has passed the whole
vision tower and may carry news of the entire radiograph; `vision_rollout` follows it down.
Papers: Vaswani et al., NeurIPS 2017, arXiv 1706.03762, section 3.2 (the weights); for reading them
as maps, Xu et al., ICML 2015, arXiv 1502.03044; sinks among image tokens, Kang et al., See What You
Are Told, ICLR 2025, arXiv 2503.03321, section 4.
Deviation: they know a sink by its massive activation in certain dimensions of the states, which are
the base model's; here it is known by what it does, in the rows that were recorded. They write with
the attention shared out anew, in heads that look at the image; here only the map is made from it,
of all heads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from workbench.backends.levels import READER, needs
from workbench.errors import OptionError, check_one_of
from workbench.figures.maps import draw_small_multiples
from workbench.figures.page import figure_html
from workbench.trace import AttentionRows, ImageMap, Selection, SelectionOptions, Trace

#: From this correlation on, a map says that it is like another one.
ALIKE = 0.9

#: How the rows of several tokens become one -> what a value then is.
UNITS = {"mean": "share of attention", "max": "largest share of attention of any token"}


@dataclass(frozen=True, eq=False)
class AttentionStack:
    """Several maps of one target, all on one grid.

    Attributes:
        numbers: number of the layer or head of each.
        axis: "layer" or "head": what differs.
    """

    maps: tuple[ImageMap, ...]
    numbers: tuple[int, ...]
    axis: str

    @property
    def target(self) -> str:
        """The words that looked."""
        return self.maps[0].target

    @property
    def fixed(self) -> str:
        """What is the same for all, in words: the head or heads, or the layer or layers."""
        return self.maps[0].head if self.axis == "layer" else self.maps[0].layer

    @property
    def values(self) -> Float[np.ndarray, "maps rows columns"]:
        """All maps as one array."""
        return np.stack([item.values for item in self.maps])

    @property
    def image_shares(self) -> Float[np.ndarray, " maps"]:
        """Share of all attention that the image got, for each map, in [0, 1]."""
        return np.array([item.scores["image_share"] for item in self.maps])

    def to_frame(self) -> pd.DataFrame:
        """Return one row per map and cell: layer or head, image_share, row, column, value, box."""
        parts = []
        for number, item in zip(self.numbers, self.maps, strict=True):
            frame = item.to_frame()
            frame.insert(0, self.axis, number)
            frame.insert(1, "image_share", item.scores["image_share"])
            parts.append(frame)
        return pd.concat(parts, ignore_index=True)

    def plot(self, *, columns: int = 4, masks: Mapping[str, np.ndarray] | None = None) -> Figure:
        """Draw all maps side by side, so many in a row, each on its own scale.

        `masks` are name -> boolean (H, W) of the original's size, outlined in each.
        """
        names = [
            f"{self.axis} {number}: {share:.0%} on image"
            for number, share in zip(self.numbers, self.image_shares, strict=True)
        ]
        title = f"Attention by {self.axis}: {self.target}"
        return draw_maps(
            self.maps, names, title=title, details=self.fixed, columns=columns, masks=masks
        )

    def __repr__(self) -> str:
        rows, columns = self.maps[0].grid
        return (
            f"<AttentionStack of {self.target!r}: {len(self.maps)} maps by {self.axis}, "
            f"{rows} x {columns}, {self.fixed}>"
        )

    def _repr_html_(self) -> str:
        return figure_html(self.plot(), f"attention by {self.axis}: {self.target}")


def draw_maps(
    maps: Sequence[ImageMap],
    names: Sequence[str],
    *,
    title: str,
    columns: int,
    details: str = "",
    together: bool = False,
    masks: Mapping[str, np.ndarray] | None,
) -> Figure:
    """Draw unsigned maps of one image side by side, on one scale `together` or each on its own."""
    largest = max(float(item.values.max()) for item in maps) if together else None
    drawn = [item.normalised_original(largest=largest) for item in maps]
    scaled = "all on one scale" if together else "each map scaled by its own largest value"
    return draw_small_multiples(
        maps[0].image.pixels,
        list(zip(names, drawn, strict=True)),
        title=title,
        details=" \u00b7 ".join(part for part in (details, maps[0].unit, scaled) if part),
        columns=columns,
        masks=masks,
    )


@needs(READER)
def to_image(
    trace: Trace,
    phrase: str | Selection | None = None,
    *,
    layer: int | None = None,
    head: int | None = None,
    reduce: str = "mean",
    **named: Unpack[SelectionOptions],
) -> ImageMap:
    """Map the attention that a part of the text paid to the image.

    Args:
        phrase, **named: the part, see `Trace.select`; the whole text when nothing is named.
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

    >>> wb.attention.to_image(trace, finding="pleural effusion").unit
    'share of attention'
    """
    return _map(trace, trace.layout.choose(phrase, **named), layer=layer, head=head, reduce=reduce)


@needs(READER)
def without_sinks(
    trace: Trace,
    phrase: str | Selection | None = None,
    *,
    layer: int | None = None,
    head: int | None = None,
    reduce: str = "mean",
    above: float = 10.0,
    **named: Unpack[SelectionOptions],
) -> ImageMap:
    """Map the attention of a part of the text with sinks among the image tokens taken out.

    A sink is looked at whatever is written: in its layer, half of the text's tokens or more give it
    over `above` times what they give image tokens in the mean. What it got goes to the others, in
    proportion, so that the image keeps its share in every row.

    Args:
        phrase, layer, head, reduce, **named: see `to_image`.
        above: times the mean from which on a token is a sink; infinity takes none out.

    Returns:
        A map as that of `to_image`; `scores["sinks"]` is how many sinks a layer has in the mean.

    Raises:
        OptionError: above is not more than 1; else see `to_image`.

    >>> wb.attention.without_sinks(trace, "left").unit
    'share of attention'
    """
    if not above > 1:
        raise OptionError(f"above must be more than 1 (1 is the mean itself), got {above!r}")
    selection = trace.layout.choose(phrase, **named)
    span, rows = trace.layout.span("image").slice, trace.language.values.copy()
    seen = rows[..., span]
    usual = np.median(seen.mean(1, dtype=np.float32), axis=1)
    sinks = usual > above * usual.mean(1, keepdims=True)
    kept = seen * ~sinks[:, None, None]
    rest = kept.sum(-1, keepdims=True)
    factor = np.divide(seen.sum(-1, keepdims=True), rest, out=np.zeros_like(rest), where=rest > 0)
    rows[..., span] = kept * factor
    cleared = replace(trace, language=replace(trace.language, values=rows))
    found = _map(cleared, selection, layer=layer, head=head, reduce=reduce)
    return replace(
        found,
        method="attention without sinks",
        scores={**found.scores, "sinks": float(sinks.sum(1).mean())},
        settings={**found.settings, "above": above},
    )


@needs(READER)
def by_layer(
    trace: Trace,
    phrase: str | Selection | None = None,
    *,
    head: int | None = None,
    reduce: str = "mean",
    **named: Unpack[SelectionOptions],
) -> AttentionStack:
    """Map the attention of a part of the text in each recorded layer; see `to_image`.

    >>> wb.attention.by_layer(trace, finding="pleural effusion").values.ndim
    3
    """
    selection = trace.layout.choose(phrase, **named)
    layers = trace.language.layers
    maps = tuple(_map(trace, selection, layer=n, head=head, reduce=reduce) for n in layers)
    return AttentionStack(maps, layers, "layer")


@needs(READER)
def by_head(
    trace: Trace,
    phrase: str | Selection | None = None,
    *,
    layer: int | None = None,
    reduce: str = "mean",
    **named: Unpack[SelectionOptions],
) -> AttentionStack:
    """Map the attention of a part of the text in each head; see `to_image`.

    With layer None, head h is the mean of the heads h of all recorded layers, which have little in
    common: name a layer.

    >>> wb.attention.by_head(trace, "left", layer=0).values.ndim
    3
    """
    trace.language.need_heads()
    selection = trace.layout.choose(phrase, **named)
    numbers = tuple(range(trace.language.total_heads))
    maps = tuple(_map(trace, selection, layer=layer, head=h, reduce=reduce) for h in numbers)
    return AttentionStack(maps, numbers, "head")


def _map(
    trace: Trace, selection: Selection, *, layer: int | None, head: int | None, reduce: str
) -> ImageMap:
    started = time.perf_counter()
    rows = patch_rows(trace, layer=layer, head=head)
    weights = reduce_rows(rows, selection, reduce)
    scores = {"image_share": float(rows[list(selection.tokens)].sum(1).mean())}
    others, caution = np.delete(rows, list(selection.tokens), axis=0), None
    if len(others):
        like, caution = likeness(weights, others.mean(0), "the other words")
        scores["like_other_words"] = like
    return ImageMap(
        weights.reshape(trace.layout.grid),
        trace.layout.geometry,
        trace.image,
        method="attention",
        unit=UNITS[reduce],
        caution=None if selection.kind == "text" else caution,
        scores=scores,
        seconds=time.perf_counter() - started,
        **words_described(trace, selection, layer=layer, head=head, reduce=reduce),
    )


def patch_rows(
    trace: Trace, *, layer: int | None = None, head: int | None = None
) -> Float[np.ndarray, "n N"]:
    """Return how much attention each generated token paid to each image patch, in [0, 1].

    Patches row by row; for `layer`, `head` and errors see `AttentionRows.pick`.
    """
    rows = trace.language.pick(layer, head)
    return rows[:, trace.layout.span("image").slice].astype(np.float64)


def reduce_rows(
    rows: Float[np.ndarray, "n N"], selection: Selection, reduce: str
) -> Float[np.ndarray, " N"]:
    """Return one row for a selection: the mean of its tokens' rows, or their max patch by patch."""
    check_one_of("reduce", reduce, UNITS)
    own = rows[list(selection.tokens)]
    return own.mean(0) if reduce == "mean" else own.max(0)


def likeness(
    first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"], what: str
) -> tuple[float, str | None]:
    """Return the correlation of two maps, in [-1, 1], and a caution where they are nearly the same.

    An even map has no shape, so it is like another even one (1) and unlike all else (0).
    """
    even = [bool(np.allclose(values, values.mean())) for values in (first, second)]
    found = float(all(even)) if any(even) else float(np.corrcoef(first, second)[0, 1])
    return found, f"much like the map of {what} (r = {found:.2f})" if found >= ALIKE else None


def target_of(selection: Selection) -> str:
    """Return the selection in a few words."""
    return "the whole text" if selection.kind == "text" else selection.shown


def words_described(
    trace: Trace, selection: Selection, *, layer: int | None, head: int | None, reduce: str
) -> dict[str, Any]:
    """Return what an `ImageMap` tells of the words that looked, as its arguments."""
    return {
        "target": target_of(selection),
        "layer": layer_words(trace.language, layer),
        "head": head_words(trace.language, head),
        "settings": chosen_settings(trace, selection, layer=layer, head=head, reduce=reduce),
    }


def layer_words(rows: AttentionRows, layer: int | None) -> str:
    """Return which layers, in words."""
    if layer is not None:
        number = layer + rows.total_layers if layer < 0 else layer
        return f"layer {number} of 0 to {rows.total_layers - 1}"
    if len(rows.layers) == rows.total_layers:
        return "mean of all layers"
    return f"mean of layers {', '.join(map(str, rows.layers))} of 0 to {rows.total_layers - 1}"


def head_words(rows: AttentionRows, head: int | None) -> str:
    """Return which heads, in words."""
    return "mean of heads" if head is None else f"head {head} of 0 to {rows.total_heads - 1}"


def chosen_settings(trace: Trace, selection: Selection, **options: object) -> dict[str, object]:
    """Return everything that decided a map, for `ImageMap.settings`."""
    return {
        "kind": selection.kind,
        "text": selection.text,
        "tokens": list(selection.tokens),
        **options,
        "model": trace.generation.model.id,
        "sha256": trace.generation.model.sha256,
    }
