"""Training without false-premise turns leaves the vision tower as it was."""

from __future__ import annotations

import torch

import workbench as wb
from recipes.mini.variants import train_without_false_premises


def test_only_projector_and_language_model_move(tmp_path):
    model = wb.load_model(train_without_false_premises(tmp_path, images=16, phantoms=16, threads=1))
    before = wb.load_model("mini").loaded.model.state_dict()
    after = model.loaded.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any(name.startswith("vision_tower") for name in moved)
    assert any("lm_head" in name or "llama" in name for name in moved)
    assert model.notice == ("trained on phantoms, not for real radiographs. Not for clinical use.")
