"""The whole model as stages 2 and 3 of `mini` train it, and symbols that stand in for images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from recipes.mini.data import CHANNELS
from recipes.mini.encoder import normalise, vision_config
from recipes.mini.recipe import MiniRecipe
from workbench.model.config import PIXEL_MEAN, PIXEL_STD, CxrLlavaConfig
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.tokenizer import CxrTokenizer
from workbench.model.vision import VisionTower


def mini_config(recipe: MiniRecipe, tokenizer: CxrTokenizer) -> CxrLlavaConfig:
    """Return the configuration of `mini` in the published layout."""
    vision = vision_config(recipe)
    return CxrLlavaConfig(
        clip_vision_cfg={
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "width": vision.width,
            "layers": vision.layers,
            "head_width": vision.head_width,
        },
        clip_embed_dim=vision.embed_dim,
        image_preprocess_cfg={"mean": PIXEL_MEAN, "std": PIXEL_STD},
        mm_projector_dim=vision.width,
        llama={
            "model_type": "llama",
            "hidden_size": recipe.hidden_size,
            "intermediate_size": recipe.intermediate_size,
            "num_hidden_layers": recipe.llama_layers,
            "num_attention_heads": recipe.llama_heads,
            "num_key_value_heads": recipe.llama_heads,
            "vocab_size": tokenizer.vocab_size,
            "max_position_embeddings": recipe.context,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "bos_token_id": tokenizer.bos_id,
            "eos_token_id": tokenizer.eos_id,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
        },
    )


class Learner(nn.Module):
    """The whole model together with the linear map of the language stage."""

    def __init__(self, recipe: MiniRecipe, tokenizer: CxrTokenizer, tower: VisionTower):
        super().__init__()
        torch.manual_seed(recipe.seed + 1)
        self.model = CxrLlavaForConditionalGeneration(mini_config(recipe, tokenizer))
        self.model.vision_tower.load_state_dict(tower.state_dict())
        self.model.vision_tower.requires_grad_(False)
        places = patch_places(recipe.image_size // recipe.patch_size)
        self.places: torch.Tensor
        self.register_buffer("places", places, persistent=False)
        self.symbols = nn.Linear(len(CHANNELS) + places.shape[1], recipe.hidden_size)
        nn.init.normal_(self.symbols.weight, std=0.3)

    def loss(
        self,
        packed: dict[str, torch.Tensor],
        features: torch.Tensor,
        weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the mean loss over answer tokens.

        Args:
            packed: from `pack`.
            features: (B, N, H) in the language model's space.
            weight: (V,) weight of each target token; all equal by default.
        """
        start = int(packed["image_start"][0])
        embeds = self.model.get_input_embeddings()(packed["ids"])
        embeds = torch.cat(
            [embeds[:, :start], features, embeds[:, start + features.shape[1] :]], dim=1
        )
        mask = torch.zeros(packed["allowed"].shape).masked_fill_(~packed["allowed"], -1e9)
        hidden = self.model.llama(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=packed["positions"],
            use_cache=False,
        ).last_hidden_state
        rows = packed["labels"] >= 0
        return F.cross_entropy(
            self.model.lm_head(hidden[rows]), packed["labels"][rows], weight=weight
        )

    def symbolic(
        self, cover: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return features (B, N, H) of true patch cover (B, N, C); with a generator, noisy."""
        shown = (cover * 3).clamp_max(1)
        if generator is not None:
            shown = shown + torch.randn(cover.shape, generator=generator) * 0.1
        places = self.places.expand(len(cover), -1, -1)
        return self.symbols(torch.cat([shown, places], 2))

    @torch.no_grad()
    def see(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return frozen vision tokens (B, N, W) of pixels (B, S, S) in [0, 1]."""
        return self.model.vision_tower(normalise(pixels)).tokens


def patch_places(side: int) -> torch.Tensor:
    """Return (side * side, 8) waves of row and column, so that a symbol knows where it lies."""
    line = (torch.arange(side) + 0.5) / side * torch.pi
    wave = torch.stack([line.cos(), line.sin(), (2 * line).cos(), (2 * line).sin()], 1)
    rows = wave[:, None].expand(side, side, -1)
    columns = wave[None].expand(side, side, -1)
    return torch.cat([rows, columns], 2).reshape(side * side, -1)
