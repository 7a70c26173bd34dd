"""CXR-LLaVA as a `Reader`: typed handles to its parts, teacher forcing, and its decoding."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float
from torch import nn
from transformers import LlamaModel

from workbench.backends.reader import Sizes
from workbench.generation.engine import Guide
from workbench.generation.options import DecodingSettings
from workbench.generation.responder import Job, Responder
from workbench.generation.result import Generation, ModelIdentity
from workbench.generation.stream import TextStream
from workbench.generation.teacher_forcing import Reading, read_with
from workbench.model.card import ModelCard
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.load import LoadedCheckpoint
from workbench.model.processor import ImageProcessor
from workbench.model.prompt import Message, render_chat
from workbench.model.tokenizer import CxrTokenizer
from workbench.model.vision import VisionTower
from workbench.radiograph import FitGeometry, Radiograph


class CxrLlavaReader:
    """A loaded CXR-LLaVA checkpoint, open to analyses.

    Args:
        loaded: what `workbench.model.load.load_checkpoint` returned.
        prefix_bytes: memory for the keys and values of recent images, so that further questions
            about them start at the question; the newest image is always kept.

    Attributes:
        loaded: model, tokenizer, processor, card.
        responder: decodes.
    """

    def __init__(self, loaded: LoadedCheckpoint, *, prefix_bytes: int = 1 << 30) -> None:
        self.loaded = loaded
        self.responder = Responder.for_checkpoint(loaded, prefix_bytes=prefix_bytes)

    @property
    def card(self) -> ModelCard:
        """Name, hashes, terms, sizes and what the model was trained on."""
        return self.loaded.card

    @property
    def identity(self) -> ModelIdentity:
        """Which weights these are, and where and in which dtype they compute."""
        return self.responder.identity

    @property
    def tokenizer(self) -> CxrTokenizer:
        """Text to token ids and back."""
        return self.loaded.tokenizer

    @property
    def processor(self) -> ImageProcessor:
        """Radiographs to pixels."""
        return self.loaded.processor

    @property
    def sizes(self) -> Sizes:
        """Layers, heads, vocabulary, patch grid."""
        vision, text = self.vision.config, self.decoder.config
        side = vision.image_size // vision.patch_size
        return Sizes(
            layers=text.num_hidden_layers,
            heads=text.num_attention_heads,
            vocabulary=text.vocab_size,
            vision_layers=vision.layers,
            vision_heads=vision.heads,
            image=vision.image_size,
            patch=vision.patch_size,
            grid=(side, side),
        )

    @property
    def network(self) -> CxrLlavaForConditionalGeneration:
        """All weights, as one module."""
        return self.responder.engine.model

    @property
    def vision(self) -> VisionTower:
        """The vision tower: (B, 1, S, S) pixels to (B, N, W) tokens."""
        return self.network.vision

    @property
    def pixel_layer(self) -> nn.Conv2d:
        """The layer of the vision tower that reads the pixels."""
        return self.vision.conv1

    @property
    def projector(self) -> nn.Linear:
        """From vision tokens (B, N, W) to rows of the decoder's sequence (B, N, H)."""
        return self.network.projector

    @property
    def decoder(self) -> LlamaModel:
        """The language model without its head."""
        return self.network.decoder

    @property
    def head(self) -> nn.Linear:
        """From states of the decoder (..., H) to logits (..., V)."""
        return self.network.head

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep the model to this thread while something other than decoding runs on it."""
        return self.responder.engine.exclusive()

    def geometry(self, image: Radiograph) -> FitGeometry:
        """Return where each pixel that the model sees lies in a radiograph."""
        return self.processor.geometry(image)

    def split(self, prompt_ids: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the ids up to and including the image's placeholder, and the rest.

        Raises:
            InputError: there is not exactly one placeholder, or nothing behind it.
        """
        return self.responder.engine.split(prompt_ids)

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the ids of a dialogue in the model's chat template.

        Raises:
            InputError: the messages are no dialogue, or hold no image or several.
        """
        return tuple(self.tokenizer.encode_prompt(render_chat(messages)))

    def prefill(self, pixels: torch.Tensor, prompt_ids: Sequence[int]) -> None:
        """Compute the sequence up to the image, which later calls about this image then reuse."""
        self.responder.engine.prefix(pixels, prompt_ids)

    def force(
        self, pixels: torch.Tensor, prompt_ids: Sequence[int], tokens: Sequence[int]
    ) -> Float[torch.Tensor, "n V"]:
        """Let the model read given tokens as if it had chosen them (teacher forcing).

        Args:
            pixels: (1, 1, S, S) normalised.
            prompt_ids: ids with one placeholder.
            tokens: n >= 1 token ids that follow the prompt.

        Returns:
            (n, V) float32 logits that each of the tokens was, or would have been, chosen from.
        """
        return self.responder.engine.force(pixels, prompt_ids, tokens)

    def read_with(
        self,
        pixels: Sequence[torch.Tensor],
        prompt_ids: Sequence[int],
        tokens: Sequence[int],
        *,
        batch_size: int = 16,
    ) -> Reading:
        """Read the same tokens with each of several images; see `teacher_forcing.read_with`."""
        return read_with(self.responder, pixels, prompt_ids, tokens, batch_size=batch_size)

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

    def images_of_a_block(self) -> AbstractContextManager[None]:
        """Forget, at the end of the block, what was kept of images and how much may be kept."""
        return self.responder.engine.prefixes.borrowed()

    def other_weights(self) -> AbstractContextManager[None]:
        """Keep what was computed with these weights apart while others are in their place."""
        return self.responder.engine.prefixes.set_aside()
