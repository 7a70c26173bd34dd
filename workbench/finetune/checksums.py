"""One number for weights and for images: what must not have changed can be shown not to have.

Does not know: what the weights are for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch


def weights_sha256(named: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Return the SHA-256 of names, shapes, dtypes and bytes of tensors, in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named, key=lambda item: item[0]):
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


def tensor_sha256(tensor: torch.Tensor) -> str:
    """Return the SHA-256 of one tensor."""
    return weights_sha256([("", tensor)])
