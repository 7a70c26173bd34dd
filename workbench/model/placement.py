"""Where a model runs and in which dtype: "auto" resolved against the hardware that is there.

CPU and Apple GPUs compute in float32, GPUs from compute capability 8.0 in bfloat16, older ones (T4,
V100) in float16. One GPU that holds the weights is enough; several share a model that no single one
holds. Everything that cannot work is an error before anything is loaded.

Does not know: checkpoints and files; it gets sizes.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

import psutil
import torch

from workbench.errors import DeviceError, OptionError
from workbench.model.sizes import PartSizes

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
QUANTISATIONS = ("8bit", "4bit")
#: Of `workbench.model.int8`, on a CPU only.
INT8 = "int8"

#: From this many parameters on, a CPU writes less than about one token a second.
_LARGE = 1_000_000_000

_BFLOAT16_FROM = (8, 0)


@dataclass(frozen=True)
class Gpu:
    """One CUDA device.

    Attributes:
        index: N of "cuda:N".
        name: as the driver calls it.
        capability: compute capability (major, minor).
        free: free bytes.
    """

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
        memory: bytes of main memory.
    """

    gpus: tuple[Gpu, ...] = ()
    mps: bool = False
    memory: int = 0


@dataclass(frozen=True)
class Placement:
    """Where and how a model is loaded.

    Attributes:
        device: "cpu", "mps", "cuda:N", or "auto" for a model spread over several GPUs.
        dtype: dtype of the weights (with `quantize`, of the parts left alone).
        quantize: None, "8bit", "4bit" or "int8".
    """

    device: str
    dtype: torch.dtype
    quantize: str | None = None


def find_hardware() -> Hardware:
    """Look at this machine."""
    gpus = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, _ = torch.cuda.mem_get_info(index)
            capability = torch.cuda.get_device_capability(index)
            gpus.append(Gpu(index, torch.cuda.get_device_name(index), capability, free))
    mps = torch.backends.mps.is_available()
    return Hardware(tuple(gpus), mps, psutil.virtual_memory().total)


def place(
    sizes: PartSizes,
    hardware: Hardware,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    quantize: str | None = None,
) -> Placement:
    """Decide where a model goes.

    Args:
        sizes: parameters of the model.
        hardware: what there is.
        device: "auto", "cpu", "mps", "cuda" or "cuda:N".
        dtype: "auto", "float32", "float16", "bfloat16" or a torch dtype.
        quantize: None, "8bit" or "4bit" for a GPU, "int8" for a CPU.

    Raises:
        OptionError: a value is none of these.
        DeviceError: what was asked for is not on this machine, or the weights do not fit.
    """
    device, dtype = str(device), _dtype_name(dtype)
    if quantize is not None and quantize not in (*QUANTISATIONS, INT8):
        raise OptionError(f"quantize must be None, '8bit', '4bit' or 'int8', got {quantize!r}")
    kind = _kind(device, hardware)
    if quantize == INT8:
        _check_int8(kind, dtype)
    if kind != "cuda":
        return _place_without_cuda(sizes, hardware, kind, dtype, quantize)
    gpus = _wanted_gpus(device, hardware)
    name = _gpu_dtype(gpus, dtype)
    weight = sizes.bytes_as(quantize or name)
    for gpu in gpus:
        if gpu.free >= weight:
            return Placement(f"cuda:{gpu.index}", DTYPES[name], quantize)
    if len(gpus) > 1 and sum(gpu.free for gpu in gpus) >= weight:
        return Placement("auto", DTYPES[name], quantize)
    raise DeviceError(
        f"the weights need {_gb(weight)} as {quantize or name}, but free on the GPU is "
        + ", ".join(f"{_gb(gpu.free)} (cuda:{gpu.index}, {gpu.name})" for gpu in gpus)
        + f"; {_way_out(sizes, gpus, quantize)}"
    )


def _check_int8(kind: str, dtype: str) -> None:
    if kind != "cpu" or dtype not in ("auto", "float32"):
        raise DeviceError(
            f"quantize='int8' runs on the CPU beside float32, and the model would be on {kind} as "
            f"{dtype}; give device='cpu' without dtype, or quantize='8bit' on a CUDA GPU"
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
    name = "float32" if dtype == "auto" else dtype
    weight = sizes.bytes_as(name)
    if hardware.memory and weight > hardware.memory:
        raise DeviceError(
            f"the weights need {_gb(weight)} as {name}, and this machine has "
            f"{_gb(hardware.memory)}; "
            + ("use dtype='bfloat16', " if name == "float32" else "use ")
            + "a machine with more memory, a GPU, or the model 'mini'"
        )
    if kind == "cpu" and sizes.total >= _LARGE:
        logger.warning(
            "%.1f billion parameters on the CPU take %s as %s and write about half a token a "
            "second; possible, not pleasant",
            sizes.total / 1e9,
            _gb(weight),
            name,
        )
    return Placement(kind, DTYPES[name], quantize)


def _wanted_gpus(device: str, hardware: Hardware) -> tuple[Gpu, ...]:
    if ":" not in device:
        return hardware.gpus
    index = int(device.partition(":")[2])
    found = tuple(gpu for gpu in hardware.gpus if gpu.index == index)
    if not found:
        known = ", ".join(f"cuda:{gpu.index}" for gpu in hardware.gpus)
        raise DeviceError(f"there is no {device}; this machine has {known}")
    return found


def _gpu_dtype(gpus: tuple[Gpu, ...], dtype: str) -> str:
    old = [gpu for gpu in gpus if gpu.capability < _BFLOAT16_FROM]
    if dtype == "auto":
        return "float16" if old else "bfloat16"
    if dtype == "bfloat16" and old:
        raise DeviceError(
            f"{old[0].name} (compute capability {'.'.join(map(str, old[0].capability))}) has no "
            "bfloat16, which begins at 8.0; use dtype='float16'"
        )
    return dtype


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
