"""Buffers of keys and values: equal to transformers' cache, and going back and joining."""

import weakref

import pytest
import torch
from transformers import DynamicCache

from workbench.generation.kvcache import Decoding, ImagePrefix, KeyValueBuffer, PrefixCache

LAYERS, HEADS, WIDTH = 3, 2, 5


@pytest.fixture(autouse=True)
def inference():
    """As the engine works."""
    with torch.inference_mode():
        yield


def states(rows: int, length: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, rows, HEADS, length, WIDTH)
    return [tuple(torch.randn(shape, generator=generator)) for _ in range(LAYERS)]


def write(cache, parts) -> None:
    for index, (keys, values) in enumerate(parts):
        cache.update(keys, values, index)


def filled(rows: int, length: int, seed: int, capacity: int = 20) -> KeyValueBuffer:
    buffer = KeyValueBuffer(LAYERS, capacity)
    write(buffer, states(rows, length, seed))
    return buffer


@pytest.mark.parametrize("capacity", [0, 4, 13, 30], ids=lambda c: f"capacity {c}")
def test_holds_what_the_cache_of_transformers_holds(capacity):
    buffer, plain = KeyValueBuffer(LAYERS, capacity), DynamicCache()
    for seed, length in enumerate((7, 1, 1, 4)):
        for index, (keys, values) in enumerate(states(2, length, seed)):
            ours = buffer.update(keys, values, index)
            theirs = plain.update(keys, values, index)
            assert torch.equal(ours[0], theirs[0])
            assert torch.equal(ours[1], theirs[1])
        assert buffer.length == buffer.get_seq_length() == plain.get_seq_length()
        assert buffer.get_mask_sizes(3, 0) == plain.get_mask_sizes(3, 0)


def test_rewound_positions_are_overwritten():
    buffer = filled(1, 7, seed=0)
    buffer.rewind(4)
    assert buffer.length == 4
    write(buffer, states(1, 2, seed=1))
    fresh = filled(1, 7, seed=0)
    keys = buffer.layers[1].keys[:, :, :6]
    assert torch.equal(keys[:, :, :4], fresh.layers[1].keys[:, :, :4])
    assert torch.equal(keys[:, :, 4:], states(1, 2, seed=1)[1][0])
    buffer.rewind(100)
    assert buffer.length == 6


def test_rewinding_repairs_layers_that_differ_in_length():
    buffer = filled(1, 5, seed=0)
    buffer.update(*states(1, 1, seed=1)[0], 0)  # as if interrupted behind the first layer
    buffer.rewind(5)
    assert {layer.length for layer in buffer.layers} == {5}


def test_growing_keeps_what_is_there():
    buffer = filled(2, 5, seed=0, capacity=5)
    before = [layer.keys.clone() for layer in buffer.layers]
    buffer.reserve(17)
    buffer.reserve(3)
    for layer, keys in zip(buffer.layers, before, strict=True):
        assert layer.keys.shape[2] == 17
        assert torch.equal(layer.keys[:, :, :5], keys)


def test_selecting_rows_keeps_their_order():
    buffer = filled(4, 3, seed=0)
    before = buffer.layers[2].values[:, :, :3].clone()
    buffer.select([3, 1])
    assert torch.equal(buffer.layers[2].values[:, :, :3], before[[3, 1]])


def test_joined_rows_end_together_and_the_gap_is_zero():
    long, short = filled(2, 7, seed=0), filled(1, 3, seed=1)
    parts = [Decoding([0, 1], long, torch.zeros(2, 9), [7, 7])]
    parts += [Decoding([2], short, torch.zeros(1, 9), [3])]
    joined = Decoding.join(parts, room=4).buffer
    assert joined.length == 7
    for index, layer in enumerate(joined.layers):
        assert layer.keys.shape == (3, HEADS, 11, WIDTH)
        assert torch.equal(layer.keys[:2, :, :7], long.layers[index].keys[:, :, :7])
        assert torch.equal(layer.values[2:, :, 4:7], short.layers[index].values[:, :, :3])
        assert not layer.keys[2:, :, :4].any()


def test_a_buffer_becomes_a_prefix_that_starts_new_buffers():
    buffer = filled(1, 4, seed=0)
    kept = buffer.layers[0].keys[:, :, :4].clone()
    prefix = buffer.hand_over()
    assert prefix.length == 4
    assert prefix.nbytes == 2 * LAYERS * HEADS * 4 * WIDTH * 4
    assert buffer.layers == []  # nobody can write to it any more
    started = KeyValueBuffer.from_prefixes([prefix, prefix], rows=2, room=5)
    write(started, states(2, 2, seed=6))
    started.rewind(0)
    write(started, states(2, 4, seed=5))
    assert torch.equal(prefix.layers[0][0], kept)
    again = KeyValueBuffer.from_prefixes(iter([prefix, prefix]), rows=2, room=0)
    assert torch.equal(again.layers[0].keys[1:], kept)
    assert again.length == 4


def test_only_rows_with_the_same_prefix_share_it():
    one, other = (filled(1, 4, seed=seed).hand_over() for seed in (0, 1))
    started = [
        KeyValueBuffer.from_prefixes(p, rows=len(p), room=1)
        for p in ([one] * 2, [one, other], [one])
    ]
    assert [buffer.shared for buffer in started] == [one, None, None]


def test_equal_prefixes_share_a_row_and_none_is_kept_while_rows_are_put_together():
    seen = []

    def computed(*seeds):
        for seed in seeds:
            # of the one asked for before, only the copy in the buffer is left
            assert all(gone() is None for gone in seen[1:-1])
            prefix = filled(1, 4, seed=seed).hand_over()
            seen.append(weakref.ref(prefix))
            yield prefix
            del prefix

    buffer, places = KeyValueBuffer.from_distinct(computed(0, 1, 0, 2, 1), most=5, room=3)
    assert places == [0, 1, 0, 2, 1] and buffer.length == 4
    for index, layer in enumerate(buffer.layers):
        for row in range(3):
            own = filled(1, 4, seed=row).layers[index].filled()
            for states, part in zip((layer.keys, layer.values), own, strict=True):
                assert states.shape == (3, HEADS, 7, WIDTH)
                assert torch.equal(states[row, :, :4], part[0])


def prefix_of(size: int) -> ImagePrefix:
    return ImagePrefix(((torch.zeros(size), torch.zeros(0)),))


def test_prefix_cache_forgets_the_one_not_used_longest():
    cache = PrefixCache(max_bytes=40)
    for key in "ab":
        cache.put((key,), prefix_of(5))
    assert cache.get(("a",)) is not None
    cache.put(("c",), prefix_of(5))
    assert cache.get(("b",)) is None
    assert cache.get(("a",)) is not None
    assert len(cache) == 2


def test_prefix_cache_keeps_the_newest_whatever_it_takes():
    cache = PrefixCache(max_bytes=1)
    cache.put(("a",), prefix_of(5))
    cache.put(("b",), prefix_of(50))
    assert len(cache) == 1
    assert cache.get(("b",)) is not None
    cache.clear()
    assert len(cache) == 0


def test_prefix_cache_counts_a_key_once():
    cache = PrefixCache(max_bytes=40)
    cache.put(("b",), prefix_of(5))
    for _ in range(4):
        cache.put(("a",), prefix_of(5))
    assert len(cache) == 2
