"""Maps as the explorer's page takes them: any part of a text, any method, and its caption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from workbench._repr import short_repr
from workbench.attention.word_maps import patch_rows
from workbench.errors import OptionError
from workbench.figures.numbers import method_name
from workbench.findings import NO_FINDING
from workbench.generation import Generation
from workbench.model.tokenizer import tokens_within
from workbench.reports import label, sentences
from workbench.saliency import METHODS, Method, explain
from workbench.saliency.cautions import caution_of
from workbench.saliency.explain import method_of
from workbench.trace import ImageMap, Selection, Trace
from workbench.widgets._front import number_in
from workbench.widgets.radiographs import grid_of

#: Methods that take about one pass of the model: computed as soon as a word is chosen.
PROMPT = ("attention", "rollout", "relevancy", "input_x_gradient", "grad_cam")


def method_list(sha256: str) -> list[dict[str, Any]]:
    """Return every method with what a menu has to say of it for these weights."""
    return [
        {
            "name": method.name,
            "label": method_name(method.name),
            "prompt": method.name in PROMPT,
            "signed": method.signed,
            "layers": "layer" in method.defaults,
            "heads": "head" in method.defaults,
            "caution": caution_of(method.name, sha256),
        }
        for method in METHODS.values()
    ]


def map_for(trace: Trace, message: Mapping[str, Any]) -> ImageMap:
    """Return the map that a page asks for: method, choice (`selection_of`), layer and head.

    Raises:
        OptionError: an unknown method, or a choice that is none.
        InputError: see `workbench.saliency.explain`, and a layer or head that is none.
    """
    method = method_of(message.get("method"))
    parts = {name: part_in(message, name) for name in ("layer", "head") if name in method.defaults}
    options: dict[str, Any] = {n: value for n, value in parts.items() if value is not None}
    choice = message.get("choice") or {}
    if not isinstance(choice, Mapping):
        raise OptionError(f"expected a choice with start and end, or a finding; got {choice!r}")
    return explain(trace, selection_of(trace, choice), method=method.name, **options)


def expected_images(method: Method, image_size: int, patch: int) -> int | None:
    """Return how many images a method will read; None where it decides that as it goes."""
    defaults = method.defaults
    if method.name == "occlusion":
        stride = patch if patch % 2 else patch // 2
        return (image_size // stride) ** 2 + 1
    return defaults.get("budget") or defaults.get("samples")


def said_of(image_map: ImageMap) -> dict[str, Any]:
    """Return what is said about a map, without its numbers."""
    return {
        "title": image_map.title,
        "details": image_map.details,
        "signed": image_map.signed,
        "unit": image_map.unit,
        "caution": image_map.caution,
        "share": image_map.scores.get("image_share"),
    }


def part_in(message: Mapping[str, Any], name: str) -> int | None:
    """Return the layer or head of a message; None for the mean of all."""
    return None if message.get(name) is None else number_in(message, name)


@dataclass(frozen=True, eq=False)
class Passage:
    """One text that a model wrote about one image.

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

    @cached_property
    def page(self) -> dict[str, Any]:
        """Everything that a page needs to show and colour the text; not to be changed."""
        trace, generation = self.trace, self.trace.generation
        return {
            "number": self.number,
            "kind": self.kind,
            "question": self.question,
            "text": trace.text,
            "offsets": [list(pair) for pair in trace.layout.offsets],
            "words": [
                {"start": word.start, "end": word.end, "probability": word.probability}
                for word in generation.words
            ],
            "sentences": [[part.start, part.end] for part in sentences(trace.text)],
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


def selection_of(trace: Trace, choice: Mapping[str, Any]) -> Selection:
    """Return the part of a text that a page chose.

    A choice is {"finding": name}, {"start": first character, "end": one past the last}, or empty
    for the whole text.

    Raises:
        OptionError: characters that are not in the text, or that no token wrote.
        InputError: the text does not speak of the finding.
    """
    if (finding := choice.get("finding")) is not None:
        return trace.select(finding=str(finding))
    start, end = choice.get("start"), choice.get("end")
    if start is None and end is None:
        return trace.select()
    text = trace.text
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(text)):
        raise OptionError(
            f"expected characters within 0 to {len(text)} of the text, got {start!r} to {end!r}"
        )
    tokens = tokens_within(trace.layout.offsets, start, end)
    if not tokens:
        raise OptionError(f"no token wrote {text[start:end]!r}; choose a longer part of the text")
    return Selection("phrase", text[start:end], start, end, tokens)


def _origin(generation: Generation) -> str:
    settings = generation.settings
    how = f"temperature {settings.temperature:g}, top-p {settings.top_p:g}, seed {settings.seed}"
    stops = {"limit": ", cut at the limit of new tokens", "cancelled": ", stopped before its end"}
    stop = stops.get(generation.stopped_by, "")
    how = "greedy" if settings.greedy else how
    return f"{generation.model.id}, {how}, {generation.seconds:.1f} s{stop}"
