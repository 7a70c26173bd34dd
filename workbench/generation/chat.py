"""A dialogue about one image: every turn continues where the keys and values of the last one end.

Each turn renders and tokenises the whole dialogue again, as the published code does, and compares
the ids with those already computed. What agrees is kept, the rest is computed: usually the new
question only. So a chat answers exactly as a fresh prompt with the same history does.
"""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from workbench.generation.engine import Request
from workbench.generation.kvcache import KeyValueBuffer
from workbench.generation.options import DecodingSettings
from workbench.generation.responder import Draft, Job, Responder
from workbench.generation.result import Generation
from workbench.generation.sampling import Sampler
from workbench.model.prompt import Message, answer, follow_up
from workbench.radiograph import InputWarning

_ASKED = (
    "font-family:system-ui,sans-serif;font-size:14px;max-width:860px;margin:8px 0 4px;"
    "padding:6px 16px;background:#eef3f8;color:#1b1b1b;border-radius:6px"
)


@dataclass(frozen=True)
class Turn:
    """One question, in the user's words, and its answer."""

    question: str
    answer: Generation


class Chat:
    """A dialogue about one image, (1, 1, S, S) normalised pixels.

    Calls from several threads take turns. A call that fails or is interrupted leaves the dialogue
    as it was before it. `settings` makes the settings of a turn from the options of `say`; `source`
    and `warnings` go into every answer.
    """

    def __init__(
        self,
        responder: Responder,
        pixel_values: torch.Tensor,
        settings: Callable[..., DecodingSettings],
        *,
        source: str,
        warnings: tuple[InputWarning, ...] = (),
    ) -> None:
        self._responder = responder
        self._pixels = pixel_values
        self._settings = settings
        self._source = source
        self._warnings = warnings
        #: The dialogue as the template sees it, system turn included.
        self.messages: tuple[Message, ...] = ()
        #: Questions and answers so far.
        self.history: tuple[Turn, ...] = ()
        self._lock = threading.Lock()
        # Keys and values of the dialogue, and the ids behind the image that they belong to.
        self._buffer: KeyValueBuffer | None = None
        self._start = 0
        self._ids: list[int] = []
        #: Positions behind the image that the last turn did not have to compute again.
        self.reused = 0

    def say(self, text: str, **decoding) -> Generation:
        """Ask the next question; `decoding` takes fields of `DecodingSettings`, or `settings`.

        Raises:
            InputError: the text is empty or holds a mark of the template.
            ContextBudgetError: the dialogue has become too long; the message tells by how much.
        """
        with self._lock:
            first = self._responder.prompts.question_messages
            asked = [follow_up(text)] if self.messages else first(text)
            messages = [*self.messages, *asked]
            job = self._responder.job(
                self._pixels,
                messages,
                self._settings(**decoding),
                task="chat",
                source=self._source,
                warnings=self._warnings,
            )
            generation = self._answer(job)
            self.messages = (*messages, answer(generation.text))
            self.history = (*self.history, Turn(text, generation))
            return generation

    def _answer(self, job: Job) -> Generation:
        if not self._responder.resumes:
            return self._responder.answer(job)
        return self._responder.finish(job, self._write(job.request))

    def _write(self, request: Request) -> Draft:
        """Go back to where the new prompt and the computed one part, and write from there.

        On any failure only what was certain before it is kept.
        """
        engine, draft = self._responder.engine, Draft()
        _, tail = engine.split(request.ids)
        room = len(tail) + request.settings.limit
        if self._buffer is None:
            prefix = engine.prefix(request.pixel_values, request.ids)
            self._start = prefix.length
            self._buffer = KeyValueBuffer.from_prefixes([prefix], rows=1, room=room)
        # The last id is always computed: its logits choose the first new token.
        kept = min(_shared_length(self._ids, tail), len(tail) - 1)
        self._ids, self.reused = list(tail[:kept]), kept
        self._buffer.rewind(self._start + kept)
        self._buffer.reserve(self._start + room)
        decoding = engine.extend(self._buffer, [tail[kept:]])
        for step in engine.run(decoding, {0: Sampler(request.settings)}):
            draft.add(step)
        fed = self._buffer.length - self._start - len(tail)
        self._ids = [*tail, *draft.tokens[:fed]]
        return draft

    def to_dict(self) -> dict:
        """Return the dialogue as plain values for JSON."""
        turns = [{"question": one.question, "answer": one.answer.to_dict()} for one in self.history]
        return {"source": self._source, "turns": turns}

    def __repr__(self) -> str:
        return f"<Chat about {self._source!r}, {len(self.history)} turns>"

    def _repr_html_(self) -> str:
        # The image's warnings stand at the first answer; the model's notice at every one.
        return "".join(
            f'<div style="{_ASKED}"><b>You</b> {html.escape(turn.question)}</div>'
            + turn.answer.to_html(codes=("notice",) if index else None)
            for index, turn in enumerate(self.history)
        )


def _shared_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many leading ids two sequences share."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))
