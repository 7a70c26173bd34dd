"""CXR-LLaVA as a `Reader`: typed handles to its parts, and its own engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from transformers import LlamaModel

from workbench.backends.reader import ImageTokens, Reader, Sizes, placement_options
from workbench.generation.responder import Responder
from workbench.model.card import ModelCard
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.load import LoadedCheckpoint
from workbench.model.processor import ImageProcessor
from workbench.model.prompt import Message, render_chat
from workbench.model.vision import VisionTower
from workbench.radiograph import FitGeometry, Radiograph


class CxrLlavaReader(Reader):
    """A loaded CXR-LLaVA checkpoint, open to analyses; see `Reader` for what it offers them.

    Args:
        loaded: what `workbench.model.load.load_checkpoint` returned: model, tokenizer, processor,
            card.
    """

    patchwise = True

    def __init__(self, loaded: LoadedCheckpoint) -> None:
        self.loaded = loaded
        self.responder = Responder.for_checkpoint(loaded)

    @property
    def card(self) -> ModelCard:
        return self.loaded.card

    @property
    def processor(self) -> ImageProcessor:
        return self.loaded.processor

    @property
    def origin(self) -> tuple[str, dict[str, Any]]:
        source = "mini" if self.card.name == "mini" else str(self.loaded.directory)
        return source, placement_options(self.loaded.placement)

    @property
    def sizes(self) -> Sizes:
        vision, text = self.vision.config, self.decoder.config
        return Sizes(
            layers=text.num_hidden_layers, heads=text.num_attention_heads,
            vocabulary=text.vocab_size, vision_layers=vision.layers, vision_heads=vision.heads,
            image=vision.image_size, patch=vision.patch_size,
        )  # fmt: skip

    @property
    def network(self) -> CxrLlavaForConditionalGeneration:
        return self.responder.engine.model

    @property
    def vision(self) -> VisionTower:
        return self.network.vision

    @property
    def pixel_layer(self) -> nn.Conv2d:
        """The layer of the vision tower that reads the pixels."""
        return self.vision.conv1

    @property
    def projector(self) -> nn.Linear:
        return self.network.projector

    @property
    def decoder(self) -> LlamaModel:
        return self.network.decoder

    @property
    def head(self) -> nn.Linear:
        return self.network.head

    def geometry(self, image: Radiograph) -> FitGeometry:
        return self.processor.geometry(image)

    def image_tokens(self, image: Radiograph, prompt_ids: Sequence[int]) -> ImageTokens:
        head, tail = self.split(prompt_ids)
        side = self.vision.config.grid
        places = np.arange(len(head) - 1 + side**2 + len(tail))
        start, stop = len(head) - 1, len(head) - 1 + side**2
        return ImageTokens(
            places[:start], places[start:stop], places[stop:], (side, side), self.geometry(image),
            words=(head[:-1], tail),
        )  # fmt: skip

    def prompt_ids(
        self, messages: Sequence[Message], pixels: Float[torch.Tensor, "1 1 H W"] | None = None
    ) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode_prompt(render_chat(messages)))

    def image_rows(self, pixels: Float[torch.Tensor, "1 1 S S"]) -> Float[torch.Tensor, "N D"]:
        return self.network.encode_image(pixels)[0]

    def last_states(
        self, pixels: Float[torch.Tensor, "1 1 S S"], prompt_ids: Sequence[int]
    ) -> Float[torch.Tensor, "T D"]:
        device = self.decoder.embed_tokens.weight.device
        ids = torch.tensor([list(prompt_ids)], device=device)
        embeds = self.network.splice(ids, self.network.encode_image(pixels).to(device))
        return self.decoder(inputs_embeds=embeds, use_cache=False).last_hidden_state[0]
