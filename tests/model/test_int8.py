"""int8 layers on a CPU: near the float32 model, smaller, and said to be quantised."""

import pytest
import torch
from torch import nn

from workbench.errors import DeviceError, InputError
from workbench.interface import load_model
from workbench.model.int8 import shrink_to_int8
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
        model.responder.engine.force(pixels, report.prompt_ids, report.token_ids).log_softmax(-1)
        for model in pair
    ]
    chosen = torch.tensor(report.token_ids)[:, None]
    moved = (both[0] - both[1]).gather(1, chosen).abs()
    assert 0 < float(moved.mean()) < 0.05
    assert small.responder.identity.dtype == "int8"


def test_the_language_model_alone_is_shrunk(pair):
    _, small = pair
    network = small.responder.engine.model
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


def test_other_weights_are_refused(pair):
    model = type(pair[0].responder.engine.model)(pair[0].responder.engine.model.config)
    with pytest.raises(DeviceError, match=r"float32 weights on the CPU, got torch\.bfloat16"):
        shrink_to_int8(model.to(torch.bfloat16))


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
