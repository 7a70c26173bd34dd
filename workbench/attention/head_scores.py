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

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import numpy as np
from jaxtyping import Float

from workbench.attention.choice import choose, target_of
from workbench.errors import OptionError
from workbench.figures.attention import draw_heads, draw_score
from workbench.figures.page import figure_html
from workbench.trace import Selection, SelectionOptions, Trace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Scores and what they mean, for figures.
SCORES = {
    "image_share": "image share",
    "focus": "focus",
    "consistency": "consistency",
}
RANKINGS = ("pointing", *SCORES)


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
        seconds: wall time.
    """

    image_share: Float[np.ndarray, "layers heads"]
    focus: Float[np.ndarray, "layers heads"]
    consistency: Float[np.ndarray, "layers heads"]
    layers: tuple[int, ...]
    target: str
    seconds: float = 0.0

    @property
    def pointing(self) -> Float[np.ndarray, "layers heads"]:
        """Image share times focus: high where much goes to few places of the image."""
        return self.image_share * self.focus

    def best(self, n: int = 5, *, by: str = "pointing") -> list[tuple[int, int]]:
        """Return (layer, head) of the n highest scores, the highest first.

        Args:
            n: how many; all where there are fewer.
            by: "pointing", "image_share", "focus" or "consistency". Undefined scores come last.

        Raises:
            OptionError: n is below 1, or there is no such score.
        """
        if n < 1:
            raise OptionError(f"n must be 1 or more, got {n}")
        frame = self.to_frame().sort_values(self._known(by), ascending=False, kind="stable")
        return [(int(layer), int(head)) for layer, head in frame[["layer", "head"]].to_numpy()[:n]]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per head: layer, head, image_share, focus, consistency, pointing."""
        import pandas as pd

        heads = self.image_share.shape[1]
        columns = {name: getattr(self, name).ravel() for name in (*SCORES, "pointing")}
        return pd.DataFrame(
            {
                "layer": np.repeat(self.layers, heads),
                "head": np.tile(np.arange(heads), len(self.layers)),
                **columns,
            }
        )

    def plot(self, ax: Axes | None = None, *, score: str | None = None) -> Figure | Axes:
        """Draw layers by heads.

        Args:
            ax: where to draw one score; a new figure when None.
            score: one score only, by name; image share, focus and consistency side by side when
                None (pointing where `ax` is given).

        Raises:
            OptionError: there is no such score.
        """
        if score is None and ax is None:
            panels = [(title, getattr(self, name)) for name, title in SCORES.items()]
            return draw_heads(panels, self.layers, title=f"Heads while writing: {self.target}")
        name = self._known(score or "pointing")
        return draw_score(getattr(self, name), self.layers, SCORES.get(name, name), ax=ax)

    def _known(self, name: str) -> str:
        if name not in RANKINGS:
            raise OptionError(f"a score is one of {', '.join(RANKINGS)}; got {name!r}")
        return name

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
    started = time.perf_counter()
    trace.language.need_heads()
    selection = choose(trace, phrase, named)
    seen = trace.language.values[..., trace.layout.span("image").slice]
    chosen = seen[:, :, list(selection.tokens)].astype(np.float64)
    return HeadScores(
        image_share=chosen.sum(-1).mean(-1),
        focus=_mean_known(focus_of(chosen)),
        consistency=consistency_of(seen.astype(np.float64)),
        layers=trace.language.layers,
        target=target_of(selection),
        seconds=time.perf_counter() - started,
    )


def focus_of(rows: Float[np.ndarray, "*heads tokens N"]) -> Float[np.ndarray, "*heads tokens"]:
    """Return 1 - entropy / log N of each row, scaled to sum 1.

    Args:
        rows: not negative.

    Returns:
        In [0, 1]; NaN where a row is all 0, or has a single patch.
    """
    total = rows.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = rows / total
        entropy = -np.where(share > 0, share * np.log(share), 0.0).sum(-1)
        focus = 1 - entropy / np.log(rows.shape[-1])
    known = (total[..., 0] > 0) & (rows.shape[-1] > 1)
    return np.where(known, np.clip(focus, 0, 1), np.nan)


def consistency_of(rows: Float[np.ndarray, "*heads tokens N"]) -> Float[np.ndarray, "*heads"]:
    """Return the mean cosine of any two different rows; NaN where there are not two.

    Args:
        rows: not negative; rows that are all 0 are left out.
    """
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    count = (length > 0).sum((-1, -2))
    pairs = count * (count - 1)
    cosines = (unit.sum(-2) ** 2).sum(-1) - count
    return np.where(pairs > 0, np.clip(cosines / np.maximum(pairs, 1), 0, 1), np.nan)


def _mean_known(values: Float[np.ndarray, "*heads tokens"]) -> Float[np.ndarray, "*heads"]:
    """Return the mean over what is known; NaN where nothing is."""
    count = (~np.isnan(values)).sum(-1)
    return np.where(count > 0, np.nansum(values, -1) / np.maximum(count, 1), np.nan)
