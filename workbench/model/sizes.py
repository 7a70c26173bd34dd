"""What a model weighs, and the sizes of its parts.

Parameters are counted on a model without storage (the meta device), so the full-size model is
counted on a laptop. Weights only: activations and the key-value cache come on top.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from transformers.configuration_utils import get_head_shapes

from workbench.model.config import CxrLlavaConfig
from workbench.model.llava import CxrLlavaForConditionalGeneration

#: Bytes of one parameter by dtype. In 4-bit weights, blocks of 64 share one float32 scale.
BYTES = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "float16": 2.0,
    "8bit": 1.0,
    "4bit": 0.5 + 4 / 64,
    "int8": 1.0,
}

#: dtype of what a quantisation leaves alone.
_BESIDE = {"8bit": "bfloat16", "4bit": "bfloat16", "int8": "float32"}

#: Bytes beside each weight of the layer that is shrunk to int8: in float32, while it is looked at,
#: and before it is packed.
_SHRINKING = 11

#: Parts that stay unquantised, as the embedding and the norms do.
UNQUANTISED = ("vision_tower", "mm_projector", "lm_head")

#: Side of the square that stands for models that take any size, pixels.
ANY_SIDE = 512


@dataclass(frozen=True)
class PartSizes:
    """Parameters of each part; a tied head counts 0.

    Attributes:
        quantisable: of the language model's linear layers, which "8bit", "4bit" and "int8" shrink.
        largest: of the largest of these layers.
    """

    vision_tower: int
    mm_projector: int
    language_model: int
    lm_head: int
    quantisable: int
    largest: int = 0

    @property
    def total(self) -> int:
        """Parameters of the whole model."""
        return self.vision_tower + self.mm_projector + self.language_model + self.lm_head

    def parts(self) -> dict[str, int]:
        """Return parameters by part, with the total."""
        names = ("vision_tower", "mm_projector", "language_model", "lm_head", "total")
        return {name: getattr(self, name) for name in names}

    def bytes_as(self, dtype: str) -> int:
        """Return the weight of the model in bytes, as one of the names in `BYTES`."""
        rest = (self.total - self.quantisable) * BYTES[_BESIDE.get(dtype, dtype)]
        return int(self.quantisable * BYTES[dtype] + rest)

    def bytes_to_load(self, dtype: str) -> int:
        """Return the memory that loading the model takes at most, in bytes."""
        return self.bytes_as(dtype) + (_SHRINKING * self.largest if dtype == "int8" else 0)

    def memory(self) -> dict[str, int]:
        """Return `bytes_as` for every name in `BYTES`."""
        return {name: self.bytes_as(name) for name in BYTES}


def empty_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Return the network of a configuration without storage: no adapter, not quantised."""
    own = cast(Any, copy.deepcopy(config))
    ours = isinstance(config, CxrLlavaConfig)
    make = CxrLlavaForConditionalGeneration if ours else AutoModelForImageTextToText.from_config
    with torch.device("meta"):
        return make(own)


def linear_layers(network: PreTrainedModel) -> list[nn.Linear]:
    """Return the linear layers of a language model."""
    decoder = cast(nn.Module, network.get_decoder())
    return [one for one in decoder.modules() if isinstance(one, nn.Linear)]


def measure(model: PreTrainedModel) -> PartSizes:
    """Count the parameters of a model of any family, with or without storage.

    Its projector is what is no other part.
    """
    vision = cast(nn.Module, model.get_encoder("image"))
    decoder = cast(PreTrainedModel, model.get_decoder())
    head = cast(nn.Linear, model.get_output_embeddings())

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    own = 0 if head.weight is decoder.get_input_embeddings().weight else count(head)
    linear = [one.weight.numel() for one in linear_layers(model)]
    return PartSizes(
        vision_tower=count(vision),
        mm_projector=count(model) - count(vision) - count(decoder) - own,
        language_model=count(decoder),
        lm_head=own,
        quantisable=sum(linear),
        largest=max(linear, default=0),
    )


@dataclass(frozen=True)
class Shape:
    """The sizes that decide what a model takes.

    Attributes:
        sizes: parameters of its parts.
        text: configuration of the language model.
        cache: numbers that keys and values of one position are made of, in all layers.
        lora: inputs and outputs of all its linear layers together.
        image_tokens: positions of an image.
        seen: (tokens, width, inner, layers, heads) of the vision tower, see `tower`.
        patchwise: the tower is one stack over the patches of the whole image.
        image_size, patch_size: sides of the square input and of a patch, pixels.
    """

    sizes: PartSizes
    text: PreTrainedConfig
    cache: int
    lora: int
    image_tokens: int
    seen: tuple[int, int, int, int, int]
    patchwise: bool
    image_size: int
    patch_size: int

    @classmethod
    def of(cls, network: PreTrainedModel, image_tokens: int) -> Self:
        """Return the sizes of a network, with or without storage."""
        text = cast(PreTrainedModel, network.get_decoder()).config
        return cls(
            measure(network),
            text=text,
            cache=cache_numbers(text),
            lora=sum(sum(one.weight.shape) for one in linear_layers(network)),
            image_tokens=image_tokens,
            seen=tower(network.config, image_tokens),
            patchwise=isinstance(network.config, CxrLlavaConfig),
            image_size=image_side(network.config),
            patch_size=int(np.ravel(_seen(network.config).patch_size)[0]),
        )

    @property
    def layers(self) -> int:
        """Layers of the language model."""
        return self.text.num_hidden_layers

    @property
    def heads(self) -> int:
        """Heads of the language model."""
        return self.text.num_attention_heads


def cache_numbers(text: PreTrainedConfig) -> int:
    """Return how many numbers keys and values of one position are made of, in all layers."""
    # each a number, or one for each layer
    heads, widths = map(torch.as_tensor, get_head_shapes(text))
    return int((2 * heads * widths).expand(text.num_hidden_layers).sum())


def image_side(config: PreTrainedConfig) -> int:
    """Return the side of the square that a model takes, pixels."""
    # some families give both sides of a square
    return int(np.ravel(getattr(_seen(config), "image_size", None) or ANY_SIDE)[0])


def _seen(config: PreTrainedConfig) -> Any:
    """Return the configuration of the vision tower."""
    name = "vision" if isinstance(config, CxrLlavaConfig) else "vision_config"
    return getattr(config, name)


def tower(config: PreTrainedConfig, image_tokens: int) -> tuple[int, int, int, int, int]:
    """Return (tokens, width, inner, layers, heads) of the vision tower."""
    if isinstance(config, CxrLlavaConfig):
        own = config.vision
        return own.image_tokens + 1, own.width, own.mlp_width, own.layers, own.heads
    seen = _seen(config)
    # a tower in stages (Swin) has blocks and heads of each, and ends at `hidden_size`;
    # of Qwen2-VL `hidden_size` is that of what it hands over
    stages = getattr(seen, "depths", None)
    width = (not stages and getattr(seen, "embed_dim", None)) or seen.hidden_size
    inner = getattr(seen, "intermediate_size", None) or 4 * width
    layers = sum(stages or ()) or getattr(seen, "num_hidden_layers", None) or seen.depth
    heads = getattr(seen, "num_attention_heads", None) or getattr(seen, "num_heads", 1)
    return image_tokens, width, inner, layers, int(np.max(heads))


def full_size_config() -> CxrLlavaConfig:
    """Return the configuration of the published full-size model.

    Deviation: its `config.json` is not quoted here; `clip_embed_dim` (768) is that of open_clip,
    and the LLaMA is Llama-2-7b-chat, which the paper names (transformers' default but for these).

    >>> wb.model.full_size_config().vision.layers
    24
    """
    return CxrLlavaConfig(llama={"max_position_embeddings": 4096, "rms_norm_eps": 1e-5})
