"""What a model weighs, and where it runs: "auto" resolved against the hardware that is there.

Parameters are counted on a model without storage (the meta device), so the full-size model is
counted on a laptop. Weights only: activations and the key-value cache come on top.

GPUs from compute capability 8.0 compute in bfloat16, older ones (T4, V100) in float16, Apple GPUs
in float32. So does a CPU, but for models that float32 makes too large for its memory, and for all
but small ones where the processor multiplies bfloat16 in hardware. One GPU with room for the
weights is enough; several share a model that fits no single one. Everything that cannot work is an
error before anything is loaded.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field

import psutil
import torch
from torch import nn
from transformers import PreTrainedModel

from workbench import settings
from workbench.errors import DeviceError, OptionError
from workbench.model.config import CxrLlavaConfig
from workbench.model.llava import CxrLlavaForConditionalGeneration

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
#: Of `workbench.model.int8`.
INT8 = "int8"
#: Quantisation -> the kind of device that it runs on, and how.
_RUNS = {
    "8bit": ("cuda", "on a CUDA GPU through bitsandbytes"),
    "4bit": ("cuda", "on a CUDA GPU through bitsandbytes"),
    INT8: ("cpu", "on the CPU beside float32"),
}

#: Up to this many parameters bfloat16 was measured not to pay on a CPU.
SMALL = 50_000_000
#: From this many parameters on, a CPU writes less than about one token a second.
_LARGE = 1_000_000_000

_BFLOAT16_FROM = (8, 0)

#: Bytes of one parameter by dtype. In 4-bit weights, blocks of 64 share one float32 scale.
BYTES = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "float16": 2.0,
    "8bit": 1.0,
    "4bit": 0.5 + 4 / 64,
    "int8": 1.0,
}

#: dtype of what a quantisation leaves alone.
_BESIDE = {"8bit": "bfloat16", "4bit": "bfloat16", "int8": "float32"}

#: Bytes beside each weight of the layer that is shrunk to int8: in float32, while it is looked at,
#: and before it is packed.
_SHRINKING = 11

#: Parts that stay unquantised, as the embedding and the norms do.
UNQUANTISED = ("vision_tower", "mm_projector", "lm_head")


@dataclass(frozen=True)
class PartSizes:
    """Parameters of each part; a tied head counts 0.

    Attributes:
        quantisable: of the language model's linear layers, which "8bit", "4bit" and "int8" shrink.
        largest: of the largest of these layers.
    """

    vision_tower: int
    mm_projector: int
    language_model: int
    lm_head: int
    quantisable: int
    largest: int = 0

    @property
    def total(self) -> int:
        """Parameters of the whole model."""
        return self.vision_tower + self.mm_projector + self.language_model + self.lm_head

    def parts(self) -> dict[str, int]:
        """Return parameters by part, with the total."""
        names = ("vision_tower", "mm_projector", "language_model", "lm_head", "total")
        return {name: getattr(self, name) for name in names}

    def bytes_as(self, dtype: str) -> int:
        """Return the weight of the model in bytes, as one of the names in `BYTES`."""
        rest = (self.total - self.quantisable) * BYTES[_BESIDE.get(dtype, dtype)]
        return int(self.quantisable * BYTES[dtype] + rest)

    def bytes_to_load(self, dtype: str) -> int:
        """Return the memory that loading the model takes at most, in bytes."""
        return self.bytes_as(dtype) + (_SHRINKING * self.largest if dtype == "int8" else 0)

    def memory(self) -> dict[str, int]:
        """Return `bytes_as` for every name in `BYTES`."""
        return {name: self.bytes_as(name) for name in BYTES}


def empty_model(config: CxrLlavaConfig) -> CxrLlavaForConditionalGeneration:
    """Return the model of a configuration without storage, for names, shapes and counts."""
    with torch.device("meta"):
        return CxrLlavaForConditionalGeneration(copy.deepcopy(config))


def measure(model: CxrLlavaForConditionalGeneration) -> PartSizes:
    """Count the parameters of a model, with or without storage."""
    return measure_parts(model, model.vision_tower, model.llama, model.lm_head)


def measure_parts(
    model: PreTrainedModel, vision: nn.Module, decoder: PreTrainedModel, head: nn.Module
) -> PartSizes:
    """Count the parameters of a model of any family; its projector is what is no other part."""

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    own = 0 if head.weight is decoder.get_input_embeddings().weight else count(head)
    linear = [m.weight.numel() for m in decoder.modules() if isinstance(m, nn.Linear)]
    return PartSizes(
        vision_tower=count(vision),
        mm_projector=count(model) - count(vision) - count(decoder) - own,
        language_model=count(decoder),
        lm_head=own,
        quantisable=sum(linear),
        largest=max(linear, default=0),
    )


def full_size_config() -> CxrLlavaConfig:
    """Return the configuration of the published full-size model.

    Deviation: its `config.json` is not quoted here; `clip_embed_dim` (768) is that of open_clip,
    and the LLaMA is Llama-2-7b-chat, which the paper names (transformers' default but for these).
    """
    return CxrLlavaConfig(llama={"max_position_embeddings": 4096, "rms_norm_eps": 1e-5})


@dataclass(frozen=True)
class Gpu:
    """One CUDA device: N of "cuda:N", its name, compute capability (major, minor), free bytes."""

    index: int
    name: str
    capability: tuple[int, int]
    free: int

    @property
    def device(self) -> str:
        """Its name for torch."""
        return f"cuda:{self.index}"


@dataclass(frozen=True)
class Hardware:
    """What a machine offers.

    `memory` is in bytes, 0 where it is not known; `bfloat16` says that the processor multiplies
    bfloat16 in hardware (AMX, AVX512-BF16).
    """

    gpus: tuple[Gpu, ...] = ()
    mps: bool = False
    memory: int = 0
    bfloat16: bool = False


@dataclass(frozen=True)
class Placement:
    """Where and how a model is loaded.

    Attributes:
        device: "cpu", "mps", "cuda:N", or "auto" for a model spread over several GPUs.
        dtype: dtype of the weights (with `quantize`, of the parts left alone).
        reason: why this dtype.
    """

    device: str
    dtype: torch.dtype
    quantize: str | None = None
    reason: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """What the weights are in: the quantisation, or the dtype."""
        return self.quantize or str(self.dtype).removeprefix("torch.")

    @property
    def options(self) -> dict[str, object]:
        """The placement as options of `workbench.load_model`."""
        return {"device": self.device, "dtype": self.dtype, "quantize": self.quantize}

    @property
    def stated(self) -> str:
        """What the model computes in, where and why, in one line."""
        where = "several GPUs" if self.device == "auto" else self.device
        return f"{self.name} on {where}" + (f": {self.reason}" if self.reason else "")


def device_of(module: nn.Module) -> torch.device:
    """Return where a module computes.

    That of a module whose weights accelerate fetches when it is called (from memory or disk) is
    where they are fetched to; until then they are on no device.
    """
    for part in module.modules():
        hook = getattr(part, "_hf_hook", None)
        for one in getattr(hook, "hooks", (hook,)):
            device = getattr(one, "execution_device", None)
            if device is not None:
                return torch.device(device)
        for weight in part.parameters(recurse=False):
            return weight.device
    return torch.device("cpu")


def find_hardware() -> Hardware:
    """Look at this machine."""
    gpus = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, _ = torch.cuda.mem_get_info(index)
            capability = torch.cuda.get_device_capability(index)
            gpus.append(Gpu(index, torch.cuda.get_device_name(index), capability, free))
    mps = torch.backends.mps.is_available()
    return Hardware(tuple(gpus), mps, psutil.virtual_memory().total, _multiplies_bfloat16())


def _multiplies_bfloat16() -> bool:
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # torch has no public ones
    found = (getattr(torch.cpu, name, None) for name in asked)
    return torch.backends.mkldnn.is_available() and any(ask() for ask in found if ask)


def place(
    sizes: PartSizes,
    hardware: Hardware,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    quantize: str | None = None,
) -> Placement:
    """Decide where a model goes; the arguments are those of `load_checkpoint`.

    Raises:
        OptionError: a value is none of those allowed.
        DeviceError: what was asked for is not on this machine, or the weights do not fit.
    """
    device, dtype = str(device), str(dtype).removeprefix("torch.")
    settings.check_device(device)
    for option, given, known in (
        ("dtype", dtype, settings.DTYPES),
        ("quantize", quantize, (None, *_RUNS)),
    ):
        if given not in known:
            raise OptionError(
                f"{option} must be one of {', '.join(map(str, known))}, got {given!r}"
            )
    kind = device.partition(":")[0]
    if kind == "auto":
        kind = "cuda" if hardware.gpus else "cpu"
    runs_on, how = _RUNS.get(quantize or "", (kind, ""))
    if kind != runs_on or (quantize == INT8 and dtype not in ("auto", "float32")):
        raise DeviceError(
            f"quantize={quantize!r} runs {how}, and the model would be on {kind} as {dtype}; leave "
            "quantize out (dtype='bfloat16' halves the memory), or give quantize='int8' with "
            "device='cpu' and without dtype, or quantize='8bit' on a CUDA GPU"
        )
    gpus = _gpus(device, hardware) if kind == "cuda" else ()
    if kind == "mps" and not hardware.mps:
        raise DeviceError("device 'mps' needs an Apple GPU, and there is none; use device='cpu'")
    name, reason = _dtype(sizes, hardware, kind, gpus)
    if name == "float16" and dtype == "bfloat16":
        raise DeviceError(f"{reason}, which begins at 8.0; use dtype='float16'")
    if quantize == INT8:
        name, reason = "float32", "as asked"
    elif dtype != "auto":
        name, reason = dtype, "as asked"
    where = _room(sizes, hardware, kind, gpus, quantize or name)
    placement = Placement(where, DTYPES[name], quantize, reason)
    if kind == "cpu" and sizes.total >= _LARGE:
        logger.warning(
            "%.1f billion parameters take %s and write about half a token a second; possible, not "
            "pleasant (%s)",
            sizes.total / 1e9,
            _gb(sizes.bytes_to_load(placement.name)),
            placement.stated,
        )
    elif kind == "cpu" and name != "float32" and dtype == "auto":
        logger.warning("%s; dtype='float32' asks for float32", placement.stated)
    return placement


def _gpus(device: str, hardware: Hardware) -> tuple[Gpu, ...]:
    """Return the GPUs that are asked for, one or all."""
    if not hardware.gpus:
        raise DeviceError(
            f"device {device!r} was asked for, but torch sees no CUDA GPU (torch "
            f"{torch.__version__}, CUDA {torch.version.cuda or 'not built in'}); use device='cpu', "
            "or install the driver and a torch build for it"
        )
    found = tuple(gpu for gpu in hardware.gpus if device in ("auto", "cuda", gpu.device))
    if not found:
        known = ", ".join(gpu.device for gpu in hardware.gpus)
        raise DeviceError(f"there is no {device}; this machine has {known}")
    return found


def _dtype(
    sizes: PartSizes, hardware: Hardware, kind: str, gpus: tuple[Gpu, ...]
) -> tuple[str, str]:
    """Return the dtype that is taken where none is asked for, and why."""
    if kind == "cuda":
        for gpu in gpus:
            if gpu.capability < _BFLOAT16_FROM:
                found = ".".join(map(str, gpu.capability))
                return "float16", f"{gpu.name} (compute capability {found}) has no bfloat16"
        return "bfloat16", "the GPU computes in it"
    if kind == "mps":
        return "float32", "Apple GPUs compute in it"
    single = sizes.bytes_as("float32")
    if hardware.memory and single > hardware.memory:
        return "bfloat16", f"float32 needs {_gb(single)}, and there is {_gb(hardware.memory)}"
    if sizes.total <= SMALL:
        return "float32", "the model is small"
    if hardware.bfloat16:
        return "bfloat16", "this processor multiplies bfloat16 in hardware"
    return "float32", "this processor does not multiply bfloat16 in hardware"


def _room(
    sizes: PartSizes, hardware: Hardware, kind: str, gpus: tuple[Gpu, ...], shown: str
) -> str:
    """Return the device that has room for the weights; "auto" where several GPUs have together."""
    need = sizes.bytes_to_load(shown)
    for gpu in gpus:
        if gpu.free >= need:
            return gpu.device
    if len(gpus) > 1 and sum(gpu.free for gpu in gpus) >= need:
        return "auto"
    if not gpus and not 0 < hardware.memory < need:
        return kind
    if gpus:
        room = max(gpu.free for gpu in gpus)
        there = "free are " + ", ".join(f"{_gb(g.free)} ({g.device}, {g.name})" for g in gpus)
        rest = "free memory on the GPU, use more GPUs, or device='cpu'"
    else:
        room, there = hardware.memory, f"this machine has {_gb(hardware.memory)}"
        rest = "use a machine with more memory, a GPU, or the model 'mini'"
    ways = {"bfloat16": "dtype='bfloat16'"} if not gpus else {}
    ways |= {name: f"quantize={name!r}" for name, (on, _) in _RUNS.items() if on == kind}
    fitting = [way for name, way in ways.items() if sizes.bytes_to_load(name) <= room]
    use = f"use {' or '.join(fitting)}, or " if fitting else ""
    raise DeviceError(f"the weights need {_gb(need)} as {shown}, and {there}; {use}{rest}")


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
