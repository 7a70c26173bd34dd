"""CXR-LLaVA as a `Reader`: typed handles to its parts, and its own engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from transformers import LlamaModel

from workbench.backends.reader import ImageTokens, Pixels, Reader
from workbench.generation.responder import parts_of
from workbench.model.card import ModelCard
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.load import LoadedCheckpoint
from workbench.model.vision import VisionTower
from workbench.radiograph import FitGeometry, InputContract, Radiograph
from workbench.reports.boxes import Processed


class CxrLlavaReader(Reader):
    """A loaded CXR-LLaVA checkpoint, open to analyses; see `Reader` for what it offers them.

    Args:
        loaded: what `workbench.model.load.load_checkpoint` returned: model, tokenizer, processor,
            card.
    """

    patchwise = True

    def __init__(self, loaded: LoadedCheckpoint) -> None:
        super().__init__(*parts_of(loaded))
        self.loaded, self.card, self.processor = loaded, loaded.card, loaded.processor
        source = "mini" if self.card.name == "mini" else str(loaded.directory)
        self.origin = source, loaded.placement.options

    def under(self, card: ModelCard) -> Self:
        found = type(self)(replace(self.loaded, card=card))
        found.prompts = self.prompts
        return found

    @property
    def network(self) -> CxrLlavaForConditionalGeneration:
        return self.engine.model

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

    def contract(self, image: Radiograph) -> InputContract:
        return image.contract

    def processed(self, image: Radiograph) -> Processed:
        frame = self.geometry(image)
        return Processed(frame, (frame.size, frame.size))

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

    def image_rows(self, pixels: Pixels) -> Float[torch.Tensor, "N D"]:
        return self.network.encode_image(pixels)[0]

    def last_states(
        self, pixels: Pixels, prompt_ids: Sequence[int], tokens: Sequence[int] = ()
    ) -> Float[torch.Tensor, "T D"]:
        device = self.decoder.embed_tokens.weight.device
        ids = torch.tensor([[*prompt_ids, *tokens]], device=device)
        embeds = self.network.splice(ids, self.network.encode_image(pixels).to(device))
        return self.decoder(inputs_embeds=embeds, use_cache=False).last_hidden_state[0]
