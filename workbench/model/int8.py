"""Linear layers of the language model in int8, for a CPU.

Weights become int8 with one scale for each output channel; what comes in is rounded to 8 bits with
a scale found anew at each call (torch's dynamic quantisation). A decoding step then reads a quarter
of the bytes. Vision tower, projector, embedding and head stay as they are, and so do keys, values
and everything between two products. Texts may differ from those of float32.

Gradients do not go through, so of the methods that explain a text those by perturbation are left;
nothing can be trained. A checkpoint is read in float32 first and takes that memory while it loads.

Does not know: GPUs (bitsandbytes does it there), how much a text changes (`benchmarks/bench.py`).
"""

from __future__ import annotations

import warnings

import torch
from torch import nn

from workbench.errors import DeviceError


def shrink_to_int8(model: nn.Module) -> nn.Module:
    """Put int8 layers in the place of the language model's linear layers.

    Args:
        model: a `CxrLlavaForConditionalGeneration` in float32 on the CPU; it is changed.

    Returns:
        The model, which says `is_quantized`.

    Raises:
        DeviceError: the weights are elsewhere or of another dtype, or this build of torch has no
            int8 products.
    """
    weight = model.llama.embed_tokens.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        raise DeviceError(
            f"int8 layers are made of float32 weights on the CPU, got {weight.dtype} on "
            f"{weight.device}; load with device='cpu' and without dtype, or use quantize='8bit' on "
            "a GPU"
        )
    if torch.backends.quantized.engine == "none":
        raise DeviceError(
            "this build of torch has no int8 products for this processor; load without quantize"
        )
    with warnings.catch_warnings():
        # torch.ao moves to a package of its own; until then this is where the layers are.
        warnings.simplefilter("ignore")
        torch.ao.quantization.quantize_dynamic(
            model.llama,
            {nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig},
            dtype=torch.qint8,
            inplace=True,
        )
    model.is_quantized = True
    return model
