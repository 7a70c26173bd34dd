"""Device, dtype and quantisation against hardware that need not be there."""

import sys

import pytest
import torch
from accelerate import infer_auto_device_map
from torch import nn
from transformers.quantizers.quantizers_utils import should_convert_module

from workbench.errors import DeviceError, MissingDependencyError, OptionError
from workbench.model.load import quantisation_config
from workbench.model.placement import Gpu, Hardware, Placement, find_hardware, place
from workbench.model.sizes import PartSizes, empty_model, full_size_config, measure

GIB = 10**9
SIZES = measure(empty_model(full_size_config()))
LAPTOP = Hardware(memory=64 * GIB)


def gpu(index=0, free=80, capability=(9, 0)):
    return Gpu(index, "H100" if capability >= (8, 0) else "T4", capability, free * GIB)


def machine(*gpus):
    return Hardware(gpus=gpus, memory=64 * GIB)


def test_without_a_gpu_float32_on_the_cpu(caplog):
    assert place(SIZES, LAPTOP) == Placement("cpu", torch.float32)
    assert "possible, not pleasant" in caplog.text


@pytest.mark.parametrize(
    ("gpus", "device", "dtype"),
    [
        ([gpu()], "cuda:0", torch.bfloat16),
        ([gpu(free=15, capability=(7, 5))], "cuda:0", torch.float16),
        ([gpu(0, free=10), gpu(1, free=20)], "cuda:1", torch.bfloat16),
        ([gpu(0, free=10), gpu(1, free=10)], "auto", torch.bfloat16),
        ([gpu(0, free=10), gpu(1, free=10, capability=(7, 0))], "auto", torch.float16),
    ],
)
def test_auto_takes_the_first_gpu_that_holds_the_weights_or_shares(gpus, device, dtype):
    assert place(SIZES, machine(*gpus)) == Placement(device, dtype)


def test_a_wish_is_followed():
    two = machine(gpu(0), gpu(1))
    assert place(SIZES, two, device="cuda:1", dtype="float16") == Placement("cuda:1", torch.float16)
    assert place(SIZES, two, device=torch.device("cpu"), dtype=torch.bfloat16) == Placement(
        "cpu", torch.bfloat16
    )
    small = machine(gpu(free=6, capability=(7, 5)))
    assert place(SIZES, small, quantize="4bit") == Placement("cuda:0", torch.float16, "4bit")
    apple = Hardware(mps=True, memory=64 * GIB)
    assert place(SIZES, apple, device="mps") == Placement("mps", torch.float32)
    assert place(SIZES, apple).device == "cpu"


@pytest.mark.parametrize(
    ("hardware", "options", "message"),
    [
        (LAPTOP, {"device": "cuda"}, "torch sees no CUDA GPU"),
        (LAPTOP, {"device": "mps"}, "needs an Apple GPU"),
        (LAPTOP, {"quantize": "4bit"}, "bitsandbytes, and the model would be on cpu"),
        (machine(gpu()), {"device": "cuda:3"}, "no cuda:3; this machine has cuda:0"),
        (machine(gpu()), {"device": "cpu", "quantize": "8bit"}, "would be on cpu"),
        (machine(gpu(capability=(7, 5))), {"dtype": "bfloat16"}, "7.5.* use dtype='float16'"),
        (machine(gpu(free=10)), {}, "14.1 GB as bfloat16.*10.0 GB .*use quantize='8bit' or quan"),
        (
            machine(gpu(free=7)),
            {"quantize": "8bit"},
            "7.6 GB as 8bit.*; use quantize='4bit', or f",
        ),
        (machine(gpu(free=2)), {}, "2.0 GB .*; free memory on the GPU, use more GPUs"),
        (
            Hardware(memory=16 * GIB),
            {"dtype": "float32"},
            "28.2 GB as float32.*use dtype='bfloat16' or quantize='int8', or use a machine",
        ),
        (Hardware(memory=12 * GIB), {}, "14.1 GB as bfloat16.*use quantize='int8', or use a mach"),
        (Hardware(memory=8 * GIB), {"dtype": "bfloat16"}, "14.1 GB as bfloat16.*8.0 GB; use a mac"),
        (Hardware(memory=8 * GIB), {"quantize": "int8"}, "9.[0-9] GB as int8.*8.0 GB; use a mach"),
    ],
)
def test_what_cannot_work_is_an_error_with_a_way_out(hardware, options, message):
    with pytest.raises(DeviceError, match=message):
        place(SIZES, hardware, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device must be one of auto"),
        ({"dtype": "int8"}, "dtype must be one of auto"),
        ({"dtype": torch.float64}, "dtype must be one of auto"),
        ({"quantize": "2bit"}, "quantize must be one of None"),
    ],
)
def test_values_that_are_no_options(options, message):
    with pytest.raises(OptionError, match=message):
        place(SIZES, LAPTOP, **options)


def test_this_machine_can_be_described():
    hardware = find_hardware()
    assert hardware.memory > 0
    assert len(hardware.gpus) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)


def test_quantisation_leaves_vision_projector_and_head_alone(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    for quantize in ("8bit", "4bit"):
        config = quantisation_config(Placement("cuda:0", torch.float16, quantize))
        assert config.load_in_8bit == (quantize == "8bit")
        assert config.load_in_4bit == (quantize == "4bit")
        shrunk = [
            (name, module.weight.numel())
            for name, module in empty_model(full_size_config()).named_modules()
            if isinstance(module, nn.Linear)
            and should_convert_module(name, config.llm_int8_skip_modules)
        ]
        assert all(name.startswith("llama.layers.") for name, _ in shrunk)
        assert sum(count for _, count in shrunk) == SIZES.quantisable
    assert config.bnb_4bit_compute_dtype == torch.float16


def test_several_gpus_share_whole_layers_and_never_split_the_vision_tower():
    model = empty_model(full_size_config())
    shares = infer_auto_device_map(
        model,
        max_memory={0: 6 * GIB, 1: 6 * GIB, 2: 6 * GIB},
        no_split_module_classes=list(model._no_split_modules),
        dtype=torch.bfloat16,
    )
    assert set(shares.values()) == {0, 1, 2}
    assert "vision_tower" in shares
    for index in range(32):
        assert f"llama.layers.{index}" in shares


def test_quantisation_names_the_package_it_needs(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert quantisation_config(Placement("cpu", torch.float32)) is None
    with pytest.raises(MissingDependencyError, match=r"cxr-llava-workbench\[quant\]"):
        quantisation_config(Placement("cuda:0", torch.bfloat16, "8bit"))


MIDDLE = PartSizes(20_000_000, 1_000_000, 40_000_000, 10_000_000, 30_000_000, 1_000_000)
LITTLE = PartSizes(2_000_000, 30_000, 2_000_000, 150_000, 1_500_000, 70_000)


@pytest.mark.parametrize(
    ("sizes", "memory", "bfloat16", "dtype", "reason"),
    [
        (SIZES, 24, False, torch.bfloat16, "float32 needs 28.2 GB, and there is 24.0 GB"),
        (SIZES, 24, True, torch.bfloat16, "float32 needs 28.2 GB, and there is 24.0 GB"),
        (SIZES, 64, True, torch.bfloat16, "this processor multiplies bfloat16 in hardware"),
        (SIZES, 64, False, torch.float32, "does not multiply bfloat16 in hardware"),
        (MIDDLE, 64, True, torch.bfloat16, "this processor multiplies bfloat16 in hardware"),
        (MIDDLE, 64, False, torch.float32, "does not multiply bfloat16 in hardware"),
        (LITTLE, 64, True, torch.float32, "the model is small"),
    ],
)
def test_auto_on_a_cpu_says_what_was_taken_and_why(sizes, memory, bfloat16, dtype, reason, caplog):
    machine = Hardware(memory=memory * GIB, bfloat16=bfloat16)
    found = place(sizes, machine)
    assert (found.device, found.dtype) == ("cpu", dtype)
    assert reason in found.reason and found.reason in found.stated
    assert (reason in caplog.text) == (dtype == torch.bfloat16 or sizes is SIZES)
    assert place(sizes, Hardware(memory=64 * GIB, bfloat16=True), dtype="float32") == Placement(
        "cpu", torch.float32
    )


def test_a_full_size_model_fits_24_gb_as_int8():
    found = place(SIZES, Hardware(memory=24 * GIB), quantize="int8")
    assert found == Placement("cpu", torch.float32, "int8")
    assert place(SIZES, Hardware(memory=10 * GIB), quantize="int8") == found
    assert SIZES.bytes_to_load("int8") < SIZES.bytes_as("bfloat16")


def test_apple_gpus_compute_in_float32_and_a_reason_is_no_difference():
    apple = Hardware(mps=True, memory=64 * GIB, bfloat16=True)
    assert place(SIZES, apple, device="mps") == Placement("mps", torch.float32, None, "another")


def test_the_processor_is_asked_once_and_a_build_without_answers_says_no(monkeypatch):
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    for name in asked:
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert not find_hardware().bfloat16
    monkeypatch.setattr(torch.cpu, asked[1], lambda: True)
    assert find_hardware().bfloat16 == torch.backends.mkldnn.is_available()
    for name in asked:
        monkeypatch.delattr(torch.cpu, name)
    assert not find_hardware().bfloat16
