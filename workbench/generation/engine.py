"""The decoding engine: prompts with one image in, tokens with log-probabilities out.

The part of a prompt up to and including its image is computed once per image (`ImagePrefix`) and
copied into a buffer for each further question; then one forward pass per token. Rows of a batch are
prefilled in groups of equal length, without padding, and decoded together, ends aligned, with their
own positions and a mask over the gap in front of the shorter ones. A finished row leaves the batch.

A step is one forward pass under a lock, so several threads may use one engine: nothing but the
prefixes, which are never written to, is shared between requests. In float32 a row of a batch gets
the tokens it gets alone, short of exact ties; in 16 bit near-ties may part.

Imitates `engine.py` of nanochat: a prefill that is shared, a loop that only knows tokens.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from workbench._repr import short_repr
from workbench.errors import DeviceError, InputError
from workbench.generation.kvcache import Decoding, ImagePrefix, KeyValueBuffer, PrefixCache
from workbench.generation.options import DecodingSettings
from workbench.generation.sampling import Sampler, choose
from workbench.generation.token_step import TokenStep, fill
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.placement import on_cpu

#: Changes logits before tokens are chosen: takes the requests' indexes of the rows that are still
#: being decoded and their (R, V) float32 logits, and returns logits of the same shape.
Guide = Callable[[Sequence[int], torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Request:
    """One prompt to answer.

    Attributes:
        pixel_values: (1, 1, S, S) normalised pixels.
        ids: prompt ids; the image's placeholder occurs exactly once and not at the end.
        settings: resolved settings: `max_new_tokens` is a number (`ContextBudget.resolve`) and
            sampling has a seed (`DecodingSettings.with_seed`).
        prefix: what is already computed of the image; None looks for it, and computes it.
    """

    pixel_values: torch.Tensor
    ids: tuple[int, ...]
    settings: DecodingSettings
    prefix: ImagePrefix | None = None

    __repr__ = short_repr


@dataclass(frozen=True, eq=False)
class Step:
    """One new token for every row that is still being decoded.

    Attributes:
        rows: indexes into the requests.
        logprobs: natural log-probability of each token at temperature 1, before any cut.
        stopped: per row "eos", "limit", or None where decoding continues.
        logits: (len(rows), V) float32 raw logits, as the model gave them; the tokens were chosen
            from these, or from what a guide made of them.
    """

    rows: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    stopped: tuple[str | None, ...]
    logits: torch.Tensor

    __repr__ = short_repr


class Engine:
    """Decodes for one model in evaluation mode.

    Attributes:
        most_rows: rows that are decoded together at most; None where there is no limit.
        one_id: an image is one placeholder, and not as many ids as it takes positions.

    Args:
        image_id: the placeholder that stands for an image in prompt ids.
        end_ids: tokens that end a text.
    """

    most_rows: int | None = None
    one_id = True

    def __init__(
        self, model: CxrLlavaForConditionalGeneration, *, image_id: int, end_ids: Iterable[int]
    ) -> None:
        self.model = model
        self.image_id = image_id
        self.end_ids = frozenset(end_ids)
        self.prefixes = PrefixCache()
        self._lock = threading.RLock()

    def split(self, ids: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Cut prompt ids behind the image.

        Raises:
            InputError: not exactly one image, or nothing behind it.
        """
        ids = tuple(ids)
        found = ids.count(self.image_id)
        if not found or (found > 1 and self.one_id):
            raise InputError(
                f"a prompt must hold exactly one image placeholder, got {found}; "
                "leave '<image>' out of questions, it is put there for you"
            )
        cut = len(ids) - ids[::-1].index(self.image_id)
        if cut == len(ids):
            raise InputError("a prompt needs text behind its image; add a question")
        return ids[:cut], ids[cut:]

    def prefix(self, pixel_values: torch.Tensor, ids: Sequence[int]) -> ImagePrefix:
        """Return the keys and values up to the image of a prompt, computed at most once."""
        head, _ = self.split(ids)
        key = prefix_key(pixel_values, head)
        with self._lock:  # one thread computes, the others find the result
            prefix = self.prefixes.get(key)
            if prefix is None:
                prefix = self._compute_prefix(pixel_values, head)
                self.prefixes.put(key, prefix)
            return prefix

    def _compute_prefix(self, pixel_values: torch.Tensor, head: Sequence[int]) -> ImagePrefix:
        return self._begin(pixel_values, [head]).hand_over()

    def prefill(self, requests: Sequence[Request], *, first: int = 0) -> Decoding:
        """Compute every prompt; the requests are numbered from `first` on."""
        room = max(request.settings.limit for request in requests)
        groups: dict[tuple[int, int], list[int]] = {}
        for row, request in enumerate(requests):
            head, tail = self.split(request.ids)
            groups.setdefault((len(head), len(tail)), []).append(row)
        parts = [
            self._prefill_group([requests[r] for r in rows], [first + r for r in rows], room)
            for rows in groups.values()
        ]
        return parts[0] if len(parts) == 1 else Decoding.join(parts, room)

    def _prefill_group(self, requests: list[Request], rows: list[int], room: int) -> Decoding:
        """Prefill prompts that have one length in front of the image and one behind it."""
        heads, tails = zip(*(self.split(request.ids) for request in requests), strict=True)
        room += len(tails[0])
        pixels = [request.pixel_values for request in requests]
        keys = list(map(prefix_key, pixels, heads))
        if len(set(keys)) == 1:
            prefix = requests[0].prefix or self.prefix(pixels[0], requests[0].ids)
            known = [prefix] * len(requests)
        else:
            pairs = zip(requests, keys, strict=True)
            with self._lock:
                known = [request.prefix or self.prefixes.get(key) for request, key in pairs]
        if on_cpu(self.model.lm_head.weight) or None not in known:
            # a processor gains nothing from many images at once, and has to fetch more memory
            each = (
                prefix or self._compute_prefix(image, head)
                for prefix, image, head in zip(known, pixels, heads, strict=True)
            )
            buffer = KeyValueBuffer.from_prefixes(each, rows=len(requests), room=room)
        else:
            buffer = self._begin(torch.cat(pixels), heads, room=room)
        return self.extend(buffer, tails, rows=rows)

    @torch.inference_mode()
    def _begin(
        self, pixel_values: torch.Tensor, heads: Sequence[Sequence[int]], *, room: int = 0
    ) -> KeyValueBuffer:
        """Compute text before the image (ids of one length), and the image, for a batch."""
        with self._lock:
            image = self.model.encode_image(pixel_values)
            text = torch.tensor([ids[:-1] for ids in heads], dtype=torch.long, device=image.device)
            words = self.model.llama.embed_tokens(text)
            embeds = torch.cat((words, image.to(words)), dim=1)
            buffer = KeyValueBuffer(len(self.model.llama.layers), embeds.shape[1] + room)
            fill(self.model.llama, embeds, buffer)
        return buffer

    def extend(
        self, buffer: KeyValueBuffer, ids: Sequence[Sequence[int]], *, rows: list[int] | None = None
    ) -> Decoding:
        """Append one or more ids to every row of a buffer whose rows have one length.

        `rows` are the request index of each row, 0, 1, ... when not given.
        """
        logits = self._forward(buffer, ids)
        rows = list(range(len(ids))) if rows is None else rows
        return Decoding(rows, buffer, logits, [buffer.length] * len(ids))

    def exclusive(self) -> AbstractContextManager:
        """Keep the model to one thread while something other than a step runs on it."""
        return self._lock

    def set_aside(self) -> AbstractContextManager[None]:
        """Forget what was computed while a block runs, and know it again at its end."""
        return self.prefixes.set_aside()

    @torch.inference_mode()
    def force(
        self, pixel_values: torch.Tensor, ids: Sequence[int], tokens: Sequence[int]
    ) -> torch.Tensor:
        """Let the model read n >= 1 given tokens behind a prompt as if it had chosen them.

        Returns:
            (n, V) float32 logits that each of the tokens was, or would have been, chosen from.
        """
        with self._lock:
            (states,) = self.read([pixel_values], ids, tokens)
            return self.model.lm_head(states).float()

    @torch.inference_mode()
    def read(
        self, pixels: Sequence[torch.Tensor], ids: Sequence[int], tokens: Sequence[int]
    ) -> list[torch.Tensor]:
        """Return for each image the (n, H) states that n >= 1 given tokens are chosen from.

        Images that lead to the very same keys and values share a row. `ids` are the prompt's.
        """
        _, tail = self.split(ids)
        with self._lock:
            prefixes, room = (self.prefix(image, ids) for image in pixels), len(tail) + len(tokens)
            most = len(pixels)
            buffer, rows = KeyValueBuffer.from_distinct(prefixes, most=most, room=room)
            device = self.model.llama.embed_tokens.weight.device
            given = torch.tensor([*tail, *tokens[:-1]], device=device).expand(max(rows) + 1, -1)
            output = self.model.llama(input_ids=given, past_key_values=buffer, use_cache=True)
            states = output.last_hidden_state[:, len(tail) - 1 :]
            return [states[row] for row in rows]

    def decode(self, requests: Sequence[Request], *, guide: Guide | None = None) -> Iterator[Step]:
        """Answer requests together, a step at a time, until every row has stopped."""
        samplers = {row: Sampler(request.settings) for row, request in enumerate(requests)}
        yield from self.run(self.prefill(requests), samplers, guide=guide)

    def run(
        self, decoding: Decoding, samplers: Mapping[int, Sampler], *, guide: Guide | None = None
    ) -> Iterator[Step]:
        """Take steps until every row of a decoding has stopped.

        `samplers` go by number of the request; `guide` changes the logits that tokens are chosen
        from, while log-probabilities stay the model's own.

        Raises:
            DeviceError: the model's logits are not finite.
        """
        fast, going = TokenStep.of(self.model), True
        while going:
            step = self.take(decoding, samplers, guide)
            yield step
            going = self.go_on(decoding, step, fast)

    def go_on(self, decoding: Decoding, step: Step, fast: TokenStep | None) -> bool:
        """Let the rows go that have stopped, and advance the others; False where there are none."""
        going = [place for place, stopped in enumerate(step.stopped) if stopped is None]
        if going:
            decoding.keep(going)
            self.advance(decoding, [step.tokens[place] for place in going], fast)
        return bool(going)

    @torch.inference_mode()
    def take(
        self, decoding: Decoding, samplers: Mapping[int, Sampler], guide: Guide | None = None
    ) -> Step:
        """Choose the next token of every row; see `run`."""
        logits = decoding.logits
        guided = logits if guide is None else guide(decoding.rows, logits)
        if self.image_id >= 0:  # in the vocabulary; it would ask for a second image
            image = torch.tensor([self.image_id], device=guided.device)
            guided = guided.index_fill(1, image, -1e9)
        chosen = choose(guided, [samplers[row] for row in decoding.rows])
        picked = torch.log_softmax(logits, dim=-1).gather(-1, chosen[:, None])[:, 0]
        tokens, logprobs = tuple(chosen.tolist()), tuple(picked.tolist())
        check_finite(logprobs, self.model.dtype)
        stopped = []
        for row, token in zip(decoding.rows, tokens, strict=True):
            samplers[row].made += 1
            full = samplers[row].made >= samplers[row].settings.limit
            stopped.append("eos" if token in self.end_ids else "limit" if full else None)
        return Step(tuple(decoding.rows), tokens, logprobs, tuple(stopped), logits)

    @torch.inference_mode()
    def advance(
        self, decoding: Decoding, tokens: Sequence[int], fast: TokenStep | None = None
    ) -> None:
        """Append one token to every row; `fast` takes the step where it can."""
        decoding.lengths = [length + 1 for length in decoding.lengths]
        with self._lock:
            if fast is not None and fast.ready():
                decoding.logits = fast(decoding.buffer, tokens, decoding.lengths)
            else:
                ids = [[token] for token in tokens]
                decoding.logits = self._forward(decoding.buffer, ids, decoding.lengths)

    @torch.inference_mode()
    def _forward(
        self,
        buffer: KeyValueBuffer,
        ids: Sequence[Sequence[int]],
        lengths: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Append ids to a buffer and return the (R, V) float32 logits behind the last one.

        `lengths` as for `TokenStep`.
        """
        with self._lock:
            device = self.model.llama.embed_tokens.weight.device
            tokens = torch.tensor(ids, device=device)
            options = {}
            end = buffer.length + tokens.shape[1]
            if lengths is not None and min(lengths) < end:
                size = torch.tensor(lengths, device=device)[:, None]
                options["position_ids"] = size - 1
                options["attention_mask"] = torch.arange(end, device=device) >= end - size
            output = self.model.llama(
                input_ids=tokens, past_key_values=buffer, use_cache=True, **options
            )
            return self.model.lm_head(output.last_hidden_state[:, -1]).float()


def check_finite(logprobs: Sequence[float] | np.ndarray, dtype: object) -> None:
    """Raise a DeviceError where a log-probability is not finite."""
    if not np.isfinite(logprobs).all():
        raise DeviceError(
            f"the model's logits are not finite under {dtype}; load it with dtype='bfloat16' or "
            "dtype='float32', and check the checkpoint with workbench doctor"
        )


def pixels_sha256(pixel_values: torch.Tensor) -> str:
    """Return the SHA-256 of normalised pixels in float32."""
    pixels = pixel_values.detach().to("cpu", torch.float32).contiguous().numpy()
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def prefix_key(pixel_values: torch.Tensor, head: Sequence[int]) -> tuple:
    """Return what the prefix of an image, and of the text before it, is kept under."""
    return pixels_sha256(pixel_values), tuple(head)
