"""A network of transformers with its processor: inputs, teacher forcing, steps of decoding.

Nothing here names a family: the network's own `forward`, `generate`'s own preparation of a step,
and the checkpoint's own processor and chat template are called. What is not proved by `checks` for
a checkpoint is not taken for granted.

An image becomes an 8-bit picture with three equal channels, and then goes through the checkpoint's
processor.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import nn
from transformers import BatchFeature, Cache, PreTrainedModel, ProcessorMixin

from workbench._repr import short_repr
from workbench.backends.attending import own_value, watch_attention
from workbench.backends.families import WRITTEN_TOKEN_TYPE
from workbench.backends.placing import Placement, fit_of, frame_of, pixel_points, place
from workbench.backends.reader import Pixels, picture_of
from workbench.backends.vlm_processor import render
from workbench.errors import CheckpointError
from workbench.generation.engine import pixels_sha256
from workbench.model.placement import device_of
from workbench.model.prompt import IMAGE_MARK, Message
from workbench.model.sizes import ANY_SIDE
from workbench.radiograph.fit import box_geometry
from workbench.reports.boxes import Processed

#: What a network gets for one image or several, by name; "pixel_values" among it.
Inputs = Mapping[str, torch.Tensor]

#: Inputs that belong to the text; what else a processor returns belongs to the image.
_TYPES = ("token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids")
_OF_TEXT = {"input_ids", "attention_mask", "labels", *_TYPES}

#: A prompt about an image.
SHORTEST = [Message("user", f"{IMAGE_MARK}\n.")]

#: Images whose inputs, and sizes whose places, are kept.
_KEPT = 8


@dataclass(frozen=True, eq=False)
class Sequencing:
    """A sequence that is being written.

    Attributes:
        ids: of the prompt and of the last `written` tokens.
        positions: (..., T) of each, as the network counts them.
        logits: (n, V) float32 at the last n positions.
    """

    inputs: Inputs
    ids: tuple[int, ...]
    written: int
    positions: torch.Tensor
    cache: Cache
    logits: torch.Tensor

    __repr__ = short_repr

    @property
    def nbytes(self) -> int:
        """Bytes that keys, values and other states take."""
        parts = (part for layer in self.cache.layers for part in vars(layer).values())
        return sum(part.nbytes for part in parts if isinstance(part, torch.Tensor))


class Vlm:
    """A network with its processor.

    Args:
        network: in evaluation mode.
        own_processor: of the same checkpoint.

    Attributes:
        image_id: the token that stands for a part of an image.

    Raises:
        CheckpointError: there is no image token, or the processor puts none into a prompt.
    """

    def __init__(self, network: PreTrainedModel, own_processor: ProcessorMixin) -> None:
        self.network, self.own_processor = network, own_processor
        self.decoder = cast(PreTrainedModel, network.get_decoder())
        self.head = cast(nn.Linear, network.get_output_embeddings())
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
        self._places = lru_cache(_KEPT)(self._place)
        #: What the processor cuts off an image of a size, and how it squeezes the rest.
        self.fit = lru_cache(_KEPT)(partial(fit_of, self._values))
        self._pictures = lru_cache(_KEPT)(self._picture)
        made = self._plain(Image.new("RGB", (64, 64)))
        ids = made["input_ids"][0].tolist()
        if "pixel_values" not in made or self.image_id not in ids:
            raise CheckpointError(
                f"the processor of type {config.model_type!r} puts no image token "
                f"(id {self.image_id}) into a prompt about an image"
            )
        # the image's tokens, and of some families marks around it, are of another type than text
        self._types = {
            name: {one: kind for one, kind in zip(ids, made[name][0].tolist(), strict=True) if kind}
            for name in _TYPES
            if name in made
        }

    @property
    def device(self) -> torch.device:
        """Where inputs have to be."""
        return device_of(self.network.get_input_embeddings())

    def process(self, picture: Image.Image, text: str) -> BatchFeature:
        """Return what the checkpoint's processor makes of a picture and a rendered prompt."""
        process = cast(Any, self.own_processor)
        bos = process.tokenizer.bos_token
        options = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
        return process(images=[picture], text=[text], return_tensors="pt", **options)

    def prepare(self, pixels: Pixels, messages: Sequence[Message]) -> tuple[str, tuple[int, ...]]:
        """Return a prompt as text and as ids, the image token once for each of its positions.

        Raises:
            InputError: the dialogue holds no image or several, or the template does not take it.
        """
        text = render(self.own_processor, messages)
        made = self.process(picture_of(pixels), text)
        self._keep(pixels, made)
        return text, tuple(made["input_ids"][0].tolist())

    def tokens_of(self, side: int = ANY_SIDE) -> int:
        """Return how many tokens a square image of a side takes."""
        _, ids = self.prepare(torch.zeros(1, 1, side, side), SHORTEST)
        return ids.count(self.image_id)

    def inputs(self, pixels: Pixels) -> Inputs:
        """Return what the network gets for an image."""
        known = self._inputs.get(pixels_sha256(pixels))
        return self._keep(pixels, self._plain(picture_of(pixels))) if known is None else known

    def _plain(self, picture: Image.Image) -> BatchFeature:
        """Return what a shortest prompt about a picture becomes."""
        return self.process(picture, render(self.own_processor, SHORTEST))

    def _values(self, picture: Image.Image) -> torch.Tensor:
        return self._plain(picture)["pixel_values"]

    def _keep(self, pixels: torch.Tensor, made: BatchFeature) -> Inputs:
        found = self._inputs[pixels_sha256(pixels)] = self._of_image(made)
        while len(self._inputs) > _KEPT:
            self._inputs.popitem(last=False)
        return found

    def _of_image(self, made: BatchFeature) -> Inputs:
        found = {key: value.to(self.device) for key, value in made.items() if key not in _OF_TEXT}
        return found | {"pixel_values": found["pixel_values"].to(self.network.dtype)}

    def text_inputs(
        self, ids: Sequence[int], *, written: int = 0, batch: int = 1
    ) -> dict[str, torch.Tensor]:
        """Return the inputs that belong to text: (B, T) ids, mask, and token types.

        Args:
            ids: prompt and then `written` tokens that the model wrote.
        """
        row = torch.from_numpy(np.array(ids, np.int64)).to(self.device)
        found = {"input_ids": row, "attention_mask": torch.ones_like(row)}
        for name, kinds in self._types.items():
            found[name] = torch.zeros_like(row)
            for one, kind in kinds.items():
                found[name][row == one] = kind
            if written and name == "token_type_ids":
                found[name][-written:] = WRITTEN_TOKEN_TYPE.get(self.network.config.model_type, 0)
        return {name: value.expand(batch, -1) for name, value in found.items()}

    def logits(
        self, inputs: Inputs, ids: Sequence[int], tokens: Sequence[int], *, batch: int = 1
    ) -> Float[torch.Tensor, "B n V"]:
        """Return the float32 logits that each of n given tokens was, or would be, chosen from.

        One forward pass of the network over prompt and text (teacher forcing); differentiable.

        Args:
            inputs: of `batch` images, stacked.
            ids: of the prompt, from `prepare`.
        """
        text = self.text_inputs((*ids, *tokens[:-1]), written=len(tokens) - 1, batch=batch)
        output = self.network(**inputs, **text, use_cache=False, **self.last(len(tokens)))
        return output.logits[:, -len(tokens) :].float()

    def last(self, count: int) -> dict[str, int]:
        """Return the option that asks for the last logits only, where the network has it."""
        return {"logits_to_keep": count} if "logits_to_keep" in self.takes else {}

    def embeddings(self, inputs: Inputs, ids: Sequence[int]) -> Float[torch.Tensor, "N D"]:
        """Return what enters the decoder for the image tokens of a prompt; differentiable."""

        def leave(module: nn.Module, args: tuple, options: dict[str, Any]) -> None:
            raise _ReachedDecoder(options["inputs_embeds"])

        try:
            with self.decoder.register_forward_pre_hook(leave, with_kwargs=True):
                self.network(**inputs, **self.text_inputs(ids), use_cache=False)
        except _ReachedDecoder as reached:
            return reached.args[0][0, [n for n, one in enumerate(ids) if one == self.image_id]]
        raise CheckpointError("the decoder was not called with embeddings of the sequence")

    def image_rows(self, pixels: Pixels) -> Float[torch.Tensor, "N D"]:
        _, ids = self.prepare(pixels, SHORTEST)
        return self.embeddings(self.inputs(pixels), ids)

    def own_rows(self, inputs: Inputs, ids: Sequence[int]) -> Float[torch.Tensor, "N D"]:
        """Return the image tokens of a prompt where every position attends to itself only."""
        with watch_attention(self, own_value):
            return self.embeddings(inputs, ids)

    def last_states(
        self, pixels: Pixels, prompt_ids: Sequence[int], tokens: Sequence[int] = ()
    ) -> Float[torch.Tensor, "T D"]:
        text = self.text_inputs((*prompt_ids, *tokens), written=len(tokens))
        seen: list[torch.Tensor] = []
        with self.decoder.register_forward_hook(
            lambda module, args, output: seen.append(output.last_hidden_state[0])
        ):
            self.network(**self.inputs(pixels), **text, use_cache=False)
        return seen[0]

    def read_out(self, states: Float[torch.Tensor, "n D"]) -> Float[torch.Tensor, "n V"]:
        """Return the float32 logits of states, capped where the configuration says so."""
        logits = self.head(states.to(device_of(self.head))).float()
        cap = getattr(self.network.config.get_text_config(), "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def _picture(self, size: tuple[int, int]) -> Processed:
        """Return the picture that the processor makes of an image of a size."""
        frame = frame_of(self._values, size)
        made = self._plain(Image.new("RGB", (size[1], size[0])))
        shape, pixels = made["pixel_values"].shape, None
        if "image_grid_thw" in made:
            side = cast(Any, self.own_processor).image_processor.patch_size
            rows, columns = made["image_grid_thw"][0, 1:].tolist()
            pixels = rows * side, columns * side
        elif len(shape) == 4 and shape[0] == 1:
            pixels = int(shape[2]), int(shape[3])
        return Processed(box_geometry(size, frame), pixels)

    def placement(self, pixels: Pixels) -> Placement:
        """Return where the image's tokens lie in the original; found once for each size of image.

        Raises:
            CheckpointError: tokens have no place of their own; see `workbench.backends.placing`.
        """
        return self._places((int(pixels.shape[-2]), int(pixels.shape[-1])))

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _place(self, size: tuple[int, int]) -> Placement:
        points, gain = pixel_points(self._values, size)
        noise = np.random.default_rng(0).integers(0, 256, size, np.uint8)
        made = self._plain(Image.fromarray(noise).convert("RGB"))
        ids, values = made["input_ids"][0].tolist(), self._of_image(made)
        black = self._of_image(self._plain(Image.new("RGB", (size[1], size[0]))))
        for name, value in values.items():
            if name != "pixel_values" and not torch.equal(value, black[name]):
                raise CheckpointError(
                    f"the image enters by {name!r} too, so that changes of 'pixel_values' alone "
                    "would be changes of half an image"
                )

        def features(pixels: torch.Tensor) -> torch.Tensor:
            return self.own_rows({**values, "pixel_values": pixels.to(self.network.dtype)}, ids)

        return place(points, gain, size, features, made["pixel_values"].to(self.device).float())

    def read(
        self,
        inputs: Inputs,
        ids: Sequence[int],
        *,
        written: int = 0,
        last: int = 1,
        start: Sequencing | None = None,
    ) -> Sequencing:
        """Read a prompt and keep its keys and values, as `generate` does.

        Args:
            ids: prompt and then `written` tokens that the model wrote.
            last: positions whose logits are wanted, counted from the end.
            start: what was read of it before; its cache is used up.
        """
        text = self.text_inputs(ids, written=written)
        row = text.pop("input_ids")
        options: dict[str, Any] = {**inputs, **text, "use_cache": True, **self.last(last)}
        network: Any = self.network  # what `generate` does between steps has no public name
        new = len(ids) - len(start.ids if start else ())
        if start is not None and start.ids[-1] != self.image_id:  # text behind text
            before, ahead = start.positions, torch.arange(1, new + 1, device=row.device)
            positions = torch.cat((before, before[..., -1:] + ahead), -1)
        else:
            positions = network._prepare_position_ids_for_generation(row, {**options})
        if start is not None:
            options |= {"past_key_values": start.cache, "next_sequence_length": new}
        step = network.prepare_inputs_for_generation(
            row, position_ids=positions, is_first_iteration=start is None, **options
        )
        output = network(**step, return_dict=True)
        logits = output.logits[0, -last:].float()
        return Sequencing(inputs, tuple(ids), written, positions, output.past_key_values, logits)

    def advance(self, sequence: Sequencing, token: int) -> Sequencing:
        """Append one token that the model wrote, and read it."""
        ids, written = (*sequence.ids, token), sequence.written + 1
        return self.read(sequence.inputs, ids, written=written, start=sequence)


class _ReachedDecoder(Exception):
    """Leaves a forward pass at the decoder, with what entered it."""
