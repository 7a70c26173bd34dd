"""Products of few rows with small and middle-sized weights, in float32 on a CPU.

torch multiplies float32 matrices with the BLAS it was built with, which on some processors takes
twice as long for a few rows as reading the weights does, and leaves cores idle. Two ways around it:

- `PackedProduct`: oneDNN, which comes with torch, is faster once a weight lies in its own order.
  The operators are those of torch's compiler; where they are missing, or give other numbers than
  `F.linear`, nothing is packed. A packed weight is a copy. Whoever makes one keeps it for one text
  and no longer, so that no product is ever taken with weights that have since changed.
- `RowProduct`: one row with a weight as it lies, as a batch of blocks, which all cores share.
  Nothing is copied. Measured to be the faster one where AVX2 is the widest that there is.

For the thousand rows of an image packing was measured not to pay: with AVX-512 the products gain a
fifth and packing costs it, with AVX2 they gain nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.placement import on_cpu

#: Bytes of the language model's layers up to which a call costs more than its product ...
SMALL = 16 << 20
#: ... and above which a copy takes more memory than anyone expects.
MOST = 2 << 30
#: Rows that a weight is packed for, and that fewer are filled up to.
_ROWS = 4
#: Most blocks of a weight that is read for one row: as many cores can take part.
_BLOCKS = 8


class RowProduct:
    """The product with one weight (N, K) as it lies, fast for a single row.

    `can_pack` tells whether a weight will do; more rows take the usual way.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight, self._bias = weight, bias
        blocks = max(n for n in range(1, _BLOCKS + 1) if len(weight) % n == 0)
        cuts = blocks > 1 and weight.is_contiguous()
        self._cut = weight.view(blocks, -1, weight.shape[1]) if cuts else None

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (R, N) of (R, K)."""
        if self._cut is None or len(rows) != 1:
            return F.linear(rows, self._weight, self._bias)
        # a column with the strides of a transposed row: another kernel, three times as fast
        blocks, _, width = self._cut.shape
        column = rows.contiguous().as_strided((blocks, width, 1), (0, 1, width))
        found = torch.bmm(self._cut, column).view(1, -1)
        return found if self._bias is None else found.add_(self._bias)


class PackedProduct:
    """The product with one weight (N, K), or with several side by side, packed.

    `can_pack` tells whether weights will do; biases are those of each, or None of all.
    """

    def __init__(
        self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor | None]
    ) -> None:
        whole = weights[0] if len(weights) == 1 else torch.cat([*weights])
        given = [bias for bias in biases if bias is not None]
        self._bias = torch.cat(given) if given else None
        self._multiply = torch.ops.mkldnn._linear_pointwise.default
        self._packed = torch.ops.mkldnn._reorder_linear_weight(whole.detach(), _ROWS)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (R, N) of (R, K)."""
        count = len(rows)
        if count < _ROWS:  # the kernel for one row is slower than that for four
            rows = rows.expand(_ROWS, -1) if count == 1 else F.pad(rows, (0, 0, 0, _ROWS - count))
        found = self._multiply(rows.contiguous(), self._packed, self._bias, "none", [], "")
        return found[:count]


def can_pack(*tensors: torch.Tensor) -> bool:
    """Tell whether a product of these is a plain float32 one on the CPU, without gradients."""
    return all(
        type(one) in (torch.Tensor, nn.Parameter)
        and one.dtype == torch.float32
        and on_cpu(one)
        and one.layout == torch.strided
        and one.dim() > 1
        and not (one.requires_grad and torch.is_grad_enabled())
        for one in tensors
    )


def worth_packing(model: CxrLlavaForConditionalGeneration) -> bool:
    """Tell whether a model is of the size and kind that gains.

    The answer depends on the model alone, not on the memory that is free: the same text comes out
    of every process.
    """
    return layer_bytes(model) > SMALL and _fits(model) and _same_numbers()


def worth_blocks(model: CxrLlavaForConditionalGeneration) -> bool:
    """Tell whether single rows of a model gain from `RowProduct`.

    The answer depends on the model and the kind of processor, not on its threads. Large models
    have weights so wide that they gain nothing.
    """
    return torch.backends.cpu.get_cpu_capability() == "AVX2" and _fits(model)


def _fits(model: CxrLlavaForConditionalGeneration) -> bool:
    return layer_bytes(model) <= MOST and can_pack(model.llama.embed_tokens.weight)


def layer_bytes(model: CxrLlavaForConditionalGeneration) -> int:
    """Return the bytes of the weights of the language model's layers."""
    return sum(one.numel() * one.element_size() for one in model.llama.layers.parameters())


@functools.cache
def _same_numbers() -> bool:
    """Try the operators once: they must be there, and agree with `F.linear`."""
    if not torch.backends.mkldnn.is_available():
        return False
    with torch.inference_mode():
        draw = torch.Generator().manual_seed(0)
        rows, weight = torch.randn(3, 64, generator=draw), torch.randn(48, 64, generator=draw)
        try:
            found = PackedProduct([weight], [None])(rows)
        except (AttributeError, RuntimeError, TypeError):
            return False
        return torch.allclose(found, F.linear(rows, weight), atol=1e-5)
