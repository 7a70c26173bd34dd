"""CXR-LLaVA as a `Reader`: typed handles to its parts, teacher forcing, and its decoding."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float
from torch import nn
from transformers import LlamaModel

from workbench.backends.reader import Reader, Sizes
from workbench.generation.engine import Guide
from workbench.generation.options import DecodingSettings
from workbench.generation.responder import Job, Reading, Responder
from workbench.generation.result import Generation, ModelIdentity
from workbench.generation.stream import TextStream
from workbench.model.card import ModelCard
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.load import LoadedCheckpoint
from workbench.model.processor import ImageProcessor
from workbench.model.prompt import Message, render_chat
from workbench.model.tokenizer import CxrTokenizer
from workbench.model.vision import VisionTower
from workbench.radiograph import FitGeometry, Radiograph


class CxrLlavaReader(Reader):
    """A loaded CXR-LLaVA checkpoint, open to analyses; see `Reader` for what it offers them.

    Args:
        loaded: what `workbench.model.load.load_checkpoint` returned: model, tokenizer, processor,
            card.

    Attributes:
        responder: decodes.
    """

    def __init__(self, loaded: LoadedCheckpoint) -> None:
        self.loaded = loaded
        self.responder = Responder.for_checkpoint(loaded)

    @property
    def card(self) -> ModelCard:
        return self.loaded.card

    @property
    def identity(self) -> ModelIdentity:
        return self.responder.identity

    @property
    def tokenizer(self) -> CxrTokenizer:
        return self.loaded.tokenizer

    @property
    def processor(self) -> ImageProcessor:
        return self.loaded.processor

    @property
    def sizes(self) -> Sizes:
        vision, text = self.vision.config, self.decoder.config
        return Sizes(
            layers=text.num_hidden_layers,
            heads=text.num_attention_heads,
            vocabulary=text.vocab_size,
            vision_layers=vision.layers,
            vision_heads=vision.heads,
            image=vision.image_size,
            patch=vision.patch_size,
            grid=(vision.grid, vision.grid),
        )

    @property
    def network(self) -> CxrLlavaForConditionalGeneration:
        return self.responder.engine.model

    @property
    def vision(self) -> VisionTower:
        return self.network.vision

    @property
    def pixel_layer(self) -> nn.Conv2d:
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

    def exclusive(self) -> AbstractContextManager[None]:
        return self.responder.engine.exclusive()

    def geometry(self, image: Radiograph) -> FitGeometry:
        return self.processor.geometry(image)

    def split(self, prompt_ids: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.responder.engine.split(prompt_ids)

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the ids of a dialogue in the model's chat template.

        Raises:
            InputError: the messages are no dialogue, or hold no image or several.
        """
        return tuple(self.tokenizer.encode_prompt(render_chat(messages)))

    def prefill(self, pixels: torch.Tensor, prompt_ids: Sequence[int]) -> None:
        self.responder.engine.prefix(pixels, prompt_ids)

    def force(
        self, pixels: torch.Tensor, prompt_ids: Sequence[int], tokens: Sequence[int]
    ) -> Float[torch.Tensor, "n V"]:
        return self.responder.engine.force(pixels, prompt_ids, tokens)

    def read_with(
        self,
        pixels: Sequence[torch.Tensor],
        prompt_ids: Sequence[int],
        tokens: Sequence[int],
        *,
        batch_size: int = 16,
    ) -> Reading:
        return self.responder.read_with(pixels, prompt_ids, tokens, batch_size=batch_size)

    def job(
        self,
        pixels: torch.Tensor,
        messages: Sequence[Message],
        settings: DecodingSettings,
        *,
        task: str,
        source: str,
    ) -> Job:
        """Prepare one answer about given pixels; see `Responder.job`."""
        return self.responder.job(pixels, messages, settings, task=task, source=source)

    def answer_batch(self, jobs: Sequence[Job], *, guide: Guide | None = None) -> list[Generation]:
        """Write several answers together; see `Responder.answer_batch`."""
        return self.responder.answer_batch(jobs, guide=guide)

    def answer_image_by_image(self, jobs: Sequence[Job]) -> list[Generation]:
        """Write answers in one batch, each image computed alone; see `Responder`."""
        return self.responder.answer_image_by_image(jobs)

    def stream(self, job: Job) -> TextStream:
        """Write one answer piece by piece."""
        return self.responder.stream(job)

    def forget_images(self) -> None:
        """Forget the keys and values of recent images."""
        self.responder.engine.prefixes.clear()

    def other_weights(self) -> AbstractContextManager[None]:
        return self.responder.engine.prefixes.set_aside()
