"""A plan counts what a tiny model allocates, grows with what is asked for, and names what fits."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from transformers import LlamaModel

import workbench as wb
from tests.helpers import golden_trace, load
from workbench.errors import CheckpointError, DeviceError, OptionError
from workbench.finetune.planner import STRATEGIES, need
from workbench.finetune.planner import plan as plan_training
from workbench.generation.kvcache import ImagePrefix, KeyValueBuffer
from workbench.model import placement
from workbench.model.costs import MAPS, PARTS, TASKS, Asked, Counts, text_graph
from workbench.model.plan import PATCHWISE, Machine, make_plan
from workbench.model.sizes import Shape, empty_model, full_size_config
from workbench.saliency import gradients
from workbench.saliency.methods import METHODS

#: Of no real machine: nothing is measured in these tests but where they say so.
FREE = Machine("cpu", "float32", 10**15, 1e11, 1e11, 1e10)


def planned(model, machine=FREE, tasks=None, **asked):
    shape = Shape.of(model.network, model.card.image_tokens)
    where = placement.Placement("cpu", torch.float32)
    return make_plan(shape, where, name="model", machine=machine, tasks=tasks, asked=Asked(**asked))


@pytest.fixture(scope="module")
def full():
    config = full_size_config()
    return Shape.of(empty_model(config), config.image_tokens)


def full_plan(shape, memory, tasks=None, dtype=torch.bfloat16, **asked):
    where = placement.Placement("cpu", dtype)
    machine = replace(FREE, memory=int(memory))
    return make_plan(shape, where, name="full", machine=machine, tasks=tasks, asked=Asked(**asked))


# --- counts equal what is allocated ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["A_tiny", "B_gqa_odd"])
def test_weights_and_cache_are_those_of_the_model(name):
    model = load(name)
    shape = Shape.of(model.network, model.card.image_tokens)
    weights = sum(p.numel() * p.element_size() for p in model.network.parameters())
    assert shape.sizes.bytes_as("float32") == weights
    trace = golden_trace(name)
    prefix = model.engine.prefix(model.pixels(trace.image), trace.generation.prompt_ids)
    counts = Counts(shape, Asked())
    assert counts.cached(prefix.length) == prefix.nbytes
    rows = KeyValueBuffer.from_prefixes([prefix] * 3, rows=3, room=5).layers
    held = sum(part.nbytes for layer in rows for part in (layer.keys, layer.values))
    assert counts.cached(3 * (prefix.length + 5)) == held


@pytest.mark.parametrize("name", ["A_tiny", "B_gqa_odd"])
def test_rows_of_a_trace_are_those_that_it_keeps(name):
    model, trace = load(name), golden_trace(name)
    shape = Shape.of(model.network, model.card.image_tokens)
    new = len(trace.generation.token_ids)
    text = trace.layout.length - model.card.image_tokens - new
    kept = Counts(shape, Asked(text=text, new=new)).kept_rows()
    assert kept == (trace.language.values.nbytes, trace.vision.values.nbytes)


def test_rows_of_relevancy_are_the_mean_of_each_layer(monkeypatch):
    trace, seen, kind = golden_trace("A_tiny"), [], gradients._WeightedRows
    init = kind.__init__
    monkeypatch.setattr(kind, "__init__", lambda one: seen.append(one) or init(one))
    wb.saliency.explain(trace, method="relevancy")
    model, new = trace.model, len(trace.generation.token_ids)
    text = trace.layout.length - model.card.image_tokens - new
    shape = Shape.of(model.network, model.card.image_tokens)
    counts = Counts(shape, Asked(text=text - 1, new=new))  # the last token is not read
    rows = counts.of("relevancy")[1]["rows"] - counts.of("grad_cam")[1]["rows"]
    assert rows == sum(one.nbytes for one in seen[-1].layers.values())


def test_training_learns_what_the_planner_of_recipes_counts(tiny):
    model = load("A_tiny")
    counts = Counts(Shape.of(model.network, model.card.image_tokens), Asked())
    for one in plan_training(model.network.config, strategies=["lora", "projector"]).needs:
        assert counts.learning(one.strategy) == one.learning
    lora = need(model.network.config, STRATEGIES["lora"], text_tokens=100)
    text = model.network.config.get_text_config()
    assert lora.activations == (100 + 16) * text_graph(text, 2.0, lora=2.0)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_keeps_for_its_gradients_what_is_counted(dtype, lora):
    tokens, texts, kept = 101, [], []
    for layers in (2, 3):
        config = full_size_config()
        vars(config.llama).update(
            hidden_size=96, intermediate_size=224, num_attention_heads=2, num_key_value_heads=2,
            head_dim=48, vocab_size=50, num_hidden_layers=layers,
        )  # fmt: skip
        model = LlamaModel(config.llama).to(dtype)
        model.rotary_emb.float()
        model.requires_grad_(False)
        if lora:
            targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
            inject_adapter_in_model(LoraConfig(r=1, target_modules=targets), model)
            for name, weight in model.named_parameters():
                weight.data = weight.data.float() if "lora" in name else weight.data
        given = torch.randn(1, tokens, 96, dtype=dtype, requires_grad=True)
        texts.append(config.llama)
        kept.append(saved(model, given) / tokens)
    counted = [text_graph(text, dtype.itemsize, lora=4.0 * lora) for text in texts]
    # sums of softmax of two heads, factors of two norms, and what LoRA's first matrices give
    few = 4 * (2 + 2 + 7 * lora)
    assert kept[1] - kept[0] == counted[1] - counted[0] + few


def saved(model, given):
    """Return the bytes that a backward pass needs of a forward pass, without the weights."""
    own, seen = {one.untyped_storage().data_ptr() for one in model.parameters()}, {}

    def pack(tensor):
        seen[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(inputs_embeds=given, use_cache=False)
    assert output is not None
    return sum(one.untyped_storage().nbytes() for at, one in seen.items() if at not in own)


# --- what grows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_nothing_gets_cheaper_when_more_is_asked_for(full, task):
    def cost(shape=full, **asked):
        found = full_plan(shape, 1e15, task, **asked)[task]
        return found.total, found.seconds

    larger = replace(full, image_tokens=1500, seen=(1501, *full.seen[1:]))
    # of 128 tokens every head of a trace is too much to keep, and the same is true of more
    for more in (cost(larger), cost(new=256), cost(batch=9)):
        assert more[0] >= cost()[0] and more[1] >= cost()[1]
    assert cost(larger) > cost()
    assert task != "batch" or cost(batch=9) > cost()


def test_every_method_and_part_is_planned(full):
    assert set(MAPS) == set(METHODS)
    parts = {part for one in full_plan(full, 1e15).tasks for part in one.held}
    small = {part for one in planned(load("mini")).tasks for part in one.held}
    assert parts | small | {"copies"} == set(PARTS)


def test_maps_take_what_the_methods_do_by_default():
    options = {name: method.options for name, method in METHODS.items()}
    first = gradients.FIRST_PARTS * gradients.PART_STEPS, gradients.PART_STEPS
    wanted = {
        "smoothgrad": (0, options["smoothgrad"]["samples"], 8),
        "integrated_gradients": (gradients.FIRST_PARTS + 1, *first),
        "integrated_gradients_patches": (gradients.FIRST_PARTS + 1, *first),
        "occlusion": (4, 0, 1),  # windows half a patch apart
        "adaptive_occlusion": (options["adaptive_occlusion"]["budget"], 0, 1),
        # beside its samples, the whole image and an empty one
        "kernel_shap": (options["kernel_shap"]["samples"] + 2, 0, 1),
    }
    assert {name: MAPS[name] for name in wanted} == wanted
    several = {one["batch_size"] for one in options.values() if "batch_size" in one}
    assert several == {Asked().several}
    assert {name for name, one in METHODS.items() if one.patchwise} == set(PATCHWISE)


# --- what fits ------------------------------------------------------------------------------------


def test_what_does_not_fit_is_named_with_what_does(full):
    found = full_plan(full, 18e9)
    rows = found.to_frame().set_index("task")
    assert rows.fits[["report", "trace", "relevancy", "token_activation"]].eq("yes").all()
    assert (rows.fits["smoothgrad"], rows.instead["smoothgrad"]) == (
        "no", "method='grad_cam' or method='token_activation' or method='kernel_shap'",
    )  # fmt: skip
    few = full_plan(full, 18e9, ["batch", "trace", "train lora"], batch=16)
    assert few["batch"].instead.startswith("batch_size=4 or batch_size=2")
    assert few["train lora"].instead == "training.checkpointing"
    wide = full_plan(full, 30e9, "report", torch.float32)["report"]
    assert wide.instead == "dtype='bfloat16' or quantize='int8'" or wide.fits
    assert full_plan(full, 10e9, "report")["report"].instead
    assert full_plan(full, 1e9, "trace")["trace"].instead == "a machine with more memory"


def test_a_plan_shows_itself():
    found = planned(load("mini"), tasks=["report", "relevancy"])
    assert (
        [one.task for one in found.tasks] == list(found.to_frame().task) == ["report", "relevancy"]
    )
    assert "predicted" in found._repr_html_() and "relevancy" in found._repr_html_()
    assert json.loads(json.dumps(found.to_dict()))["tasks"][0]["fits"] is True
    assert [text.get_text() for text in found.plot().get_yticklabels()] == ["report", "relevancy"]
    with pytest.raises(OptionError, match="task must be one of report, relevancy; got 'reprot'"):
        found["reprot"]
    with pytest.raises(OptionError, match="did you mean 'relevancy'"):
        planned(load("mini"), tasks="relevency")


@pytest.mark.parametrize("asked", [{"batch_size": 0}, {"new_tokens": -1}, {"new_tokens": 2.5}])
def test_what_cannot_be_asked_for_is_not_planned(asked):
    (name,) = asked
    with pytest.raises(OptionError, match=f"{name} must be a whole number of 1 or more"):
        wb.plan("mini", "report", **asked)
    with pytest.raises(OptionError, match="task must be one of"):
        wb.plan("mini", [])


def test_only_a_configuration_is_read(tiny, tmp_path):
    path = tmp_path / "config.json"
    path.write_text((Path(tiny) / "config.json").read_text())
    found = wb.plan(path, "report", dtype="float32", device="cpu")
    loaded = load("A_tiny").plan("report")
    assert found.tasks[0].held == loaded.tasks[0].held
    assert found.machine.operations > 1e6 and found.machine.bandwidth > 1e6
    assert found.machine is loaded.machine or found.machine == loaded.machine
    with pytest.raises(CheckpointError, match=r"somebody/else .* not on this machine"):
        wb.plan("somebody/else")


# --- calls that surely do not fit -----------------------------------------------------------------


@pytest.fixture
def no_memory(monkeypatch):
    monkeypatch.setattr(placement, "device_memory", lambda device: 1000)
    monkeypatch.setattr(placement.psutil, "swap_memory", lambda: SimpleNamespace(total=0))


def test_calls_that_cannot_run_are_refused_before_they_begin(request):
    trace = golden_trace("A_tiny")  # made while there is memory
    request.getfixturevalue("no_memory")
    with pytest.raises(DeviceError, match=r"a trace of 9 tokens needs .* heads='mean'"):
        trace.model.trace(trace.image, trace.generation)
    part = torch.zeros(1, 2, 50, 4)
    with pytest.raises(DeviceError, match=r"3 rows of 50 positions needs .* smaller batch_size"):
        KeyValueBuffer.from_prefixes([ImagePrefix(((part, part),))] * 3, rows=3, room=1)


def test_what_may_fit_is_not_refused(monkeypatch):
    monkeypatch.setattr(placement, "device_memory", lambda device: 10**6)
    placement.need_room(torch.device("cpu"), 10**6, "a map", "wait")
