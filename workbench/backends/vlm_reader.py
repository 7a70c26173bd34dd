"""Any image-text-to-text model of transformers as a `Reader`, and how one is loaded.

Decoding goes through the loop of `workbench.generation.engine`, row after row, with the network's
own cache; the part of a prompt up to its image is computed once for several questions where that
gives the same logits, which is tried once for each model.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from workbench.backends.checks import check
from workbench.backends.families import TESTED
from workbench.backends.placing import Placement as ImagePlacement
from workbench.backends.placing import View
from workbench.backends.reader import ImageTokens, OwnPixels, Reader, Sizes, placement_options
from workbench.backends.transformers_vlm import Vlm
from workbench.backends.vlm_engine import VlmEngine, VlmResponder, VlmTokenizer
from workbench.backends.vlm_processor import load_processor, template_name
from workbench.errors import CheckpointError, InputError, OptionError, WorkbenchError
from workbench.generation.options import ContextBudget
from workbench.generation.responder import end_ids, identity_of
from workbench.model.card import CARD_FILE, ModelCard
from workbench.model.licence import say_once
from workbench.model.load import SLOW_BYTES, quantisation_config, quiet_loading
from workbench.model.placement import INT8, PartSizes, Placement, find_hardware, place
from workbench.model.prompt import Message
from workbench.model.source import CheckpointSource, terms_for
from workbench.model.weights import find_weights, hash_weights, read_object
from workbench.radiograph import FitGeometry, Radiograph

logger = logging.getLogger(__name__)

#: Side of the square that stands for models that take any size, pixels.
_SIDE = 512


class VlmReader(Reader):
    """A checkpoint of any family of transformers, open to analyses; see `Reader`.

    Attributes:
        vlm: the network with its processor.
        responder: decodes.
    """

    def __init__(self, vlm: Vlm, card: ModelCard, placement: Placement) -> None:
        self.vlm = vlm
        self._card, self._placed = card, placement
        config = vlm.network.config
        tokenizer = VlmTokenizer(vlm.tokenizer)
        context = int(config.get_text_config().max_position_embeddings)
        ends = end_ids(cast(Any, vlm.network).generation_config.to_dict())
        engine = VlmEngine(vlm, end_ids={tokenizer.eos_id, *ends})
        budget, identity = ContextBudget(context, 1, context), identity_of(card, placement)
        self.responder = VlmResponder(engine, cast(Any, tokenizer), budget, identity)

    @property
    def card(self) -> ModelCard:
        return self._card

    @property
    def processor(self) -> Any:
        return OwnPixels(self.card.image_size)

    @property
    def origin(self) -> tuple[str, dict[str, Any]]:
        return str(self.network.config.name_or_path), placement_options(self._placed)

    @property
    def sizes(self) -> Sizes:
        text, seen = self.decoder.config, self.network.config.vision_config
        names = ("num_hidden_layers", "depth"), ("num_attention_heads", "num_heads")
        layers, heads = (
            next(int(getattr(seen, n)) for n in two if hasattr(seen, n)) for two in names
        )
        side = self.card.image_size
        return Sizes(
            layers=text.num_hidden_layers, heads=text.num_attention_heads,
            vocabulary=text.vocab_size, vision_layers=layers, vision_heads=heads,
            image=side, patch=self.card.patch_size,
        )  # fmt: skip

    @property
    def network(self) -> PreTrainedModel:
        return self.vlm.network

    @property
    def vision(self) -> PreTrainedModel:
        return cast(PreTrainedModel, self.network.get_encoder("image"))

    @property
    def projector(self) -> nn.Module:
        others = self.vision, self.decoder
        return nn.ModuleList(p for p in self.network.base_model.children() if p not in others)

    @property
    def decoder(self) -> PreTrainedModel:
        return self.vlm.decoder

    @property
    def head(self) -> nn.Linear:
        return self.vlm.head

    def geometry(self, image: Radiograph) -> FitGeometry:
        return self._placement(image).geometry

    def image_tokens(self, image: Radiograph, prompt_ids: Sequence[int]) -> ImageTokens:
        placed = self._placement(image)
        ids = np.array(prompt_ids)
        tokens = np.flatnonzero(ids == self.vlm.image_id)
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
            before, image_at, behind, placed.grid, placed.geometry, words, None if plain else shares
        )

    def last_states(
        self, pixels: Float[torch.Tensor, "1 1 H W"], prompt_ids: Sequence[int]
    ) -> Float[torch.Tensor, "T D"]:
        return self.vlm.last_states(self.vlm.inputs(pixels).values, prompt_ids)

    def read_out(self, states: Float[torch.Tensor, "n D"]) -> Float[torch.Tensor, "n V"]:
        return self.vlm.read_out(states)

    def view(self, pixels: Float[torch.Tensor, "1 1 H W"]) -> View:
        values, placed = self.vlm.inputs(pixels).values, self.vlm.placement(pixels)
        return View(values, placed, pixels[0, 0].numpy(), self.vlm.logits)

    def _placement(self, image: Radiograph) -> ImagePlacement:
        return self.vlm.placement(self.processor(image)[None])

    def prompt_ids(
        self, messages: Sequence[Message], pixels: Float[torch.Tensor, "1 1 H W"]
    ) -> tuple[int, ...]:
        return self.vlm.prepare(pixels, messages)[1]

    def image_rows(self, pixels: Float[torch.Tensor, "1 1 H W"]) -> Float[torch.Tensor, "N D"]:
        ids = self.vlm.plain_ids(pixels)
        rows = self.vlm.embeddings(self.vlm.inputs(pixels).values, ids)[0]
        return rows[torch.tensor(ids, device=rows.device) == self.vlm.image_id]


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
) -> tuple[Vlm, ModelCard, Placement]:
    """Load a checkpoint of any image-text-to-text family of transformers.

    No remote code, safetensors only. A family that the project's tests do not know has to pass
    `workbench.backends.checks` first.

    Raises:
        CheckpointError: transformers does not know the family, weights are missing, or a check
            fails.
        DeviceError, OptionError: see `workbench.load_model`.
    """
    config = AutoConfig.from_pretrained(
        found.directory, local_files_only=True, trust_remote_code=False
    )
    if "auto_map" in read_object(found.directory / "config.json"):
        logger.warning("%s names code of its own, which is not run", found.name)
    weights = find_weights(found.directory)
    sha256s = hash_weights(weights)
    with torch.device("meta"):
        sizes = _measure(AutoModelForImageTextToText.from_config(config))
    if quantize == INT8:
        raise OptionError("quantize='int8' is CXR-LLaVA's own; give '8bit' or '4bit', or leave it")
    placement = place(sizes, find_hardware(), device=device, dtype=dtype, quantize=quantize)
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    with quiet_loading(sum(path.stat().st_size for path in weights.files) < SLOW_BYTES):
        opened: Any = AutoModelForImageTextToText.from_pretrained(
            found.directory, dtype=placement.dtype, local_files_only=True, use_safetensors=True,
            trust_remote_code=False, output_loading_info=True,
            device_map=None if placement.device == "cpu" else placement.device,
            quantization_config=quantisation_config(placement),
            attn_implementation="eager" if capped else None,
        )  # fmt: skip
    network, report = opened
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{found.name} lacks {len(missing)} weights that its config.json asks for, such as "
            f"{missing[0]}; copy the whole checkpoint"
        )
    try:
        vlm = Vlm(network.eval().requires_grad_(False), load_processor(found.directory))
        card = _card(found, vlm, sizes, sha256s, placement)
    except WorkbenchError:
        raise
    except Exception as error:  # of the processor, which may raise anything
        raise CheckpointError(
            f"a model of type {config.model_type!r} cannot be opened: a prompt about a picture "
            f"cannot be made ({type(error).__name__}: {error})"
        ) from error
    if verify and config.model_type not in TESTED:
        check(vlm).need()
    return vlm, card, placement


def _measure(network: PreTrainedModel) -> PartSizes:
    vision, decoder = network.get_encoder("image"), network.get_decoder()
    counts = [sum(p.numel() for p in part.parameters()) for part in (network, vision, decoder)]
    head = cast(nn.Linear, network.get_output_embeddings()).weight
    tied = head is network.get_input_embeddings().weight
    own_head = 0 if tied else head.numel()
    linear = [m.weight.numel() for m in decoder.modules() if isinstance(m, nn.Linear)]
    return PartSizes(
        counts[1], counts[0] - counts[1] - counts[2] - own_head, counts[2], own_head,
        sum(linear), max(linear, default=0),
    )  # fmt: skip


def _card(
    found: CheckpointSource,
    vlm: Vlm,
    sizes: PartSizes,
    sha256s: Mapping[str, str],
    placement: Placement,
) -> ModelCard:
    config = vlm.network.config
    text, seen = config.get_text_config(), config.vision_config
    facts = read_object(found.directory / CARD_FILE)
    terms = terms_for(found, facts)
    say_once(found.name, terms.notice, terms.licence)
    side = getattr(seen, "image_size", None)
    side = int(side[0]) if isinstance(side, (list, tuple)) else int(side or _SIDE)
    patch = seen.patch_size
    patch = int(patch[0]) if isinstance(patch, (list, tuple)) else int(patch)
    tokens = vlm.plain_ids(torch.zeros(1, 1, side, side)).count(vlm.image_id)
    context = int(text.max_position_embeddings)
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return ModelCard(
        name=str(facts.get("name", found.name)), revision=found.revision, sha256s=dict(sha256s),
        licence=terms.licence, notice=terms.notice, domain=terms.domain,
        parameters=sizes.parts(), memory=sizes.memory(),
        context_length=context, image_tokens=tokens, text_tokens=context - tokens,
        image_size=side, patch_size=patch,
        cache_bytes=4 * text.num_hidden_layers * text.num_key_value_heads * width,
        template=template_name(vlm.processor), facts=facts, placement=placement.stated,
    )  # fmt: skip
