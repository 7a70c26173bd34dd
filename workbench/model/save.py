"""Write a model as a checkpoint directory in the published layout.

Does not know: how the model was trained; facts about that come in as a dict.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from workbench.errors import OptionError
from workbench.model.card import CARD_FILE
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.placement import DTYPES
from workbench.model.tokenizer import CxrTokenizer
from workbench.model.weights import find_weights, hash_weights


def save_checkpoint(
    directory: str | os.PathLike,
    model: CxrLlavaForConditionalGeneration,
    tokenizer: CxrTokenizer,
    *,
    dtype: str | None = None,
    generation: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    max_shard_size: str = "5GB",
) -> Path:
    """Write config.json, safetensors, tokenizer files and generation_config.json.

    Args:
        directory: made if it does not exist; files of these names in it are replaced.
        model: the model; it is not changed.
        tokenizer: its tokenizer.
        dtype: "float32", "float16" or "bfloat16" on disk; by default as the model is.
        generation: sampling keys for generation_config.json beside the special ids.
        facts: written to model_card.json, with the hashes of the weights that are held to them
            when the checkpoint is loaded ("name", "domain", "licence" and "notice" are read from it
            then, too; anything else is shown as it is).
        max_shard_size: weights above this are split into shards with an index.

    Returns:
        The directory.

    Raises:
        OptionError: dtype is none of the above.
    """
    if dtype is not None and dtype not in DTYPES:
        raise OptionError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    directory = Path(directory)
    before = model.config.dtype
    state = model.state_dict()
    if dtype is not None:
        state = _cast(state, DTYPES[dtype])
        model.config.dtype = DTYPES[dtype]
    try:
        model.save_pretrained(directory, state_dict=state, max_shard_size=max_shard_size)
    finally:
        model.config.dtype = before
    tokenizer.save(directory)
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    ids["pad_token_id"] = tokenizer.pad_id
    _write(directory / "generation_config.json", {**ids, **(generation or {})})
    if facts is not None:
        _write(directory / CARD_FILE, {**facts, "sha256": hash_weights(find_weights(directory))})
    return directory


def _cast(state: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Cast each storage once, so that tied weights stay tied."""
    made: dict[int, torch.Tensor] = {}
    cast = {}
    for name, value in state.items():
        key = value.data_ptr()
        if key not in made or made[key].shape != value.shape:
            made[key] = value.to(dtype) if value.is_floating_point() else value
        cast[name] = made[key]
    return cast


def _write(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
