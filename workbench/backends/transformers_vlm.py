"""Any image-text-to-text model of transformers as a reader: inputs, teacher forcing, decoding.

Nothing here names a family: the network's own `forward`, `generate`'s own preparation of a step,
and the checkpoint's own processor and chat template are called. What is not proved by `checks` for
a checkpoint is not taken for granted.

An image is given as the radiograph's own pixels, (1, 1, H, W) float32 in [0, 1]; it becomes an
8-bit picture with three equal channels, and then goes through the checkpoint's processor.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import nn
from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

from workbench._repr import short_repr
from workbench.backends.attending import own_value, watch_attention
from workbench.backends.families import WRITTEN_TOKEN_TYPE
from workbench.backends.placing import Placement, pixel_points, place
from workbench.backends.reader import picture_of
from workbench.backends.vlm_processor import render
from workbench.errors import CheckpointError
from workbench.generation.engine import pixels_sha256
from workbench.model.prompt import IMAGE_MARK, Message

#: Inputs that belong to the text; what else a processor returns belongs to the image.
_OF_TEXT = {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "labels"}
_TYPES = ("token_type_ids", "mm_token_type_ids")

#: Images whose inputs, and sizes whose places, are kept.
_KEPT = 8


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a network gets for one image.

    Attributes:
        values: inputs by name that depend on the image only; "pixel_values" among them.
        size: (rows, columns) of the original.
    """

    values: Mapping[str, torch.Tensor]
    size: tuple[int, int]

    __repr__ = short_repr


class Vlm:
    """A network with its processor.

    Args:
        network: in evaluation mode.
        processor: of the same checkpoint.

    Raises:
        CheckpointError: it has no image token, or its parts are not where transformers has them.
    """

    def __init__(self, network: PreTrainedModel, processor: ProcessorMixin) -> None:
        self.network = network
        self.processor = processor
        self.tokenizer = processor.tokenizer
        config = network.config
        found = (getattr(config, name, None) for name in ("image_token_id", "image_token_index"))
        image = next((number for number in found if number is not None), None)
        if image is None:
            raise CheckpointError(
                f"config.json of type {config.model_type!r} names no image token; expected "
                "image_token_id or image_token_index"
            )
        self.image_id = int(image)
        self.takes = inspect.signature(network.forward).parameters
        self._inputs: OrderedDict[str, Inputs] = OrderedDict()
        self._places: OrderedDict[tuple[int, int], Placement] = OrderedDict()
        self._types = self._token_types()

    @property
    def _steps(self) -> Any:
        """The network, for what `generate` does between its steps, which has no public name."""
        return self.network

    @property
    def device(self) -> torch.device:
        """Where inputs have to be."""
        return cast(torch.device, self.network.get_input_embeddings().weight.device)

    @property
    def decoder(self) -> PreTrainedModel:
        """The language model without its head."""
        return cast(PreTrainedModel, self.network.get_decoder())

    @property
    def head(self) -> nn.Linear:
        """From states of the decoder (..., H) to logits (..., V)."""
        return cast(nn.Linear, self.network.get_output_embeddings())

    def render(self, messages: Sequence[Message]) -> str:
        """Return a dialogue in the checkpoint's own chat template."""
        return render(self.processor, messages)

    def process(self, picture: Image.Image, text: str) -> BatchFeature:
        """Return what the checkpoint's processor makes of a picture and a rendered prompt."""
        bos = self.tokenizer.bos_token
        options = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
        process = cast(Any, self.processor)
        return process(images=[picture], text=[text], return_tensors="pt", **options)

    def prepare(
        self, pixels: Float[torch.Tensor, "1 1 H W"], messages: Sequence[Message]
    ) -> tuple[str, tuple[int, ...]]:
        """Return a prompt as text and as ids, the image token once for each of its positions.

        Raises:
            InputError: the dialogue holds no image or several, or the template does not take it.
        """
        text = self.render(messages)
        made = self.process(picture_of(pixels), text)
        self._keep(pixels, made)
        return text, tuple(made["input_ids"][0].tolist())

    def inputs(self, pixels: Float[torch.Tensor, "1 1 H W"]) -> Inputs:
        """Return what the network gets for an image."""
        known = self._inputs.get(pixels_sha256(pixels))
        return self._keep(pixels, self._plain(picture_of(pixels))) if known is None else known

    def plain_ids(self, pixels: Float[torch.Tensor, "1 1 H W"]) -> list[int]:
        """Return the ids of a shortest prompt about an image."""
        return self._plain(picture_of(pixels))["input_ids"][0].tolist()

    def _plain(self, picture: Image.Image) -> BatchFeature:
        return self.process(picture, self.render([Message("user", f"{IMAGE_MARK}\n.")]))

    def _keep(self, pixels: torch.Tensor, made: BatchFeature) -> Inputs:
        values = {key: value.to(self.device) for key, value in made.items() if key not in _OF_TEXT}
        values["pixel_values"] = values["pixel_values"].to(self.network.dtype)
        found = Inputs(values, (pixels.shape[-2], pixels.shape[-1]))
        self._inputs[pixels_sha256(pixels)] = found
        while len(self._inputs) > _KEPT:
            self._inputs.popitem(last=False)
        return found

    def _token_types(self) -> dict[str, int]:
        """Return the kinds of token types that the processor gives, with that of image tokens."""
        made = self._plain(Image.new("RGB", (64, 64)))
        ids = made["input_ids"][0]
        if "pixel_values" not in made or not (ids == self.image_id).any():
            raise CheckpointError(
                f"the processor of type {self.network.config.model_type!r} puts no image token "
                f"(id {self.image_id}) into a prompt about an image"
            )
        first = int((ids == self.image_id).nonzero()[0])
        return {name: int(made[name][0, first]) for name in _TYPES if name in made}

    def text_inputs(
        self, ids: Sequence[int], *, written: int = 0, batch: int = 1
    ) -> dict[str, torch.Tensor]:
        """Return the inputs that belong to text: (B, T) ids, mask, and token types.

        Args:
            ids: prompt and then `written` tokens that the model wrote.
        """
        row = torch.tensor(list(ids), device=self.device)
        found = {"input_ids": row, "attention_mask": torch.ones_like(row)}
        for name, kind in self._types.items():
            found[name] = torch.where(row == self.image_id, kind, 0)
            if written and name == "token_type_ids":
                found[name][-written:] = WRITTEN_TOKEN_TYPE.get(self.network.config.model_type, 0)
        return {name: value.expand(batch, -1) for name, value in found.items()}

    def logits(
        self,
        inputs: Mapping[str, torch.Tensor],
        ids: Sequence[int],
        tokens: Sequence[int],
        *,
        batch: int = 1,
    ) -> Float[torch.Tensor, "B n V"]:
        """Return the float32 logits that each of n given tokens was, or would be, chosen from.

        One forward pass of the network over prompt and text (teacher forcing); differentiable.

        Args:
            inputs: of `batch` images, by name.
            ids: of the prompt, from `prepare`.
        """
        text = self.text_inputs((*ids, *tokens[:-1]), written=len(tokens) - 1, batch=batch)
        output = self.network(**inputs, **text, use_cache=False, **self._last(len(tokens)))
        return output.logits[:, -len(tokens) :].float()

    def logits_of_several(
        self, images: Sequence[Inputs], ids: Sequence[int], tokens: Sequence[int]
    ) -> Float[torch.Tensor, "B n V"]:
        """Return `logits` of images of one size, whose inputs are stacked, in one forward pass."""
        names = images[0].values
        inputs = {name: torch.cat([image.values[name] for image in images]) for name in names}
        return self.logits(inputs, ids, tokens, batch=len(images))

    def _last(self, count: int) -> dict[str, int]:
        """Return the option that asks for the last logits only, where the network has it."""
        return {"logits_to_keep": count} if "logits_to_keep" in self.takes else {}

    @contextmanager
    def _until_decoder(self, seen: list[torch.Tensor]) -> Iterator[None]:
        """Keep what enters the decoder (B, T, H), and leave the block there."""

        def take(module: nn.Module, args: tuple, options: dict[str, Any]) -> None:
            seen.append(options["inputs_embeds"])
            raise _ReachedDecoder

        hook = self.decoder.register_forward_pre_hook(take, with_kwargs=True)
        try:
            yield
        except _ReachedDecoder:
            pass
        finally:
            hook.remove()

    def embeddings(
        self, inputs: Mapping[str, torch.Tensor], ids: Sequence[int]
    ) -> Float[torch.Tensor, "1 T D"]:
        """Return what enters the decoder for a prompt: words and image tokens; differentiable."""
        seen: list[torch.Tensor] = []
        with self._until_decoder(seen):
            self.network(**inputs, **self.text_inputs(ids), use_cache=False)
        if not seen:
            raise CheckpointError("the decoder was not called with embeddings of the sequence")
        return seen[0]

    def last_states(
        self, inputs: Mapping[str, torch.Tensor], ids: Sequence[int]
    ) -> Float[torch.Tensor, "T D"]:
        """Run the network over a prompt, and return what the decoder gave to its head."""
        seen: list[torch.Tensor] = []
        hook = self.decoder.register_forward_hook(
            lambda module, args, output: seen.append(output.last_hidden_state)
        )
        try:
            self.network(**inputs, **self.text_inputs(ids), use_cache=False)
        finally:
            hook.remove()
        return seen[0][0]

    def read_out(self, states: Float[torch.Tensor, "n D"]) -> Float[torch.Tensor, "n V"]:
        """Return the float32 logits of states, capped where the configuration says so."""
        logits = self.head(states.to(self.head.weight.device)).float()
        cap = getattr(self.network.config.get_text_config(), "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def placement(self, pixels: Float[torch.Tensor, "1 1 H W"]) -> Placement:
        """Return where the image's tokens lie in the original; found once for each size of image.

        Raises:
            CheckpointError: tokens have no place of their own; see `workbench.backends.placing`.
        """
        size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        known = self._places.get(size)
        if known is None:
            known = self._places[size] = self._place(size)
            while len(self._places) > _KEPT:
                self._places.popitem(last=False)
        return known

    def _place(self, size: tuple[int, int]) -> Placement:
        with torch.inference_mode(False), torch.enable_grad():
            return self._found(size)

    def _found(self, size: tuple[int, int]) -> Placement:
        points, gain = pixel_points(lambda picture: self._plain(picture)["pixel_values"], size)
        noise = np.random.default_rng(0).integers(0, 256, size, np.uint8)
        made = self._plain(Image.fromarray(noise).convert("RGB"))
        ids = made["input_ids"][0].tolist()
        where = torch.tensor([n for n, one in enumerate(ids) if one == self.image_id])
        values = {k: v.to(self.device) for k, v in made.items() if k not in _OF_TEXT}

        def features(pixels: torch.Tensor) -> torch.Tensor:
            replaced = {**values, "pixel_values": pixels.to(self.network.dtype)}
            with watch_attention(self, own_value):
                return self.embeddings(replaced, ids)[0, where]

        return place(points, gain, size, features, values["pixel_values"].float())

    def begin(self, inputs: Mapping[str, torch.Tensor], ids: Sequence[int]) -> Sequencing:
        """Read a prompt and keep its keys and values, as `generate` does."""
        text = self.text_inputs(ids)
        row = text.pop("input_ids")
        options: dict[str, Any] = {**inputs, **text, "use_cache": True, **self._last(1)}
        positions = self._steps._prepare_position_ids_for_generation
        options["position_ids"] = positions(row, {**options})
        step = self._steps.prepare_inputs_for_generation(row, is_first_iteration=True, **options)
        return self._stepped(row, options, step)

    def resume(
        self,
        start: Sequencing,
        inputs: Mapping[str, torch.Tensor],
        ids: Sequence[int],
        *,
        written: int = 0,
    ) -> Sequencing:
        """Read what stands behind a start: the rest of a prompt, and `written` tokens of a text.

        The start's cache is used up; logits are those of the last `written` + 1 positions.
        """
        text = self.text_inputs(ids, written=written)
        row = text.pop("input_ids")
        options: dict[str, Any] = {**inputs, **text, "use_cache": True, **self._last(written + 1)}
        positions = self._steps._prepare_position_ids_for_generation
        options["position_ids"] = positions(row, {**options})
        options["past_key_values"] = start.options["past_key_values"]
        rest = row.shape[1] - start.ids.shape[1]
        step = self._steps.prepare_inputs_for_generation(row, next_sequence_length=rest, **options)
        return self._stepped(row, options, step, written + 1)

    def advance(self, sequence: Sequencing, token: int) -> Sequencing:
        """Append one token and read it."""
        row = torch.cat((sequence.ids, sequence.ids.new_tensor([[token]])), 1)
        step = self._steps.prepare_inputs_for_generation(
            row, next_sequence_length=1, **sequence.options
        )
        written = WRITTEN_TOKEN_TYPE.get(self.network.config.model_type)
        if written is not None and "token_type_ids" in step:
            step["token_type_ids"] = torch.full_like(step["token_type_ids"], written)
        return self._stepped(row, sequence.options, step)

    def _stepped(
        self, row: torch.Tensor, options: dict[str, Any], step: dict, last: int = 1
    ) -> Sequencing:
        output = self.network(**step, return_dict=True)
        options = self._steps._update_model_kwargs_for_generation(
            output, options, is_encoder_decoder=False
        )
        return Sequencing(row, options, output.logits[0, -last:].float())


class _ReachedDecoder(Exception):
    """Leaves a forward pass at the decoder."""


@dataclass(frozen=True, eq=False)
class Sequencing:
    """A sequence that is being written: ids (1, T), options of the next step, logits (1, V).

    Logits are (n, V) where those of n positions were asked for.
    """

    ids: torch.Tensor
    options: dict[str, Any]
    logits: torch.Tensor

    __repr__ = short_repr

    @property
    def nbytes(self) -> int:
        """Bytes that keys and values take."""
        cache = self.options["past_key_values"]
        pairs = (part for layer in cache.layers for part in (layer.keys, layer.values))
        return sum(part.numel() * part.element_size() for part in pairs)
