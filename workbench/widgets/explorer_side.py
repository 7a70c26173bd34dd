"""One model with one radiograph, and the texts it wrote: half of an explorer, or all of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import cached_property
from textwrap import shorten
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    ValidationError,
)

from workbench.errors import InputError, OptionError
from workbench.generation import DecodingSettings, Generation
from workbench.generation.stream import TextStream
from workbench.hallucination import ABLATIONS, ground
from workbench.imaging.load import masks_beside
from workbench.interface import ChestXrayModel, as_radiograph
from workbench.model.prompt import answer, follow_up, question_messages, report_messages
from workbench.saliency.explain import method_of
from workbench.trace import Trace
from workbench.widgets._worker import Job
from workbench.widgets.explorer_map import Passage, method_list
from workbench.widgets.radiographs import model_view_of, outlines_of, radiograph_of

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
        self.masks = dict(getattr(image, "masks", None) or {})
        if isinstance(image, (str, os.PathLike)):
            self.masks = masks_beside(image, self.image)
        self.passages: list[Passage] = []
        self.contributions: dict[int, list[float | None]] = {}
        self._count = 0
        self.lock = threading.RLock()
        if report is not None:
            self.add("report", self._traced(report))

    @property
    def small(self) -> bool:
        """Whether the model writes a report in about a second."""
        return self.model.card.parameters.get("total", SMALL + 1) <= SMALL

    def add(self, kind: str, trace: Trace, question: str = "") -> Passage:
        """Keep one more text."""
        with self.lock:
            self._count += 1
            passage = Passage(self._count, kind, trace, question)
            self.passages.append(passage)
            if len(self.passages) > MOST_TEXTS:
                old = next(p for p in self.passages if p.kind != "report")
                self.passages.remove(old)
                self.contributions.pop(old.number, None)
            return passage

    def passage(self, number: object) -> Passage:
        """Return a text by its number, or raise OptionError."""
        with self.lock:
            for passage in self.passages:
                if passage.number == number:
                    return passage
            known = ", ".join(str(passage.number) for passage in self.passages) or "none yet"
        raise OptionError(f"no text number {number!r} here; there are: {known}")

    def ensure_report(self) -> None:
        """Have the report written where there is none."""
        with self.lock:
            if not self.passages:
                self.add("report", self.model.trace(self.image))

    def _traced(self, report: Generation | Trace) -> Trace:
        """Return the trace of a report that is there already."""
        if isinstance(report, Generation):
            return self.model.trace(self.image, report)
        if not isinstance(report, Trace):
            raise InputError(
                f"expected a Generation or a Trace, got {type(report).__name__}; leave report out "
                "to have one written"
            )
        if not np.array_equal(report.image.pixels, self.image.pixels):
            raise InputError(
                f"the trace is about {report.image.contract.source!r} and the image is "
                f"{self.image.contract.source!r}; give the image that was traced"
            )
        return report.attach(self.model)

    def write(self, job: Job) -> Passage:
        """Write the report, or another one with chance where it is there, piece by piece."""
        if not self.passages:
            return self._stream(self.model.stream_report(self.image), "report", "", job)
        seed = sum(passage.kind == "sample" for passage in self.passages) + 1
        stream = self.model.stream_report(self.image, temperature=0.2, top_p=0.8, seed=seed)
        return self._stream(stream, "sample", "", job)

    def ask(self, question: object, job: Job) -> Passage:
        """Answer a question that follows on the newest report, piece by piece.

        Raises:
            InputError: the question is empty or holds a mark of the chat template.
            ContextBudgetError: the dialogue is too long.
        """
        if not isinstance(question, str):
            raise InputError(f"expected a question as text, got {type(question).__name__}")
        messages = question_messages(question)
        reports = [p for p in self.passages if p.kind != "answer"]
        if reports:
            before = reports[-1].trace.text
            messages = [*report_messages(), answer(before), follow_up(question)]
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
        return self.add(kind, self.model.trace(self.image, generation), question)

    def ground(self, number: object) -> list[float | None]:
        """Return what the image contributed to each word of a text, nats; kept once it is known."""
        passage = self.passage(number)
        if passage.number not in self.contributions:
            own = self.model.card.domain == "phantom"
            # A drawn phantom is another patient only to a model of phantoms.
            names = [n for n in ABLATIONS if own or n != "other patient"]
            words = ground(passage.trace, ablations=names).words()
            self.contributions[passage.number] = words["contribution"].tolist()
        return self.contributions[passage.number]

    def to_dict(self, name: str) -> dict[str, Any]:
        """Return the side for a page."""
        return {
            "name": name,
            **self._looks,
            "methods": method_list(self.model.identity.sha256),
            "layers": self.model.sizes.layers,
            **self.texts(),
        }

    @cached_property
    def _looks(self) -> dict[str, Any]:
        """What never changes about a side, and is much: image, the model's view of it, outlines."""
        geometry = self.model.geometry(self.image)
        return {
            "radiograph": radiograph_of(self.image),
            "seen": model_view_of(self.image, geometry),
            "truth": outlines_of(self.masks),
        }

    def texts(self) -> dict[str, Any]:
        """Return the texts, what the image contributed, and heads that can be told apart."""
        with self.lock:
            passages = list(self.passages)
            contributions = dict(self.contributions)
        total = self.model.sizes.heads
        return {
            "passages": [passage.page for passage in passages],
            "contributions": {str(key): value for key, value in contributions.items()},
            "heads": 0 if any(p.trace.language.mean_heads for p in passages) else total,
        }


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class View(_Strict):
    """How the images are shown."""

    zoom: float = 1.0
    x: float = 0.5
    y: float = 0.5
    centre: float = 0.5
    width: float = 1.0
    invert: bool = False
    model: bool = False
    crop: bool = True
    hand: bool = False


class Choice(_Strict):
    """A chosen part of a text: characters, a finding, or the whole text."""

    passage: int
    start: int | None = None
    end: int | None = None
    finding: Annotated[str, Field(max_length=80)] | None = None


class Settings(_Strict):
    """What is chosen on the page, and what a new explorer shows."""

    method: Annotated[str, AfterValidator(lambda name: method_of(name).name)] = "attention"
    second: Annotated[str, AfterValidator(lambda name: name and method_of(name).name)] = ""
    layer: NonNegativeInt | None = None
    head: NonNegativeInt | None = None
    sign: Literal["both", "for", "against"] = "both"
    opacity: Annotated[float, Field(ge=0, le=1)] = 0.6
    smooth: bool = True
    overlay: bool = True
    truth: bool = False
    colour: Literal["none", "image", "confidence"] = "none"
    pick: Literal["word", "sentence"] = "word"
    view: View = View()
    chosen: list[Choice | None] = []


DEFAULTS: dict[str, Any] = Settings().model_dump()


def checked_settings(kept: Mapping[str, Any], given: object, sides: int) -> dict[str, Any]:
    """Return the settings with those of a page; what the page leaves out stays.

    Raises:
        OptionError: a value is not allowed; nothing is changed then.
    """
    try:
        new = Settings.model_validate(given).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        shown = shorten(repr(first["input"]), 60)
        raise OptionError(f"the setting {where!r} cannot be {shown}: {first['msg']}") from None
    if len(new.get("chosen", ())) > sides:
        raise OptionError(f"the setting 'chosen' cannot be longer than {sides}")
    return {**kept, **new}
