"""int8 layers on a CPU: near the float32 model, smaller, and said to be quantised."""

import json
import shutil
import warnings
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from workbench.errors import DeviceError, InputError
from workbench.interface import load_model
from workbench.model import int8
from workbench.model.load import load_checkpoint
from workbench.model.placement import Gpu, Hardware, Placement, place
from workbench.model.sizes import PartSizes
from workbench.phantom import phantom

SIZES = PartSizes(2, 3, 11, 5, 7)


@pytest.fixture(scope="module")
def pair():
    plain = load_model("mini", device="cpu", dtype="float32")
    return plain, load_model("mini", device="cpu", quantize="int8")


def test_log_probabilities_stay_near_those_of_float32(pair):
    plain, small = pair
    case = phantom(seed=1, size=plain.image_size)
    report = plain.report(case, max_new_tokens=24)
    pixels = plain.loaded.processor(case.image)[None]
    both = [
        model.engine.force(pixels, report.prompt_ids, report.token_ids).log_softmax(-1)
        for model in pair
    ]
    chosen = torch.tensor(report.token_ids)[:, None]
    moved = (both[0] - both[1]).gather(1, chosen).abs()
    assert 0 < float(moved.mean()) < 0.05
    assert small.identity.dtype == "int8"


def test_the_language_model_alone_is_shrunk(pair):
    _, small = pair
    network = small.engine.model
    assert not [m for m in network.llama.modules() if type(m) is nn.Linear]
    assert type(network.lm_head) is nn.Linear
    assert type(network.mm_projector) is nn.Linear
    assert network.is_quantized


def test_methods_that_need_gradients_say_so(pair):
    from workbench.saliency import explain

    _, small = pair
    trace = small.trace(phantom(seed=1, size=small.image_size))
    with pytest.raises(InputError, match="quanti"):
        explain(trace, method="integrated_gradients")


def test_int8_is_for_the_cpu():
    gpu = Gpu(0, "card", (8, 0), 80 << 30)
    machine = Hardware((gpu,), memory=64 << 30)
    wanted = Placement("cpu", torch.float32, "int8")
    assert place(SIZES, Hardware(), quantize="int8") == wanted
    assert place(SIZES, machine, device="cpu", quantize="int8") == wanted
    with pytest.raises(DeviceError, match=r"would be on cuda.*device='cpu'"):
        place(SIZES, machine, quantize="int8")
    with pytest.raises(DeviceError, match=r"as bfloat16.*without dtype"):
        place(SIZES, Hardware(), dtype="bfloat16", quantize="int8")


def by_torch(model):
    """Shrink a float32 model with torch's own call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = torch.ao.quantization.per_channel_dynamic_qconfig
        return torch.ao.quantization.quantize_dynamic(model.llama, {nn.Linear: kind}, inplace=True)


@pytest.mark.parametrize("name", ["A_tiny", "B_gqa_odd"])
def test_read_tensor_by_tensor_it_is_what_torch_makes_of_the_whole(name):
    folder = Path(__file__).parents[1] / "golden" / "checkpoints" / name
    whole = load_checkpoint(folder, device="cpu", dtype="float32").model
    by_torch(whole)
    read = load_checkpoint(folder, device="cpu", quantize="int8").model
    size = read.config.vision.image_size
    ids, pixels = torch.tensor([[1, 5, -200, 7, 9, 11]]), torch.randn(1, 1, size, size)
    with torch.inference_mode():
        logits = [m(input_ids=ids, pixel_values=pixels).logits for m in (whole, read)]
    assert torch.equal(logits[0], logits[1])
    assert not any(one.is_meta for one in (*read.parameters(), *read.buffers()))
    assert read.llama.rotary_emb.inv_freq.dtype == torch.float32
    assert not read.training and read.is_quantized


def test_one_layer_at_a_time_is_in_float32(tiny, monkeypatch):
    alive, most = weakref.WeakSet(), []
    single, shrunk = int8._single, int8._shrunk

    def reading(part):
        value = single(part)
        alive.add(value)
        return value

    def shrinking(weight, bias):
        kept = sum(one.numel() for one in alive) - weight.numel()
        most.append(kept)
        return shrunk(weight, bias)

    monkeypatch.setattr(int8, "_single", reading)
    monkeypatch.setattr(int8, "_shrunk", shrinking)
    load_checkpoint(tiny, device="cpu", quantize="int8")
    assert len(most) == 2 * 7
    assert max(most) == min(most)  # what stays in float32, and no layer that was shrunk before


def test_a_tied_head_stays_tied(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "tied", copy_function=shutil.copyfile)
    state = load_file(folder / "model.safetensors")
    save_file(
        {n: v for n, v in state.items() if n != "lm_head.weight"}, folder / "model.safetensors"
    )
    fields = json.loads((folder / "config.json").read_text())
    fields["llama"]["tie_word_embeddings"] = True
    (folder / "config.json").write_text(json.dumps(fields))
    model = load_checkpoint(folder, device="cpu", quantize="int8").model
    assert model.lm_head.weight is model.llama.embed_tokens.weight
    assert torch.equal(model.lm_head.weight, state["llama.embed_tokens.weight"].float())
