"""Cards: counts, budget, hashes and terms, without loading weights."""

import hashlib
import json

import huggingface_hub.constants
import pytest

import workbench.model
from workbench.errors import CheckpointError, OptionError
from workbench.model.card import ModelCard, card
from workbench.model.load import load_checkpoint
from workbench.model.source import PUBLISHED_ID, PUBLISHED_REVISION


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))


def test_the_published_model_needs_no_network_to_be_described(no_cache):
    found = card(PUBLISHED_ID)
    assert not found.on_this_machine
    assert found.revision == PUBLISHED_REVISION
    assert found.parameters["total"] == pytest.approx(7.05e9, rel=2e-3)
    assert (found.image_tokens, found.text_tokens) == (1024, 3072)
    assert found.context_length == found.image_tokens + found.text_tokens
    assert found.memory["bfloat16"] == 2 * found.parameters["total"]
    assert found.cache_bytes == 2 * 2 * 32 * 4096
    assert "CC BY-NC 4.0" in found.licence
    assert "LLaMA 2" in found.licence
    assert found.domain == "radiograph"


def test_a_directory_is_described_as_it_is_loaded(checkpoint):
    found = card(checkpoint)
    assert found == load_checkpoint(checkpoint, device="cpu").card
    parts = dict(found.parameters)
    assert parts.pop("total") == sum(parts.values())
    for name, digest in found.sha256s.items():
        data = (checkpoint / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest
    assert card(checkpoint, hashes=False).sha256s == {}


def test_the_module_can_be_called(checkpoint):
    assert isinstance(workbench.model.card(checkpoint), ModelCard)


def test_frame_dict_and_html(checkpoint):
    found = card(checkpoint)
    frame = found.to_frame()
    assert list(frame.columns) == ["section", "item", "value", "unit"]
    total = frame[(frame.section == "parameters") & (frame.item == "total")]
    assert total.value.item() == found.parameters["total"]
    assert json.loads(json.dumps(found.to_dict()))["name"] == checkpoint.name
    page = found._repr_html_()
    assert found.notice in page
    assert f"{found.parameters['total']:,}" in page


def test_nothing_to_describe(no_cache):
    with pytest.raises(CheckpointError, match="no such directory"):
        card("nowhere")
    with pytest.raises(CheckpointError, match="is not on this machine"):
        card("someone/else")
    with pytest.raises(OptionError, match="got int"):
        card(7)
