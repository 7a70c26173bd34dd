"""Configuration of CXR-LLaVA in the layout of the published checkpoint.

One `config.json` describes three parts: an open_clip vision transformer (`clip_vision_cfg`,
`clip_embed_dim`), a linear projector (`mm_projector_dim`) and a LLaMA (`llama`, written by
transformers 4.36). Old RoPE keys are translated on reading and written back on saving. Unread keys
are kept; `auto_map` is dropped, so no remote code is named.

Paper: Lee et al., CXR-LLaVA, European Radiology 2025, doi 10.1007/s00330-024-11339-6.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import LlamaConfig, PretrainedConfig

from workbench.errors import OptionError
from workbench.model.config_keys import (
    OTHER_VISION,
    is_number,
    llama_config,
    published_llama,
    refuse_other,
)

logger = logging.getLogger(__name__)

#: Normalisation of the published checkpoint, used when a config does not say.
PIXEL_MEAN = 0.5518136078431373
PIXEL_STD = 0.3821719215686275


class CxrVisionConfig(PretrainedConfig):
    """Shape of the vision tower (`clip_vision_cfg` and `clip_embed_dim` of the published file).

    Attributes:
        image_size, patch_size: sides, pixels; what is over is left out, as in open_clip.
        mlp_ratio: hidden width of a block's MLP as a multiple of `width`.
        embed_dim: length of the pooled vector (`clip_embed_dim`); not used for text.

    Raises:
        OptionError: sizes that do not fit each other, or an open_clip option not supported.

    >>> wb.model.CxrVisionConfig().image_tokens
    1024
    """

    model_type = "cxr_llava_vision"
    base_config_key: ClassVar[str] = "clip_vision_cfg"

    image_size: int = 512
    patch_size: int = 16
    width: int = 1024
    layers: int = 24
    head_width: int = 64
    mlp_ratio: float = 4.0
    embed_dim: int = 768
    layer_norm_eps: float = 1e-5

    def __post_init__(self, **kwargs: object) -> None:
        refuse_other(self.base_config_key, kwargs, OTHER_VISION)
        for name in ("image_size", "patch_size", "width", "layers", "head_width", "embed_dim"):
            value = getattr(self, name)
            if isinstance(value, list | tuple) and len(set(value)) == 1:
                value = value[0]
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise OptionError(
                    f"clip_vision_cfg.{name} must be a whole number above 0, got {value!r}; images "
                    "and patches must be square"
                )
            setattr(self, name, value)
        if self.patch_size > self.image_size:
            raise OptionError(
                f"clip_vision_cfg.patch_size {self.patch_size} must not be above image_size "
                f"{self.image_size}; correct config.json or the sizes"
            )
        if self.head_width > self.width or self.width % self.heads:
            raise OptionError(
                f"clip_vision_cfg.width {self.width} must be a multiple of the number of heads, "
                f"width // head_width with head_width {self.head_width}; correct config.json or "
                "the sizes"
            )
        super().__post_init__(**kwargs)

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.width // self.head_width

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def image_tokens(self) -> int:
        """Patch tokens of one image, the class token not counted."""
        return self.grid**2

    @property
    def mlp_width(self) -> int:
        """Hidden width of a block's MLP."""
        return int(self.width * self.mlp_ratio)


class CxrLlavaConfig(PretrainedConfig):
    """Configuration of the whole model, read from and written to the published layout.

    Attributes:
        clip_vision_cfg: the vision tower (`CxrVisionConfig`; a dict is accepted).
        clip_embed_dim: length of the pooled vector.
        image_preprocess_cfg: {"mean", "std"} of the pixels, numbers or one-element lists.
        mm_projector_dim: input width of the projector; equals the vision width.
        llama: the language model (`LlamaConfig`; an old dict is accepted).
        max_position_embeddings: the published code's own limit on prompt ids plus new tokens, with
            an image counted as one id; None when the file does not say. Not `context_length`.

    Raises:
        OptionError: sizes that do not fit each other.
    """

    model_type = "CXR-LLAVA"
    sub_configs: ClassVar[dict] = {  # pyright: ignore[reportIncompatibleMethodOverride]
        "clip_vision_cfg": CxrVisionConfig,
        "llama": LlamaConfig,
    }
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]

    clip_vision_cfg: Any = None
    clip_embed_dim: int | None = None
    image_preprocess_cfg: dict | None = None
    mm_projector_dim: int | None = None
    llama: Any = None
    max_position_embeddings: int | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: object) -> None:
        size = self.clip_embed_dim
        embedded: dict[str, Any] = {} if size is None else {"embed_dim": size}
        if isinstance(self.clip_vision_cfg, CxrVisionConfig):
            self.clip_vision_cfg.update(embedded)
        else:
            fields = _section("clip_vision_cfg", self.clip_vision_cfg)
            self.clip_vision_cfg = CxrVisionConfig(**fields | embedded)
        self.clip_embed_dim = self.clip_vision_cfg.embed_dim
        if not isinstance(self.llama, LlamaConfig):
            self.llama = llama_config(_section("llama", self.llama))
        self.tie_word_embeddings = bool(self.llama.tie_word_embeddings)
        if self.mm_projector_dim is None:
            self.mm_projector_dim = self.clip_vision_cfg.width
        if self.mm_projector_dim != self.clip_vision_cfg.width:
            raise OptionError(
                f"mm_projector_dim {self.mm_projector_dim} must equal the vision width "
                f"{self.clip_vision_cfg.width}; correct config.json"
            )
        _pixel_statistic(self.image_preprocess_cfg, "mean", PIXEL_MEAN)
        _pixel_statistic(self.image_preprocess_cfg, "std", PIXEL_STD)
        kwargs.pop("auto_map", None)
        if kwargs.get("clip_quick_gelu"):
            logger.warning(
                "config.json says clip_quick_gelu=true; the published code never reads this key "
                "and computes the exact GELU, and so does this model"
            )
        super().__post_init__(**kwargs)

    @property
    def vision(self) -> CxrVisionConfig:
        """The vision tower's configuration."""
        return self.clip_vision_cfg

    @property
    def image_tokens(self) -> int:
        """Tokens that one image takes in the language model's sequence."""
        return self.clip_vision_cfg.image_tokens

    @property
    def context_length(self) -> int:
        """Positions of the language model, image tokens included."""
        return self.llama.max_position_embeddings

    @property
    def pixel_mean(self) -> float:
        """Mean subtracted from pixels in [0, 1]."""
        return _pixel_statistic(self.image_preprocess_cfg, "mean", PIXEL_MEAN)

    @property
    def pixel_std(self) -> float:
        """Standard deviation that pixels in [0, 1] are divided by."""
        return _pixel_statistic(self.image_preprocess_cfg, "std", PIXEL_STD)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None):
        """Return the language model's configuration (transformers asks for it by this name)."""
        return self.llama

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration with the keys of the published `config.json`."""
        output = super().to_dict()
        vision = self.clip_vision_cfg
        names = ["image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"]
        if vision.layer_norm_eps != CxrVisionConfig.layer_norm_eps:
            names.append("layer_norm_eps")
        output["clip_vision_cfg"] = {name: getattr(vision, name) for name in names}
        output["llama"] = published_llama(self.llama)
        output["torch_dtype"] = output.pop("dtype", None)
        for name in ("max_position_embeddings", "image_preprocess_cfg", "torch_dtype"):
            if output.get(name) is None:
                output.pop(name, None)
        return output


def _section(name: str, value: object) -> dict[str, Any]:
    """Return one section of a config file as a new dict; None becomes an empty one."""
    if isinstance(value, PretrainedConfig):
        return value.to_dict()
    if not isinstance(value, Mapping | None):
        raise OptionError(f"{name} in config.json must be an object, got {type(value).__name__}")
    return dict(value or {})


def _pixel_statistic(given: Mapping | None, name: str, default: float) -> float:
    value = _section("image_preprocess_cfg", given).get(name, default)
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if not is_number(value) or (name == "std" and value <= 0):
        raise OptionError(
            f"image_preprocess_cfg.{name} must be a number, or a list of one (the model sees one "
            f"grey channel), and std above 0; got {value!r}"
        )
    return float(value)


#: Part -> its modules.
PART_MODULES = {
    "embeddings": ("llama.embed_tokens", "lm_head"),
    "language": ("llama.layers", "llama.norm"),
    "projector": ("mm_projector",),
    "vision": ("vision_tower",),
}
#: Part -> pattern of the linear layers that LoRA goes to.
LORA_TARGETS = {
    "language": r"llama\.layers\.\d+\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)",
    "projector": r"mm_projector",
    "vision": r"vision_tower\.transformer\.resblocks\.\d+\.mlp\.(?:c_fc|c_proj)",
}
