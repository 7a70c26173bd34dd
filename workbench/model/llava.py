"""CXR-LLaVA as one transformers model: vision tower, linear projector, LLaMA.

State-dict names are exactly those of the published checkpoint (`vision_tower.*`, `mm_projector.*`,
`llama.*`, `lm_head.weight`). A prompt holds `IMAGE_TOKEN_ID` (-200) once per image; each becomes N
feature rows, so L ids make T = L - 1 + N positions (one image). Attention is causal over image
tokens too, and positions count through the spliced sequence. Registered with transformers' Auto
classes, so a directory in the published layout loads without remote code.

Papers: Lee et al., CXR-LLaVA, European Radiology 2025, doi 10.1007/s00330-024-11339-6, section 2;
Su et al., RoFormer, arXiv 2104.09864, section 3.4 (rotary positions).
Deviation from the published code: rotary frequencies stay float32 under every dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Cache,
    LlamaModel,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from workbench.errors import InputError
from workbench.model.config import CxrLlavaConfig, CxrVisionConfig
from workbench.model.prompt import IGNORE_LABEL, IMAGE_TOKEN_ID
from workbench.model.vision import VisionTower


class Float32RotaryEmbedding(LlamaRotaryEmbedding):
    """LLaMA's rotary embedding with `inv_freq` pinned to float32.

    bfloat16 keeps 8 bits of a frequency; times position 1,100 that is an angle wrong by radians,
    which casting back cannot repair. `to`, `half`, `bfloat16`, `double` and `cuda` all go through
    `_apply`: the device follows, the dtype does not.
    """

    def _apply(self, fn: Callable, recurse: bool = True) -> Float32RotaryEmbedding:
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in self._buffers.items():
            kept = before[name]
            if buffer is not None and kept is not None and buffer.dtype != torch.float32:
                self._buffers[name] = kept.to(buffer.device)
        return self


class CxrLlavaForConditionalGeneration(PreTrainedModel):
    """Vision tower, projector and language model under the published names.

    Attributes:
        vision_tower: (B, 1, S, S) pixels to (B, N, W) tokens.
        mm_projector: W to H, linear with bias.
        llama: transformers' `LlamaModel`, H wide.
        lm_head: H to vocabulary, without bias.

    >>> type(model.network) is wb.model.CxrLlavaForConditionalGeneration
    True
    """

    config: CxrLlavaConfig
    is_quantized: bool
    config_class = CxrLlavaConfig
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _no_split_modules = ["VisionTower", "LlamaDecoderLayer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _tied_weights_keys = {"lm_head.weight": "llama.embed_tokens.weight"}  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: CxrLlavaConfig) -> None:
        super().__init__(config)
        self.vision_tower = VisionTower(config.vision)
        self.mm_projector = nn.Linear(config.vision.width, config.llama.hidden_size)
        self.llama = LlamaModel(config.llama)
        self.llama.rotary_emb = Float32RotaryEmbedding(config.llama)
        self.lm_head = nn.Linear(config.llama.hidden_size, config.llama.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding, which peft may have wrapped."""
        return self.llama.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding."""
        self.llama.embed_tokens = cast("nn.Embedding", value)

    @property
    def decoder(self) -> LlamaModel:
        """The language model without its head."""
        return self.llama

    @property
    def head(self) -> nn.Linear:
        """From states of the language model to logits."""
        return self.lm_head

    @property
    def vision(self) -> VisionTower:
        """The vision tower."""
        return self.vision_tower

    @property
    def projector(self) -> nn.Linear:
        """From vision tokens to states of the language model."""
        return self.mm_projector

    def encode_image(self, pixel_values: torch.Tensor) -> Float[torch.Tensor, "B N H"]:
        """Encode (B, 1, S, S) normalised pixels into rows of the language model's sequence."""
        tokens = self.vision_tower(pixel_values).tokens
        weight = self.mm_projector.weight
        return self.mm_projector(tokens.to(weight.device))

    def splice(
        self, input_ids: torch.Tensor, image_features: torch.Tensor
    ) -> Float[torch.Tensor, "B T H"]:
        """Embed ids (B, L) and put image features where the image ids are.

        Args:
            input_ids: -200 once per image, as `CxrTokenizer.encode_prompt` gives them.
            image_features: (K, N, H), K images in reading order, or (1, N, H) for all of them.

        Returns:
            (B, T, H) in the dtype of the embedding; T = L - 1 + N for one image a row.

        Raises:
            InputError: the number of images or the width of the features does not fit.
        """
        embed = cast("nn.Embedding", self.get_input_embeddings())
        input_ids = input_ids.to(embed.weight.device)
        images = int((input_ids == IMAGE_TOKEN_ID).sum())
        features = _check_features(image_features, images, embed.weight.shape[1])
        ids = torch.gather(input_ids, 1, _source_index(input_ids, features.shape[1]))
        is_image = ids == IMAGE_TOKEN_ID
        embeds = embed(ids.masked_fill(is_image, 0))
        features = features.to(device=embeds.device, dtype=embeds.dtype)
        return embeds.masked_scatter(is_image.unsqueeze(-1), features)

    def forward(
        self,
        input_ids: Int[torch.Tensor, "B L"] | None = None,
        pixel_values: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        inputs_embeds: Float[torch.Tensor, "B T H"] | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Predict the next token at every position.

        Args:
            input_ids: (B, L) ids with -200 once per image; or give `inputs_embeds`.
            pixel_values: (K, 1, S, S) normalised pixels of the images in reading order.
            image_features: (K, N, H) from `encode_image`, instead of pixels.
            inputs_embeds: (B, T, H) from `splice`, instead of ids.
            attention_mask: (B, L) with one value per id, stretched over image tokens, or (B, T)
                (T counts cached positions as well).
            position_ids: (B, T).
            labels: (B, L), stretched like the mask with -100 over images, or (B, T); positions
                labelled -100 carry no loss.
            logits_to_keep: last positions to compute logits for, 0 for all; or an index tensor.
            **kwargs: for the language model (`output_hidden_states`, `output_attentions`, ...).

        Returns:
            loss (a scalar, with labels), logits (B, T, vocabulary), past_key_values and, when
            asked for, hidden_states and attentions of the language model.

        Raises:
            InputError: neither or both of ids and embeddings, images without a place or places
                without an image, labels together with `logits_to_keep`.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError("give exactly one of input_ids and inputs_embeds")
        if input_ids is not None:
            if pixel_values is not None and image_features is None:
                image_features = self.encode_image(pixel_values)
            if image_features is not None:
                inputs_embeds = self.splice(input_ids, image_features)
                length = image_features.shape[1]
                attention_mask = stretch(attention_mask, input_ids, length, 1)
                labels = stretch(labels, input_ids, length, IGNORE_LABEL)
            else:
                inputs_embeds = self._embed_text(input_ids, past_key_values)
        output = self.llama(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **{key: value for key, value in kwargs.items() if key != "num_items_in_batch"},
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(output.last_hidden_state[:, kept])
        return CausalLMOutputWithPast(
            loss=None if labels is None else self._loss(logits, labels, kwargs),
            logits=logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    def _embed_text(self, input_ids: torch.Tensor, cache: Cache | None) -> torch.Tensor:
        # Decoding steps skip the look for image ids: it would make a GPU wait for every token.
        if cache is None and bool((input_ids == IMAGE_TOKEN_ID).any()):
            raise InputError(
                f"the ids hold an image place ({IMAGE_TOKEN_ID}) but no image came; give "
                "pixel_values or image_features"
            )
        return self.get_input_embeddings()(input_ids)

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor, kwargs: dict) -> torch.Tensor:
        if labels.shape != logits.shape[:2]:
            raise InputError(
                f"labels must have one value per id or per position {tuple(logits.shape[:2])}, got "
                f"{tuple(labels.shape)}; do not give logits_to_keep together with labels"
            )
        return self.loss_function(
            logits=logits,
            labels=labels,
            vocab_size=self.config.llama.vocab_size,
            num_items_in_batch=kwargs.get("num_items_in_batch"),
        )


def _source_index(input_ids: torch.Tensor, image_tokens: int) -> Int[torch.Tensor, "B T"]:
    """Return for each position of the spliced sequence the id it comes from."""
    is_image = input_ids == IMAGE_TOKEN_ID
    counts = is_image.sum(1)
    if (counts != counts[0]).any():
        raise InputError(
            "every row of a batch must hold the same number of images, got "
            f"{counts.tolist()}; run rows with other numbers on their own"
        )
    repeats = torch.where(is_image, image_tokens, 1)
    positions = torch.arange(input_ids.shape[1], device=input_ids.device)
    return torch.stack([torch.repeat_interleave(positions, row) for row in repeats])


def stretch(
    values: torch.Tensor | None,
    input_ids: Int[torch.Tensor, "B L"],
    image_tokens: int,
    image_value: int,
) -> torch.Tensor | None:
    """Stretch one value per id (a mask, labels) to one value per position of the spliced sequence.

    Images of `image_tokens` rows get `image_value`. What has another shape comes back as it is.
    """
    if values is None or values.shape != input_ids.shape:
        return values
    source = _source_index(input_ids, image_tokens)
    is_image = torch.gather(input_ids, 1, source) == IMAGE_TOKEN_ID
    return torch.gather(values, 1, source).masked_fill(is_image, image_value)


def _check_features(features: torch.Tensor, images: int, width: int) -> torch.Tensor:
    """Return the features of as many images; those of one may stand for all."""
    if features.ndim != 3 or features.shape[-1] != width:
        raise InputError(
            f"image_features must have shape (K, N, {width}), got {tuple(features.shape)}; "
            "make them with encode_image"
        )
    if features.shape[0] == 1 and images > 1:
        return features.expand(images, -1, -1)
    if features.shape[0] != images:
        raise InputError(
            f"the ids hold {images} image places ({IMAGE_TOKEN_ID}) but {features.shape[0]} images "
            "came; give one image per place"
        )
    return features


AutoConfig.register(CxrLlavaConfig.model_type, CxrLlavaConfig, exist_ok=True)
AutoConfig.register(CxrVisionConfig.model_type, CxrVisionConfig, exist_ok=True)
AutoModel.register(CxrVisionConfig, VisionTower, exist_ok=True)
for _auto in (AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText):
    _auto.register(CxrLlavaConfig, CxrLlavaForConditionalGeneration, exist_ok=True)
