"""The parts of a model: which of them learn, LoRA in and out, and proof of what did not change.

Papers: Hu et al., LoRA, ICLR 2022, arXiv 2106.09685; Dettmers et al., QLoRA, NeurIPS 2023,
arXiv 2305.14314, both through peft; ridge regression, Hoerl and Kennard, Technometrics 1970.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar, cast

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import nn
from transformers import PreTrainedModel

from workbench.backends.levels import READER, needs
from workbench.errors import TrainingError
from workbench.finetune.recipe import TuningRecipe
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.parts import PARTS, lora_targets, part_modules

Network = TypeVar("Network", bound=PreTrainedModel)

#: Images that a fit of the projector reads at most, and weight of its penalty, per token.
FIT_IMAGES, PENALTY = 384, 1e-5


def prepare(model: Network, tuning: TuningRecipe, *, seed: int = 0) -> Network:
    """Freeze a model and make the parts of a recipe learn, in place; `seed` is of LoRA weights.

    A fresh LoRA update is zero, so that the model says what it said before. `TrainingError` where
    it carries an adapter already, or has no such part.
    """
    if has_adapter(model):
        raise TrainingError("the model carries an adapter already; merge it first (finetune.merge)")
    _check_parts(model, tuning)
    model.requires_grad_(False)
    if _parts(tuning, "lora"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(lora_config(model, tuning), model)
    # as peft's own `autocast_adapter_dtype`: 16 bit would round small steps away
    for _, p in trainable(model):
        p.data = p.data.float()
    for name in whole_modules(model, tuning):
        model.get_submodule(name).requires_grad_(True)
    if tuning.vision == "full":
        cast(CxrLlavaForConditionalGeneration, model).vision.proj.requires_grad_(False)
    return model


def _check_parts(model: PreTrainedModel, tuning: TuningRecipe) -> None:
    """Refuse what a network of this type cannot learn."""
    kind = model.config.model_type
    if tuning.vision != "frozen" and not isinstance(model, CxrLlavaForConditionalGeneration):
        raise TrainingError(
            f"the vision tower of models of type {kind!r} is not trained here, only that of "
            "CXR-LLaVA; set tuning.vision to frozen"
        )
    for part in _parts(tuning, "lora") + _parts(tuning, "full"):
        if not part_modules(model)[part]:
            raise TrainingError(
                f"no {part} was found in a model of type {kind!r}; set tuning.{part} to frozen"
            )
    for part in _parts(tuning, "lora"):
        if not lora_targets(model, part):
            raise TrainingError(
                f"the {part} of a model of type {kind!r} has no linear layer for LoRA; set "
                f"tuning.{part} to full or frozen"
            )


def lora_config(model: PreTrainedModel, tuning: TuningRecipe) -> LoraConfig:
    """Return what peft is told; a name of no module where nothing learns by LoRA."""
    wanted = [f"(?:{lora_targets(model, part)})" for part in _parts(tuning, "lora")]
    return LoraConfig(
        r=tuning.rank,
        lora_alpha=tuning.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=tuning.dropout,
        target_modules="|".join(wanted) or DUMMY_TARGET_MODULES,
        bias="none",
    )


def whole_modules(model: PreTrainedModel, tuning: TuningRecipe) -> list[str]:
    """Return the names of modules whose every weight learns; a list of layers as its layers."""
    found, modules = [], part_modules(model)
    for name in (name for part in _parts(tuning, "full") for name in modules[part]):
        module = model.get_submodule(name)
        layers = range(len(module)) if isinstance(module, nn.ModuleList) else ()
        found += [f"{name}.{at}" for at in layers] or [name]
    return found


def _parts(tuning: TuningRecipe, how: str) -> list[str]:
    return [part for part in PARTS if getattr(tuning, part) == how]


def has_adapter(model: nn.Module) -> bool:
    """Return whether LoRA updates are in a model."""
    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


@needs(READER)
def merge(model: Network) -> Network:
    """Fold every LoRA update into its weight, in place; names are as before the adapter.

    `TrainingError` where a weight is stored in 4 or 8 bit, too coarse for the sum.

    >>> network = wb.finetune.load_adapter("mini", trained.adapter).network
    >>> any("lora" in name for name, _ in wb.finetune.merge(network).named_parameters())
    False
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


def part_of(model: PreTrainedModel) -> dict[int, str]:
    """Return `id` of a parameter -> the part that it is of, LoRA updates included."""
    return {
        id(p): part
        for part, names in part_modules(model).items()
        for name in names
        for p in model.get_submodule(name).parameters()
    }


def trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters that learn."""
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def parts_learned(model: PreTrainedModel) -> dict[str, dict[str, int]]:
    """Return part -> {"tensors", "parameters"} that learn."""
    found, parts = {part: {"tensors": 0, "parameters": 0} for part in PARTS}, part_of(model)
    for _, p in trainable(model):
        found[parts[id(p)]]["tensors"] += 1
        found[parts[id(p)]]["parameters"] += p.numel()
    return found


def frozen(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the parameters that do not learn, under their names without an adapter."""
    for name, p in model.named_parameters():
        if not p.requires_grad:
            yield re.sub(r"\.base_layer\b", "", name), p


def weights_sha256(named: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Return the SHA-256 of names, shapes, dtypes and bytes of tensors, in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named, key=lambda item: item[0]):
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


@torch.no_grad()
def fit_projector(
    projector: nn.Linear,
    images: int,
    tokens_and_wanted: Callable[[np.ndarray], tuple[torch.Tensor, torch.Tensor]],
) -> float:
    """Set a projector to the ridge solution; return the share of variance that it explains.

    Args:
        projector: set in place.
        images: how many there are; up to `FIT_IMAGES` of them, evenly spread, are read.
        tokens_and_wanted: takes row numbers, returns (n, W) tokens and (n, H) wanted outputs.
    """
    rows = np.unique(np.linspace(0, images - 1, min(FIT_IMAGES, images)).astype(int))
    width = projector.in_features
    gram = torch.zeros(width + 1, width + 1)
    cross = torch.zeros(width + 1, projector.out_features)
    total, count = torch.zeros(projector.out_features), 0
    for chunk in np.array_split(rows, max(len(rows) // 16, 1)):
        tokens, wanted = (found.float().cpu() for found in tokens_and_wanted(chunk))
        tokens = torch.cat([tokens, torch.ones(len(tokens), 1)], 1)
        gram += tokens.T @ tokens
        cross += tokens.T @ wanted
        total += wanted.square().sum(0)
        count += len(tokens)
    solution = torch.linalg.solve(gram + PENALTY * count * torch.eye(width + 1), cross)
    mean = cross[-1] / count
    explained = (solution * cross).sum(0) - count * mean.square()
    spread = total - count * mean.square()
    projector.weight.copy_(solution[:-1].T)
    projector.bias.copy_(solution[-1])
    return float(explained.sum() / spread.sum())


@torch.no_grad()
def refit_projector(
    model: CxrLlavaForConditionalGeneration,
    old: nn.Module,
    images: int,
    pixels: Callable[[np.ndarray], torch.Tensor],
) -> float:
    """Fit the projector of a model with a new tower to say what it said of the `old` tokens.

    `pixels` takes row numbers of `images`, returns (n, 1, S, S) as the model sees them.

    Returns:
        share of the old features' variance that is kept.
    """
    before, tower = copy.deepcopy(model.projector), model.vision

    def pairs(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        batch = pixels(rows).to(model.device)
        return tower(batch).tokens.flatten(0, 1), before(old(batch).tokens.flatten(0, 1))

    return fit_projector(model.projector, images, pairs)
