"""Adapters: on their own base only, the same merged, whole when exported."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

import workbench as wb
from tests.finetune.conftest import logits
from workbench.errors import CheckpointError
from workbench.finetune.adapters import NOTE, TENSORS, export, load_adapter, save_adapter
from workbench.finetune.parts import prepare, trainable
from workbench.finetune.recipe import TuningRecipe
from workbench.generation.parity import compare as parity
from workbench.interface import CxrLlavaModel
from workbench.model.load import load_checkpoint


def said(model) -> torch.Tensor:
    return logits(model.loaded.model)


def test_an_adapter_comes_back_as_it_was_trained(tiny, tiny_run):
    base = said(wb.load_model(tiny))
    tuned = load_adapter(tiny, tiny_run.adapter)
    assert (said(tuned) - base).abs().max() > 1e-4
    assert torch.allclose(said(tuned), said(tiny_run.model(merged=True)), rtol=1e-4, atol=1e-4)
    assert tuned.card.name == "A_tiny + tiny"
    assert TENSORS in tuned.card.sha256s
    report = tuned.report(wb.phantom(3, size=64), max_new_tokens=3)
    assert report.model.id == "A_tiny + tiny"


@pytest.mark.parametrize(
    "tuning",
    [
        TuningRecipe(language="lora", embeddings="full", projector="full"),
        TuningRecipe(language="lora", projector="lora", vision="lora", rank=3, alpha=7),
        TuningRecipe(language="full", projector="full", vision="full"),
        TuningRecipe(language="frozen", projector="full"),
    ],
    ids=["words", "everywhere", "full", "projector"],
)
def test_peft_loads_an_adapter_and_says_the_same(tiny, tmp_path, tuning):
    loaded = load_checkpoint(tiny, device="cpu", dtype="float32")
    prepare(loaded.model, tuning)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, p in trainable(loaded.model):
            p.add_(torch.randn(p.shape, generator=generator) * 0.05)
    folder = save_adapter(tmp_path / "adapter", CxrLlavaModel(loaded), tuning, name="moved")
    loaded.model.eval()
    ours = load_adapter(tiny, folder)
    base = load_checkpoint(tiny, device="cpu", dtype="float32").model
    theirs = PeftModel.from_pretrained(base, folder)
    wanted = logits(loaded.model)
    assert (wanted - said(wb.load_model(tiny))).abs().max() > 1e-3
    assert torch.equal(said(ours), wanted) and torch.equal(logits(theirs), wanted)
    theirs.save_pretrained(tmp_path / "again")
    one, two = (load_file(path / TENSORS) for path in (folder, tmp_path / "again"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_an_adapter_of_an_earlier_layout_is_refused_with_what_to_do(tiny, tiny_run, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(tiny_run.adapter, old)
    note = json.loads((old / NOTE).read_text())
    (old / NOTE).write_text(json.dumps(note | {"format": "workbench-adapter/1"}))
    with pytest.raises(CheckpointError, match="export it as a checkpoint with workbench"):
        load_adapter(tiny, old)


def test_another_base_is_refused_by_hash(tiny, tiny_run, tmp_path):
    with pytest.raises(CheckpointError, match="on another one the update means nothing"):
        load_adapter("mini", tiny_run.adapter)
    other = tmp_path / "A_tiny"
    shutil.copytree(tiny, other)
    loaded = load_checkpoint(tiny, device="cpu", dtype="float32")
    with torch.no_grad():
        loaded.model.llama.norm.weight[0] += 1e-3
    wb.model.save_checkpoint(other, loaded.model, loaded.tokenizer)
    with pytest.raises(CheckpointError, match="was trained on A_tiny"):
        load_adapter(other, tiny_run.adapter)


def test_damaged_and_missing_adapters_are_named(tiny, tiny_run, tmp_path):
    with pytest.raises(CheckpointError, match="give the adapter folder"):
        load_adapter(tiny, tmp_path)
    torn = tmp_path / "torn"
    shutil.copytree(tiny_run.adapter, torn)
    (torn / TENSORS).write_bytes((torn / TENSORS).read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="copy it again"):
        load_adapter(tiny, torn)


def test_the_card_says_what_it_is_and_where_from(tiny_run):
    card = (tiny_run.adapter / "README.md").read_text()
    note = json.loads((tiny_run.adapter / NOTE).read_text())
    assert "Not for clinical use" in card and "LoRA of rank 8" in card
    for digest in note["base"]["sha256"].values():
        assert digest in card
    assert "Before and after" in card and str(tiny_run.ledger.data["digest"]) in card


def test_an_exported_checkpoint_is_what_the_adapter_says(tiny_run, tmp_path):
    out = tiny_run.export(tmp_path / "model")
    again = wb.load_model(out)
    assert torch.allclose(said(again), said(tiny_run.model()), rtol=1e-4, atol=1e-4)
    assert again.card.name == "A_tiny + tiny"
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.model", "README.md",
            "model_card.json"} <= names  # fmt: skip


def test_an_export_of_a_fresh_adapter_passes_the_parity_doctor(tiny, root, tmp_path):
    loaded = load_checkpoint(tiny, device="cpu", dtype="float32")
    tuning = TuningRecipe(language="lora", projector="lora", vision="lora")
    prepare(loaded.model, tuning)
    adapter = save_adapter(tmp_path / "adapter", CxrLlavaModel(loaded), tuning, name="fresh")
    export(adapter, tmp_path / "checkpoints" / "A_tiny", base=tiny)
    for folder in ("golden", "images"):
        (tmp_path / folder).symlink_to(root / "tests" / "golden" / folder)
    found = parity(tmp_path / "checkpoints" / "A_tiny")
    assert found.ok, [row for row in found.misses][:3]
