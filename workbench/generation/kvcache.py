"""Keys and values that the language model has already computed: buffers, and image prefixes.

A `KeyValueBuffer` has room for a whole decoding from the start, so a new token costs one write and
no copy of the past (`transformers.DynamicCache` concatenates at every step). Going back is free:
positions beyond the length are overwritten. An `ImagePrefix` is what every question about one image
has in common, from the first token to the last image token; it is only ever copied into a buffer,
never written to. `PrefixCache` keeps the prefixes used last within a memory budget. `Decoding` is
the rows of a buffer with the logits behind them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from transformers.cache_utils import Cache, DynamicLayer

from workbench._repr import short_repr


class _BufferLayer(DynamicLayer):
    """Keys and values of one layer, in tensors with room to spare."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = _room_like(key_states, self.capacity)
        self.values = _room_like(value_states, self.capacity)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        if end > self.capacity:
            self.reserve(end)
        self.keys.narrow(2, self.length, end - self.length).copy_(key_states)
        self.values.narrow(2, self.length, end - self.length).copy_(value_states)
        self.length = end
        return self.keys.narrow(2, 0, end), self.values.narrow(2, 0, end)

    def reserve(self, capacity: int) -> None:
        if capacity <= self.capacity:
            return
        self.capacity = capacity
        if self.is_initialized:
            for name in ("keys", "values"):
                old = getattr(self, name)
                new = _room_like(old, capacity)
                new[:, :, : self.length] = old[:, :, : self.length]
                setattr(self, name, new)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length


def _room_like(states: torch.Tensor, capacity: int) -> torch.Tensor:
    """Return memory, not filled, of the shape of `states` but with `capacity` positions."""
    batch, heads, _, width = states.shape
    return states.new_empty((batch, heads, capacity, width))


@dataclass(frozen=True, eq=False)
class ImagePrefix:
    """Keys and values of the text before an image and of the image itself; read only.

    Attributes:
        ids: prompt ids up to and including the image's placeholder.
        length: positions covered, image tokens counted.
        layers: per layer, keys and values, each (1, kv heads, length, head width).
    """

    ids: tuple[int, ...]
    length: int
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    __repr__ = short_repr

    @property
    def nbytes(self) -> int:
        """Bytes that the keys and values take."""
        return sum(part.numel() * part.element_size() for pair in self.layers for part in pair)


class KeyValueBuffer(Cache):
    """Keys and values of R rows that are decoded together; it grows beyond `capacity` positions.

    Attributes:
        shared: the prefix that all of several rows begin with, where it is the same; else None.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        super().__init__(layers=[_BufferLayer(capacity) for _ in range(layers)])
        self.shared: ImagePrefix | None = None

    @property
    def length(self) -> int:
        """Positions filled so far."""
        return self.layers[0].length

    @torch.inference_mode()
    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` positions in every layer."""
        for layer in self.layers:
            layer.reserve(capacity)

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on; does nothing when there are none."""
        for layer in self.layers:
            layer.length = min(layer.length, length)
        if self.shared is not None and length < self.shared.length:
            self.shared = None

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        for layer in self.layers:
            index = torch.tensor(rows, device=layer.keys.device)
            layer.keys = layer.keys.index_select(0, index)
            layer.values = layer.values.index_select(0, index)

    @torch.inference_mode()
    def hand_over(self, ids: Sequence[int]) -> ImagePrefix:
        """Return what a one-row buffer holds as an `ImagePrefix` for `ids`; the buffer has ended.

        Nothing is copied: room that was not used stays with the prefix.
        """
        length, layers, self.layers = self.length, self.layers, []
        pairs = tuple((x.keys[:, :, :length], x.values[:, :, :length]) for x in layers)
        return ImagePrefix(tuple(ids), length, pairs)

    @classmethod
    @torch.inference_mode()
    def from_prefixes(
        cls, prefixes: Iterable[ImagePrefix], *, rows: int, room: int
    ) -> KeyValueBuffer:
        """Start a buffer with one row per prefix, all of one length, and room behind them.

        A prefix may be computed when it is asked for, and is let go when it has been copied.
        """
        prefixes = iter(prefixes)
        first = next(prefixes)
        buffer = cls(len(first.layers), first.length + room)
        for layer, (keys, values) in zip(buffer.layers, first.layers, strict=True):
            layer.lazy_initialization(*(one.expand(rows, -1, -1, -1) for one in (keys, values)))
            layer.length = first.length
        alike = rows > 1
        for row, prefix in enumerate(chain([first], prefixes)):
            alike = alike and prefix is first
            for layer, (keys, values) in zip(buffer.layers, prefix.layers, strict=True):
                layer.keys[row, :, : layer.length] = keys[0]
                layer.values[row, :, : layer.length] = values[0]
        buffer.shared = first if alike else None
        return buffer

    @classmethod
    @torch.inference_mode()
    def join(
        cls, buffers: Sequence[KeyValueBuffer], lengths: Sequence[int], capacity: int
    ) -> KeyValueBuffer:
        """Stack the rows of several buffers, ends aligned, zeros in front of the shorter ones.

        `lengths` are the positions to take from the end of each buffer.
        """
        longest = max(lengths)
        joined = cls(len(buffers[0].layers), capacity)
        for index, layer in enumerate(joined.layers):
            parts = [buffer.layers[index] for buffer in buffers]
            rows = sum(part.keys.shape[0] for part in parts)
            shape = parts[0].keys[:1].expand(rows, -1, -1, -1)
            layer.lazy_initialization(shape, shape)
            gap = longest - min(lengths)
            for states in (layer.keys, layer.values):
                states[:, :, :gap] = 0  # masked, but nothing times what was there must be a number
            row = 0
            for part, length in zip(parts, lengths, strict=True):
                end = row + part.keys.shape[0]
                here = slice(longest - length, longest)
                there = slice(part.length - length, part.length)
                layer.keys[row:end, :, here] = part.keys[:, :, there]
                layer.values[row:end, :, here] = part.values[:, :, there]
                row = end
            layer.length = longest
        return joined


@dataclass(eq=False)
class Decoding:
    """Rows that share a buffer and take their steps together.

    Attributes:
        rows: indexes into the requests, one per row of the buffer.
        logits: (len(rows), V) float32, for the next token.
        lengths: true number of positions of each row.
    """

    rows: list[int]
    buffer: KeyValueBuffer
    logits: torch.Tensor
    lengths: list[int]

    __repr__ = short_repr

    def keep(self, positions: Sequence[int]) -> None:
        """Let every row go but those at these positions."""
        if len(positions) < len(self.rows):
            self.buffer.select(positions)
            self.rows = [self.rows[p] for p in positions]
            self.lengths = [self.lengths[p] for p in positions]

    @classmethod
    def join(cls, parts: Sequence[Decoding], room: int) -> Decoding:
        """Put the rows of several decodings into one buffer, ends aligned.

        What is only gap in front of all rows is cut off; `room` positions are left free behind
        them.
        """
        lengths = [max(part.lengths) for part in parts]
        buffers = [part.buffer for part in parts]
        return cls(
            rows=[row for part in parts for row in part.rows],
            buffer=KeyValueBuffer.join(buffers, lengths, max(lengths) + room),
            logits=torch.cat([part.logits for part in parts]),
            lengths=[length for part in parts for length in part.lengths],
        )


class PrefixCache:
    """The image prefixes used last, within a budget; safe to use from several threads.

    The oldest are forgotten beyond `max_bytes`; the newest is always kept.
    """

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._kept: OrderedDict[tuple, ImagePrefix] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: tuple) -> ImagePrefix | None:
        """Return the prefix kept under `key` and mark it as used, or None."""
        with self._lock:
            prefix = self._kept.get(key)
            if prefix is None:
                self.misses += 1
                return None
            self.hits += 1
            self._kept.move_to_end(key)
            return prefix

    def put(self, key: tuple, prefix: ImagePrefix) -> None:
        """Keep a prefix under `key`, forgetting the oldest where the budget asks for it."""
        with self._lock:
            self._kept[key] = prefix
            self._kept.move_to_end(key)
            total = sum(kept.nbytes for kept in self._kept.values())
            while total > self.max_bytes and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                total -= oldest.nbytes

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Forget every prefix at the end, and give the budget back that was set before."""
        budget = self.max_bytes
        try:
            yield
        finally:
            self.clear()
            self.max_bytes = budget

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Start without any prefix, and have the earlier ones back at the end."""
        with self._lock:
            earlier, self._kept = self._kept, OrderedDict()
        try:
            yield
        finally:
            with self._lock:
                self._kept = earlier

    def clear(self) -> None:
        """Forget every prefix."""
        with self._lock:
            self._kept.clear()
