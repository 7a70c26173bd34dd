"""Decoding with any network of transformers, a row at a time, in the engine's loop.

What stands up to an image is read once for several questions where that gives the same logits,
which is tried once for each model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import torch

from workbench.backends.transformers_vlm import Sequencing, Vlm
from workbench.errors import CheckpointError
from workbench.generation.engine import Engine, Guide, Request, Step, prefix_key
from workbench.generation.kvcache import Decoding
from workbench.generation.sampling import Sampler
from workbench.model.tokenizer import prefix_ends

#: Largest difference of logits (standard deviations) at which a prompt's start may be used again.
_SAME_START = 1e-3


class VlmTokenizer:
    """A tokenizer of transformers with what analyses ask of one, as `CxrTokenizer` has it."""

    def __init__(self, tokenizer: Any) -> None:
        self._own = tokenizer
        if tokenizer.eos_token_id is None:
            raise CheckpointError(
                "tokenizer_config.json names no token that ends a text; expected eos_token"
            )
        self.eos_id = int(tokenizer.eos_token_id)
        cleans = getattr(tokenizer, "clean_up_tokenization_spaces", False)
        self.settings = {"clean_up_tokenization_spaces": bool(cleans)}

    def encode(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        ids = self._own.encode(text, add_special_tokens=False)
        first = [self._own.bos_token_id] if add_bos and self._own.bos_token_id is not None else []
        return [*first, *ids]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        return self._own.decode(list(ids), skip_special_tokens=skip_special)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the vocabulary's pieces, as text where one is text on its own."""
        names = self._own.convert_ids_to_tokens(list(ids))
        return [str(name).replace("\u0120", "\u2581").replace("\u010a", "\n") for name in names]

    def offsets(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        return list(pairwise([0, *prefix_ends(self.decode, ids)]))


class VlmEngine(Engine):
    """The engine's loop over a network of transformers: one row at a time."""

    most_rows, one_id = 1, False

    def __init__(self, vlm: Vlm, *, end_ids: set[int]) -> None:
        super().__init__(cast(Any, vlm.network), image_id=vlm.image_id, end_ids=end_ids)
        self.vlm = vlm
        #: Whether a prompt's start may be used again; None until it was tried.
        self.shares: bool | None = None

    def prefill(self, requests: Sequence[Request], *, first: int = 0) -> Decoding:
        """Read the prompts of requests, one after the other."""
        with self._lock, torch.inference_mode():
            found = _Sequences(self._read(one.pixel_values, one.ids) for one in requests)
        rows = list(range(first, first + len(found)))
        lengths = [len(one.ids) for one in requests]
        return Decoding(rows, cast(Any, found), found.logits, lengths)

    def decode(self, requests: Sequence[Request], *, guide: Guide | None = None) -> Iterator[Step]:
        """Answer requests one after the other; together, step by step, where a guide looks on."""
        together = [requests] if guide is not None else [[one] for one in requests]
        first = 0
        for some in together:
            samplers = {first + n: Sampler(one.settings) for n, one in enumerate(some)}
            yield from self.run(self.prefill(some, first=first), samplers, guide=guide)
            first += len(some)

    def advance(self, decoding: Decoding, tokens: Sequence[int], fast: object = None) -> None:
        """Read one more token of every row."""
        pairs = zip(cast(_Sequences, decoding.buffer), tokens, strict=True)
        with self._lock, torch.inference_mode():
            found = _Sequences(self.vlm.advance(one, token) for one, token in pairs)
        decoding.buffer, decoding.logits = cast(Any, found), found.logits
        decoding.lengths = [length + 1 for length in decoding.lengths]

    def force(
        self, pixel_values: torch.Tensor, ids: Sequence[int], tokens: Sequence[int]
    ) -> torch.Tensor:
        """Read given tokens; where the prompt's start is known, only what follows it."""
        inputs = self.vlm.inputs(pixel_values)
        with self._lock, torch.inference_mode():
            key = prefix_key(pixel_values, self.split(ids)[0])
            start = self.prefixes.get(key) if self.shares else None
            if start is None:
                return self.vlm.logits(inputs, ids, tokens)[0]
            every, count = (*ids, *tokens[:-1]), len(tokens)
            start = _copied(cast(Any, start))
            return self.vlm.read(inputs, every, written=count - 1, last=count, start=start).logits

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        known, self.shares = self.shares, bool(self.shares)  # not to be tried meanwhile
        try:
            with super().set_aside():
                yield
        finally:
            self.shares = known

    @torch.inference_mode()
    def _compute_prefix(self, pixel_values: torch.Tensor, head: Sequence[int]) -> Any:
        return self.vlm.read(self.vlm.inputs(pixel_values), head)

    def _read(self, pixels: torch.Tensor, ids: tuple[int, ...]) -> Sequencing:
        """Read a prompt, from its image on where that was read before and may be used again."""
        inputs = self.vlm.inputs(pixels)
        if self.shares is False:
            return self.vlm.read(inputs, ids)
        found = self.vlm.read(inputs, ids, start=_copied(cast(Any, self.prefix(pixels, ids))))
        if self.shares is None:
            whole = self.vlm.read(inputs, ids)
            apart = (found.logits - whole.logits).abs().max() / whole.logits.std()
            self.shares = bool(apart <= _SAME_START)
            return whole
        return found


def _copied(start: Sequencing) -> Sequencing:
    return replace(start, cache=copy.deepcopy(start.cache))


class _Sequences(list[Sequencing]):
    """Sequences that are written at the same time, in the place of a buffer."""

    @property
    def logits(self) -> torch.Tensor:
        """(R, V) float32, for the next token of each."""
        return torch.cat([one.logits for one in self])

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        self[:] = [self[row] for row in rows]
