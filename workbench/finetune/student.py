"""The model as it is trained: which parts learn, and the loss on answer tokens.

`Student` wraps the whole model without changing it, so that everything else in this package
(generation, saliency, grounding) runs on the very module that is being trained.

Word pieces that a model has never written share one direction in its output head: training only
ever pushed them down, together. Behind a frozen head no LoRA can tell them apart (`mini`: each
stays at 1 in 700), so a new word needs `tuning.words: full`. A model trained on all sorts of text
has no such pieces.

Does not know: optimisers and steps (`trainer`), where batches come from (`encoding`).
Papers: Hu et al., LoRA, ICLR 2022, arXiv 2106.09685; Dettmers et al., QLoRA, NeurIPS 2023,
arXiv 2305.14314. Both through peft.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from workbench.errors import TrainingError
from workbench.finetune.recipe import TuningRecipe
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.splice import IGNORE_LABEL

ADAPTER = "default"

#: Parts of the model, the names of their modules, and the linear layers that LoRA goes to.
PART_MODULES = {
    "words": ("llama.embed_tokens", "lm_head"),
    "language": ("llama.layers", "llama.norm"),
    "projector": ("mm_projector",),
    "vision": ("vision_tower",),
}
LORA_TARGETS = {
    "language": r"llama\.layers\.\d+\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)",
    "projector": r"mm_projector",
    "vision": r"vision_tower\.transformer\.resblocks\.\d+\.mlp\.(?:c_fc|c_proj)",
}


class Student(nn.Module):
    """A model with the loss of instruction tuning.

    Args:
        model: trained in place.
    """

    accepts_loss_kwargs = True

    def __init__(self, model: CxrLlavaForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        labels: torch.Tensor,
        weights: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        vision_tokens: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **batch: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Return the loss of a batch from `encoding`.

        Args:
            labels: ids to be predicted, -100 elsewhere.
            weights: weight of the loss on each of them.
            pixel_values: (B, 1, S, S) normalised pixels; or
            vision_tokens: (B, N, W) what the frozen tower made of them.
            num_items_in_batch: answer tokens of the whole step, over all processes.
            **batch: the rest of a padded or packed batch.

        Returns:
            {"loss": scalar}, summed over answer tokens, weighted, and divided by their number.
        """
        features = self.features(pixel_values, vision_tokens)
        if "packed_ids" in batch:
            logits, targets, weights = self._packed(features, batch, weights)
        else:
            output = self.model(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                image_features=features,
                use_cache=False,
            )
            logits, targets, weights = _behind_image(output.logits, labels, weights)
        count = (targets != IGNORE_LABEL).sum() if num_items_in_batch is None else (
            num_items_in_batch)  # fmt: skip
        each = F.cross_entropy(
            logits.flatten(0, -2).float(), targets.flatten(), reduction="none",
            ignore_index=IGNORE_LABEL,
        )  # fmt: skip
        return {"loss": (each * weights.flatten()).sum() / count}

    def features(
        self, pixel_values: torch.Tensor | None, vision_tokens: torch.Tensor | None
    ) -> torch.Tensor:
        """Return (B, N, H) image features from pixels or from what the tower made of them."""
        if vision_tokens is None:
            vision_tokens = self.model.vision_tower(pixel_values).tokens
        weight = self.model.mm_projector.weight
        return self.model.mm_projector(vision_tokens.to(device=weight.device, dtype=weight.dtype))

    def _packed(
        self, features: torch.Tensor, batch: Mapping[str, torch.Tensor], weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        start = int(batch["image_start"][0])
        embeds = self.model.llama.embed_tokens(batch["packed_ids"])
        behind = embeds[:, start + features.shape[1] :]
        embeds = torch.cat([embeds[:, :start], features.to(embeds.dtype), behind], dim=1)
        allowed = batch["allowed"]
        floor = torch.finfo(embeds.dtype).min
        mask = torch.zeros(allowed.shape, dtype=embeds.dtype, device=embeds.device)
        hidden = self.model.llama(
            inputs_embeds=embeds,
            attention_mask=mask.masked_fill(~allowed, floor),
            position_ids=batch["positions"],
            use_cache=False,
        ).last_hidden_state
        targets = batch["shift_labels"]
        rows = targets != IGNORE_LABEL
        return self.model.lm_head(hidden[rows]), targets[rows], weights[rows]


def _behind_image(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits, labels and weights of the positions behind the image, shifted to meet."""
    first = int((labels != IGNORE_LABEL).float().argmax(1).min())
    text = labels.shape[1] - first
    return logits[:, logits.shape[1] - text - 1 : -1], labels[:, first:], weights[:, first:]


def prepare(
    model: CxrLlavaForConditionalGeneration, tuning: TuningRecipe, *, seed: int = 0
) -> CxrLlavaForConditionalGeneration:
    """Freeze a model and make the parts of a recipe learn, in place.

    A fresh LoRA update is zero, so that the model says what it said before.

    Args:
        model: from `load_checkpoint`.
        tuning: which parts learn.
        seed: of fresh LoRA weights.

    Raises:
        TrainingError: the model carries an adapter already.
    """
    if has_adapter(model):
        raise TrainingError("the model carries an adapter already; merge it first (finetune.merge)")
    model.requires_grad_(False)
    parts = {name: getattr(tuning, name) for name in PART_MODULES}
    wanted = [LORA_TARGETS[name] for name, how in parts.items() if how == "lora"]
    if wanted:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(lora_config(tuning), model, adapter_name=ADAPTER)
    for name, how in parts.items():
        if how == "full":
            for module in PART_MODULES[name]:
                model.get_submodule(module).requires_grad_(True)
    if parts["vision"] == "full":
        model.vision_tower.proj.requires_grad_(False)
    return model


def lora_config(tuning: TuningRecipe) -> LoraConfig:
    """Return what peft is told."""
    wanted = [LORA_TARGETS[part] for part in LORA_TARGETS if getattr(tuning, part) == "lora"]
    return LoraConfig(
        r=tuning.rank,
        lora_alpha=tuning.alpha,
        lora_dropout=tuning.dropout,
        target_modules="|".join(f"(?:{one})" for one in wanted),
        bias="none",
    )


def has_adapter(model: nn.Module) -> bool:
    """Say whether LoRA updates are in a model."""
    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


def merge(model: CxrLlavaForConditionalGeneration) -> CxrLlavaForConditionalGeneration:
    """Fold every LoRA update into its weight, in place; names are as before the adapter.

    Raises:
        TrainingError: a weight is stored in 4 or 8 bit, which cannot hold the sum exactly.
    """
    for name, module in list(model.named_modules()):
        if not isinstance(module, BaseTunerLayer):
            continue
        base = module.get_base_layer()
        if base.weight.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise TrainingError(
                f"{name} is stored in {base.weight.dtype}; load the base unquantised to merge"
            )
        module.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module.get_base_layer())
    return model


def original_name(name: str) -> str:
    """Return the name that a parameter has in the model without an adapter."""
    return re.sub(r"\.base_layer\b", "", name)


def trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters that learn."""
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def frozen(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the parameters that do not learn, under their names without an adapter."""
    for name, p in model.named_parameters():
        if not p.requires_grad:
            yield original_name(name), p
