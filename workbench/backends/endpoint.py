"""A model behind an OpenAI-compatible endpoint (vLLM, Ollama, `transformers serve`): texts.

The image goes out as a PNG of the radiograph's pixels as its input contract shows them. A key is
read from OPENAI_API_KEY and neither stored nor logged. Patient data leaves the machine here, so any
host but this machine has to be allowed by name.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import numpy as np
import torch
from jaxtyping import Float

from workbench._repr import png_text
from workbench.backends.levels import READER, check_level
from workbench.backends.reader import YES_NO, OwnPixels, Reader, picture_of
from workbench.errors import InputError, OptionError, RunError, check_whole, need_package
from workbench.generation.engine import Guide, Request, pixels_sha256
from workbench.generation.options import DecodingSettings
from workbench.generation.responder import Job, Responder
from workbench.generation.result import Generation, ModelIdentity
from workbench.generation.stream import TextStream
from workbench.model.card import ModelCard
from workbench.model.licence import UNKNOWN_TERMS
from workbench.model.prompt import IMAGE_MARK, Message

if TYPE_CHECKING:
    from openai import OpenAI

logger = logging.getLogger(__name__)

#: Seconds for one try of an answer, and how often it is tried again where the endpoint cannot be
#: reached or is overloaded. The client's pauses grow to 8 seconds: all take about five minutes.
TIMEOUT, RETRIES = 120.0, 40

#: Requests that are open at the same time.
PARALLEL = 4

#: Side of the square that stands for an endpoint's input, pixels; likeliest first words asked for.
_SIDE, _TOP = 512, 20

_KEY = "OPENAI_API_KEY"
_STOPS = {"stop": "eos", "length": "limit"}


def check_host(url: str, allow_remote: bool) -> str:
    """Return the host of an address; this machine, or one that was allowed.

    Raises:
        OptionError: another machine, which was not allowed; or no host.
    """
    host = urlsplit(url).hostname
    if not host:
        raise OptionError(f"{url!r} names no host; expected such as http://127.0.0.1:8000/v1")
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    if not here and not allow_remote:
        raise OptionError(
            f"images would leave this machine for {host}; allow that with allow_remote=True "
            "(--allow-remote), if your data may go there"
        )
    return host


def connect(url: str) -> OpenAI:
    """Return a client of an endpoint, where the package openai is installed."""
    openai = need_package("openai", "endpoint", what="an endpoint")
    key = os.environ.get(_KEY) or "none"
    return openai.OpenAI(base_url=url, api_key=key, timeout=TIMEOUT, max_retries=RETRIES)


@dataclass(frozen=True, eq=False)
class Question(Request):
    """A request as messages: the endpoint renders and tokenises them."""

    messages: tuple[Message, ...] = ()


class EndpointWriter(Reader):
    """A model behind an endpoint: it writes, and shows nothing of its inside."""

    level, template, resumes = "writer", "endpoint", False

    def __init__(self, url: str, name: str, *, allow_remote: bool = False) -> None:
        host = check_host(url, allow_remote)
        digest = hashlib.sha256(f"{url}\n{name}".encode()).hexdigest()
        self.identity = ModelIdentity(
            id=name, sha256=f"endpoint-{digest[:12]}", dtype="unknown", device=host
        )
        self.card = ModelCard(
            name=name, revision=None, sha256s={}, **asdict(UNKNOWN_TERMS), parameters={}, memory={},
            context_length=0, image_tokens=0, text_tokens=0, image_size=_SIDE, patch_size=0,
            cache_bytes=0, template=self.template, on_this_machine=False, placement=f"at {host}",
        )  # fmt: skip
        self.processor = OwnPixels()
        self.client = connect(url)
        #: Whether the server gives log-probabilities; None until it was asked.
        self.tells_logprobs: bool | None = None
        #: Whether the server takes top_k, which the protocol does not have.
        self.takes_top_k = True

    def exclusive(self) -> AbstractContextManager[None]:
        return nullcontext()

    def forget_images(self) -> None:
        pass

    def _request(
        self, pixels: torch.Tensor, messages: Sequence[Message], settings: DecodingSettings
    ) -> tuple[str, Request]:
        prompt = "\n".join(f"{one.role}: {one.content}" for one in messages)
        return prompt, Question(pixels, (), settings, messages=tuple(messages))

    def answer(self, job: Job) -> Generation:
        """Write one answer.

        Raises:
            RunError: the endpoint cannot be reached.
            InputError: it refuses the request, or its answer is none.
        """
        started = time.perf_counter()
        choice = self._choice(job)
        content = choice.message.content
        if not isinstance(content, str):
            raise InputError("the endpoint's answer holds no text; check the model it serves")
        return self._generation(job, content, _told(choice), choice.finish_reason, started)

    def word_odds(
        self, pixels: Sequence[torch.Tensor], messages: Sequence[Message]
    ) -> Float[np.ndarray, " images"]:
        """Return log p("Yes") - log p("No"), as the first word of an answer, for each image.

        A word that is not among the likeliest counts as the last of them.

        Raises:
            OptionError: the endpoint gives no log-probabilities.
            InputError: neither word is among the likeliest; else see `answer`.
        """
        settings = DecodingSettings(max_new_tokens=1)
        jobs = [self.job(one, messages, settings, task="question", source="") for one in pixels]
        with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
            return np.array(list(pool.map(self._odds, jobs)))

    def _odds(self, job: Job) -> float:
        told = _told(self._choice(job, top=_TOP))
        likely = getattr(told[0], "top_logprobs", None) if told else None
        if not likely:
            raise OptionError(
                f"{self.identity.id} is behind an endpoint that gives no log-probabilities of "
                "first words, which this needs; load its checkpoint with wb.load_model(DIRECTORY)"
            )
        found = [[one.logprob for one in likely if one.token.strip() == word] for word in YES_NO]
        if not any(found):
            raise InputError(
                f"the answer starts with neither 'Yes' nor 'No' but with such as "
                f"{likely[0].token!r}; ask so that one of them answers"
            )
        least = [min(one.logprob for one in likely)]
        first, second = (np.logaddexp.reduce(own or least) for own in found)
        return float(first - second)

    def answer_batch(self, jobs: Sequence[Job], *, guide: Guide | None = None) -> list[Generation]:
        """Write several answers, a few at the same time; a guide would need the model's logits."""
        if guide is not None:
            raise OptionError(
                f"changed logits need a reader, and {self.identity.id} is behind an endpoint; load "
                "its checkpoint with wb.load_model(DIRECTORY)"
            )
        with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
            return list(pool.map(self.answer, jobs))

    answer_image_by_image = answer_batch

    def answer_many(self, jobs: Iterable[Job], *, batch_size: int = 8) -> Iterator[Generation]:
        """Write answers in the order of the jobs, which are taken as they are needed."""
        check_whole(1, batch_size=batch_size)
        waiting = iter(jobs)
        while some := list(islice(waiting, batch_size)):
            yield from self.answer_batch(some)

    def stream(self, job: Job) -> TextStream:
        """Write one answer piece by piece, as the server sends it."""
        started, parts, told, stop = time.perf_counter(), [], [], [None]

        def pieces() -> Generator[int, None, None]:
            for event in self._ask(job, stream=True):
                if not event.choices:
                    continue
                choice = event.choices[0]
                told.extend(_told(choice))
                stop[0] = choice.finish_reason or stop[0]
                if choice.delta.content:
                    parts.append(choice.delta.content)
                    yield len(parts) - 1

        def finish() -> Generation:
            return self._generation(job, "".join(parts), told, stop[0], started)

        return TextStream(pieces(), lambda ids: "".join(parts[: len(ids)]), finish)

    def __getattr__(self, name: str) -> NoReturn:
        inside = Reader.__annotations__ | Responder.__annotations__  # an endpoint has its identity
        if name in inside and name != "identity":
            self._closed()
        raise AttributeError(name)

    def _closed(self, *_: object, **__: object) -> Any:
        check_level(self, READER, "this")

    geometry = image_tokens = image_rows = last_states = view = under = prompt_ids = _closed

    def _choice(self, job: Job, *, top: int | None = None) -> Any:
        choices = getattr(self._ask(job, stream=False, top=top), "choices", None)
        if not choices:
            raise InputError(
                "the endpoint's answer holds no choice; check that it serves chat models"
            )
        return choices[0]

    def _ask(self, job: Job, *, stream: bool, top: int | None = None) -> Any:
        """Send one request; without log-probabilities where the server refuses them."""
        import openai

        options = {**_options(self._settings(job)), "messages": _messages(job.request)}
        wants: dict[str, Any] = {} if self.tells_logprobs is False else {"logprobs": True}
        wants |= {"top_logprobs": top} if wants and top else {}
        send: Callable[..., Any] = self.client.chat.completions.create
        try:
            return send(model=self.identity.id, stream=stream, **options, **wants)
        except openai.AuthenticationError as error:
            raise OptionError(
                f"the endpoint {self.identity.device} wants a key; put it into {_KEY}"
            ) from error
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            said = str(error).lower()
            if wants and "logprob" in said:
                self.tells_logprobs = False
            elif "extra_body" in options and ("top_k" in said or error.status_code == 422):
                self.takes_top_k = False
                logger.warning("%s takes no top_k and samples with its own", self.identity.id)
            else:
                raise InputError(f"the endpoint refuses the request: {error}") from error
            return self._ask(job, stream=stream, top=top)
        except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as e:
            raise RunError(
                f"the endpoint {self.identity.device} does not answer ({type(e).__name__}); start "
                "it, then run the same command again: what was answered is kept"
            ) from e
        except (openai.APIError, ValueError) as error:
            raise InputError(f"the endpoint's answer cannot be read: {error}") from error

    def _settings(self, job: Job) -> DecodingSettings:
        settings = job.request.settings
        return settings if self.takes_top_k else replace(settings, top_k=0)

    def _generation(
        self, job: Job, text: str, told: Sequence[Any], stop: str | None, started: float
    ) -> Generation:
        if self.tells_logprobs is None:
            self.tells_logprobs = bool(told)
        tokens = tuple(str(one.token) for one in told)
        ends = np.cumsum([0, *map(len, tokens)]).clip(max=len(text)).tolist()
        return Generation(
            text=text,
            token_ids=(-1,) * len(tokens),
            tokens=tokens,
            logprobs=np.array([one.logprob for one in told], np.float32),
            offsets=tuple(pairwise(ends)),
            prompt=job.prompt,
            prompt_ids=(),
            settings=self._settings(job),
            seconds=time.perf_counter() - started,
            stopped_by=_STOPS.get(stop or "", stop or "cancelled"),
            task=job.task,
            source=job.source,
            model=self.identity,
            template=self.template,
            warnings=job.warnings,
            pixels_sha256=pixels_sha256(job.request.pixel_values),
        )


def _told(choice: Any) -> list[Any]:
    """Return the tokens of an answer or of a piece of it, where the server tells them."""
    return getattr(getattr(choice, "logprobs", None), "content", None) or []


def _options(settings: DecodingSettings) -> dict[str, Any]:
    """Return decoding settings as the protocol calls them."""
    found: dict[str, Any] = {"max_tokens": settings.limit}
    if settings.greedy:
        return {**found, "temperature": 0.0}
    extra = {"extra_body": {"top_k": settings.top_k}} if settings.top_k else {}
    sampled = {"temperature": settings.temperature, "top_p": settings.top_p, "seed": settings.seed}
    return {**found, **sampled, **extra}


def _messages(request: Request) -> list[dict[str, Any]]:
    """Return the dialogue in the protocol's form, the image as a PNG in its first user turn."""
    found = []
    for one in getattr(request, "messages", ()):
        before, mark, behind = one.content.partition(f"{IMAGE_MARK}\n")
        if not mark:
            found.append({"role": one.role, "content": one.content})
            continue
        grey = picture_of(request.pixel_values).convert("L")
        data = png_text(lambda to, grey=grey: grey.save(to, "PNG"))
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        content = [image, {"type": "text", "text": before + behind}]
        found.append({"role": one.role, "content": content})
    return found
