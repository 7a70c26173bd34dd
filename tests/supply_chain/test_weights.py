"""Weights are held to their hashes before they are mapped; terms come before real weights do."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

import workbench as wb
from tests.model.hub import WEIGHTS, published_cache
from workbench.errors import CheckpointError
from workbench.model import load, source
from workbench.model.licence import NOT_CLINICAL, terms_of
from workbench.model.load import load_checkpoint, save_checkpoint
from workbench.model.source import PINNED, PUBLISHED_ID, PUBLISHED_REVISION, resolve_source
from workbench.model.weights import find_weights, hash_weights

ROOT = Path(__file__).resolve().parents[2]


def flip(path: Path, at: int = -5) -> None:
    """Turn one bit of a file round."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.fixture
def never_mapped(monkeypatch):
    """Loading weights is a failure of the test."""

    def touched(*_):
        raise AssertionError("the weights were loaded")

    monkeypatch.setattr(load, "_load_model", touched)


@pytest.fixture
def written(tiny, tmp_path):
    """A checkpoint in several shards, with the hashes that `save_checkpoint` notes."""
    loaded = load_checkpoint(tiny, device="cpu")
    facts = {"name": "mine"}
    save_checkpoint(
        tmp_path / "mine", loaded.model, loaded.tokenizer, facts=facts, max_shard_size="200KB"
    )
    return tmp_path / "mine"


@pytest.fixture
def hub(tiny, tmp_path, monkeypatch):
    """A hub cache with a small model under the published id; returns the blob of its weights."""
    repo = published_cache(tmp_path / "hub", Path(tiny))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return repo / "blobs" / hash_weights(find_weights(Path(tiny)))[WEIGHTS]


def test_a_flipped_bit_in_any_shard_is_found_before_loading(written, never_mapped):
    files = find_weights(written).files
    assert len(files) > 1
    for path in files:
        flip(path)
        with pytest.raises(CheckpointError, match=rf"{path.name} is damaged or was changed"):
            load_checkpoint(written, device="cpu")
        flip(path)


def test_a_sound_checkpoint_with_hashes_loads(written):
    card = load_checkpoint(written, device="cpu").card
    assert card.sha256s == card.facts["sha256"] == hash_weights(find_weights(written))


@pytest.mark.parametrize("left", [0, 7, 100, -1])
def test_a_truncated_shard_is_found_before_loading(written, never_mapped, left):
    path = find_weights(written).files[-1]
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(CheckpointError, match=f"{path.name} is damaged"):
        load_checkpoint(written, device="cpu")


def test_a_blob_of_the_hub_that_is_not_what_it_is_called_is_found(hub, never_mapped):
    flip(hub)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or was changed"):
        load_checkpoint(PUBLISHED_ID, device="cpu", offline=True)


def test_a_changed_mini_is_found(tmp_path, monkeypatch, never_mapped):
    shutil.copytree(ROOT / "workbench" / "assets" / "mini", tmp_path / "mini")
    monkeypatch.setattr(source, "_ASSETS", tmp_path)
    flip(tmp_path / "mini" / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or was changed"):
        load_checkpoint("mini", device="cpu")


def test_weights_that_change_between_two_sessions_do_not_go_on(tiny, tmp_path):
    """A directory without noted hashes: the run knows the hash it began with."""
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    wb.phantom(seed=1).image.show(size=32).savefig(tmp_path / "film.png")
    (tmp_path / "films.csv").write_text("image_id,path\nfilm,film.png\n")
    options = {"device": "cpu", "out": tmp_path / "run", "max_new_tokens": 1}
    wb.run(tmp_path / "films.csv", model=folder, **options)
    flip(folder / WEIGHTS)
    with pytest.raises(wb.errors.RunError, match=r"other settings: model\.files"):
        wb.run(tmp_path / "films.csv", model=folder, **options)


@pytest.mark.parametrize(
    "error", [ConnectionError("reset"), TimeoutError("slow"), OSError(28, "No space left"),
              RuntimeError("peer closed connection without sending complete message body")],
)  # fmt: skip
def test_an_interrupted_download_is_said_and_what_came_is_not_taken_for_a_model(
    error, hub, monkeypatch
):
    (hub.parents[1] / "snapshots" / PUBLISHED_REVISION / WEIGHTS).unlink()
    download = source.huggingface_hub.snapshot_download

    def broken(repo_id, **options):
        if options.get("local_files_only"):
            return download(repo_id, **options)
        raise error

    monkeypatch.setattr(source.huggingface_hub, "snapshot_download", broken)
    with pytest.raises(CheckpointError, match=r"could not be fetched from the hub.*try again"):
        load_checkpoint(PUBLISHED_ID, device="cpu")


def test_terms_are_said_before_anything_is_fetched(tiny, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    said_before = []

    def download(repo_id, **options):
        if options.get("local_files_only"):
            raise source.LocalEntryNotFoundError("not here")
        if "*.safetensors" in options["allow_patterns"]:  # the card itself comes first
            said_before.append(caplog.text)
        return str(tiny)

    monkeypatch.setattr(source.huggingface_hub, "snapshot_download", download)
    with caplog.at_level(logging.WARNING):
        resolve_source(PUBLISHED_ID)
        resolve_source("someone/else")
    for word in ("CC BY-NC 4.0", "LLaMA 2 Community License", NOT_CLINICAL, "accepting"):
        assert word in said_before[0]
    assert "not stated" in said_before[1]


def test_terms_are_recorded_in_each_run(hub, tmp_path):
    wb.phantom(seed=1).image.show(size=32).savefig(tmp_path / "film.png")
    (tmp_path / "films.csv").write_text("image_id,path\nfilm,film.png\n")
    found = wb.run(tmp_path / "films.csv", model=PUBLISHED_ID, device="cpu",
                   out=tmp_path / "run", max_new_tokens=1)  # fmt: skip
    model = json.loads((tmp_path / "run" / "run.json").read_text())["fixed"]["model"]
    assert "CC BY-NC 4.0" in model["licence"] and "LLaMA 2" in model["licence"]
    assert NOT_CLINICAL in model["notice"].lower()
    assert model["revision"] == PUBLISHED_REVISION
    assert model["files"] == {WEIGHTS: hub.name}
    assert found.done == 1


def test_every_pin_is_a_commit_and_every_version_is_one():
    assert PINNED
    assert all(len(pin) == 40 and int(pin, 16) >= 0 for pin in PINNED.values())
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 150
    assert all(line.count("==") == 1 for line in pins)


def test_a_notice_always_says_what_the_model_is_not_for():
    for kind, facts in (("mini", {}), ("hub", {}), ("directory", {"notice": "mine"})):
        assert NOT_CLINICAL in terms_of(kind, facts).notice.lower()
    assert NOT_CLINICAL in wb.model.card("mini").notice.lower()


def test_code_beside_weights_is_not_run_by_a_fresh_process(tiny, tmp_path):
    """The files of a checkpoint are on no import path, whatever they are called."""
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    for name in ("modeling_llava.py", "torch.py", "sitecustomize.py", "conftest.py"):
        (folder / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    code = f"import workbench as wb; wb.load_model({str(folder)!r}, device='cpu')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
    assert torch.__name__ == "torch"
