"""Fresh LoRA changes nothing, merged equals unmerged, frozen stays frozen."""

import pytest
import torch

from tests.finetune.conftest import logits
from workbench.errors import TrainingError
from workbench.finetune.parts import (
    frozen,
    has_adapter,
    merge,
    prepare,
    trainable,
    weights_sha256,
)
from workbench.finetune.recipe import TuningRecipe
from workbench.model.config import PART_MODULES
from workbench.model.load import load_checkpoint


@pytest.mark.parametrize(
    "tuning",
    [
        TuningRecipe(language="lora", projector="frozen"),
        TuningRecipe(language="lora", projector="lora", vision="lora", rank=3, alpha=7),
        TuningRecipe(language="full", projector="full", vision="full"),
    ],
    ids=["language", "everywhere", "full"],
)
def test_a_fresh_adapter_changes_no_logit(loaded, tuning):
    before = logits(loaded.model)
    prepare(loaded.model, tuning)
    assert torch.equal(before, logits(loaded.model))


def test_updates_of_a_16_bit_base_are_float32(tiny):
    loaded = load_checkpoint(tiny, device="cpu", dtype="bfloat16")
    before = logits(loaded.model)
    tuning = TuningRecipe(language="lora", projector="lora", vision="lora")
    prepare(loaded.model, tuning)
    assert {p.dtype for _, p in trainable(loaded.model)} == {torch.float32}
    assert torch.equal(before, logits(loaded.model))
    merge(loaded.model)
    assert torch.equal(before, logits(loaded.model))
    assert loaded.model.get_decoder().layers[0].self_attn.q_proj.weight.dtype == torch.bfloat16


def test_what_learns_is_what_the_recipe_says(loaded):
    prepare(loaded.model, TuningRecipe(language="lora", projector="full", vision="frozen"))
    names = [name for name, _ in trainable(loaded.model)]
    assert all("lora_" in name or name.startswith("mm_projector.") for name in names)
    assert not any(name.startswith(PART_MODULES["vision"]) for name in names)
    assert sum("lora_A" in name for name in names) == 2 * 7  # layers times linear layers


def test_frozen_weights_keep_their_sum_and_their_names(loaded):
    every = {name for name, _ in loaded.model.named_parameters()}
    prepare(loaded.model, TuningRecipe(language="lora", projector="frozen"))
    before = weights_sha256(frozen(loaded.model))
    assert {name for name, _ in frozen(loaded.model)} == every
    with torch.no_grad():
        for _, p in trainable(loaded.model):
            p.add_(0.1)
    assert weights_sha256(frozen(loaded.model)) == before
    with torch.no_grad():
        loaded.model.llama.norm.weight[0] += 1e-7
    assert weights_sha256(frozen(loaded.model)) != before


def test_merged_equals_unmerged(loaded):
    names = set(loaded.model.state_dict())
    start = logits(loaded.model)
    tuning = TuningRecipe(language="lora", projector="lora", vision="lora", rank=3, alpha=7)
    prepare(loaded.model, tuning)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, p in trainable(loaded.model):
            p.copy_(torch.randn(p.shape, generator=generator) * 0.05)
    unmerged = logits(loaded.model)
    assert (unmerged - start).abs().max() > 1e-3
    merge(loaded.model)
    assert not has_adapter(loaded.model)
    assert set(loaded.model.state_dict()) == names
    assert torch.allclose(logits(loaded.model), unmerged, rtol=1e-4, atol=1e-4)


def test_a_second_adapter_is_refused(loaded):
    prepare(loaded.model, TuningRecipe())
    with pytest.raises(TrainingError, match="merge it first"):
        prepare(loaded.model, TuningRecipe())


def test_checksums_see_names_shapes_and_bytes():
    one, two = torch.arange(6.0), torch.arange(6.0).reshape(2, 3)
    sums = {
        weights_sha256([("a", one)]),
        weights_sha256([("b", one)]),
        weights_sha256([("a", two)]),
        weights_sha256([("a", one + 1)]),
        weights_sha256([("a", one.bfloat16())]),
    }
    assert len(sums) == 5
    assert weights_sha256([("a", one), ("b", two)]) == weights_sha256([("b", two), ("a", one)])
