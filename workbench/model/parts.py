"""The parts of a network that learn apart: their modules, and the layers that LoRA goes to.

CXR-LLaVA's are named in its configuration. Those of any other image-text-to-text network follow
from where transformers says its decoder, its embeddings and its vision tower are: the projector is
what stands beside decoder and tower, or, where nothing does, what stands behind the tower's blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import cast

from torch import nn
from transformers import PreTrainedModel

from workbench.model.config import LORA_TARGETS, PART_MODULES
from workbench.model.llava import CxrLlavaForConditionalGeneration

PARTS = tuple(PART_MODULES)


def part_modules(network: PreTrainedModel) -> dict[str, tuple[str, ...]]:
    """Return part -> names of its modules; a part that was not found has none."""
    if isinstance(network, CxrLlavaForConditionalGeneration):
        return dict(PART_MODULES)
    decoder = cast(nn.Module, network.get_decoder())
    vision = cast(nn.Module, network.get_encoder("image"))
    words = [network.get_input_embeddings(), network.get_output_embeddings()]
    between = _with_weights(
        one for one in network.base_model.children() if one not in (decoder, vision, *words)
    )
    seen = [vision]
    if not between:
        between = _behind_blocks(vision)
        seen = [one for one in _with_weights(vision.children()) if one not in between]
    language = [one for one in _with_weights(decoder.children()) if one not in words]
    found = zip(PARTS, (words, language, between, seen), strict=True)
    names = {module: name for name, module in network.named_modules()}
    return {part: tuple(names[one] for one in modules) for part, modules in found}


def projector_of(network: PreTrainedModel) -> nn.ModuleList:
    """Return what stands between vision tower and decoder."""
    return nn.ModuleList(map(network.get_submodule, part_modules(network)["projector"]))


def lora_targets(network: PreTrainedModel, part: str) -> str:
    """Return a pattern of the names of a part's linear layers; empty where it has none."""
    if isinstance(network, CxrLlavaForConditionalGeneration):
        return LORA_TARGETS[part]
    modules = {
        f"{name}.{inner}".removesuffix(".base_layer").rstrip("."): isinstance(module, nn.Linear)
        for name in part_modules(network)[part]
        for inner, module in network.get_submodule(name).named_modules()
        if "lora_" not in inner
    }
    others, found = [name for name, linear in modules.items() if not linear], set()
    for name in (name for name, linear in modules.items() if linear):
        # one pattern for all blocks, unless it would also take what stands between linear layers
        wide = re.sub(r"\\\.\d+\b", r"\\.\\d+", re.escape(name))
        found.add(re.escape(name) if any(re.fullmatch(wide, one) for one in others) else wide)
    return "|".join(sorted(found))


def _with_weights(modules: Iterator[nn.Module]) -> list[nn.Module]:
    return [one for one in modules if next(one.parameters(), None) is not None]


def _behind_blocks(vision: nn.Module) -> Sequence[nn.Module]:
    """Return what stands behind the blocks of a tower; nothing where they are not its own."""
    children = _with_weights(vision.children())
    stacks = [one for one in children if isinstance(one, nn.ModuleList)]
    if not stacks:
        return []
    return children[children.index(max(stacks, key=len)) + 1 :]
