"""The vision tower: open_clip's pre-norm vision transformer over one grey channel.

Parameter names are those of open_clip, so published weights load unchanged. Attention goes through
transformers' registry of attention functions, keyed by `config._attn_implementation`: the default
("sdpa") is the fast one, "eager" returns the rows, and a function registered with
`transformers.AttentionInterface.register` sees every vision layer as well as every LLaMA layer.

Papers: Dosovitskiy et al., ICLR 2021, arXiv 2010.11929 (the transformer); Radford et al., ICML
2021, arXiv 2103.00020 (this variant of it).
Deviation from open_clip: the pooled vector and the patch tokens are both returned, always.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import eager_attention_forward
from transformers.utils.generic import ModelOutput

from workbench._repr import short_repr
from workbench.errors import InputError
from workbench.model.config import CxrVisionConfig


@dataclass
class VisionOutput(ModelOutput):
    """What the vision tower makes of a batch of images.

    Attributes:
        tokens: (B, N, W) patch tokens after the last LayerNorm, row-major, class token left out.
        pooled: (B, E) class token after the last LayerNorm times `proj`; not used for text.
        hidden_states: L + 1 tensors (B, N + 1, W): after `ln_pre`, then after every block; row 0
            is the class token.
    """

    tokens: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None

    __repr__ = short_repr


class _Linear(nn.Linear):
    """A linear layer that knows the standard deviation its weights start from."""

    def __init__(self, inputs: int, outputs: int, initial_std: float) -> None:
        super().__init__(inputs, outputs)
        self.initial_std = initial_std


class VisionAttention(nn.Module):
    """Multi-head self-attention with query, key and value packed in one matrix.

    Carries what transformers' attention functions ask of a module.
    """

    is_causal = False
    num_key_value_groups = 1

    def __init__(self, config: CxrVisionConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.heads = config.heads
        self.head_dim = config.width // config.heads
        self.scaling = self.head_dim**-0.5
        self.in_proj_weight = nn.Parameter(torch.empty(3 * config.width, config.width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * config.width))
        self.out_proj = _Linear(config.width, config.width, _branch_std(config))

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return (B, T, W) attended tokens and, where the implementation gives them, the rows."""
        batch, length, width = hidden.shape
        packed = F.linear(hidden, self.in_proj_weight, self.in_proj_bias)
        packed = packed.view(batch, length, 3, self.heads, self.head_dim)
        query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation or "eager", eager_attention_forward
        )
        output, rows = attend(
            self, query, key, value, None, dropout=0.0, scaling=self.scaling, is_causal=False
        )
        return self.out_proj(output.reshape(batch, length, width)), rows


class VisionMlp(nn.Module):
    """Two linear layers with the exact (erf) GELU between them."""

    def __init__(self, config: CxrVisionConfig) -> None:
        super().__init__()
        self.c_fc = _Linear(config.width, config.mlp_width, (2 * config.width) ** -0.5)
        self.gelu = nn.GELU()
        self.c_proj = _Linear(config.mlp_width, config.width, _branch_std(config))

    def forward(self, hidden: Float[torch.Tensor, "B T W"]) -> Float[torch.Tensor, "B T W"]:
        return self.c_proj(self.gelu(self.c_fc(hidden)))


class ResidualBlock(GradientCheckpointingLayer):
    """Pre-norm transformer block: attention, then MLP, each added to its input."""

    def __init__(self, config: CxrVisionConfig, layer_idx: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.attn = VisionAttention(config, layer_idx)
        self.ln_2 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.mlp = VisionMlp(config)

    def forward(self, hidden: Float[torch.Tensor, "B T W"]) -> Float[torch.Tensor, "B T W"]:
        hidden = hidden + self.attn(self.ln_1(hidden))[0]
        return hidden + self.mlp(self.ln_2(hidden))


class VisionTransformerBlocks(nn.Module):
    """The stack of residual blocks, under open_clip's name `resblocks`."""

    def __init__(self, config: CxrVisionConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualBlock(config, i) for i in range(config.layers))


class VisionTower(PreTrainedModel):
    """Vision transformer that turns a radiograph into patch tokens.

    Usable alone: `VisionTower(CxrVisionConfig(image_size=256, width=192, layers=6))` is initialised
    as open_clip does and trains like any module.

    >>> model.network.vision(model.pixels(image)).tokens.shape[0]
    1
    """

    config: CxrVisionConfig
    config_class = CxrVisionConfig
    main_input_name = "pixel_values"
    input_modalities = "image"
    supports_gradient_checkpointing = True
    _no_split_modules = ["ResidualBlock"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: CxrVisionConfig) -> None:
        super().__init__(config)
        width = config.width
        self.conv1 = nn.Conv2d(1, width, config.patch_size, stride=config.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(config.image_tokens + 1, width))
        self.ln_pre = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.transformer = VisionTransformerBlocks(config)
        self.ln_post = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.proj = nn.Parameter(torch.empty(width, config.embed_dim))
        self.post_init()

    def forward(
        self, pixel_values: torch.Tensor, *, output_hidden_states: bool = False
    ) -> VisionOutput:
        """Encode a batch of images.

        Args:
            pixel_values: (B, 1, S, S) normalised pixels, as `ImageProcessor` returns them.
            output_hidden_states: also return the residual stream after every block.

        Raises:
            InputError: the shape is not (B, 1, S, S) with S of the configuration.
        """
        side = self.config.image_size
        if pixel_values.ndim != 4 or tuple(pixel_values.shape[1:]) != (1, side, side):
            raise InputError(
                f"pixel_values must have shape (B, 1, {side}, {side}), got "
                f"{tuple(pixel_values.shape)}; prepare images with the model's processor"
            )
        weight = self.conv1.weight
        pixel_values = pixel_values.to(weight.device, weight.dtype, non_blocking=True)
        hidden = self.conv1(pixel_values)
        hidden = hidden.flatten(2).transpose(1, 2)
        first = self.class_embedding.to(hidden.dtype).expand(hidden.shape[0], 1, -1)
        hidden = torch.cat((first, hidden), dim=1) + self.positional_embedding.to(hidden.dtype)
        hidden = self.ln_pre(hidden)
        states = [hidden]
        for block in self.transformer.resblocks:
            hidden = block(hidden)
            if output_hidden_states:
                states.append(hidden)
        hidden = self.ln_post(hidden)
        return VisionOutput(
            tokens=hidden[:, 1:],
            pooled=hidden[:, 0] @ self.proj,
            hidden_states=tuple(states) if output_hidden_states else None,
        )

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module as open_clip initialises its transformer."""
        std = self.config.width**-0.5
        if isinstance(module, VisionTower):
            init.normal_(module.class_embedding, std=std)
            init.normal_(module.positional_embedding, std=std)
            init.normal_(module.proj, std=std)
        elif isinstance(module, nn.Conv2d):
            init.normal_(module.weight, std=self.config.patch_size**-1)
        elif isinstance(module, VisionAttention):
            init.normal_(module.in_proj_weight, std=std)
            init.zeros_(module.in_proj_bias)
        elif isinstance(module, _Linear):
            init.normal_(module.weight, std=module.initial_std)
            init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)


def _branch_std(config: CxrVisionConfig) -> float:
    """Start of the weights that end a residual branch: smaller the deeper the tower."""
    return config.width**-0.5 * (2 * config.layers) ** -0.5
