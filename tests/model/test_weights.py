"""Shards: each tensor is read from the file that the index names, or the folder is refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.model.hub import WEIGHTS
from workbench.errors import CheckpointError
from workbench.model.load import load_checkpoint
from workbench.model.weights import INDEX_FILE, find_weights

FILES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture(scope="module")
def state(tiny):
    return load_file(f"{tiny}/{WEIGHTS}")


@pytest.fixture
def shards(tiny, state, tmp_path):
    """A checkpoint in two shards; returns its folder, the halves and a way to write them."""
    folder = tmp_path / "shards"
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    names = sorted(state)
    halves = [{n: state[n] for n in part} for part in (names[::2], names[1::2])]

    def write(first, second, **changes):
        for name, tensors in zip(FILES, (first, second), strict=True):
            save_file(tensors, folder / name)
        places = {n: FILES[n in halves[1]] for n in names} | changes.pop("places", {})
        places = {n: place for n, place in places.items() if place is not None}
        (folder / INDEX_FILE).write_text(json.dumps({"weight_map": places, **changes}))
        return folder

    write.halves = halves
    return write


def same(folder, state):
    found = load_checkpoint(folder, device="cpu").model.state_dict()
    assert all(torch.equal(found[name], value.float()) for name, value in state.items())
    small = load_checkpoint(folder, device="cpu", quantize="int8").model
    assert torch.equal(small.lm_head.weight, state["lm_head.weight"].float())


@pytest.mark.parametrize(
    "changes",
    [{}, {"metadata": None}, {"metadata": {}}, {"metadata": {"total_size": "x"}}],
    ids=["none", "null", "empty", "no number"],
)
def test_what_the_format_leaves_open_may_be_missing(shards, state, changes):
    same(shards(*shards.halves, **changes), state)


@pytest.mark.parametrize("stale", [0, 1])
def test_copies_in_another_shard_are_left_alone(shards, state, stale):
    old = {name: torch.full_like(value, 3) for name, value in state.items()}
    halves = [{**old, **half} if i == stale else half for i, half in enumerate(shards.halves)]
    folder = shards(*halves)
    same(folder, state)
    assert find_weights(folder).shapes.keys() == state.keys()


def test_copies_of_another_shape_and_stale_files_are_left_alone(shards, state):
    first, second = shards.halves
    folder = shards({**first, "lm_head.weight": torch.zeros(3)}, second)
    if "lm_head.weight" in first:
        folder = shards(first, {**second, "lm_head.weight": torch.zeros(3)})
    save_file({"lm_head.weight": torch.ones(2)}, folder / "model-00003-of-00003.safetensors")
    same(folder, state)


def test_a_tensor_that_stands_in_another_shard_is_refused(shards):
    name = min(shards.halves[0])
    folder = shards(*shards.halves, places={name: FILES[1]})
    with pytest.raises(CheckpointError, match=rf"do not agree; listed but not there: {name} \(in"):
        load_checkpoint(folder)


def test_a_tensor_that_the_index_does_not_list_is_refused(shards):
    name = min(shards.halves[1])
    with pytest.raises(CheckpointError, match=f"there but not listed: {name}; copy the index"):
        load_checkpoint(shards(*shards.halves, places={name: None}))


def test_old_frequencies_need_not_be_listed_nor_there(shards, state):
    name = "llama.layers.0.self_attn.rotary_emb.inv_freq"
    first, second = shards.halves
    same(shards({**first, name: torch.zeros(8)}, second), state)
    same(shards(first, second, places={name: FILES[0]}), state)


def test_one_file_beside_all_shards_is_refused_and_beside_some_is_read(shards, state):
    folder = shards(*shards.halves)
    save_file(state, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="holds two sets of weights"):
        load_checkpoint(folder)
    (folder / FILES[0]).unlink()
    same(folder, state)
    (folder / INDEX_FILE).write_text("{")
    same(folder, state)


def test_an_index_of_one_file_is_no_second_set(shards, state):
    folder = shards(*shards.halves, places=dict.fromkeys(state, WEIGHTS))
    save_file(state, folder / WEIGHTS)
    same(folder, state)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_numbers_that_need_a_scale_are_refused(shards, dtype):
    first, second = (
        {n: v.to(dtype) if "mlp" in n else v for n, v in half.items()} for half in shards.halves
    )
    with pytest.raises(CheckpointError, match=r"stored as .*8.*before it was quantised"):
        load_checkpoint(shards(first, second))


def test_a_folder_may_be_called_anything(tiny, tmp_path, state):
    for name in ("m#1", "m?a=b", "m%41 ü", "file:m"):
        shutil.copytree(tiny, tmp_path / name)
        same(tmp_path / name, state)
