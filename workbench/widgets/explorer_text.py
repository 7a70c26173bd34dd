"""A text as the explorer's page takes it: its words, sentences and findings, and where they looked.

Does not know: films or pages; how attention was recorded (`workbench.trace`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from workbench._repr import short_repr
from workbench.attention.choice import patch_rows
from workbench.errors import OptionError
from workbench.findings import NO_FINDING
from workbench.hallucination.spans import words_of
from workbench.model.token_text import tokens_within
from workbench.reports import label, sentences
from workbench.trace import Selection, Trace
from workbench.widgets._film import grid_of


@dataclass(frozen=True, eq=False)
class Passage:
    """One text that a model wrote about one film.

    Attributes:
        number: which, counted over all texts of a side.
        kind: "report", "sample" (written again with chance) or "answer".
        trace: the run.
        question: what was asked; empty for reports.
    """

    number: int
    kind: str
    trace: Trace
    question: str = ""

    __repr__ = short_repr

    def to_dict(self) -> dict[str, Any]:
        """Return everything that a page needs to show and colour the text; not to be changed."""
        return self._page

    @cached_property
    def _page(self) -> dict[str, Any]:
        trace, generation = self.trace, self.trace.generation
        text, offsets = trace.text, trace.layout.offsets
        sure = np.exp(trace.logprobs.astype(np.float64))
        return {
            "number": self.number,
            "kind": self.kind,
            "question": self.question,
            "text": text,
            "offsets": [list(pair) for pair in offsets],
            "words": [
                {
                    "start": word.start,
                    "end": word.end,
                    "probability": float(np.prod(sure[list(word.tokens)])) if word.tokens else None,
                }
                for word in words_of(text, offsets)
            ],
            "sentences": [[part.start, part.end] for part in sentences(text)],
            "findings": findings_of(trace),
            "warnings": [
                {"code": w.code, "message": w.message}
                for w in generation.warnings
                if w.code != "notice"
            ],
            "origin": _origin(generation),
            "rows": rows_of(trace),
        }


def findings_of(trace: Trace) -> list[dict[str, Any]]:
    """Return the findings that a text speaks of, each once, with the words that name it."""
    found = []
    for row in label(trace.text).rows:
        if row.finding == NO_FINDING:
            continue
        chosen = trace.select(finding=row.finding)
        found.append(
            {
                "finding": row.finding,
                "code": row.code,
                "side": row.side,
                "start": chosen.start,
                "end": chosen.end,
            }
        )
    return found


def rows_of(trace: Trace, layer: int | None = None, head: int | None = None) -> dict[str, Any]:
    """Return how much attention each token paid to each patch: (tokens, rows, columns), packed.

    Raises:
        OptionError: the layer or head was not recorded.
    """
    rows = patch_rows(trace, layer=layer, head=head)
    grid = grid_of(rows.reshape(len(rows), *trace.layout.grid))
    return {"layer": layer, "head": head, **grid}


def selection_of(trace: Trace, choice: Mapping[str, Any]) -> Selection | str:
    """Return the part of a text that a page chose; the name of a finding as it is.

    Args:
        trace: whose text.
        choice: {"finding": name}, {"start": first character, "end": one past the last}, or empty
            for the whole text.

    Raises:
        OptionError: characters that are not in the text, or that no token wrote.
    """
    if (finding := choice.get("finding")) is not None:
        return str(finding)
    start, end = choice.get("start"), choice.get("end")
    if start is None and end is None:
        return trace.select()
    text = trace.text
    whole = all(isinstance(value, int) for value in (start, end))
    if not whole or not 0 <= start < end <= len(text):
        raise OptionError(
            f"expected characters within 0 to {len(text)} of the text, got {start!r} to {end!r}"
        )
    tokens = tokens_within(trace.layout.offsets, start, end)
    if not tokens:
        raise OptionError(f"no token wrote {text[start:end]!r}; choose a longer part of the text")
    return Selection("phrase", text[start:end], start, end, tokens)


def _origin(generation: Any) -> str:
    settings = generation.settings
    how = (
        "greedy"
        if settings.greedy
        else f"temperature {settings.temperature:g}, top-p {settings.top_p:g}, seed {settings.seed}"
    )
    stop = {"limit": ", cut at the limit of new tokens", "cancelled": ", stopped before its end"}
    return f"{generation.model.id}, {how}, {generation.seconds:.1f} s" + stop.get(
        generation.stopped_by, ""
    )
