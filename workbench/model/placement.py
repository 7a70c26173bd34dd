"""Where a model runs: "auto" resolved against the hardware that is there, and what devices can do.

Nothing outside this file asks what kind a device is of, or talks to a GPU.

GPUs from compute capability 8.0 compute in bfloat16, older ones (T4, V100) in float16, Apple GPUs
in float32. So does a CPU, but for models that float32 makes too large for its memory, and for all
but small ones where the processor multiplies bfloat16 in hardware. One GPU with room for the
weights is enough; several share a model that fits no single one. Everything that cannot work is an
error before anything is loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import torch
from torch import nn

from workbench import settings
from workbench.errors import DeviceError, OptionError
from workbench.model.sizes import PartSizes

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

    @property
    def dtype(self) -> str:
        """The 16-bit dtype that it computes in."""
        return "bfloat16" if self.capability >= _BFLOAT16_FROM else "float16"


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
    def device_map(self) -> str | dict[str, str] | None:
        """Where `from_pretrained` puts the weights; None leaves them on the CPU."""
        return {"cpu": None, "auto": "auto"}.get(self.device, {"": self.device})

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


def on_cpu(where: torch.Tensor | torch.device) -> bool:
    """Tell whether a tensor lies, or a device computes, on the CPU, in the machine's memory."""
    return (where.device if isinstance(where, torch.Tensor) else where).type == "cpu"


@contextmanager
def drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """Draw random numbers of the CPU and of a device from a seed, and leave their states alone."""
    with torch.random.fork_rng([device] if _is_cuda(device) else []):
        torch.manual_seed(seed)
        yield


def training_precision(device: torch.device) -> str:
    """Return the dtype that a device trains in by default."""
    if not _is_cuda(device):
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def pins_memory(device: str | torch.device) -> bool:
    """Tell whether copies to a device are faster from pinned memory."""
    return _is_cuda(device)


def device_name(device: str) -> str:
    """Return the name of a GPU; of another device, what it is called here."""
    return torch.cuda.get_device_name(device) if _is_cuda(device) else device


def gpu_memory(device: str | torch.device, *, peak: bool = False) -> int | None:
    """Return the bytes that are allocated on a GPU, or were at most; None on another device."""
    if not _is_cuda(device):
        return None
    used = torch.cuda.max_memory_allocated if peak else torch.cuda.memory_allocated
    return used(device)


def device_memory(device: str | torch.device) -> int:
    """Return the bytes that a device has, or all GPUs together ("auto")."""
    if str(device) == "auto":
        return sum(device_memory(f"cuda:{n}") for n in range(torch.cuda.device_count()))
    return torch.cuda.mem_get_info(device)[1] if _is_cuda(device) else psutil.virtual_memory().total


def need_room(where: torch.device, sure: float, what: str, use: str) -> None:
    """Refuse what surely does not fit a machine, before it is begun.

    Args:
        where: the device; of GPUs, over which a model may be spread, all count, of a CPU swap too.
        sure: bytes that are held at the same time at least, without the weights.
        what, use: what needs them, and what to do instead.

    Raises:
        DeviceError: there is not so much memory at all.
    """
    gpus = _is_cuda(where)
    room = device_memory("auto" if gpus else where) + (not gpus) * psutil.swap_memory().total
    if room < sure:
        raise DeviceError(
            f"{what} needs {_gb(sure)} at least beside the weights, and {where} has "
            f"{_gb(room)}; {use} (model.plan() says what fits)"
        )


def release_memory() -> None:
    """Give back what the GPUs hold and nobody uses."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def forget_peak(device: torch.device) -> None:
    """Count the peak of a GPU's memory anew."""
    if _is_cuda(device):
        torch.cuda.reset_peak_memory_stats(device)


def _is_cuda(device: str | torch.device) -> bool:
    return str(device).partition(":")[0] == "cuda"


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
            if gpu.dtype == "float16":
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
