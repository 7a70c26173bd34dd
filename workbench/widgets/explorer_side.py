"""One model with one radiograph, the texts it wrote, and maps of any part of them by any method."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from workbench._repr import plain, result
from workbench.attention.word_maps import patch_rows
from workbench.backends.levels import READER, check_level
from workbench.errors import InputError, OptionError
from workbench.figures.numbers import method_name
from workbench.findings import NO_FINDING
from workbench.generation import DecodingSettings, Generation
from workbench.generation.stream import TextStream
from workbench.hallucination import ABLATIONS, ground
from workbench.imaging.load import as_radiograph, masks_beside
from workbench.interface import ChestXrayModel
from workbench.model.prompt import answer, follow_up
from workbench.model.tokenizer import tokens_within
from workbench.phantom import Phantom
from workbench.phantom.case import CT
from workbench.reports import label, sentences
from workbench.saliency import METHODS, Method, explain
from workbench.saliency.methods import caution_of, method_of, methods_for
from workbench.trace import ImageMap, Selection, Trace
from workbench.widgets._front import number_in
from workbench.widgets._worker import Job
from workbench.widgets.radiographs import grid_of, model_view_of, outlines_of, radiograph_of

#: Texts that a side keeps; beyond them the oldest answer makes room.
MOST_TEXTS = 20

#: Models of at most this many parameters write within a second or two.
SMALL = 50_000_000


class Side:
    """A model, a radiograph, and what was written; see `explore`.

    A phantom brings its truth along, and so does the file of one, where its masks lie beside it.
    """

    def __init__(
        self, model: ChestXrayModel, image: object, report: Generation | Trace | None = None
    ) -> None:
        self.model = model
        self.image = as_radiograph(image)
        #: The phantom that can be shown from the side too.
        self.upright: Phantom | None = None
        if isinstance(image, Phantom) and (image.domain, image.scene.view) == (CT, "PA"):
            self.upright = image
        self.masks = dict(getattr(image, "masks", None) or {})
        if isinstance(image, (str, os.PathLike)):
            self.masks = masks_beside(image, self.image)
        self.passages: list[Passage] = []
        self.contributions: dict[int, list[float | None]] = {}
        self._count = 0
        self.lock = threading.RLock()
        if report is not None:
            self._check(report)
            self.add("report", report)

    @property
    def small(self) -> bool:
        """Whether the model writes a report in about a second."""
        return self.model.card.parameters.get("total", SMALL + 1) <= SMALL

    @cached_property
    def closed(self) -> str:
        """One sentence where the model shows nothing of its inside: then there are texts only."""
        try:
            check_level(self.model, READER, "a map")
        except OptionError as error:
            return str(error)
        return ""

    def add(self, kind: str, written: Generation | Trace, question: str = "") -> Passage:
        """Keep one more text, with its trace where the model is open."""
        trace = None
        if isinstance(written, Trace):
            trace, written = written.attach(self.model), written.generation
        elif not self.closed:
            trace = self.model.trace(self.image, written)
        with self.lock:
            self._count += 1
            passage = Passage(self._count, kind, written, trace, question)
            self.passages.append(passage)
            if len(self.passages) > MOST_TEXTS:
                old = next(p for p in self.passages if p.kind != "report")
                self.passages.remove(old)
                self.contributions.pop(old.number, None)
            return passage

    def passage(self, number: object) -> Passage:
        """Return a text by its number, or raise OptionError."""
        with self.lock:
            known = {passage.number: passage for passage in self.passages}
        for own, passage in known.items():
            if own == number:
                return passage
        there = ", ".join(map(str, known)) or "none yet"
        raise OptionError(f"no text number {number!r} here; there are: {there}")

    def trace(self, number: object) -> Trace:
        """Return the trace of a text, or raise OptionError where the model shows none."""
        if (trace := self.passage(number).trace) is None:
            raise OptionError(self.closed)
        return trace

    def ensure_report(self) -> None:
        """Have the report written where there is none."""
        with self.lock:
            if not self.passages:
                self.add("report", self.model.report(self.image))

    def _check(self, report: object) -> None:
        """Refuse what is no report about the image."""
        if not isinstance(report, (Generation, Trace)):
            raise InputError(
                f"expected a Generation or a Trace, got {type(report).__name__}; leave report out "
                "to have one written"
            )
        if isinstance(report, Trace) and not np.array_equal(report.image.pixels, self.image.pixels):
            raise InputError(
                f"the trace is about {report.image.contract.source!r} and the image is "
                f"{self.image.contract.source!r}; give the image that was traced"
            )

    def write(self, job: Job) -> Passage:
        """Write the report, or another one with chance where it is there, piece by piece."""
        if not self.passages:
            return self._stream(self.model.stream_report(self.image), "report", "", job)
        seed = sum(passage.kind == "sample" for passage in self.passages) + 1
        stream = self.model.stream_report(self.image, temperature=0.2, top_p=0.8, seed=seed)
        return self._stream(stream, "sample", "", job)

    def ask(self, question: object, job: Job) -> Passage:
        """Answer a question that follows on the newest report, piece by piece."""
        if not isinstance(question, str):
            raise InputError(f"expected a question as text, got {type(question).__name__}")
        prompts = self.model.prompts
        messages = prompts.question_messages(question)
        reports = [p for p in self.passages if p.kind != "answer"]
        if reports:
            before = reports[-1].generation.text
            messages = [*prompts.report_messages(), answer(before), follow_up(question)]
        asked = self.model.jobs(self.image, [("chat", messages, DecodingSettings())])
        return self._stream(self.model.stream(asked[0]), "answer", question.strip(), job)

    def _stream(self, stream: TextStream, kind: str, question: str, job: Job) -> Passage:
        """Take all pieces; what was written until a cancel is kept as a text that was stopped."""
        with stream:
            for piece in stream:
                if job.cancelled:
                    break
                job.piece(piece)
        generation = stream.generation
        if generation is None or not generation.token_ids or not generation.text.strip():
            job.check()
            raise InputError("the model wrote nothing; ask in other words")
        return self.add(kind, generation, question)

    def ground(self, number: object) -> list[float | None]:
        """Return what the image contributed to each word of a text, nats; kept once it is known."""
        passage, trace = self.passage(number), self.trace(number)
        if passage.number not in self.contributions:
            own = self.model.card.domain == "phantom"
            # A drawn phantom is another patient only to a model of phantoms.
            names = [n for n in ABLATIONS if own or n != "other patient"]
            words = ground(trace, ablations=names).words()
            self.contributions[passage.number] = words["contribution"].tolist()
        return self.contributions[passage.number]

    def to_dict(self, name: str) -> dict[str, Any]:
        """Return the side for a page."""
        return {
            "name": name,
            **self._looks,
            "closed": self.closed,
            "methods": self._methods(),
            "layers": 0 if self.closed else self.model.sizes.layers,
            **self.texts(),
        }

    def _methods(self) -> list[dict[str, Any]]:
        names = () if self.closed else methods_for(self.model)
        return [one for one in method_list(self.model.identity.sha256) if one["name"] in names]

    @cached_property
    def _looks(self) -> dict[str, Any]:
        """What never changes about a side, and is much: image, the model's view of it, outlines."""
        geometry = None if self.closed else self.model.geometry(self.image)
        return {
            "radiograph": radiograph_of(self.image, self.model.contract(self.image)),
            "seen": model_view_of(self.image, geometry, size=self.model.image_size),
            "truth": outlines_of(self.masks),
        }

    @cached_property
    def lateral(self) -> dict[str, Any]:
        """The same chest from the side; see `lateral_of`."""
        if self.upright is None:
            raise OptionError(
                f"only a phantom of the domain 'ct' and the view 'PA' can be shown from the side; "
                f"got {self.image.contract.source}; draw one with wb.phantom(seed, domain='ct')"
            )
        return lateral_of(self.upright)

    def texts(self) -> dict[str, Any]:
        """Return the texts, what the image contributed, and heads that can be told apart."""
        with self.lock:
            passages, contributions = list(self.passages), dict(self.contributions)
        traces = [passage.trace for passage in passages if passage.trace is not None]
        mean = bool(self.closed) or any(trace.language.mean_heads for trace in traces)
        return {
            "passages": [passage.page for passage in passages],
            "contributions": {str(number): row for number, row in contributions.items()},
            "heads": 0 if mean else self.model.sizes.heads,
        }


def lateral_of(front: Phantom) -> dict[str, Any]:
    """Return a CT phantom from the side, its truth, and `Phantom.lines_in`, there and back."""
    side = front.seen_from("LATERAL")
    return {
        "radiograph": radiograph_of(side.image),
        "truth": outlines_of(side.masks),
        "lines": [front.lines_in(side).tolist(), side.lines_in(front).tolist()],
    }


#: Methods that take about one pass of the model: computed as soon as a word is chosen.
PROMPT = (
    "attention", "attention_without_sinks", "rollout", "relevancy", "input_x_gradient", "grad_cam",
    "token_activation",
)  # fmt: skip


def method_list(sha256: str) -> list[dict[str, Any]]:
    """Return every method with what a menu has to say of each for these weights."""
    return [
        {
            "name": method.name,
            "label": method_name(method.name),
            "prompt": method.name in PROMPT,
            "signed": method.signed,
            "layers": "layer" in method.options,
            "heads": "head" in method.options,
            "caution": caution_of(method.name, sha256),
        }
        for method in METHODS.values()
    ]


def map_for(trace: Trace, message: Mapping[str, Any]) -> ImageMap:
    """Return the map that a page asks for: method, choice (`selection_of`), layer and head."""
    method = method_of(message.get("method"))
    parts: dict[str, Any] = {
        name: part_in(message, name) for name in ("layer", "head") if name in method.options
    }
    choice = message.get("choice") or {}
    if not isinstance(choice, Mapping):
        raise OptionError(f"expected a choice with start and end, or a finding; got {choice!r}")
    return explain(trace, selection_of(trace, choice), method=method.name, **parts)


def expected_images(method: Method, model: ChestXrayModel) -> int | None:
    """Return how many images a method will read; None where that is not known before."""
    if method.name == "occlusion":
        size, patch = model.card.image_size, model.card.patch_size
        stride = patch if patch % 2 else patch // 2
        return (size // stride) ** 2 + 1 if model.patchwise else None
    return method.options.get("budget") or method.options.get("samples")


def said_of(image_map: ImageMap) -> dict[str, Any]:
    """Return what is said about a map, without its numbers."""
    names = ("title", "details", "signed", "unit", "caution")
    said = {name: getattr(image_map, name) for name in names}
    return said | {"share": image_map.scores.get("image_share")}


def part_in(message: Mapping[str, Any], name: str) -> int | None:
    """Return the layer or head of a message; None for the mean of all."""
    return None if message.get(name) is None else number_in(message, name)


@result()
class Passage:
    """One text that a model wrote about one image: its number among all texts of a side.

    `kind` is "report", "sample" (written again with chance) or "answer". There is no trace of a
    model that shows nothing of its inside.
    """

    number: int
    kind: str
    generation: Generation
    trace: Trace | None
    question: str = ""

    @cached_property
    def page(self) -> dict[str, Any]:
        """Everything that a page needs to show and colour the text; not to be changed."""
        trace, generation = self.trace, self.generation
        return {
            "number": self.number,
            "kind": self.kind,
            "question": self.question,
            "text": generation.text,
            "offsets": [list(pair) for pair in generation.offsets],
            "words": plain(generation.words),
            "sentences": [[part.start, part.end] for part in sentences(generation.text)],
            "findings": findings_of(generation.text, trace),
            "warnings": plain([w for w in generation.warnings if w.code != "notice"]),
            "origin": _origin(generation),
            "rows": None if trace is None else rows_of(trace),
            "between": None if trace is None else between_words(trace),
        }


def findings_of(text: str, trace: Trace | None = None) -> list[dict[str, Any]]:
    """Return the findings that a text speaks of, each once, with the words that name it."""
    found = []
    for row in label(text).rows:
        if row.finding == NO_FINDING:
            continue
        chosen = row if trace is None else trace.select(finding=row.finding)
        said = {"finding": row.finding, "code": row.code, "side": row.side}
        found.append(said | {"start": chosen.start, "end": chosen.end})
    return found


def rows_of(trace: Trace, layer: int | None = None, head: int | None = None) -> dict[str, Any]:
    """Return how much attention each token paid to each patch: (tokens, rows, columns), packed."""
    rows = patch_rows(trace, layer=layer, head=head)
    grid = grid_of(rows.reshape(len(rows), *trace.layout.grid))
    return {"layer": layer, "head": head, **grid}


def between_words(trace: Trace) -> dict[str, Any]:
    """Return how much attention each token paid to each token of the text before it, packed.

    (tokens, tokens), mean of all recorded layers and heads.
    """
    return grid_of(trace.language.pick()[:, trace.layout.span("generated").slice])


def selection_of(trace: Trace, choice: Mapping[str, Any]) -> Selection:
    """Return the part of a text that a page chose.

    A choice is {"finding": name}, {"start": first character, "end": one past the last}, or empty
    for the whole text.
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
