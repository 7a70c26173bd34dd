"""Loading: directories, hub caches and mini; what does not fit is named before it is loaded."""

import json
import logging
import shutil

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.model.hub import WEIGHTS, published_cache
from workbench.errors import CheckpointError, OptionError
from workbench.model import licence, source
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.load import load_checkpoint, save_checkpoint
from workbench.model.source import (
    PUBLISHED_ID,
    PUBLISHED_REVISION,
    find_local,
    resolve_source,
)
from workbench.model.weights import find_weights


@pytest.fixture
def copy(tmp_path, golden):
    """A copy of one reference checkpoint that may be damaged."""
    return shutil.copytree(golden / "checkpoints" / "A_tiny", tmp_path / "copy")


@pytest.fixture
def hub_cache(tmp_path, golden, monkeypatch):
    """A hub cache that holds a reference checkpoint under the published id and revision."""
    repo = published_cache(tmp_path / "hub", golden / "checkpoints" / "A_tiny")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return repo


def edit_json(path, **changes):
    value = json.loads(path.read_text())
    value.update(changes)
    path.write_text(json.dumps(value))


def edit_weights(directory, change):
    state = load_file(directory / WEIGHTS)
    change(state)
    save_file(state, directory / WEIGHTS)


def test_a_directory_gives_model_tokenizer_processor_and_card(checkpoint):
    loaded = load_checkpoint(checkpoint, device="cpu")
    assert loaded.model.dtype == torch.float32
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.tokenizer.vocab_size == loaded.model.config.llama.vocab_size
    assert loaded.processor.size == loaded.model.config.vision.image_size
    assert loaded.card.name == loaded.directory.name == checkpoint.name
    assert loaded.generation["eos_token_id"] == 2


def test_shards_and_one_file_hold_the_same_model(checkpoint, tmp_path):
    loaded = load_checkpoint(str(checkpoint), device="cpu")
    other = "5GB" if len(find_weights(checkpoint).files) > 1 else "200KB"
    save_checkpoint(tmp_path, loaded.model, loaded.tokenizer, max_shard_size=other)
    assert (len(find_weights(tmp_path).files) > 1) == (other == "200KB")
    again = load_checkpoint(tmp_path, device="cpu")
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
    assert again.tokenizer.legacy == loaded.tokenizer.legacy


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtype_is_followed_and_rope_is_not_touched(checkpoint, dtype):
    model = load_checkpoint(checkpoint, device="cpu", dtype=dtype).model
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}
    assert model.llama.rotary_emb.inv_freq.dtype == torch.float32


def test_saved_in_half_precision_and_loaded_in_single(checkpoint, tmp_path):
    loaded = load_checkpoint(checkpoint, device="cpu")
    save_checkpoint(
        tmp_path,
        loaded.model,
        loaded.tokenizer,
        dtype="float16",
        generation={"temperature": 0.2},
        facts={"name": "mine", "domain": "phantom", "seed": 3},
    )
    assert loaded.model.dtype == loaded.model.config.dtype == torch.float32
    assert find_weights(tmp_path).dtypes == ("F16",)
    again = load_checkpoint(tmp_path, device="cpu")
    assert again.model.dtype == torch.float32
    name = "llama.layers.0.mlp.up_proj.weight"
    expected = loaded.model.state_dict()[name].half().float()
    assert torch.equal(again.model.state_dict()[name], expected)
    assert again.generation["temperature"] == 0.2
    assert (again.card.name, again.card.domain) == ("mine", "phantom")
    assert again.card.facts["seed"] == 3
    assert "not for real radiographs" in again.card.notice


def test_a_tied_head_is_stored_once(copy, tmp_path):
    config = json.loads((copy / "config.json").read_text())
    config["llama"]["tie_word_embeddings"] = True
    (copy / "config.json").write_text(json.dumps(config))
    edit_weights(copy, lambda state: state.pop("lm_head.weight"))
    loaded = load_checkpoint(copy, device="cpu")
    save_checkpoint(tmp_path / "half", loaded.model, loaded.tokenizer, dtype="float16")
    assert "lm_head.weight" not in find_weights(tmp_path / "half").shapes
    again = load_checkpoint(tmp_path / "half", device="cpu").model
    assert again.lm_head.weight is again.llama.embed_tokens.weight


def test_saving_in_an_unknown_dtype(checkpoint, tmp_path):
    loaded = load_checkpoint(checkpoint, device="cpu")
    with pytest.raises(OptionError, match="dtype must be one of"):
        save_checkpoint(tmp_path, loaded.model, loaded.tokenizer, dtype="int8")


def test_the_published_id_is_found_in_a_hub_cache_without_a_network(hub_cache):
    loaded = load_checkpoint(PUBLISHED_ID, device="cpu", offline=True)
    assert loaded.card.revision == PUBLISHED_REVISION
    assert loaded.card.name == PUBLISHED_ID
    assert "CC BY-NC 4.0" in loaded.card.licence
    assert load_checkpoint(PUBLISHED_ID, device="cpu").card == loaded.card
    blobs = {path.name for path in (hub_cache / "blobs").iterdir()}
    assert set(loaded.card.sha256s.values()) <= blobs


def test_the_pinned_revision_is_asked_for_and_never_code(monkeypatch, golden):
    asked = []

    def download(repo_id, **options):
        asked.append((repo_id, options))
        return str(golden / "checkpoints" / "A_tiny")

    monkeypatch.setattr(source.huggingface_hub, "snapshot_download", download)
    resolve_source(PUBLISHED_ID)
    resolve_source(PUBLISHED_ID, revision="main")
    resolve_source("someone/else")
    assert [options["revision"] for _, options in asked] == [PUBLISHED_REVISION, "main", None]
    for _, options in asked:
        assert not any(one.endswith(("py", "bin", "*")) for one in options["allow_patterns"])
        assert {"*.py", "*.bin"} <= set(options["ignore_patterns"])


def test_an_incomplete_cache_is_not_taken_for_a_model(hub_cache):
    (hub_cache / "snapshots" / PUBLISHED_REVISION / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="network is off or out of reach"):
        load_checkpoint(PUBLISHED_ID, offline=True)


def test_a_hub_id_that_is_not_here(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"neither a directory .* nor completely in the hub"):
        load_checkpoint("someone/else", offline=True)
    assert find_local("someone/else") is None


@pytest.mark.parametrize("text", ["nowhere", "./here/not", "a/b/c", "/no/such/folder", "../x"])
def test_a_path_that_does_not_exist_says_so(text):
    with pytest.raises(CheckpointError, match="no such directory"):
        load_checkpoint(text)


def test_a_path_object_is_never_taken_for_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no such directory: 'someone/else'"):
        load_checkpoint(tmp_path.__class__("someone/else"))


def test_a_file_is_not_a_checkpoint(checkpoint):
    with pytest.raises(CheckpointError, match="is a file; give the directory"):
        load_checkpoint(checkpoint / "config.json")


def test_a_revision_belongs_to_a_hub_id(checkpoint):
    with pytest.raises(OptionError, match="revision belongs to a hub id"):
        load_checkpoint(checkpoint, revision="main")


def test_mini_is_the_embedded_directory(golden, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "_ASSETS", tmp_path)
    with pytest.raises(CheckpointError, match="workbench train mini"):
        load_checkpoint("mini")
    shutil.copytree(golden / "checkpoints" / "A_tiny", tmp_path / "mini")
    card = load_checkpoint("mini", device="cpu").card
    assert (card.name, card.domain, card.licence) == ("mini", "phantom", "Apache-2.0")


def test_missing_weights_name_the_first_five(copy):
    def change(state):
        for name in [name for name in state if name.startswith("llama.layers.0")]:
            del state[name]

    edit_weights(copy, change)
    with pytest.raises(CheckpointError, match=r"missing: llama\.layers\.0\.input") as caught:
        load_checkpoint(copy)
    assert str(caught.value).count("llama.layers.0") == 5
    assert "and 4 more" in str(caught.value)


def test_unexpected_and_misshapen_weights_are_named(copy):
    def change(state):
        state["extra.weight"] = torch.zeros(3)
        state["mm_projector.bias"] = torch.zeros(7)
        state["llama.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(8)

    edit_weights(copy, change)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(copy)
    assert "unexpected: extra.weight" in str(caught.value)
    assert r"misshapen: mm_projector.bias [7] instead of [64]" in str(caught.value)
    assert "inv_freq" not in str(caught.value)


def test_old_inv_freq_entries_are_passed_over(copy):
    def change(state):
        state["llama.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(8)

    edit_weights(copy, change)
    rotary = load_checkpoint(copy, device="cpu").model.llama.rotary_emb
    assert rotary.inv_freq[0] == 1.0


def test_a_head_of_its_own_is_kept_where_the_config_ties_it(copy):
    config = json.loads((copy / "config.json").read_text())
    config["llama"]["tie_word_embeddings"] = True
    (copy / "config.json").write_text(json.dumps(config))
    stored = load_file(copy / WEIGHTS)
    model = load_checkpoint(copy, device="cpu").model
    assert torch.equal(model.lm_head.weight, stored["lm_head.weight"].float())
    embedded = stored["llama.embed_tokens.weight"].float()
    assert torch.equal(model.llama.embed_tokens.weight, embedded)
    edit_weights(copy, lambda state: state.pop("lm_head.weight"))
    model = load_checkpoint(copy, device="cpu").model
    assert model.lm_head.weight is model.llama.embed_tokens.weight
    assert torch.equal(model.lm_head.weight, embedded)


def test_no_code_is_run_and_no_pickle_is_read(copy, tmp_path):
    ran = tmp_path / "ran"
    edit_json(copy / "config.json", auto_map={"AutoModel": "evil.Model"})
    (copy / "evil.py").write_text(f"open({str(ran)!r}, 'w').close()")
    load_checkpoint(copy, device="cpu")
    assert not ran.exists()
    (copy / WEIGHTS).rename(copy / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pickled weights .* are never read"):
        load_checkpoint(copy)


def damaged_header(copy):
    (copy / WEIGHTS).write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{broken}")


def truncated(copy):
    data = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(data[: len(data) // 2])


def no_weights(copy):
    (copy / WEIGHTS).unlink()


def no_config(copy):
    (copy / "config.json").unlink()


def no_tokenizer(copy):
    (copy / "tokenizer.model").unlink()


def broken_config(copy):
    (copy / "config.json").write_text("{")


def other_model(copy):
    edit_json(copy / "config.json", model_type="llava")


def misfit_config(copy):
    edit_json(copy / "config.json", mm_projector_dim=63)


def foreign_tokenizer(copy):
    shutil.copy(copy.parent / "B.model", copy / "tokenizer.model")


def index_without_map(copy):
    (copy / WEIGHTS).unlink()
    (copy / f"{WEIGHTS}.index.json").write_text("{}")


def index_out_of_the_directory(copy):
    (copy / WEIGHTS).unlink()
    index = {"weight_map": {"lm_head.weight": "../model.safetensors"}}
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def missing_shard(copy):
    (copy / WEIGHTS).unlink()
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damaged_header, "model.safetensors is damaged or not a safetensors file"),
        (truncated, "model.safetensors is damaged or not a safetensors file"),
        (no_weights, "no model.safetensors and no model.safetensors.index.json"),
        (no_config, "no config.json"),
        (no_tokenizer, "no tokenizer.model"),
        (broken_config, "config.json is not valid JSON"),
        (other_model, "model of type 'llava'"),
        (misfit_config, "mm_projector_dim 63 must equal the vision width 64"),
        (foreign_tokenizer, "knows 640 ids, but the model embeds 512"),
        (index_without_map, "holds no weight_map"),
        (index_out_of_the_directory, "shards are safetensors files beside it"),
        (missing_shard, "1 of 1 shards are missing"),
    ],
)
def test_damage_is_an_error_that_names_the_file(copy, golden, damage, message):
    shutil.copy(golden / "checkpoints" / "B_gqa_odd" / "tokenizer.model", copy.parent / "B.model")
    damage(copy)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(copy)


def test_optional_files_may_be_missing(copy):
    for name in ("generation_config.json", "special_tokens_map.json", "tokenizer_config.json"):
        (copy / name).unlink()
    loaded = load_checkpoint(copy, device="cpu")
    assert loaded.generation == {}
    assert loaded.tokenizer.legacy


def test_the_notice_is_said_once(copy, caplog, monkeypatch):
    monkeypatch.setattr(licence, "_said", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            load_checkpoint(copy, device="cpu")
    said = [record for record in caplog.records if "not for clinical use" in record.message]
    assert len(said) == 1


def test_transformers_own_loader_reads_the_same_directory(checkpoint):
    ours = load_checkpoint(checkpoint, device="cpu").model.state_dict()
    theirs = CxrLlavaForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours[name], value)


@pytest.mark.parametrize("changes", [{"bos_token": "</s>"}, {"eos_token": "<unk>"}])
def test_a_tokenizer_with_other_marks_than_the_template_is_refused(copy, changes):
    edit_json(copy / "tokenizer_config.json", **changes)
    with pytest.raises(CheckpointError, match=r"the chat template has '<s>' and '</s>'"):
        load_checkpoint(copy)


def test_the_card_of_a_loaded_model_says_what_it_computes_in(checkpoint):
    assert load_checkpoint(checkpoint, device="cpu").card.placement == (
        "float32 on cpu: the model is small"
    )
    card = load_checkpoint(checkpoint, device="cpu", quantize="int8").card
    assert card.placement == "int8 on cpu: as asked"
    assert "int8 on cpu: as asked" in card.to_frame()["value"].tolist()
