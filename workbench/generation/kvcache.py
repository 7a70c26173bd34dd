"""Keys and values that the language model has already computed: buffers, and image prefixes.

A `KeyValueBuffer` has room for a whole decoding from the start, so a new token costs one write and
no copy of the past (`transformers.DynamicCache` concatenates at every step). Going back is free:
positions beyond the length are overwritten. An `ImagePrefix` is what every question about one image
has in common, from the first token to the last image token.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from transformers.cache_utils import Cache, DynamicLayer

from workbench._repr import short_repr
from workbench.model.costs import PREFIX_BYTES
from workbench.model.placement import need_room

#: Keys and values (R, kv heads, T, head width) of every layer.
Layers = tuple[tuple[torch.Tensor, torch.Tensor], ...]


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
        batch, heads, _, width = key_states.shape
        # room and gaps are multiplied by weights of 0 in places: they must hold numbers
        self.keys = key_states.new_zeros((batch, heads, self.capacity, width))
        self.values = torch.zeros_like(self.keys)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        self.reserve(end)
        self.keys.narrow(2, self.length, end - self.length).copy_(key_states)
        self.values.narrow(2, self.length, end - self.length).copy_(value_states)
        self.length = end
        return self.keys.narrow(2, 0, end), self.values.narrow(2, 0, end)

    def filled(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values without the room behind them."""
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def reserve(self, capacity: int) -> None:
        if capacity > self.capacity:
            keys, values = self.filled()
            self.capacity = capacity
            self.lazy_initialization(keys, values)
            self.keys[:, :, : self.length] = keys
            self.values[:, :, : self.length] = values

    def get_seq_length(self) -> int:
        return self.length


@dataclass(frozen=True, eq=False)
class ImagePrefix:
    """Keys and values of the text before an image and of the image itself, one row; read only."""

    layers: Layers

    __repr__ = short_repr

    @property
    def length(self) -> int:
        """Positions covered, image tokens counted."""
        return self.layers[0][0].shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes that the keys and values take."""
        return sum(part.nbytes for pair in self.layers for part in pair)


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
        """Make room for so many positions."""
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
    def hand_over(self) -> ImagePrefix:
        """Return what a one-row buffer holds, not copied; the buffer has ended."""
        layers, self.layers = self.layers, []
        return ImagePrefix(tuple(layer.filled() for layer in layers))

    @classmethod
    def from_prefixes(
        cls, prefixes: Iterable[ImagePrefix], *, rows: int, room: int
    ) -> KeyValueBuffer:
        """Start a buffer with one row per prefix, all of one length, and room behind them.

        A prefix may be computed when it is asked for, and is let go when it has been copied.

        Raises:
            DeviceError: the device has not the memory for so many rows.
        """
        buffer, prefixes, first = cls._behind(prefixes, rows, room)
        buffer.shared = first if rows > 1 else None
        for row, prefix in enumerate(prefixes):
            if prefix is not first:
                buffer.shared = None
            buffer.put(row, prefix.layers, first.length, rows=rows, end=first.length)
        return buffer

    @classmethod
    @torch.inference_mode()
    def from_distinct(
        cls, prefixes: Iterable[ImagePrefix], *, most: int, room: int
    ) -> tuple[KeyValueBuffer, list[int]]:
        """Start a buffer with a row for each different prefix; return each one's row with it.

        There are at most `most`. Else as `from_prefixes`.
        """
        buffer, prefixes, first = cls._behind(prefixes, most, room)
        rows, places = 0, []
        for prefix in prefixes:
            alike = (row for row in range(rows) if buffer._begins(row, prefix))
            places.append(next(alike, rows))
            if places[-1] == rows:
                buffer.put(rows, prefix.layers, first.length, rows=most, end=first.length)
                rows += 1
        if rows < most:
            buffer.select(range(rows))
        return buffer, places

    @classmethod
    def _behind(
        cls, prefixes: Iterable[ImagePrefix], rows: int, room: int
    ) -> tuple[KeyValueBuffer, Iterator[ImagePrefix], ImagePrefix]:
        """Return an empty buffer for so many rows behind prefixes, all of these, and the first."""
        prefixes = iter(prefixes)
        first = next(prefixes)
        where = first.layers[0][0].device
        what = f"keys and values of {rows} rows of {first.length} positions"
        need_room(where, rows * first.nbytes, what, "give a smaller batch_size")
        return cls(len(first.layers), first.length + room), chain([first], prefixes), first

    def _begins(self, row: int, prefix: ImagePrefix) -> bool:
        """Tell whether a row begins with exactly the keys and values of a prefix."""
        own = chain.from_iterable((layer.keys[row], layer.values[row]) for layer in self.layers)
        pairs = zip(own, chain.from_iterable(prefix.layers), strict=True)
        return all(torch.equal(states[:, : prefix.length], part[0]) for states, part in pairs)

    @torch.inference_mode()
    def put(self, row: int, layers: Layers, length: int, *, rows: int, end: int) -> None:
        """Copy the last `length` positions of rows to `row` and below; they end at `end`."""
        for layer, pair in zip(self.layers, layers, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(*(part[:1].expand(rows, -1, -1, -1) for part in pair))
                layer.length = end
            for states, part in zip((layer.keys, layer.values), pair, strict=True):
                states[row : row + len(part), :, end - length : end] = part[:, :, -length:]


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
        """Put the rows of several decodings into one buffer, with free room behind them.

        Ends are aligned, with zeros in front of the shorter rows; what is only gap in front of all
        rows is cut off.
        """
        rows = [row for part in parts for row in part.rows]
        lengths = [max(part.lengths) for part in parts]
        buffer = KeyValueBuffer(len(parts[0].buffer.layers), max(lengths) + room)
        row = 0
        for part, length in zip(parts, lengths, strict=True):
            layers = tuple(layer.filled() for layer in part.buffer.layers)
            buffer.put(row, layers, length, rows=len(rows), end=max(lengths))
            row += len(part.rows)
        logits = torch.cat([part.logits for part in parts])
        return cls(rows, buffer, logits, [length for part in parts for length in part.lengths])


class PrefixCache:
    """The image prefixes used last; one thread at a time uses it.

    The oldest are forgotten beyond `max_bytes`; the newest is always kept.
    """

    def __init__(self, max_bytes: int = PREFIX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._kept: OrderedDict[tuple, ImagePrefix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: tuple) -> ImagePrefix | None:
        """Return the prefix kept under `key` and mark it as used, or None."""
        kept = self._kept
        if key not in kept:
            self.misses += 1
            return None
        self.hits += 1
        kept.move_to_end(key)
        return kept[key]

    def put(self, key: tuple, prefix: ImagePrefix) -> None:
        """Keep a prefix under `key`, forgetting the oldest where the budget asks for it."""
        kept = self._kept
        kept[key] = prefix
        kept.move_to_end(key)
        while len(kept) > 1 and sum(one.nbytes for one in kept.values()) > self.max_bytes:
            kept.popitem(last=False)

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Start without any prefix, and have the earlier ones back at the end."""
        earlier, self._kept = self._kept, OrderedDict()
        try:
            yield
        finally:
            self._kept = earlier

    def clear(self) -> None:
        """Forget every prefix; any thread may ask for it."""
        self._kept = OrderedDict()
