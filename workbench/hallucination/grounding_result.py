"""`Grounding`: what the image contributed to each token, word and finding of a text.

How the numbers were made is in `grounding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes

from workbench._repr import result
from workbench.errors import check_one_of
from workbench.figures.page import SMALL, card
from workbench.figures.style import new_axes
from workbench.figures.tables import frame_table, html_table
from workbench.figures.words import FULL, plot_words, words_html
from workbench.findings import NO_FINDING
from workbench.generation import ModelIdentity
from workbench.hallucination.ablations import REMOVING
from workbench.model.licence import RESEARCH_NOTICE
from workbench.model.tokenizer import tokens_within
from workbench.reports import FindingLabel, Section, divide, label, sentences
from workbench.trace import Selection
from workbench.trace.layout import words_of


@dataclass(frozen=True, eq=False)
class Grounding:
    """What the image contributed to a text; natural log units throughout.

    Attributes:
        offsets: per token, first and one past the last character of `text`.
        ablations: names of the images that stood in the place of the own one.
        logprobs, ablated: float64, log-probability of each token with the image, and each ablation.
        entropies: float64, entropy of what each token was chosen from with the image.
        source: what the image was.
        seed: of the noise and of a drawn phantom.
    """

    text: str
    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    ablations: tuple[str, ...]
    logprobs: Float[np.ndarray, " n"]
    entropies: Float[np.ndarray, " n"]
    ablated: Float[np.ndarray, "ablations n"]
    source: str
    model: ModelIdentity
    seed: int = 0

    @cached_property
    def contributions(self) -> Float[np.ndarray, "ablations n"]:
        """Log-probability with the image minus that with each ablation."""
        return self.logprobs - self.ablated

    @cached_property
    def contribution(self) -> Float[np.ndarray, " n"]:
        """Mean contribution over the ablations that take the image away; over all where none does.

        What changes one thing about the image ("mirrored", "without X") is not averaged.
        """
        kept = [at for at, name in enumerate(self.ablations) if name in REMOVING]
        return self.contributions[kept or slice(None)].mean(0)

    @cached_property
    def parts(self) -> tuple[Selection, ...]:
        """The words with their tokens."""
        return words_of(self.text, self.offsets)

    @cached_property
    def mentions(self) -> tuple[FindingMention, ...]:
        """The findings with their tokens, one for each mention."""
        return mentions_of(self.text, self.offsets)

    def of(self, ablation: str | None = None) -> Float[np.ndarray, " n"]:
        """Return the contribution of each token against one ablation, or the mean one."""
        if ablation is None:
            return self.contribution
        check_one_of("ablation", ablation, self.ablations)
        return self.contributions[self.ablations.index(ablation)]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per token.

        Columns: token, start, end, logprob, entropy, contribution, and one for each ablation.
        """
        starts, ends = zip(*self.offsets, strict=True)
        columns = {"token": list(self.tokens), "start": starts, "end": ends}
        columns |= {"logprob": self.logprobs, "entropy": self.entropies}
        columns |= {"contribution": self.contribution}
        columns |= dict(zip(self.ablations, self.contributions, strict=True))
        return pd.DataFrame(columns).rename_axis("position")

    def words(self) -> pd.DataFrame:
        """Return one row per word, sums over its tokens; columns as in `to_frame`."""
        rows = [(p.text, p.start, p.end, *self._sums(p.tokens)) for p in self.parts]
        return self._summed(rows, "word", "start", "end")

    def findings(self) -> pd.DataFrame:
        """Return one row per mention of a finding, sums over the tokens that decided it.

        Those go from the start of its sentence to the end of its name (`FindingMention`); "no
        finding" has no row, as nothing names it. Columns: finding, code, side, zone, sentence,
        start, end, text, tokens (how many), logprob, contribution, and one for each ablation.
        """
        names = ("finding", "code", "side", "zone", "sentence", "start", "end", "text", "tokens")
        rows = []
        for mention in self.mentions:
            row = mention.label
            if row.finding == NO_FINDING:
                continue
            facts = (row.finding, row.code, row.side, row.zone, mention.sentence, row.start)
            facts += (row.end, self.text[row.start : row.end], len(mention.deciding))
            rows.append((*facts, *self._sums(mention.deciding)))
        return self._summed(rows, *names)

    def _summed(self, rows: list[tuple], *names: str) -> pd.DataFrame:
        columns = [*names, "logprob", "contribution", *self.ablations]
        return pd.DataFrame(rows, columns=columns)

    def _sums(self, tokens: Sequence[int]) -> list[float]:
        values = (self.logprobs, self.contribution, *self.contributions)
        return [float(row[list(tokens)].sum()) for row in values]

    def _by_word(self, values: Float[np.ndarray, " n"]) -> list[float]:
        return [float(values[list(part.tokens)].sum()) for part in self.parts]

    def plot(self, ax: Axes | None = None, *, ablation: str | None = None) -> Axes:
        """Draw the text word by word: green where the image spoke for it, red against it.

        The contribution is the mean one, or that against one ablation; see `of`.
        """
        against = ablation or "mean of ablations"
        return plot_words(
            [part.text for part in self.parts], self._by_word(self.of(ablation)), ax,
            title=f"{self.source}: image against {against}",
            label="contribution [nats]", note=RESEARCH_NOTICE,
        )  # fmt: skip

    def __repr__(self) -> str:
        nats = f"{self.contribution.sum():.1f} nats, {len(self.ablations)} ablations"
        about = f"{len(self.tokens)} tokens about {self.source!r}"
        return f"<Grounding of {about}: the image contributes {nats}>"

    def _repr_html_(self) -> str:
        names = ["contribution", *self.ablations]
        rows = [
            [row["text"], row["code"], f"{row['logprob']:.2f}", *(f"{row[n]:+.2f}" for n in names)]
            for row in self.findings().to_dict("records")
        ]
        spans = [(part.start, part.end) for part in self.parts]
        words = words_html(self.text, spans, self._by_word(self.contribution))
        return card(
            f"<b>Grounding</b> <span style='{SMALL}'>{escape(self.source)}, "
            f"{escape(self.model.id)}</span><p style='white-space:pre-wrap'>{words}</p>"
            f"<p style='{SMALL}'>green: the image spoke for the word, pink: against it; full "
            f"colour at {FULL:g} nats. How much the image was used, not whether it is true. "
            f"{RESEARCH_NOTICE}</p>{html_table(['finding', 'code', 'log-prob', *names], rows)}"
        )


@result()
class AnswerGrounding:
    """What the image contributed to the answers to "Is there ...?"; natural log units.

    Attributes:
        odds: log p("Yes") - log p("No") with the image, for each finding.
        ablated: the same with each ablation in its place.
        ablations, source, model, seed: as in `Grounding`.
    """

    findings: tuple[str, ...]
    ablations: tuple[str, ...]
    odds: Float[np.ndarray, " findings"]
    ablated: Float[np.ndarray, "findings ablations"]
    source: str
    model: ModelIdentity
    seed: int = 0

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding: finding, odds, contribution, and one for each ablation.

        What counts is odds with the image minus that with an ablation; the mean is that of
        `Grounding.contribution`.
        """
        against = self.odds[:, None] - self.ablated
        kept = [at for at, name in enumerate(self.ablations) if name in REMOVING]
        columns = {"finding": self.findings, "odds": self.odds}
        columns |= {"contribution": against[:, kept or slice(None)].mean(1)}
        return pd.DataFrame(columns | dict(zip(self.ablations, against.T, strict=True)))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the contribution to each answer: right of 0 the image spoke for yes."""
        ax = ax or new_axes(6, 0.4 * len(self.findings) + 1)
        frame = self.to_frame()
        ax.barh(frame["finding"], frame["contribution"], color="#1f5f8b")
        ax.axvline(0, color="black", lw=0.8)
        ax.set(xlabel="contribution of the image to yes [nats]", title=self.source)
        ax.invert_yaxis()
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def _repr_html_(self) -> str:
        return frame_table(self.to_frame(), digits=2) + f"<p style='{SMALL}'>{RESEARCH_NOTICE}</p>"


@dataclass(frozen=True)
class FindingMention:
    """One mention of a finding, the number of its sentence, and the tokens that name it.

    A finding is rarely decided at the word that names it: after "There is a" little else can
    follow. The tokens `deciding` are all from the start of its sentence, headings left out, to the
    end of its name; the place and measure that follow are details of it.
    """

    label: FindingLabel
    sentence: int
    words: tuple[int, ...]
    deciding: tuple[int, ...]


def mentions_of(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[FindingMention, ...]:
    """Return every mention of a finding that tokens of the text wrote, in its order."""
    stated, divided = sentences(text), divide(text)
    found = []
    for row in label(text).mentions:
        number = next((i for i, s in enumerate(stated) if s.start <= row.start < s.end), None)
        words = tokens_within(offsets, row.start, row.end)
        if number is None or not words:
            continue
        start = behind_heading(text, divided, stated[number].start)
        if start > row.start:  # the heading itself names the finding
            start = stated[number].start
        deciding = tokens_within(offsets, start, row.end)
        found.append(FindingMention(row, number, words, deciding))
    return tuple(found)


def behind_heading(text: str, divided: Sequence[Section], start: int) -> int:
    """Return where the words of a sentence that starts at `start` begin, behind any heading."""
    for section in divided:
        if section.start <= start < section.body:
            return len(text) - len(text[section.body :].lstrip())
    return start
