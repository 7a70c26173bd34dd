"""Two pretend accelerators that compute with the CPU's own kernels and refuse to mix.

    with pretend_accelerator():
        x = torch.ones(3).to(FIRST)     # x.device is privateuseone:0
        x + torch.ones(3)               # RuntimeError, as on a GPU
        x + x.to(SECOND)                # RuntimeError

torch lets a backend be written in Python, but its device guard counts one device, and autograd
refuses a second ("device.index() < device_ready_queues_.size()"). So a tensor here wraps one of
the CPU, torch's C++ takes it for one of the CPU, and what Python sees of it (`device`, `to`,
`numpy`) is that of an accelerator. Nothing is registered that outlives the block.

As on CUDA, numbers (tensors without dimensions) of the CPU may meet others, and indexes may lie on
the CPU. In a backward pass tensors of the CPU may meet one device too: gradients that C++ fills up
with zeros are of the CPU here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

KIND = "privateuseone"
FIRST, SECOND = torch.device(KIND, 0), torch.device(KIND, 1)
CPU = torch.device("cpu")

_aten = torch.ops.aten
_COPIES = {_aten.copy_.default, _aten._to_copy.default}
_INDEXED = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default,
            _aten._index_put_impl_.default}  # fmt: skip
_to, _tensor, _as_tensor = torch.Tensor.to, torch.tensor, torch.as_tensor


class MixedDevices(RuntimeError):
    """Tensors of several devices met in one operation."""


class PretendTensor(torch.Tensor):
    """`held` is a tensor of the CPU with the numbers, `device` where it says that they are."""

    held: torch.Tensor
    device = FIRST
    is_cpu = False

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device) -> PretendTensor:
        with torch.inference_mode(held.is_inference()):  # a view is what its base is
            made = torch.Tensor._make_wrapper_subclass(
                cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(),
                dtype=held.dtype, device="cpu",
            )  # fmt: skip
        made.held, made.device = held, device
        return made

    def __repr__(self) -> str:
        return f"{self.held!r} on {self.device}"

    def __reduce_ex__(self, protocol: int):
        return self.held.__reduce_ex__(protocol)

    def numpy(self, **options):
        """Refuse, as accelerators do."""
        raise TypeError(f"can't convert {self.device} device type tensor to numpy; use .cpu()")

    __array__ = numpy

    def storage(self):
        """Return what holds the numbers."""
        return self.held.storage()

    def untyped_storage(self):
        """Return what holds the numbers, as bytes."""
        return self.held.untyped_storage()

    def tolist(self):
        """Return the numbers."""
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})


class _Everywhere(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor, device, dtype):
        ctx.came = tensor.device, tensor.dtype
        held = tensor.held if isinstance(tensor, PretendTensor) else tensor
        copied = _to(held.detach(), dtype=dtype, copy=True)
        return copied if device.type == "cpu" else PretendTensor(copied, device)

    @staticmethod
    def backward(ctx, gradient):
        return move(gradient, *ctx.came), None, None


def move(self: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    """What `Tensor.to` is while devices are pretended."""
    given, copy = kwargs, kwargs.get("copy", False)
    kwargs = {name: one for name, one in given.items() if name != "copy"}
    other = args[0] if args else kwargs.get("other")
    if isinstance(other, torch.Tensor):
        device, dtype = other.device, other.dtype
    else:
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
    device, dtype = device or self.device, dtype or self.dtype
    if device.type == KIND and device.index is None:
        device = FIRST
    if KIND not in (device.type, self.device.type):
        return _to(self, *args, **given)
    if device == self.device:
        return _to(self, dtype=dtype, copy=copy)
    return _Move.apply(self, device, dtype)


def _check(func, args, kwargs) -> torch.device:
    """Return where an operation's tensors are."""
    checked = (args[0], args[2:]) if func in _INDEXED else (args, kwargs)
    tensors = [one for one in tree_leaves(checked) if isinstance(one, torch.Tensor)]
    found = {one.device for one in tensors if one.ndim or isinstance(one, PretendTensor)}
    if func in _COPIES:
        return tensors[0].device
    if torch._C._current_graph_task_id() >= 0 and len(found) == 2:
        found -= {CPU}
    if func in _INDEXED:
        found |= {one.device for one in args[1] if isinstance(one, PretendTensor)}
    if len(found) > 1:
        names = " and ".join(sorted(map(str, found)))
        raise MixedDevices(f"expected all tensors on one device, but {func} met {names}")
    return next(iter(found), CPU)


def _compute(func, args, kwargs):
    where, asked = _check(func, args, kwargs), kwargs.get("device")
    if asked is not None and asked.type == KIND:
        where, kwargs = asked, {**kwargs, "device": CPU}

    def held(one):
        return one.held if isinstance(one, PretendTensor) else one

    made = func(*tree_map(held, args), **tree_map(held, kwargs))
    returns = func._schema.returns
    if returns and returns[0].alias_info is not None and returns[0].alias_info.is_write:
        return kwargs.get("out", args[0] if args else None)
    if where.type != KIND:
        return made
    return tree_map(lambda one: PretendTensor(one, where) if isinstance(one, torch.Tensor) else one,
                    made)  # fmt: skip


def _made_there(make):
    def made(data, *args, device=None, **options):
        if not isinstance(data, PretendTensor):  # a list of numbers of the device gives them up
            data = tree_map(lambda one: one.held if isinstance(one, PretendTensor) else one, data)
        if device is None or torch.device(device).type != KIND:
            return make(data, *args, device=device, **options)
        return move(make(data, *args, **options), device)

    return made


@contextmanager
def pretend_accelerator() -> Iterator[None]:
    """Let `privateuseone:0` and `privateuseone:1` be devices within a block."""
    module = ModuleType(f"torch.{KIND}")
    module._lazy_init = lambda: None
    module._is_in_bad_fork = lambda: False
    module.manual_seed_all = lambda seed: None
    changes = [
        patch.dict(sys.modules, {module.__name__: module}),
        patch.object(torch, KIND, module, create=True),
        patch.object(torch.Tensor, "to", move),
        patch.object(torch.Tensor, "cpu", lambda self, **_: move(self, CPU)),
        patch.object(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True),
        patch.object(torch, "tensor", _made_there(_tensor)),
        patch.object(torch, "as_tensor", _made_there(_as_tensor)),
    ]
    for change in changes:
        change.start()
    try:
        with _Everywhere():
            yield
    finally:
        for change in reversed(changes):
            change.stop()
