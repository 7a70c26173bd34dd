"""Trace: one run of a model, recorded once, from which every analysis starts.

A trace holds what the model saw, what it wrote, how sure it was, and where it looked. Rows of
attention are those of the positions that chose a token: row k belongs to the query at
`layout.query_of(k)`, one position before token k, because that is where token k was decided.

Analyses that only read attention need nothing else. Analyses that run the model again (gradients,
occlusion) take it from `trace.model`: it is there while the trace is fresh, and after loading a
trace it is given with `trace.attach(model)`.

Does not know: how rows are recorded (`record`) or saved (`store`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from workbench._repr import short_repr
from workbench.backends import Reader
from workbench.errors import InputError, OptionError
from workbench.generation import Generation
from workbench.radiograph import Radiograph
from workbench.trace.layout import Selection, TokenLayout

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class AttentionRows:
    """Recorded rows of one tower.

    Attributes:
        values: (layers, heads, queries, keys) float32 or float16; one head where `mean_heads`.
            Every row sums to 1.
        layers: number of each recorded layer in the model.
        mean_heads: True where heads were averaged while recording.
        total_layers: layers that the model has.
        total_heads: heads that each has.
    """

    values: np.ndarray
    layers: tuple[int, ...]
    mean_heads: bool
    total_layers: int
    total_heads: int

    __repr__ = short_repr

    def pick(self, layer: int | None = None, head: int | None = None) -> np.ndarray:
        """Return (queries, keys) float32 of a layer and head; the mean over what is not named.

        Args:
            layer: number in the model; negative counts from the last. None averages layers.
            head: number of the head. None averages heads.

        Raises:
            OptionError: a layer that was not recorded, or a head of rows averaged over heads.
        """
        chosen = self.values[self._at(layer)] if layer is not None else self.values
        heads = chosen if head is None else chosen[..., self._head(head), :, :]
        axes = tuple(range(heads.ndim - 2))
        return heads.mean(axes, dtype=np.float32) if axes else heads.astype(np.float32)

    def _at(self, layer: int) -> int:
        number = layer + self.total_layers if layer < 0 else layer
        if number not in self.layers:
            raise OptionError(
                f"layer {layer} was not recorded; recorded layers: "
                f"{', '.join(map(str, self.layers))} of {self.total_layers}. "
                "Trace again with layers=None to keep all"
            )
        return self.layers.index(number)

    def _head(self, head: int) -> int:
        if self.mean_heads:
            raise OptionError(
                f"head {head} was asked for, but heads were averaged while recording; trace again "
                "with heads='each'"
            )
        if not 0 <= head < self.total_heads:
            raise OptionError(f"heads go from 0 to {self.total_heads - 1}, got {head}")
        return head


@dataclass(frozen=True, eq=False)
class Trace:
    """One run of one model on one image.

    Attributes:
        layout: spans, patches and words.
        generation: what was written, with prompt, settings and model.
        image: the radiograph as read.
        pixel_values: (1, S, S) float32, normalised as the model saw it.
        logprobs: (n,) float32, natural log-probability of each token, read again teacher-forced.
        language: attention rows (layers, heads, n, T) of the positions that chose each token;
            keys a row may not look at hold 0.
        vision: attention rows (layers, heads, N + 1, N + 1) of the vision tower, the class token
            first; None where they were not recorded.
        model: the live `ChestXrayModel`, None for a trace that was loaded.
    """

    layout: TokenLayout
    generation: Generation
    image: Radiograph
    pixel_values: np.ndarray
    logprobs: np.ndarray
    language: AttentionRows
    vision: AttentionRows | None = None
    model: Reader | None = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """The generated text."""
        return self.layout.text

    def select(self, phrase: str | None = None, **choice) -> Selection:
        """Choose a part of the text; see `TokenLayout.select`."""
        return self.layout.select(phrase, **choice)

    def logprob(self, phrase: str | None = None, **choice) -> float:
        """Return the summed log-probability of a part of the text."""
        tokens = list(self.select(phrase, **choice).tokens)
        return float(self.logprobs[tokens].sum(dtype=np.float64))

    def attach(self, model: Reader) -> Trace:
        """Return the trace with a live model, for analyses that run it again.

        Raises:
            InputError: the model is not the one that was traced.
        """
        there, here = self.generation.model, model.identity
        if there.sha256 != here.sha256:
            raise InputError(
                f"the trace was recorded with {there.id} ({there.sha256[:12]}), the model is "
                f"{here.id} ({here.sha256[:12]}); attach the model that was traced"
            )
        return replace(self, model=model)

    def need_model(self) -> Reader:
        """Return the live model.

        Raises:
            InputError: there is none; the message says how to get one.
        """
        if self.model is None:
            raise InputError(
                "this analysis runs the model again, and a loaded trace has none: use "
                f"trace.attach(wb.load_model({self.generation.model.id!r}))"
            )
        return self.model

    def need_vision(self) -> AttentionRows:
        """Return the vision tower's rows.

        Raises:
            InputError: they were not recorded.
        """
        if self.vision is None:
            raise InputError(
                "the trace holds no attention of the vision tower; trace again with vision='each' "
                "or vision='mean'"
            )
        return self.vision

    def save(self, path: str | Path) -> Path:
        """Write the trace into a folder; see `workbench.trace.store.save_trace`."""
        from workbench.trace.store import save_trace

        return save_trace(self, path)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per generated token with its attention by kind of position.

        Columns: token, logprob, start, end, and for each of prompt, image, question, generated
        the share of attention (mean over recorded layers and heads) in [0, 1].
        """
        import pandas as pd

        rows = self.language.pick()
        starts, ends = zip(*self.layout.offsets, strict=True) if self.layout.offsets else ((), ())
        shares = {span.kind: rows[:, span.slice].sum(1) for span in self.layout.spans}
        columns = {
            "token": list(self.layout.tokens),
            "logprob": self.logprobs,
            "start": starts,
            "end": ends,
        }
        return pd.DataFrame(columns | shares).rename_axis("position")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw where each token's attention went, by kind of position."""
        from workbench.trace.figure import plot_sources

        return plot_sources(self, ax)

    def __repr__(self) -> str:
        layers, heads = self.language.values.shape[:2]
        seen = "no vision rows" if self.vision is None else "with vision rows"
        return (
            f"<Trace of {self.generation.task} about {self.generation.source!r}: "
            f"{len(self.layout.tokens)} tokens, {self.layout.image_tokens} patches, "
            f"{layers} layers x {heads} heads, {seen}>"
        )

    def _repr_html_(self) -> str:
        spans = ", ".join(f"{len(span)} {span.kind}" for span in self.layout.spans)
        return (
            f"{self.generation._repr_html_()}<p style='font-size:12px;color:#5f5f5f'>"
            f"Trace: {escape(spans)} positions; {escape(repr(self))}</p>"
        )
