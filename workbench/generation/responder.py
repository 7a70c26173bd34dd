"""From messages about an image to a `Generation`: the template, the budget and the engine together.

`answer`, `answer_many` and `stream` differ only in how they take the engine's steps.

Paper for `flow`: Yu et al., Orca, OSDI 2022, section 3.2 (iteration-level scheduling). Deviation:
prompts are not mixed with steps of other rows.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice

import numpy as np
import torch
from jaxtyping import Float

from workbench._repr import short_repr
from workbench.errors import InputError, check_whole
from workbench.generation.engine import Engine, Guide, Request, Step, check_finite, pixels_sha256
from workbench.generation.kvcache import Decoding
from workbench.generation.options import (
    PUBLISHED_CONTEXT,
    ContextBudget,
    DecodingSettings,
    end_ids,
)
from workbench.generation.result import Generation, ModelIdentity
from workbench.generation.sampling import Sampler
from workbench.generation.stream import TextStream
from workbench.generation.token_step import TokenStep
from workbench.model.load import LoadedCheckpoint
from workbench.model.prompt import (
    IMAGE_TOKEN_ID,
    PUBLISHED_PROMPTS,
    TEMPLATE_VERSION,
    Message,
    Prompts,
    render_chat,
)
from workbench.model.tokenizer import CxrTokenizer
from workbench.radiograph.contract import NO_WORDS, InputWarning

#: New requests are let in when this share of the places is free.
_FREE = 0.25

_WORDLESS = (
    "the model wrote {} tokens and no word, which is no answer and says nothing about the image; "
    "check the checkpoint with `workbench doctor`, or ask otherwise"
)

#: `answer_many` looks this many batches ahead for prompts of similar length.
_WINDOW = 4


@dataclass(frozen=True, eq=False)
class Job:
    """One answer to be written: request, rendered prompt, what goes into the `Generation`."""

    request: Request
    prompt: str
    task: str
    source: str
    warnings: tuple[InputWarning, ...]


@dataclass(eq=False)
class Draft:
    """Tokens of one answer as they come, and the seconds from its start to the last of them."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped_by: str = "cancelled"
    seconds: float = 0.0
    started: float = field(default_factory=lambda: time.perf_counter())

    def add(self, step: Step, row: int = 0) -> None:
        """Take the token of one row of a step."""
        self.tokens.append(step.tokens[row])
        self.logprobs.append(step.logprobs[row])
        self.stopped_by = step.stopped[row] or self.stopped_by
        self.seconds = time.perf_counter() - self.started


@dataclass(frozen=True, eq=False)
class Reading:
    """What a model made of given tokens, image by image.

    Attributes:
        logprobs: natural log-probability of each token.
        entropies: entropy of what each token was chosen from, nats.
    """

    logprobs: Float[np.ndarray, "images n"]
    entropies: Float[np.ndarray, "images n"]

    __repr__ = short_repr


@dataclass(eq=False)
class Responder:
    """Writes answers with one model.

    Attributes:
        resumes: a dialogue continues from the keys and values of its last turn.
        template: name of the chat template.
        tokenizer: text to token ids and back: `encode`, `decode`, `pieces`, `offsets`, `eos_id`.
        identity: which weights these are, and where and in which dtype they compute.
    """

    resumes = True
    template = TEMPLATE_VERSION
    _prompts = PUBLISHED_PROMPTS

    engine: Engine
    tokenizer: CxrTokenizer
    budget: ContextBudget
    identity: ModelIdentity

    @property
    def prompts(self) -> Prompts:
        """The texts that the model is asked with; their version is part of its identity."""
        return self._prompts

    @prompts.setter
    def prompts(self, prompts: Prompts) -> None:
        self._prompts = prompts
        self.identity = replace(self.identity, prompts=prompts.version)

    def job(
        self,
        pixel_values: torch.Tensor,
        messages: Sequence[Message],
        settings: DecodingSettings,
        *,
        task: str,
        source: str,
        warnings: tuple[InputWarning, ...] = (),
    ) -> Job:
        """Render, tokenise and check the budget of one answer; `messages` end with a user turn.

        `task`, `source` and `warnings` go into the `Generation`.

        Raises:
            InputError: the messages are no dialogue, or hold no image or several.
            ContextBudgetError: the prompt, the image and the new tokens do not fit.
        """
        prompt, request = self._request(pixel_values, messages, settings.with_seed())
        return Job(request, prompt, task, source, warnings)

    def _request(
        self, pixels: torch.Tensor, messages: Sequence[Message], settings: DecodingSettings
    ) -> tuple[str, Request]:
        prompt, ids = self.rendered(messages, pixels)
        self.engine.split(ids)
        return prompt, Request(pixels, ids, self.budget.resolve(settings, len(ids)))

    def rendered(
        self, messages: Sequence[Message], pixels: torch.Tensor
    ) -> tuple[str, tuple[int, ...]]:
        """Return a dialogue about an image as text and as ids."""
        prompt = render_chat(messages)
        return prompt, tuple(self.tokenizer.encode_prompt(prompt))

    def answer(self, job: Job) -> Generation:
        """Write one answer."""
        return self.answer_batch([job])[0]

    def answer_batch(self, jobs: Sequence[Job], *, guide: Guide | None = None) -> list[Generation]:
        """Write several answers together.

        `guide` changes the logits that tokens are chosen from; its rows are indexes into `jobs`.
        """
        drafts = [Draft() for _ in jobs]
        for step in self.engine.decode([job.request for job in jobs], guide=guide):
            for position, row in enumerate(step.rows):
                drafts[row].add(step, position)
        return [self.finish(job, draft) for job, draft in zip(jobs, drafts, strict=True)]

    def answer_image_by_image(self, jobs: Sequence[Job]) -> list[Generation]:
        """Write answers in one batch; none depends on which other images are in it.

        Each image's keys and values are computed once and alone.
        """
        if self.engine.most_rows == 1:
            return self.answer_batch(jobs)
        begun, kept = [], {}
        for job in jobs:
            image = job.request.pixel_values
            key = id(image), self.engine.split(job.request.ids)[0]
            if key not in kept:  # the engine's own memory may be too small for all of the batch
                kept[key] = self.engine.prefix(image, job.request.ids)
            begun.append(replace(job, request=replace(job.request, prefix=kept[key])))
        return self.answer_batch(begun)

    def answer_many(self, jobs: Iterable[Job], *, batch_size: int = 8) -> Iterator[Generation]:
        """Write answers and give them out in the order of the jobs, which are taken as needed.

        Jobs of similar prompt length are next to each other. Memory is bounded by the batch.

        Raises:
            OptionError: batch_size is below 1.
        """
        check_whole(1, batch_size=batch_size)
        return self._in_order(iter(jobs), min(batch_size, self.engine.most_rows or batch_size))

    def _in_order(self, jobs: Iterator[Job], batch_size: int) -> Iterator[Generation]:
        open_: dict[int, tuple[int, Job, Draft]] = {}
        done: dict[int, Generation] = {}
        given = 0

        def requests() -> Iterator[Request]:
            rows, numbered = count(), enumerate(jobs)
            while some := list(islice(numbered, batch_size * _WINDOW)):
                for number, job in sorted(some, key=lambda pair: len(pair[1].request.ids)):
                    open_[next(rows)] = number, job, Draft()
                    yield job.request

        for step in flow(self.engine, requests(), places=batch_size):
            for place, row in enumerate(step.rows):
                number, job, draft = open_[row]
                draft.add(step, place)
                if step.stopped[place] is not None:
                    del open_[row]
                    done[number] = self.finish(job, draft)
            while given in done:
                yield done.pop(given)
                given += 1

    def read_with(
        self,
        pixels: Sequence[torch.Tensor],
        prompt_ids: Sequence[int],
        tokens: Sequence[int],
        *,
        batch_size: int = 16,
    ) -> Reading:
        """Let the model read the same n >= 1 tokens with each of several images.

        An image that is given twice differs from itself by exactly 0, and the order in which
        images are given changes no bit: rows of a batch are in an order of their pixels, and
        images that lead to the very same keys and values share one.

        Args:
            pixels: (1, 1, S, S) normalised pixels, one for each image.
            batch_size: images read together; fewer take less memory.

        Raises:
            InputError: there is no image or no token.
            OptionError: batch_size is below 1.
            ContextBudgetError: prompt, image and tokens do not fit the context.
            DeviceError: a log-probability is not finite.
        """
        if not len(pixels) or not len(tokens):
            raise InputError(
                f"expected at least one image and one token, got {len(pixels)} and {len(tokens)}"
            )
        check_whole(1, batch_size=batch_size)
        self.budget.resolve(DecodingSettings(max_new_tokens=len(tokens)), len(prompt_ids))
        by_hash = {pixels_sha256(image): image for image in pixels}
        order = sorted(by_hash)
        rows: dict[str, np.ndarray] = {}
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            found = _read(self.engine, [by_hash[key] for key in chunk], prompt_ids, tokens)
            rows.update(zip(chunk, found, strict=True))
        reading = Reading(*np.stack([rows[pixels_sha256(image)] for image in pixels], axis=1))
        check_finite(reading.logprobs, self.identity.dtype)
        return reading

    def stream(self, job: Job) -> TextStream:
        """Write one answer piece by piece; nothing is computed before the first is asked for."""
        draft, decode = Draft(), self.tokenizer.decode
        # Some tokenizers close the gap in front of "n't" and the like when it is complete.
        hold = 4 if self.tokenizer.settings["clean_up_tokenization_spaces"] else 0
        tokens = self._tokens(job, draft)
        return TextStream(tokens, decode, lambda: self.finish(job, draft), hold=hold)

    def _tokens(self, job: Job, draft: Draft) -> Generator[int, None, None]:
        """Yield tokens; the time a consumer takes between them does not count."""
        draft.started = time.perf_counter()
        for step in self.engine.decode([job.request]):
            draft.add(step)
            yield step.tokens[0]
            draft.started = time.perf_counter() - draft.seconds

    def finish(self, job: Job, draft: Draft) -> Generation:
        """Make the `Generation` of a draft, whether it came to its end or not."""
        ids = tuple(draft.tokens)
        text = self.tokenizer.decode(ids)
        warnings = job.warnings
        if draft.stopped_by != "cancelled" and not any(map(str.isalnum, text)):
            warnings = (*warnings, InputWarning(NO_WORDS, _WORDLESS.format(len(ids))))
        return Generation(
            text=text,
            token_ids=ids,
            tokens=tuple(self.tokenizer.pieces(ids)),
            logprobs=np.array(draft.logprobs, np.float32),
            offsets=tuple(self.tokenizer.offsets(ids)),
            prompt=job.prompt,
            prompt_ids=job.request.ids,
            settings=job.request.settings,
            seconds=draft.seconds,
            stopped_by=draft.stopped_by,
            task=job.task,
            source=job.source,
            model=self.identity,
            template=self.template,
            warnings=warnings,
            pixels_sha256=pixels_sha256(job.request.pixel_values),
        )


def parts_of(
    loaded: LoadedCheckpoint,
) -> tuple[Engine, CxrTokenizer, ContextBudget, ModelIdentity]:
    """Return what a `Responder` of a loaded checkpoint is made of."""
    config = loaded.model.config
    ends = {loaded.tokenizer.eos_id, *end_ids(loaded.generation)}
    engine = Engine(loaded.model, image_id=IMAGE_TOKEN_ID, end_ids=ends)
    most = config.max_position_embeddings or PUBLISHED_CONTEXT
    budget = ContextBudget(config.context_length, config.image_tokens, most)
    identity = ModelIdentity.of(loaded.card, loaded.placement)
    return engine, loaded.tokenizer, budget, identity


def flow(engine: Engine, requests: Iterable[Request], *, places: int) -> Iterator[Step]:
    """Answer any number of requests, `places` at a time, numbered in the order in which they come.

    Answers end at different lengths: free places are filled while the other rows continue. Joining
    copies the keys and values of the whole batch, so a few free places are waited for.
    """
    waiting = iter(requests)
    enough = max(1, int(places * _FREE))
    samplers: dict[int, Sampler] = {}
    decoding: Decoding | None = None
    fast = TokenStep.of(engine.model)
    came = 0
    while True:
        free = places - (len(decoding.rows) if decoding else 0)
        if free >= enough and (new := list(islice(waiting, free))):
            samplers.update((came + n, Sampler(one.settings)) for n, one in enumerate(new))
            joined = engine.prefill(new, first=came)
            room = max(one.settings.limit for one in new)
            decoding = joined if decoding is None else Decoding.join([decoding, joined], room)
            came += len(new)
        if decoding is None:
            return
        step = engine.take(decoding, samplers)
        yield step
        for row, stopped in zip(step.rows, step.stopped, strict=True):
            if stopped is not None:
                del samplers[row]
        if not engine.go_on(decoding, step, fast):
            decoding = None


@torch.inference_mode()
def _read(
    engine: Engine, pixels: Sequence[torch.Tensor], ids: Sequence[int], tokens: Sequence[int]
) -> list[np.ndarray]:
    """Return log-probabilities and entropies (2, n) of each image of one batch."""
    if engine.most_rows == 1:
        return [_measured(engine.force(image, ids, tokens), tokens) for image in pixels]
    with engine.exclusive():
        states, head = engine.read(pixels, ids, tokens), engine.model.lm_head
        return [_measured(head(own).float(), tokens) for own in states]


def _measured(logits: torch.Tensor, tokens: Sequence[int]) -> np.ndarray:
    logs = logits.double().log_softmax(-1)
    chosen = torch.tensor(list(tokens), device=logits.device)[:, None]
    entropy = -logs.exp().mul_(logs).nan_to_num_(0.0).sum(-1)
    return torch.stack((logs.gather(1, chosen)[:, 0], entropy)).cpu().numpy()
