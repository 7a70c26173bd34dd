"""Any image-text-to-text model of transformers as a `Reader`: loaded, described, planned for.

`plan` takes CXR-LLaVA too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any, Self, cast

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel, ProcessorMixin
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from workbench.backends.checks import check, need_all
from workbench.backends.families import TESTED
from workbench.backends.placing import View
from workbench.backends.reader import ImageTokens, OwnPixels, Pixels, Reader
from workbench.backends.transformers_vlm import Vlm
from workbench.backends.vlm_engine import VlmEngine, VlmTokenizer
from workbench.backends.vlm_processor import load_processor, template_name
from workbench.errors import CheckpointError, InputError, MissingDependencyError, OptionError
from workbench.generation.options import ContextBudget, end_ids
from workbench.generation.result import ModelIdentity
from workbench.model.card import CARD_FILE, ModelCard, config_of, describe
from workbench.model.costs import Asked
from workbench.model.licence import say_once
from workbench.model.load import quantisation_config, quiet_loading
from workbench.model.parts import projector_of
from workbench.model.placement import INT8, Placement, find_hardware, place
from workbench.model.plan import Plan, make_plan
from workbench.model.prompt import Message
from workbench.model.sizes import Shape, empty_model, image_side
from workbench.model.source import CheckpointSource, find_local
from workbench.model.weights import find_weights, hash_weights, read_object
from workbench.radiograph import FitGeometry, InputContract, Radiograph
from workbench.reports.boxes import Processed

logger = logging.getLogger(__name__)


class VlmReader(Vlm, Reader):
    """A checkpoint of any family of transformers, open to analyses; see `Reader` and `Vlm`."""

    resumes = False

    def __init__(
        self,
        network: PreTrainedModel,
        own_processor: ProcessorMixin,
        card: ModelCard,
        placement: Placement,
    ) -> None:
        Vlm.__init__(self, network, own_processor)
        self.card, self.processor, self._placed = card, OwnPixels(), placement
        self.origin = str(network.config.name_or_path), placement.options
        self.vision = cast(PreTrainedModel, cast(Any, network).get_encoder("image"))
        self.projector = projector_of(network)
        tokenizer = VlmTokenizer(cast(Any, own_processor).tokenizer)
        ends = end_ids(cast(Any, network).generation_config.to_dict())
        engine = VlmEngine(self, end_ids={tokenizer.eos_id, *ends})
        budget = ContextBudget(card.context_length, 1, card.context_length)
        identity = ModelIdentity.of(card, placement)
        Reader.__init__(self, engine, cast(Any, tokenizer), budget, identity)
        self.template = template_name(own_processor)

    def under(self, card: ModelCard) -> Self:
        found = type(self)(self.network, self.own_processor, card, self._placed)
        found.prompts = self.prompts
        return found

    def rendered(self, messages: Sequence[Message], pixels: Pixels) -> tuple[str, tuple[int, ...]]:
        return self.prepare(pixels, messages)

    def contract(self, image: Radiograph) -> InputContract:
        return image.contract.fitted_by(*self.fit(image.size))

    def processed(self, image: Radiograph) -> Processed:
        return self._pictures(image.size)

    def geometry(self, image: Radiograph) -> FitGeometry:
        return self.placement(self.processor(image)[None]).geometry

    def image_tokens(self, image: Radiograph, prompt_ids: Sequence[int]) -> ImageTokens:
        placed = self.placement(self.processor(image)[None])
        ids = np.array(prompt_ids)
        tokens = np.flatnonzero(ids == self.image_id)
        seeing = placed.shares.sum(1) > 0
        if len(tokens) != len(seeing):
            raise InputError(
                f"the prompt holds {len(tokens)} image tokens, this image has {len(seeing)}; use "
                "the image that the text was written about"
            )
        image_at = tokens[seeing]
        within = np.arange(int(tokens[-1]) + 1)
        shares = placed.shares[seeing]
        plain = shares.shape[0] == shares.shape[1] and np.array_equal(shares, np.eye(len(shares)))
        before, behind = np.setdiff1d(within, image_at), np.arange(len(within), len(ids))
        words = tuple(ids[before].tolist()), tuple(ids[behind].tolist())
        return ImageTokens(
            before, image_at, behind, placed.grid, placed.geometry, words,
            None if plain else shares, tokens[~seeing],
        )  # fmt: skip

    def view(self, pixels: Pixels) -> View:
        placed = self.placement(pixels)
        return View(self.inputs(pixels), placed, pixels[0, 0].numpy(), self.logits)


def is_vlm(directory: Path) -> bool:
    """Tell whether a checkpoint is of an image-text-to-text family of transformers."""
    kind = read_object(directory / "config.json").get("model_type")
    return kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


def load_vlm(
    found: CheckpointSource,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    quantize: str | None = None,
    verify: bool = True,
) -> tuple[PreTrainedModel, ProcessorMixin, ModelCard, Placement]:
    """Load a checkpoint of any image-text-to-text family of transformers.

    No remote code, safetensors only. What the project's tests do not know, a family or its
    decoder or vision tower, has to pass `workbench.backends.checks` first.

    Raises:
        CheckpointError: transformers does not know the family, weights are missing, or a check
            fails.
        DeviceError, OptionError: see `workbench.load_model`.
    """
    if quantize == INT8:
        raise OptionError("quantize='int8' is CXR-LLaVA's own; give '8bit' or '4bit', or leave it")
    if "auto_map" in read_object(found.directory / "config.json"):
        logger.warning("%s names code of its own, which is not run", found.name)
    empty, shape = open_empty(found.directory)
    config = empty.network.config
    placement = place(shape.sizes, find_hardware(), device=device, dtype=dtype, quantize=quantize)
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    with quiet_loading(find_weights(found.directory)):
        opened: Any = AutoModelForImageTextToText.from_pretrained(
            found.directory, dtype=placement.dtype, local_files_only=True, use_safetensors=True,
            trust_remote_code=False, output_loading_info=True,
            device_map=placement.device_map,
            quantization_config=quantisation_config(placement),
            attn_implementation="eager" if capped else None,
            ignore_mismatched_sizes=True,  # they are refused below
        )  # fmt: skip
    network, report = opened
    misshapen = sorted(report["mismatched_keys"])
    if misshapen:
        name, there, asked = misshapen[0]
        raise CheckpointError(
            f"{found.name} holds {len(misshapen)} weights of another shape than its config.json "
            f"asks for, such as {name}: {tuple(there)} instead of {tuple(asked)}; copy both again"
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{found.name} lacks {len(missing)} weights that its config.json asks for, such as "
            f"{missing[0]}; copy the whole checkpoint"
        )
    network.eval().requires_grad_(False)
    card = replace(card_of_vlm(found, empty, shape), placement=placement.stated)
    say_once(found.name, card.notice, card.licence)
    parts = config.get_text_config().model_type, config.vision_config.model_type
    if verify and TESTED.get(config.model_type) != parts:
        need_all(check(Vlm(network, empty.own_processor)))
    return network, empty.own_processor, card, placement


def open_empty(directory: Path) -> tuple[Vlm, Shape]:
    """Open a checkpoint without its weights, and return its sizes.

    Raises:
        CheckpointError: see `load_vlm`.
    """
    kind = read_object(directory / "config.json").get("model_type")
    with _plainly(kind, "its config.json does not describe a network with a vision tower"):
        config = AutoConfig.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
        network, side = empty_model(config), image_side(config)
    with _plainly(kind, "a prompt about a picture cannot be made"):
        vlm = Vlm(network, load_processor(directory))
        tokens = vlm.tokens_of(side)
    with _plainly(kind, "its parts are not where those of others are"):
        return vlm, Shape.of(network, tokens)


@contextmanager
def _plainly(kind: object, what: str) -> Iterator[None]:
    """Say in one sentence what a block of transformers, which may raise anything, raised."""
    try:
        yield
    except (CheckpointError, MissingDependencyError):
        raise
    except Exception as error:
        told = shorten(f"{type(error).__name__}: {error}", 250, placeholder=" ...")
        raise CheckpointError(
            f"a model of type {kind!r} cannot be opened: {what} ({told})"
        ) from error


def card_of_vlm(found: CheckpointSource, vlm: Vlm, shape: Shape) -> ModelCard:
    """Describe a checkpoint that `open_empty` opened; its weights are only hashed."""
    return describe(
        shape, found, facts=read_object(found.directory / CARD_FILE),
        sha256s=hash_weights(find_weights(found.directory)),
        template=template_name(vlm.own_processor),
    )  # fmt: skip


def plan(
    source: str | os.PathLike = "mini",
    tasks: str | Sequence[str] | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    quantize: str | None = None,
    batch_size: int = 8,
    new_tokens: int = 128,
) -> Plan:
    """Predict memory and time of tasks of a model on this machine, before anything is loaded.

    Args:
        source: "mini", a directory or its config.json, or a hub id that is on this machine; of
            "ECOFRI/CXR-LLAVA-v2" the sizes are known without its files.
        tasks: some of `workbench.model.costs.TASKS`: "report", "batch", "trace", "grounding", every
            method of `workbench.saliency.METHODS`, "train lora", "train projector"; all when None.
        device, dtype, quantize: as for `load_model`.
        batch_size: reports that are written together.
        new_tokens: tokens of a report, and of the text of a trace and a map.

    Returns:
        Per task bytes and seconds, whether this machine has the memory, and what fits where it has
        not. Nothing of it was measured but the speed of the machine.

    Raises:
        CheckpointError: there is no such checkpoint, or it cannot be read.
        DeviceError: the weights alone do not fit; the message names what does.
        OptionError: a task or an option is unknown.

    >>> [(one.task, one.fits) for one in wb.plan("mini", ["report", "relevancy"]).tasks]
    [('report', True), ('relevancy', True)]
    """
    asked, path = Asked.of(batch_size, new_tokens), os.fspath(source)
    if os.path.basename(path) == "config.json" and os.path.isfile(path):
        path = os.path.dirname(os.path.abspath(path))
    found = find_local(path)
    if found is not None and is_vlm(found.directory):
        _, shape = open_empty(found.directory)
    else:
        config = config_of(path, found)
        shape = Shape.of(empty_model(config), config.image_tokens)
    where = place(shape.sizes, find_hardware(), device=device, dtype=dtype, quantize=quantize)
    name = path if found is None else found.name
    return make_plan(shape, where, name=name, tasks=tasks, asked=asked)
