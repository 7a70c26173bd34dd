"""`Reader`: a model whose inside can be read. Analyses ask for this and name no network."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import nn
from transformers import PreTrainedModel

from workbench.generation.responder import Reading
from workbench.generation.result import ModelIdentity
from workbench.model.card import ModelCard
from workbench.model.processor import ImageProcessor
from workbench.model.tokenizer import CxrTokenizer
from workbench.radiograph import FitGeometry, Radiograph


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model.

    Attributes:
        layers, heads: of the decoder.
        vocabulary: tokens that the head tells apart.
        image, patch: sides of the square that the model sees and of a patch, pixels.
        grid: rows and columns of image tokens.
    """

    layers: int
    heads: int
    vocabulary: int
    vision_layers: int
    vision_heads: int
    image: int
    patch: int
    grid: tuple[int, int]


class Reader(Protocol):
    """A model whose inside can be read: logits, states, attention, gradients to pixels.

    Images are the pixels that the model sees: (1, 1, S, S) float32, normalised.
    """

    @property
    def card(self) -> ModelCard:
        """Name, hashes, terms, sizes and what the model was trained on."""
        ...

    @property
    def identity(self) -> ModelIdentity:
        """Which weights these are, and where and in which dtype they compute."""
        ...

    @property
    def tokenizer(self) -> CxrTokenizer:
        """Text to token ids and back."""
        ...

    @property
    def processor(self) -> ImageProcessor:
        """Radiographs to pixels, and the geometry of that."""
        ...

    @property
    def sizes(self) -> Sizes:
        """Layers, heads, vocabulary, patch grid."""
        ...

    @property
    def network(self) -> PreTrainedModel:
        """All weights, as one module."""
        ...

    @property
    def vision(self) -> PreTrainedModel:
        """The vision tower: (B, 1, S, S) pixels to (B, N, W) tokens."""
        ...

    @property
    def pixel_layer(self) -> nn.Conv2d:
        """The layer of the vision tower that reads the pixels."""
        ...

    @property
    def projector(self) -> nn.Module:
        """From vision tokens (B, N, W) to rows of the decoder's sequence (B, N, H)."""
        ...

    @property
    def decoder(self) -> PreTrainedModel:
        """The language model without its head."""
        ...

    @property
    def head(self) -> nn.Linear:
        """From states of the decoder (..., H) to logits (..., V)."""
        ...

    def other_weights(self) -> AbstractContextManager[None]:
        """Keep what was computed with these weights apart while others are in their place."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep the model to this thread while something runs on it."""
        ...

    def geometry(self, image: Radiograph) -> FitGeometry:
        """Return where each pixel that the model sees lies in a radiograph."""
        ...

    def split(self, prompt_ids: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the ids up to and including the image's placeholder, and the rest.

        Raises:
            InputError: there is not exactly one placeholder, or nothing behind it.
        """
        ...

    def prefill(self, pixels: torch.Tensor, prompt_ids: Sequence[int]) -> None:
        """Compute the sequence up to the image, which later calls about this image then reuse."""
        ...

    def force(
        self, pixels: torch.Tensor, prompt_ids: Sequence[int], tokens: Sequence[int]
    ) -> Float[torch.Tensor, "n V"]:
        """Let the model read given tokens as if it had chosen them (teacher forcing).

        Returns:
            (n, V) float32 logits that each of the tokens was, or would have been, chosen from.
        """
        ...

    def read_with(
        self,
        pixels: Sequence[torch.Tensor],
        prompt_ids: Sequence[int],
        tokens: Sequence[int],
        *,
        batch_size: int = 16,
    ) -> Reading:
        """Read the same tokens with each of several images; see `Responder.read_with`."""
        ...
