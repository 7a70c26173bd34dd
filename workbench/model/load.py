"""Load a checkpoint (model, tokenizer, processor and card), and write one in the same layout.

Configuration and headers are read and compared first, then every weight file is hashed and held to
the hash that is known of it; weights are touched only when everything fits. transformers' own
loader then streams each tensor to its device and dtype; it is handed the tensors, never the folder,
so nothing else that lies there is obeyed. No remote code, no pickles, on any path.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from workbench._repr import short_repr
from workbench.errors import CheckpointError, MissingDependencyError, OptionError
from workbench.model.card import CARD_FILE, ModelCard, describe, read_config
from workbench.model.config import CxrLlavaConfig
from workbench.model.int8 import load_as_int8
from workbench.model.licence import say_once
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.placement import DTYPES, INT8, Placement, find_hardware, place
from workbench.model.processor import ImageProcessor
from workbench.model.prompt import BOS, EOS
from workbench.model.sizes import UNQUANTISED, Shape, empty_model
from workbench.model.source import resolve_source
from workbench.model.tokenizer import CxrTokenizer
from workbench.model.weights import (
    WeightFiles,
    check_weights,
    find_weights,
    hash_weights,
    open_tensors,
    read_object,
    verify_weights,
)

GENERATION_FILE = "generation_config.json"
_HEAD = "lm_head.weight"

#: Below this size of the files no progress bar is shown.
SLOW_BYTES = 300_000_000


@dataclass(frozen=True, eq=False)
class LoadedCheckpoint:
    """Everything that one checkpoint directory gives.

    Attributes:
        model: in evaluation mode, its weights frozen (`requires_grad_(True)` before training).
        generation: generation_config.json as it stands in the directory; empty without one.
        placement: device and dtype that were chosen.
    """

    model: CxrLlavaForConditionalGeneration
    tokenizer: CxrTokenizer
    processor: ImageProcessor
    card: ModelCard
    generation: Mapping[str, Any]
    directory: Path
    placement: Placement

    __repr__ = short_repr


def load_checkpoint(
    source: str | os.PathLike = "mini",
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    quantize: str | None = None,
    revision: str | None = None,
    offline: bool | None = None,
) -> LoadedCheckpoint:
    """Load a model with all that belongs to it.

    Arguments and errors are those of `workbench.load_model`; `offline=True` forbids the network,
    None leaves it to HF_HUB_OFFLINE.

    >>> wb.model.load_checkpoint("mini").card.name
    'mini'
    """
    found = resolve_source(source, revision=revision, offline=offline)
    config = read_config(found.directory)
    weights = find_weights(found.directory)
    _check(config, weights)
    tokenizer = CxrTokenizer.from_directory(found.directory, embedded=config.llama.vocab_size)
    _check_marks(tokenizer)
    shape = Shape.of(empty_model(config), config.image_tokens)
    placement = place(shape.sizes, find_hardware(), device=device, dtype=dtype, quantize=quantize)
    facts = read_object(found.directory / CARD_FILE)
    promised = facts.get("sha256")
    sha256s = verify_weights(weights, promised if isinstance(promised, dict) else {})
    model = _load_model(found.directory, config, weights, placement)
    card = describe(shape, found, facts=facts, sha256s=sha256s, placement=placement.stated)
    say_once(found.name, card.notice, card.licence)
    return LoadedCheckpoint(
        model=model,
        tokenizer=tokenizer,
        processor=ImageProcessor.from_config(config),
        card=card,
        generation=read_object(found.directory / GENERATION_FILE),
        directory=found.directory,
        placement=placement,
    )


def quantisation_config(placement: Placement) -> BitsAndBytesConfig | None:
    """Return what bitsandbytes is told, if it is installed; None where it has nothing to do."""
    if placement.quantize in (None, INT8):
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingDependencyError(
            f"quantize={placement.quantize!r} needs bitsandbytes; install it with "
            "pip install 'cxr-llava-workbench[quant]'"
        )
    return BitsAndBytesConfig(
        load_in_8bit=placement.quantize == "8bit",
        load_in_4bit=placement.quantize == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=placement.dtype,
        llm_int8_skip_modules=list(UNQUANTISED),
    )


def _check(config: CxrLlavaConfig, weights: WeightFiles) -> None:
    """Compare the headers with the configuration; a head that is in the file is the file's own."""
    if _HEAD in weights.shapes:
        config.tie_word_embeddings = config.llama.tie_word_embeddings = False
    shapes = {name: tuple(one.shape) for name, one in empty_model(config).state_dict().items()}
    check_weights(weights, shapes, optional=(_HEAD,) if config.tie_word_embeddings else ())


def _check_marks(tokenizer: CxrTokenizer) -> None:
    """Refuse a tokenizer that would read the marks of the chat template as words."""
    spelled = [tokenizer.settings[name] for name in ("bos_token", "eos_token")]
    if spelled != [BOS, EOS]:
        raise CheckpointError(
            f"the tokenizer's first and last token are {spelled[0]!r} and {spelled[1]!r}, but "
            f"the chat template has {BOS!r} and {EOS!r}; correct bos_token and eos_token in "
            "tokenizer_config.json and special_tokens_map.json"
        )


def _load_model(
    directory: Path, config: CxrLlavaConfig, weights: WeightFiles, placement: Placement
) -> CxrLlavaForConditionalGeneration:
    with quiet_loading(weights), open_tensors(weights) as tensors:
        if placement.quantize == INT8:
            model = load_as_int8(config, tensors)
        else:
            model = CxrLlavaForConditionalGeneration.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                dtype=placement.dtype,
                device_map=placement.device_map,
                quantization_config=quantisation_config(placement),
                local_files_only=True,
            )
    model.config.name_or_path = str(directory)
    return model.eval().requires_grad_(False)


@contextmanager
def quiet_loading(weights: WeightFiles) -> Iterator[None]:
    """Silence transformers' progress bar and report while a small model loads."""
    small = sum(path.stat().st_size for path in weights.files) < SLOW_BYTES
    silenced = small and transformers_logging.is_progress_bar_enabled()
    if silenced:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if silenced:
            transformers_logging.enable_progress_bar()


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
        dtype: "float32", "float16" or "bfloat16" on disk; by default as the model is.
        generation: sampling keys for generation_config.json beside the special ids.
        facts: written to model_card.json with the hashes of the weights, which are verified on
            loading ("name", "domain", "licence" and "notice" are read from it then, too).
        max_shard_size: weights above this are split into shards with an index.

    >>> loaded = wb.model.load_checkpoint("mini")
    >>> folder = wb.model.save_checkpoint("copy", loaded.model, loaded.tokenizer)
    >>> wb.load_model(folder).report(image).text == report.text
    True
    """
    if dtype is not None and dtype not in DTYPES:
        raise OptionError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    directory = Path(directory)
    before = model.config.dtype
    state = model.state_dict()
    if dtype is not None:
        model.config.dtype = DTYPES[dtype]
        state = {name: value.to(DTYPES[dtype]) for name, value in state.items()}
        if model.config.tie_word_embeddings:
            del state[_HEAD]
    try:
        model.save_pretrained(directory, state_dict=state, max_shard_size=max_shard_size)
    finally:
        model.config.dtype = before
    tokenizer.save(directory)
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    ids["pad_token_id"] = tokenizer.pad_id
    _write(directory / GENERATION_FILE, {**ids, **(generation or {})})
    if facts is not None:
        _write(directory / CARD_FILE, {**facts, "sha256": hash_weights(find_weights(directory))})
    return directory


def _write(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
