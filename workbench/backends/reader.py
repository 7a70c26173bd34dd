"""`Reader`: a model whose inside can be read. Analyses ask for this and name no network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import nn
from transformers import PreTrainedModel

from workbench._repr import short_repr
from workbench.backends.families import WITHOUT_ATTENTION
from workbench.backends.placing import View
from workbench.errors import OptionError
from workbench.generation.engine import Request
from workbench.generation.responder import Job, Responder
from workbench.generation.result import Generation
from workbench.model.card import ModelCard
from workbench.model.placement import device_of
from workbench.model.processor import ImageProcessor
from workbench.model.prompt import Message
from workbench.radiograph import FitGeometry, InputContract, Radiograph
from workbench.reports.boxes import BoxConvention, Processed

#: An image as a model takes it: what its `processor` returns for a radiograph, with an axis in
#: front, float32. Of CXR-LLaVA that is the square that it sees, normalised; of other models the
#: radiograph's own pixels in [0, 1], which then go through the checkpoint's own processor.
Pixels = Float[torch.Tensor, "1 1 H W"]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model.

    Attributes:
        layers, heads: of the decoder.
        attending: numbers of its layers that have attention; others are recurrent, say.
        vocabulary: tokens that the head tells apart.
    """

    layers: int
    attending: tuple[int, ...]
    heads: int
    vocabulary: int


@dataclass(frozen=True, eq=False)
class ImageTokens:
    """Where the tokens of one image stand in a prompt, and where they lie in the image.

    Attributes:
        before, image, behind: positions of the sequence: text in front of the image (and marks
            inside it that see no part of it), image tokens, text behind it up to its end.
        grid: rows and columns of the cells that maps are made of.
        geometry: how the original lies under the grid.
        shares: (image tokens, cells) float32, how each token is spread over the cells; rows sum to
            1. None where token n is cell n.
        words: ids of the text at `before` and at `behind`.
        blind: those of `before` that are image tokens too, but see no part of it (padding).
    """

    before: np.ndarray
    image: np.ndarray
    behind: np.ndarray
    grid: tuple[int, int]
    geometry: FitGeometry
    words: tuple[tuple[int, ...], tuple[int, ...]]
    shares: np.ndarray | None = None
    blind: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    __repr__ = short_repr

    def to_cells(self, values: torch.Tensor) -> torch.Tensor:
        """Return (..., cells) from values of image tokens (..., N); their sum stays."""
        if self.shares is None:
            return values
        return values @ torch.from_numpy(self.shares).to(values)

    def fold(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (..., before + cells + behind and later) from rows over positions (..., T).

        Sums stay. Positions beyond the prompt follow in their order.
        """
        end = int(self.behind[-1]) + 1
        parts = rows[..., self.before], self.to_cells(rows[..., self.image])
        return torch.cat((*parts, rows[..., self.behind], rows[..., end:]), -1)


class OwnPixels(ImageProcessor):
    """Radiographs as they are: what such a model's own processor does comes later."""

    #: Middle grey; what a model's training images had in the mean is not known.
    grey = 0.5

    def __init__(self) -> None:
        super().__init__(0, 0.0, 1.0)

    def fitted(self, radiograph: Radiograph, fit: str | None = None) -> np.ndarray:
        """Return the pixels in [0, 1], (H, W) float32; `fit` is the model's own."""
        return np.array(radiograph.pixels, np.float32)


def picture_of(pixels: Pixels) -> Image.Image:
    """Return grey pixels in [0, 1] as an 8-bit picture with three equal channels."""
    grey = np.rint(pixels[0, 0].detach().cpu().numpy().clip(0, 1) * 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


#: First words whose odds are asked for.
YES_NO = "Yes", "No"


class Writer(Responder, ABC):
    """A model that writes texts about images.

    Attributes:
        card: name, hashes, terms, sizes and what the model was trained on.
        processor: radiographs to pixels, and back.
        level: what analyses may ask of it, see `workbench.backends.levels`.
        box_convention: how it writes boxes; None where that is not known.
    """

    card: ModelCard
    processor: ImageProcessor
    level: str = "writer"
    box_convention: BoxConvention | None = None

    def contract(self, image: Radiograph) -> InputContract:
        """Return what is known of an image, and what fitting it to this model costs."""
        return image.contract.fitted_by(float("nan"))  # not known, unless a reader says it

    def processed(self, image: Radiograph) -> Processed | None:
        """Return the picture that the model's processor makes of an image, with its padding."""
        return None  # not known, unless a reader says it

    def word_odds(
        self, pixels: Sequence[torch.Tensor], messages: Sequence[Message]
    ) -> Float[np.ndarray, " images"]:
        """Return log p("Yes") - log p("No"), as the first word of an answer, for each image.

        Raises:
            OptionError: the model tells no log-probabilities.
        """
        _, prompt = self.rendered(messages, pixels[0])
        ids = [self.tokenizer.encode(word, add_bos=False) for word in YES_NO]
        first, second = (self.read_with(pixels, prompt, one).logprobs.sum(1) for one in ids)
        return first - second

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep the model to this thread while something runs on it, where it has to be."""
        return self.engine.exclusive()

    def forget_images(self) -> None:
        """Forget what was kept of recent images."""
        self.engine.prefixes.clear()


class Reader(Writer):
    """A model whose inside can be read: logits, states, attention, gradients to pixels.

    Attributes:
        origin: source and options by which `workbench.load_model` opens the same again.
        network: all weights, as one module.
        vision: the vision tower.
        projector: what stands between vision tower and decoder.
        decoder: the language model without its head.
        head: from states of the decoder (..., H) to logits (..., V).
        patchwise: the vision tower is one stack over a class token and the patches of the whole
            image.
    """

    level = "reader"
    origin: tuple[str, dict[str, object]]
    network: PreTrainedModel
    vision: PreTrainedModel
    projector: nn.Module
    decoder: PreTrainedModel
    head: nn.Linear
    patchwise: bool = False

    @property
    def sizes(self) -> Sizes:
        """Sizes of the decoder and its head."""
        text = self.decoder.config
        kinds = getattr(text, "layer_types", None) or [""] * text.num_hidden_layers
        attending = tuple(n for n, kind in enumerate(kinds) if kind not in WITHOUT_ATTENTION)
        return Sizes(len(kinds), attending, text.num_attention_heads, text.vocab_size)

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end a text when the model writes."""
        return self.engine.end_ids

    @abstractmethod
    def under(self, card: ModelCard) -> Self:
        """Return the same weights under a card, with nothing kept of earlier images and texts."""

    @property
    def pixel_layer(self) -> nn.Module:
        """The layer that turns the pixels of the whole image into its patches.

        Raises:
            OptionError: the vision tower is no one stack over such patches.
        """
        raise OptionError(
            f"{self.identity.id} has no one layer of patches of the whole image to integrate over; "
            "use over='pixels'"
        )

    @abstractmethod
    def geometry(self, image: Radiograph) -> FitGeometry:
        """Return how a radiograph lies under the grid of its maps."""

    @abstractmethod
    def image_tokens(self, image: Radiograph, prompt_ids: Sequence[int]) -> ImageTokens:
        """Return where the tokens of an image stand in a prompt, and lie in the image."""

    def prompt_ids(self, messages: Sequence[Message], pixels: Pixels) -> tuple[int, ...]:
        """Return the ids of a dialogue about an image in the model's chat template.

        Raises:
            InputError: the messages are no dialogue, or hold no image or several.
        """
        return self.rendered(messages, pixels)[1]

    def split(self, prompt_ids: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return prompt ids up to the image and behind it.

        Raises:
            InputError: not exactly one image, or nothing behind it.
        """
        return self.engine.split(prompt_ids)

    @abstractmethod
    def image_rows(self, pixels: Pixels) -> Float[torch.Tensor, "N D"]:
        """Return an image as the rows that stand for it in the decoder's sequence."""

    @abstractmethod
    def last_states(
        self, pixels: Pixels, prompt_ids: Sequence[int], tokens: Sequence[int] = ()
    ) -> Float[torch.Tensor, "T D"]:
        """Run the decoder over a whole prompt and given tokens; return what its head would read."""

    def read_out(self, states: Float[torch.Tensor, "n D"]) -> Float[torch.Tensor, "n V"]:
        """Return the float32 logits of states in front of the head."""
        return self.head(states.to(device_of(self.head))).float()

    def view(self, pixels: Pixels) -> View | None:
        """Return an image as a square whose changes become changes of the network's inputs.

        None where pixels themselves are that square.
        """
        return None

    def prefill(self, pixels: Pixels, prompt_ids: Sequence[int]) -> None:
        """Compute the sequence up to the image, which later calls about this image then reuse."""
        self.engine.prefix(pixels, prompt_ids)

    def force(
        self, pixels: Pixels, prompt_ids: Sequence[int], tokens: Sequence[int]
    ) -> Float[torch.Tensor, "n V"]:
        """Return float32 logits that each of given tokens is chosen from (teacher forcing)."""
        return self.engine.force(pixels, prompt_ids, tokens)

    def write_again(self, pixels: Pixels, made: Generation) -> Generation:
        """Write to the prompt of a text once more, with the same settings, about given pixels."""
        request = Request(pixels, made.prompt_ids, made.settings)
        job = Job(request, made.prompt, made.task, made.source, made.warnings)
        return self.answer(job)

    def other_weights(self) -> AbstractContextManager[None]:
        """Keep what was computed apart while other weights, or changed ones, are in their place."""
        return self.engine.set_aside()
