"""Which heads look at the image, how narrowly, and whether they look where the words are about.

A head may look hard at a place and write nothing of it.
Ideas: Clark et al., What Does BERT Look At?, BlackboxNLP 2019, arXiv 1906.04341
(entropy of heads); Voita et al., ACL 2019, arXiv 1905.09418 (few heads do the work); Kang et al.,
Your Large Vision-Language Model Only Needs A Few Attention Heads For Visual Grounding, CVPR 2025,
arXiv 2503.06287 (heads chosen by image share and concentration).
Deviation: they choose by attention sum and spatial entropy of one query; here entropy is that of
the patches, whatever their neighbours, over the tokens of a phrase.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import entr

from workbench.attention.word_maps import target_of
from workbench.errors import OptionError
from workbench.figures.attention import draw_heads, draw_score
from workbench.figures.page import figure_html
from workbench.trace import Selection, SelectionOptions, Trace

SCORES = ("image_share", "focus", "consistency")


@dataclass(frozen=True, eq=False)
class HeadScores:
    """Scores of every recorded head.

    Attributes:
        image_share: (layers, heads) mean attention to the image, in [0, 1].
        focus: (layers, heads) in [0, 1]: 0 where the patches get alike, 1 where one gets all;
            1 - entropy / log(patches), mean over the tokens of the phrase.
        consistency: (layers, heads) in [0, 1]: mean cosine of the patch maps of any two tokens of
            the whole text. Near 1, the head looks at the same places whatever it writes. NaN where
            the text has a single token.
        layers: number of each row in the model.
        target: the words for which image share and focus were measured.
    """

    image_share: Float[np.ndarray, "layers heads"]
    focus: Float[np.ndarray, "layers heads"]
    consistency: Float[np.ndarray, "layers heads"]
    layers: tuple[int, ...]
    target: str

    @property
    def pointing(self) -> Float[np.ndarray, "layers heads"]:
        """Image share times focus: high where much goes to few places of the image."""
        return self.image_share * self.focus

    def best(self, n: int = 5) -> list[tuple[int, int]]:
        """Return (layer, head) of the n heads that point most, the best first.

        Raises:
            OptionError: n is below 1.
        """
        if n < 1:
            raise OptionError(f"n must be 1 or more, got {n}")
        frame = self.to_frame().sort_values("pointing", ascending=False, kind="stable")
        return [(int(layer), int(head)) for layer, head in frame[["layer", "head"]].to_numpy()[:n]]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per head: layer, head, image_share, focus, consistency, pointing."""
        count = self.image_share.shape[1]
        layer, head = np.repeat(self.layers, count), np.tile(np.arange(count), len(self.layers))
        scores = {name: getattr(self, name).ravel() for name in (*SCORES, "pointing")}
        return pd.DataFrame({"layer": layer, "head": head, **scores})

    def plot(self, ax: Axes | None = None) -> Figure | Axes:
        """Draw layers by heads: the three scores side by side, or pointing where `ax` is given."""
        if ax is not None:
            return draw_score(self.pointing, self.layers, "pointing", ax=ax)
        panels = [(name.replace("_", " "), getattr(self, name)) for name in SCORES]
        return draw_heads(panels, self.layers, title=f"Heads while writing: {self.target}")

    def __repr__(self) -> str:
        layers, heads = self.image_share.shape
        best = ", ".join(f"{layer}.{head}" for layer, head in self.best(3))
        return f"<HeadScores for {self.target!r}: {layers} x {heads} heads, best {best}>"

    def _repr_html_(self) -> str:
        return figure_html(self.plot(), f"scores of heads: {self.target}")


def heads(
    trace: Trace, phrase: str | Selection | None = None, **named: Unpack[SelectionOptions]
) -> HeadScores:
    """Score every recorded head of the language model.

    Args:
        trace: the run, recorded with every head.
        phrase, **named: the words for which image share and focus are measured, see
            `Trace.select`; the whole text when nothing is named.

    Raises:
        OptionError: heads were averaged while recording; more than one part of the text is named.
        InputError: the phrase is empty or not in the text, or the finding is not named in it.
    """
    trace.language.need_heads()
    selection = trace.layout.choose(phrase, **named)
    seen = trace.language.values[..., trace.layout.span("image").slice]
    chosen = seen[:, :, list(selection.tokens)].astype(np.float64)
    return HeadScores(
        image_share=chosen.sum(-1).mean(-1),
        focus=np.ma.masked_invalid(focus_of(chosen)).mean(-1).filled(np.nan),
        consistency=consistency_of(seen.astype(np.float64)),
        layers=trace.language.layers,
        target=target_of(selection),
    )


def focus_of(rows: Float[np.ndarray, "*heads tokens N"]) -> Float[np.ndarray, "*heads tokens"]:
    """Return 1 - entropy / log N of each row, scaled to sum 1; NaN where it is 0 or one patch."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = rows / rows.sum(-1, keepdims=True)
        return np.clip(1 - entr(share).sum(-1) / np.log(rows.shape[-1]), 0, 1)


def consistency_of(rows: Float[np.ndarray, "*heads tokens N"]) -> Float[np.ndarray, "*heads"]:
    """Return the mean cosine of any two different rows that are not all 0; NaN without two."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    count = (length > 0).sum((-1, -2))
    pairs = count * (count - 1)
    cosines = (unit.sum(-2) ** 2).sum(-1) - count
    return np.where(pairs > 0, np.clip(cosines / np.maximum(pairs, 1), 0, 1), np.nan)
