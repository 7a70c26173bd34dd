"""What an answer leans on, and which heads look at the image.

Sources are the prompt, the image, the question, or the words it already wrote. The first position
is counted apart. Trained language models park attention there that they have no use for (an
"attention sink"), and it says nothing about the prompt. Much attention may carry little. A share
has to be compared with what even attention would give (`Sources.even`), since the image holds most
positions.

Heads are scored by how much and how narrowly they look at the image, and whether they look where
the words are about. A head may look hard at a place and write nothing of it.

Paper: Xiao et al., Efficient Streaming Language Models with Attention Sinks, ICLR 2024,
arXiv 2309.17453, section 3.1 (the sink). Ideas: Clark et al., What Does BERT Look At?, BlackboxNLP
2019, arXiv 1906.04341 (entropy of heads); Voita et al., ACL 2019, arXiv 1905.09418 (few heads do
the work); Kang et al., Your Large Vision-Language Model Only Needs A Few Attention Heads For Visual
Grounding, CVPR 2025, arXiv 2503.06287 (heads chosen by image share and concentration).
Deviation: they choose by attention sum and spatial entropy of one query; here entropy is that of
the patches, whatever their neighbours, over the tokens of a phrase.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import entr

from workbench.attention.word_maps import head_words, layer_words, target_of
from workbench.backends.levels import READER, needs
from workbench.errors import InputError, check_one_of, check_whole
from workbench.figures.attention import draw_heads, draw_score, draw_sources
from workbench.figures.page import figure_html
from workbench.findings import PRESENT
from workbench.reports import label, sentences
from workbench.trace import Selection, SelectionOptions, TokenLayout, Trace
from workbench.trace.layout import words_of

#: Columns of the shares, in the order of the sequence.
KINDS = ("sink", "prompt", "image", "question", "generated")
LEVELS = ("token", "word", "sentence", "finding")

#: Name of a group and the numbers of its tokens.
Groups = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, eq=False)
class Sources:
    """Where the attention of each generated token went.

    Attributes:
        shares: (n, 5) in [0, 1], columns `KINDS`; rows sum to 1.
        even: (n, 5) what the shares would be if every position that the token can look at got
            alike; rows sum to 1.
        groups: "token", "word", "sentence" and "finding" -> names and the tokens of each.
        layer, head: which, in words.
    """

    shares: Float[np.ndarray, "n 5"]
    even: Float[np.ndarray, "n 5"]
    groups: Mapping[str, Groups]
    layer: str = "mean of all layers"
    head: str = "mean of heads"

    def by(self, level: str = "word") -> Float[np.ndarray, "groups 5"]:
        """Return the mean shares of the tokens of each group; rows sum to 1.

        A level that is not one of `LEVELS` raises `OptionError`, here and below.
        """
        return _means(self.shares, self._groups(level))

    @property
    def mean(self) -> dict[str, float]:
        """Mean share of each kind over all tokens."""
        return dict(zip(KINDS, self.shares.mean(0).tolist(), strict=True))

    def to_frame(self, by: str = "word", *, relative: bool = False) -> pd.DataFrame:
        """Return one row per group: its name, tokens (how many), and the shares by kind.

        Args:
            by: one of `LEVELS`.
            relative: divide by what even attention would give, so that 1 is even, 2 is twice as
                much; NaN where there is no such position yet.
        """
        groups = self._groups(by)
        shares = _means(self.shares, groups)
        if relative:
            even = _means(self.even, groups)
            shares = np.divide(shares, even, out=np.full_like(shares, np.nan), where=even > 0)
        names = {by: [name for name, _ in groups], "tokens": [len(own) for _, own in groups]}
        return pd.DataFrame(names | dict(zip(KINDS, shares.T, strict=True)))

    def plot(self, ax: Axes | None = None, *, by: str = "word") -> Axes:
        """Draw one stacked bar per group; `InputError` where no such group is there."""
        groups = self._groups(by)
        if not groups:
            raise InputError(f"the text holds no {by} to draw; draw it by='token'")
        even = float(self.even[:, KINDS.index("image")].mean())
        return draw_sources(
            [name for name, _ in groups],
            dict(zip(KINDS, _means(self.shares, groups).T, strict=True)),
            title=f"What each {by} looked at while it was chosen",
            note=f"{self.layer}, {self.head}; even attention would give the image {even:.0%}",
            upright=by in ("token", "word"),
            ax=ax,
        )

    def _groups(self, level: str) -> Groups:
        check_one_of("level", level, LEVELS)
        return self.groups[level]

    def __repr__(self) -> str:
        told = ", ".join(f"{kind} {share:.0%}" for kind, share in self.mean.items())
        return f"<Sources of {len(self.shares)} tokens: {told}>"

    def _repr_html_(self) -> str:
        level = "word" if self.groups["word"] else "token"
        return figure_html(self.plot(by=level), f"sources of attention by {level}")


@needs(READER)
def sources(trace: Trace, *, layer: int | None = None, head: int | None = None) -> Sources:
    """Tell what each token, word, sentence and finding of an answer leaned on.

    For `layer`, `head` and errors see `AttentionRows.pick`.

    >>> list(wb.attention.sources(trace).mean)
    ['sink', 'prompt', 'image', 'question', 'generated']
    """
    layout = trace.layout
    rows = trace.language.pick(layer, head).astype(np.float64)
    queries = np.array([layout.query_of(token) for token in range(len(layout.tokens))])
    seen = (np.arange(layout.length) <= queries[:, None]).astype(np.float64)
    return Sources(
        shares=_by_kind(rows / rows.sum(1, keepdims=True), layout),
        even=_by_kind(seen / seen.sum(1, keepdims=True), layout),
        groups=_groups(layout),
        layer=layer_words(trace.language, layer),
        head=head_words(trace.language, head),
    )


def _groups(layout: TokenLayout) -> dict[str, Groups]:
    """Return the tokens, words, sentences and findings of a text with their tokens."""
    words = words_of(layout.text, layout.offsets)
    stated = [layout.select(sentence=n) for n in range(len(sentences(layout.text)))]
    return {
        "token": tuple((piece, (number,)) for number, piece in enumerate(layout.tokens)),
        "word": tuple((word.text, word.tokens) for word in words),
        "sentence": tuple((sentence.text, sentence.tokens) for sentence in stated),
        "finding": _findings(layout),
    }


def _findings(layout: TokenLayout) -> Groups:
    """Return one group for each finding, however often the text names it."""
    mentions = label(layout.text).mentions
    found = []
    for name in dict.fromkeys(row.finding for row in mentions):
        own = [row for row in mentions if row.finding == name]
        present = [row for row in own if row.code == PRESENT]
        named = [layout.select(finding=name, occurrence=n) for n in range(len(present or own))]
        tokens = sorted(set().union(*(selection.tokens for selection in named)))
        found.append((f"{name} ({(present or own)[0].code})", tuple(tokens)))
    return tuple(found)


def _by_kind(rows: Float[np.ndarray, "n T"], layout: TokenLayout) -> Float[np.ndarray, "n 5"]:
    """Add up the columns of each kind; the first position is the sink where text comes first."""
    sums = {span.kind: rows[:, span.slice].sum(1) for span in layout.spans}
    first = rows[:, 0] if layout.prompt_tokens else np.zeros(len(rows))
    sums["sink"], sums["prompt"] = first, sums["prompt"] - first
    return np.maximum(np.stack([sums[kind] for kind in KINDS], 1), 0)


def _means(values: Float[np.ndarray, "n 5"], groups: Groups) -> Float[np.ndarray, "groups 5"]:
    if not groups:
        return np.zeros((0, values.shape[1]))
    return np.stack([values[list(tokens)].mean(0) for _, tokens in groups])


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
        check_whole(1, n=n)
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


@needs(READER)
def heads(
    trace: Trace, phrase: str | Selection | None = None, **named: Unpack[SelectionOptions]
) -> HeadScores:
    """Score every recorded head of the language model.

    Args:
        phrase, **named: the words for which image share and focus are measured, see
            `Trace.select`; the whole text when nothing is named.

    Raises:
        OptionError: heads were averaged while recording; else see `Trace.select`.

    >>> len(wb.attention.heads(trace, finding="pleural effusion").best(3))
    3
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
