"""Where the language model looked while it chose certain words.

The rows are those of the positions that chose each token (`Trace`), so the map of a word shows what
was looked at when the word was decided, not when it was read afterwards.

What the image positions stand for by then is another matter: a patch token has passed the whole
vision tower and may carry news of the entire radiograph; `vision_rollout` follows it down.
Papers: Vaswani et al., NeurIPS 2017, arXiv 1706.03762, section 3.2 (the weights); for reading them
as maps, Xu et al., ICML 2015, arXiv 1502.03044.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import numpy as np
from jaxtyping import Float

from workbench.attention.choice import (
    alike_caution,
    choose,
    chosen_settings,
    head_words,
    layer_words,
    likeness,
    patch_rows,
    reduce_rows,
    target_of,
)
from workbench.figures.maps import draw_small_multiples
from workbench.figures.page import figure_html
from workbench.trace import ImageMap, Selection, SelectionOptions, Trace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

UNITS = {"mean": "share of attention", "max": "largest share of attention of any token"}


@dataclass(frozen=True, eq=False)
class AttentionStack:
    """Several maps of one target.

    Attributes:
        maps: the maps, all on one grid.
        numbers: number of the layer or head of each.
        axis: "layer" or "head": what differs.
        target: the words that looked.
        fixed: what is the same for all, in words: the head or heads, or the layer or layers.
    """

    maps: tuple[ImageMap, ...]
    numbers: tuple[int, ...]
    axis: str
    target: str
    fixed: str

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
        import pandas as pd

        parts = []
        for number, item in zip(self.numbers, self.maps, strict=True):
            frame = item.to_frame()
            frame.insert(0, self.axis, number)
            frame.insert(1, "image_share", item.scores["image_share"])
            parts.append(frame)
        return pd.concat(parts, ignore_index=True)

    def plot(self, *, columns: int = 4, masks: Mapping[str, np.ndarray] | None = None) -> Figure:
        """Draw all maps side by side, each on its own scale, so that every shape can be seen.

        Args:
            columns: how many in a row.
            masks: name -> boolean (H, W) of the original's size, outlined in each.
        """
        names = [
            f"{self.axis} {number}: {share:.0%} on image"
            for number, share in zip(self.numbers, self.image_shares, strict=True)
        ]
        return draw_maps(
            self.maps,
            names,
            title=f"Attention by {self.axis}: {self.target}",
            details=self.fixed,
            columns=columns,
            together=False,
            masks=masks,
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
    details: str,
    columns: int,
    together: bool,
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
        trace: the run.
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
    """
    return _map(trace, choose(trace, phrase, named), layer=layer, head=head, reduce=reduce)


def by_layer(
    trace: Trace,
    phrase: str | Selection | None = None,
    *,
    head: int | None = None,
    reduce: str = "mean",
    **named: Unpack[SelectionOptions],
) -> AttentionStack:
    """Map the attention of a part of the text in each recorded layer; see `to_image`."""
    selection = choose(trace, phrase, named)
    layers = trace.language.layers
    maps = tuple(_map(trace, selection, layer=n, head=head, reduce=reduce) for n in layers)
    fixed = head_words(trace.language, head)
    return AttentionStack(maps, layers, "layer", target_of(selection), fixed)


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
    """
    trace.language.need_heads()
    selection = choose(trace, phrase, named)
    numbers = tuple(range(trace.language.total_heads))
    maps = tuple(_map(trace, selection, layer=layer, head=h, reduce=reduce) for h in numbers)
    fixed = layer_words(trace.language, layer)
    return AttentionStack(maps, numbers, "head", target_of(selection), fixed)


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
