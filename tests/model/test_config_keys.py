"""Keys of a config.json: refused where they mean another network, left out where they mean none."""

import json
import logging

import pytest
import torch

from workbench.errors import CheckpointError, OptionError
from workbench.model.card import read_config
from workbench.model.config_keys import network_keys
from workbench.model.load import load_checkpoint

BITS = {"quant_method": "bitsandbytes", "load_in_4bit": True}


def with_key(section, **keys):
    fields = {"llama": {"model_type": "llama", "vocab_size": 37}, "clip_vision_cfg": {"layers": 1}}
    (fields[section] if section else fields).update(keys)
    return fields


@pytest.mark.parametrize("section", ["", "llama", "clip_vision_cfg"])
@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("quantization_config", BITS, "bitsandbytes"),
        ("quantization_config", {"load_in_8bit": True}, "method unknown"),
        ("quantization_config", {"quant_method": "gptq", "bits": 3}, "gptq"),
        ("quantization_config", {"quant_method": "awq", "w_bit": 4}, "awq"),
        ("quantization_config", {"quant_method": "fp8"}, "fp8"),
        ("quantization_config", {"quant_method": "of another year"}, "of another year"),
        ("quantization_config", "int4", "int4"),
        ("compression_config", {"quant_method": "compressed-tensors"}, "compressed-tensors"),
    ],
)
def test_weights_in_another_form_are_refused_with_a_way_out(section, name, value, shown):
    with pytest.raises(OptionError, match=rf"quantised \({shown}.*quantize='8bit'"):
        network_keys(with_key(section, **{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_type", "mistral"),
        ("sliding_window", 64),
        ("layer_types", ["sliding_attention"]),
        ("logit_scale", 2.0),
        ("residual_multiplier", 0.5),
        ("partial_rotary_factor", 0.5),
        ("final_logit_softcapping", 30.0),
        ("is_causal", False),
        ("qk_layernorm", True),
        ("num_local_experts", 8),
        ("attention_multiplier", 0.1),
    ],
)
def test_arithmetic_of_a_relative_is_refused(name, value):
    with pytest.raises(OptionError, match=rf"{name}.*use a checkpoint with"):
        network_keys(with_key("llama", **{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sliding_window", None),
        ("sliding_window", 4096),
        ("logit_scale", 1.0),
        ("partial_rotary_factor", 1.0),
        ("is_causal", True),
        ("qk_layernorm", False),
        ("num_experts", 0),
        ("pretraining_tp", 2),
        ("use_cache", False),
        ("something_new", 7),
    ],
)
def test_the_same_arithmetic_said_otherwise_passes(name, value):
    assert network_keys(with_key("llama", **{name: value}))["llama"][name] == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rope_theta", 0),
        ("rope_theta", "10000"),
        ("rope_theta", -1.0),
        ("rms_norm_eps", -1e-5),
        ("rms_norm_eps", None),
        ("max_position_embeddings", 0),
        ("max_position_embeddings", True),
    ],
)
def test_numbers_that_compute_nothing_are_refused(name, value):
    with pytest.raises(OptionError, match=f"llama.{name} must be a number above 0"):
        network_keys(with_key("llama", **{name: value}))


@pytest.mark.parametrize("name", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("linear", "must be an object or null, got 'linear'"),
        (2.0, "must be an object or null"),
        ({"type": "none such", "factor": 2}, "the type 'none such'.*expected one of default, "),
        ({"rope_type": ["linear"], "factor": 2}, "the type .*expected one of default, "),
        ({"type": "linear", "factor": -2}, "factor must be a number from 1 up, got -2"),
        ({"type": "linear", "factor": 0.5}, "factor must be a number from 1 up"),
        ({"type": "linear", "factor": "2"}, "factor must be a number from 1 up, got '2'"),
        ({"type": "linear", "factor": True}, "factor must be a number from 1 up"),
        ({"type": "dynamic", "factor": float("nan")}, "factor must be a number from 1 up"),
    ],
)
def test_a_scaling_of_positions_that_means_nothing_is_refused(name, value, message):
    with pytest.raises(OptionError, match=rf"llama.{name}.*{message}"):
        network_keys(with_key("llama", **{name: value}))


@pytest.mark.parametrize(
    "value", [None, {}, {"type": "linear", "factor": 2}, {"rope_type": "default"}]
)
def test_a_scaling_of_positions_that_is_computed_passes(value):
    assert network_keys(with_key("llama", rope_scaling=value))["llama"]["rope_scaling"] == value


@pytest.mark.parametrize("section", ["", "llama", "clip_vision_cfg"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attn_implementation", "flash_attention_2"),
        ("_attn_implementation", "none such"),
        ("auto_map", {"AutoModel": "evil.Model"}),
        ("return_dict", False),
        ("use_return_dict", False),
        ("torchscript", True),
        ("torch_dtype", "bananas"),
        ("dtype", 3),
        ("transformers_weights", "other.safetensors"),
        ("quantization_config", None),
    ],
)
def test_how_somebody_ran_it_is_left_out_and_logged_quietly(section, name, value, caplog):
    with caplog.at_level(logging.DEBUG, logger="workbench"):
        found = network_keys(with_key(section, **{name: value}))
    assert name not in (found[section] if section else found)
    assert (f"{section}.{name}" if section else name) in caplog.text
    assert all(record.levelno == logging.DEBUG for record in caplog.records)


def test_a_dtype_stays_as_it_is_and_what_came_in_is_not_changed():
    fields = with_key("", torch_dtype="bfloat16", auto_map={})
    before = json.dumps(fields)
    assert network_keys(fields)["torch_dtype"] == "bfloat16"
    assert json.dumps(fields) == before


@pytest.mark.parametrize(("pad", "kept"), [(-1, None), (37, None), (36, 36), (None, None)])
def test_a_padding_id_beyond_the_embedding_is_left_out(pad, kept):
    assert network_keys(with_key("llama", pad_token_id=pad))["llama"]["pad_token_id"] == kept


def write(tiny, folder, **keys):
    fields = json.loads((folder.__class__(tiny) / "config.json").read_text())
    llama = {**fields["llama"], **keys.pop("llama", {})}
    (folder / "config.json").write_text(json.dumps({**fields, **keys, "llama": llama}))


def test_a_file_is_read_through_it(tiny, tmp_path):
    write(tiny, tmp_path, quantization_config=BITS)
    with pytest.raises(CheckpointError, match=r"config\.json .* saved quantised \(bitsandbytes"):
        read_config(tmp_path)
    write(tiny, tmp_path, image_preprocess_cfg=[1])
    with pytest.raises(CheckpointError, match=r"image_preprocess_cfg in .* must be an object"):
        read_config(tmp_path)
    write(tiny, tmp_path, image_preprocess_cfg={"mean": float("nan")})
    with pytest.raises(CheckpointError, match="mean must be a number"):
        read_config(tmp_path)


def test_what_is_left_out_changes_nothing(tiny, tmp_path):
    for path in tmp_path.__class__(tiny).iterdir():
        if path.name != "config.json":
            (tmp_path / path.name).symlink_to(path)
    llama = {"return_dict": False, "output_attentions": True, "pad_token_id": -1}
    write(tiny, tmp_path, attn_implementation="flash_attention_2", llama=llama)
    (tmp_path / "adapter_config.json").write_text("{")
    ids = torch.tensor([[1, 5, 9, 3]])
    plain, other = (load_checkpoint(f, device="cpu", dtype="float32") for f in (tiny, tmp_path))
    assert torch.equal(plain.model(input_ids=ids).logits, other.model(input_ids=ids).logits)
