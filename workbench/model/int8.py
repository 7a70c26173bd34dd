"""Linear layers of the language model in int8, for a CPU.

Weights become int8 with one scale for each output channel; what comes in is rounded to 8 bits with
a scale found anew at each call (torch's dynamic quantisation). A decoding step then reads a quarter
of the bytes. All other parts stay as they are, and so do keys, values and everything between two
products. Texts may differ from those of float32, and gradients do not go through.

A checkpoint is read tensor by tensor, and each is shrunk before the next one is read, so loading
takes the memory of the int8 model and of its largest tensor, whatever the size of the shards.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from workbench.errors import DeviceError
from workbench.model.config import CxrLlavaConfig
from workbench.model.llava import CxrLlavaForConditionalGeneration, Float32RotaryEmbedding
from workbench.model.sizes import empty_model


def load_as_int8(
    config: CxrLlavaConfig, tensors: Mapping[str, Any]
) -> CxrLlavaForConditionalGeneration:
    """Make a model on the CPU whose language model has int8 layers; the rest is float32.

    `tensors` are slices of a weight file by name, as `workbench.model.weights.open_tensors` gives
    them; a tied head may be missing.

    Raises:
        DeviceError: this build of torch has no int8 products.
    """
    if torch.backends.quantized.engine == "none":
        raise DeviceError(
            "this build of torch has no int8 products for this processor; load without quantize"
        )
    model = cast(CxrLlavaForConditionalGeneration, empty_model(config))
    model.llama.rotary_emb = Float32RotaryEmbedding(config.llama)  # computed, in no file
    inner = model.llama.named_modules(prefix="llama")
    layers = [name for name, module in inner if isinstance(module, nn.Linear)]
    for name in tensors.keys() - {f"{n}.{part}" for n in layers for part in ("weight", "bias")}:
        model.load_state_dict({name: _single(tensors[name])}, strict=False, assign=True)
    for name in layers:
        bias = tensors.get(f"{name}.bias")
        layer = _shrunk(_single(tensors[f"{name}.weight"]), None if bias is None else _single(bias))
        model.set_submodule(name, layer)
    model.tie_weights()
    model.config.dtype = torch.float32
    model.is_quantized = True
    return model


def _single(part: Any) -> torch.Tensor:
    """Read a tensor as float32 of its own, not as a view of the file."""
    return part[...].to(torch.float32, copy=True)


def _shrunk(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
    """Return torch's dynamic int8 layer with a weight (N, K) and a bias (N,) or None."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    with warnings.catch_warnings():
        # torch.ao moves to a package of its own; until then this is where the layers are.
        warnings.simplefilter("ignore")
        from torch.ao.nn.quantized.dynamic import Linear
        from torch.ao.quantization.qconfig import per_channel_dynamic_qconfig

        layer.qconfig = per_channel_dynamic_qconfig  # pyright: ignore[reportArgumentType]
        # not quantize_dynamic: what it leaves behind takes twice the memory of the layers
        return Linear.from_float(layer)
