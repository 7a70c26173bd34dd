"""The configuration reads the published layout and writes it back."""

import json

import pytest
import torch
from transformers import AutoConfig

from workbench.errors import OptionError
from workbench.model.config import PIXEL_MEAN, CxrLlavaConfig, CxrVisionConfig

OLD_LLAMA = {
    "_name_or_path": "somewhere",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 24,
    "intermediate_size": 29,
    "max_position_embeddings": 131,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "torch_dtype": "float16",
    "vocab_size": 37,
}


def published(**changes):
    config = {
        "auto_map": {"AutoModel": "evil.Model"},
        "clip_embed_dim": 7,
        "clip_vision_cfg": {
            "image_size": 48,
            "layers": 2,
            "width": 20,
            "patch_size": 16,
            "head_width": 5,
        },
        "image_preprocess_cfg": {"mean": 0.5, "std": [0.25]},
        "llama": dict(OLD_LLAMA),
        "mm_projector_dim": 20,
        "model_type": "CXR-LLAVA",
        "torch_dtype": "bfloat16",
    }
    return {**config, **changes}


def test_sizes_follow_the_file():
    config = CxrLlavaConfig(**published())
    assert (config.vision.heads, config.vision.grid, config.image_tokens) == (4, 3, 9)
    assert config.vision.embed_dim == config.clip_embed_dim == 7
    assert (config.pixel_mean, config.pixel_std) == (0.5, 0.25)
    assert config.context_length == 131
    assert config.llama.num_key_value_heads == 3
    assert config.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"rope_type": "default", "rope_theta": 10_000.0}),
        ({"rope_theta": 5e5}, {"rope_type": "default", "rope_theta": 5e5}),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0},
        ),
        (
            {"rope_theta": 77.0, "rope_scaling": {"type": "dynamic", "factor": 4.0}},
            {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 77.0},
        ),
    ],
)
def test_old_rope_keys_are_translated_and_written_back(old, new):
    config = CxrLlavaConfig(**published(llama={**OLD_LLAMA, **old}))
    assert config.llama.rope_parameters == new
    written = config.to_dict()["llama"]
    assert written["rope_theta"] == new["rope_theta"]
    assert written["rope_scaling"] == old.get("rope_scaling")
    assert "rope_parameters" not in written


def test_saving_and_reading_changes_nothing(tmp_path):
    config = CxrLlavaConfig(**published(max_position_embeddings=97, clip_vision_tower_dtype="bf16"))
    config.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    again = CxrLlavaConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert again.max_position_embeddings == 97
    assert json.loads(text)["clip_vision_tower_dtype"] == "bf16"
    assert "auto_map" not in text


def test_absent_optional_keys_have_the_published_defaults():
    config = CxrLlavaConfig(llama=OLD_LLAMA)
    assert (config.vision.width, config.vision.layers, config.image_tokens) == (1024, 24, 1024)
    assert config.mm_projector_dim == 1024
    assert config.pixel_mean == PIXEL_MEAN
    assert config.max_position_embeddings is None
    assert "max_position_embeddings" not in config.to_dict()


def test_unknown_keys_are_kept(caplog):
    config = CxrLlavaConfig(**published(strange_key=3, tune_mm_mlp_adapter=False))
    assert config.strange_key == 3
    assert not caplog.records


def test_quick_gelu_is_named_as_unread(caplog):
    CxrLlavaConfig(**published(clip_quick_gelu=True))
    assert "exact GELU" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mm_projector_dim": 21}, "must equal the vision width 20"),
        ({"image_preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}, "one grey channel"),
        ({"image_preprocess_cfg": {"std": 0.0}}, "std above 0"),
        ({"clip_vision_cfg": [1]}, "must be an object, got list"),
        ({"llama": {**OLD_LLAMA, "num_attention_heads": 5}}, "llama section"),
    ],
)
def test_misfits_are_errors_that_say_so(changes, message):
    with pytest.raises(OptionError, match=message):
        CxrLlavaConfig(**published(**changes))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch_size": 513}, "must not be above image_size 512"),
        ({"head_width": 300}, "must be a multiple of the number of heads"),
        ({"head_width": 2000}, "must be a multiple of the number of heads"),
        ({"layers": 0}, "whole number above 0"),
        ({"image_size": [512, 256]}, "must be square"),
        ({"attentional_pool": True}, "does not compute"),
        ({"ls_init_value": 0.1}, "does not compute"),
    ],
)
def test_vision_sizes_must_fit(fields, message):
    with pytest.raises(OptionError, match=message):
        CxrVisionConfig(**fields)


def test_sizes_that_do_not_divide_are_floored_as_in_open_clip():
    config = CxrVisionConfig(image_size=70, patch_size=16, width=96, head_width=64)
    assert (config.grid, config.heads) == (4, 1)


def test_registered_with_autoconfig(tmp_path):
    import workbench.model.llava  # noqa: F401  (registers on import)

    CxrLlavaConfig(**published()).save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), CxrLlavaConfig)
