"""Where a model runs and in which dtype: "auto" resolved against the hardware that is there.

GPUs from compute capability 8.0 compute in bfloat16, older ones (T4, V100) in float16, Apple GPUs
in float32. So does a CPU, but for models that float32 makes too large for its memory, and for all
but small ones where the processor multiplies bfloat16 in hardware. One GPU with room for the
weights is enough; several share a model that fits no single one. Everything that cannot work is an
error before anything is loaded.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field

import psutil
import torch

from workbench.errors import DeviceError, OptionError
from workbench.model.sizes import PartSizes

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
QUANTISATIONS = ("8bit", "4bit")
#: Of `workbench.model.int8`, on a CPU only.
INT8 = "int8"

#: Up to this many parameters bfloat16 was measured not to pay on a CPU.
SMALL = 50_000_000
#: From this many parameters on, a CPU writes less than about one token a second.
_LARGE = 1_000_000_000

_BFLOAT16_FROM = (8, 0)

_ASKED = "as asked"
_NO_16_BIT = ("float32", "Apple GPUs compute in it")


@dataclass(frozen=True)
class Gpu:
    """One CUDA device: N of "cuda:N", its name, compute capability (major, minor), free bytes."""

    index: int
    name: str
    capability: tuple[int, int]
    free: int


@dataclass(frozen=True)
class Hardware:
    """What a machine offers.

    Attributes:
        gpus: CUDA devices.
        mps: an Apple GPU is usable.
        memory: bytes of main memory; 0 where it is not known.
        bfloat16: the processor multiplies bfloat16 in hardware (AMX, AVX512-BF16).
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
    def stated(self) -> str:
        """What the model computes in, where and why, in one line."""
        name = self.quantize or str(self.dtype).removeprefix("torch.")
        where = "several GPUs" if self.device == "auto" else self.device
        return f"{name} on {where}" + (f": {self.reason}" if self.reason else "")


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
    device, dtype = str(device), _dtype_name(dtype)
    if quantize is not None and quantize not in (*QUANTISATIONS, INT8):
        raise OptionError(f"quantize must be None, '8bit', '4bit' or 'int8', got {quantize!r}")
    kind = _kind(device, hardware)
    if quantize == INT8 and (kind != "cpu" or dtype not in ("auto", "float32")):
        raise DeviceError(
            f"quantize='int8' runs on the CPU beside float32, and the model would be on {kind} as "
            f"{dtype}; give device='cpu' without dtype, or quantize='8bit' on a CUDA GPU"
        )
    if kind != "cuda":
        return _place_without_cuda(sizes, hardware, kind, dtype, quantize)
    gpus = _wanted_gpus(device, hardware)
    name, reason = _gpu_dtype(gpus, dtype)
    weight = sizes.bytes_as(quantize or name)
    for gpu in gpus:
        if gpu.free >= weight:
            return Placement(f"cuda:{gpu.index}", DTYPES[name], quantize, reason)
    if len(gpus) > 1 and sum(gpu.free for gpu in gpus) >= weight:
        return Placement("auto", DTYPES[name], quantize, reason)
    raise DeviceError(
        f"the weights need {_gb(weight)} as {quantize or name}, but free on the GPU is "
        + ", ".join(f"{_gb(gpu.free)} (cuda:{gpu.index}, {gpu.name})" for gpu in gpus)
        + f"; {_way_out(sizes, gpus, quantize)}"
    )


def _kind(device: str, hardware: Hardware) -> str:
    if device == "auto":
        return "cuda" if hardware.gpus else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise OptionError(
            f"device must be 'auto', 'cpu', 'mps', 'cuda' or 'cuda:N', got {device!r}"
        )
    kind = device.partition(":")[0]
    if kind == "cuda" and not hardware.gpus:
        raise DeviceError(
            f"device {device!r} was asked for, but torch sees no CUDA GPU (torch "
            f"{torch.__version__}, CUDA {torch.version.cuda or 'not built in'}); use device='cpu', "
            "or install the driver and a torch build for it"
        )
    if kind == "mps" and not hardware.mps:
        raise DeviceError("device 'mps' needs an Apple GPU, and there is none; use device='cpu'")
    return kind


def _place_without_cuda(
    sizes: PartSizes, hardware: Hardware, kind: str, dtype: str, quantize: str | None
) -> Placement:
    if quantize not in (None, INT8):
        raise DeviceError(
            f"quantize={quantize!r} runs on a CUDA GPU through bitsandbytes, and the model would "
            f"be on {kind}; leave quantize out (dtype='bfloat16' halves the memory), use "
            "quantize='int8' on the CPU, or a GPU"
        )
    name, reason = dtype, _ASKED
    if quantize == INT8:
        name = "float32"
    elif dtype == "auto":
        name, reason = _cpu_dtype(sizes, hardware) if kind == "cpu" else _NO_16_BIT
    shown = quantize or name
    weight = sizes.bytes_to_load(shown)
    if hardware.memory and weight > hardware.memory:
        raise DeviceError(
            f"the weights need {_gb(weight)} as {shown}, and this machine has "
            f"{_gb(hardware.memory)}; {_smaller(sizes, hardware, kind, shown)}use a machine with "
            "more memory, a GPU, or the model 'mini'"
        )
    placement = Placement(kind, DTYPES[name], quantize, reason)
    if kind == "cpu" and sizes.total >= _LARGE:
        logger.warning(
            "%.1f billion parameters take %s and write about half a token a second; possible, not "
            "pleasant (%s)",
            sizes.total / 1e9,
            _gb(weight),
            placement.stated,
        )
    elif name != "float32" and dtype == "auto":
        logger.warning("%s; dtype='float32' asks for float32", placement.stated)
    return placement


def _cpu_dtype(sizes: PartSizes, hardware: Hardware) -> tuple[str, str]:
    """Return the dtype that a CPU computes in where none is asked for, and why."""
    single = sizes.bytes_as("float32")
    if hardware.memory and single > hardware.memory:
        return "bfloat16", f"float32 needs {_gb(single)}, and there is {_gb(hardware.memory)}"
    if sizes.total <= SMALL:
        return "float32", "the model is small"
    if hardware.bfloat16:
        return "bfloat16", "this processor multiplies bfloat16 in hardware"
    return "float32", "this processor does not multiply bfloat16 in hardware"


def _smaller(sizes: PartSizes, hardware: Hardware, kind: str, shown: str) -> str:
    """Name what would fit instead, as far as it does."""
    ways = {"bfloat16": "dtype='bfloat16'"}
    if kind == "cpu":
        ways[INT8] = "quantize='int8'"
    fits = [name for name in ways if sizes.bytes_to_load(name) <= hardware.memory]
    found = [ways[name] for name in fits if name != shown]
    return f"use {' or '.join(found)}, or " if found else ""


def _wanted_gpus(device: str, hardware: Hardware) -> tuple[Gpu, ...]:
    if ":" not in device:
        return hardware.gpus
    index = int(device.partition(":")[2])
    found = tuple(gpu for gpu in hardware.gpus if gpu.index == index)
    if not found:
        known = ", ".join(f"cuda:{gpu.index}" for gpu in hardware.gpus)
        raise DeviceError(f"there is no {device}; this machine has {known}")
    return found


def _gpu_dtype(gpus: tuple[Gpu, ...], dtype: str) -> tuple[str, str]:
    old = [gpu for gpu in gpus if gpu.capability < _BFLOAT16_FROM]
    if dtype == "auto" and old:
        return "float16", f"{old[0].name} has no bfloat16"
    if dtype == "auto":
        return "bfloat16", "the GPU computes in it"
    if dtype == "bfloat16" and old:
        raise DeviceError(
            f"{old[0].name} (compute capability {'.'.join(map(str, old[0].capability))}) has no "
            "bfloat16, which begins at 8.0; use dtype='float16'"
        )
    return dtype, _ASKED


def _dtype_name(dtype: str | torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if name != "auto" and name not in DTYPES:
        raise OptionError(
            f"dtype must be 'auto', 'float32', 'float16' or 'bfloat16', got {dtype!r}"
        )
    return name


def _way_out(sizes: PartSizes, gpus: tuple[Gpu, ...], quantize: str | None) -> str:
    room = max(gpu.free for gpu in gpus)
    for smaller in QUANTISATIONS:
        if smaller != quantize and sizes.bytes_as(smaller) <= room:
            return f"quantize={smaller!r} needs {_gb(sizes.bytes_as(smaller))} and would fit"
    return "free memory on the GPU, use more GPUs, or device='cpu'"


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
