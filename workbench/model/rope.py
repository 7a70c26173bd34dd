"""Rotary position frequencies that stay in float32 whatever dtype the model is cast to.

bfloat16 keeps 8 bits of a frequency; times position 1,100 that is an angle wrong by radians. So a
plain `model.to(torch.bfloat16)` silently corrupts every position beyond a few hundred, and casting
back cannot repair it. Here the buffer refuses the cast and only moves.

Does not know: which scaling is in use; transformers computes the frequencies.
Paper: Su et al., RoFormer, arXiv 2104.09864, section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding


class Float32RotaryEmbedding(LlamaRotaryEmbedding):
    """LLaMA's rotary embedding with `inv_freq` pinned to float32.

    `to`, `half`, `bfloat16`, `double` and `cuda` all go through `_apply`: the device follows, the
    dtype does not.
    """

    def _apply(self, fn: Callable, recurse: bool = True) -> Float32RotaryEmbedding:
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in self._buffers.items():
            if buffer is not None and buffer.dtype != torch.float32:
                self._buffers[name] = before[name].to(buffer.device)
        return self
