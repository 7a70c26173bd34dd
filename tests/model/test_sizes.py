"""Parameter counts equal arithmetic on the configuration."""

from types import SimpleNamespace

import pytest
from transformers import CLIPVisionConfig, Qwen2VLConfig, SwinConfig

from workbench.model.config import CxrLlavaConfig
from workbench.model.sizes import empty_model, full_size_config, measure, tower


def by_hand(config):
    vision, llama = config.vision, config.llama
    width, hidden = vision.width, llama.hidden_size
    block = 4 * width  # two LayerNorms
    block += 3 * width * width + 3 * width + width * width + width
    block += 2 * width * vision.mlp_width + vision.mlp_width + width
    tower = vision.patch_size**2 * width + width + (vision.image_tokens + 1) * width
    tower += vision.layers * block + 4 * width + width * vision.embed_dim
    heads, groups = llama.num_attention_heads, llama.num_key_value_heads
    linear = 2 * hidden * heads * llama.head_dim + 2 * hidden * groups * llama.head_dim
    linear += 3 * hidden * llama.intermediate_size
    language = llama.vocab_size * hidden + llama.num_hidden_layers * (linear + 2 * hidden) + hidden
    head = 0 if llama.tie_word_embeddings else llama.vocab_size * hidden
    return tower, width * hidden + hidden, language, head, llama.num_hidden_layers * linear


SMALL = CxrLlavaConfig(
    clip_vision_cfg={"image_size": 35, "patch_size": 7, "width": 22, "layers": 3, "head_width": 11},
    clip_embed_dim=5,
    llama={
        "hidden_size": 24,
        "intermediate_size": 29,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "vocab_size": 31,
        "tie_word_embeddings": True,
    },
)


@pytest.mark.parametrize("config", [full_size_config(), SMALL], ids=["full", "small"])
def test_counts_equal_arithmetic(config):
    sizes = measure(empty_model(config))
    found = (
        sizes.vision_tower,
        sizes.mm_projector,
        sizes.language_model,
        sizes.lm_head,
        sizes.quantisable,
    )
    assert found == by_hand(config)
    assert sizes.parts()["total"] == sizes.total == sum(found[:4])


def test_the_full_size_model_has_seven_billion_parameters_and_takes_no_memory():
    model = empty_model(full_size_config())
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert measure(model).total == pytest.approx(7.05e9, rel=2e-3)


def test_memory_by_dtype():
    sizes = measure(empty_model(full_size_config()))
    memory = sizes.memory()
    assert memory["float32"] == 4 * sizes.total == 2 * memory["bfloat16"]
    rest = 2 * (sizes.total - sizes.quantisable)
    assert memory["8bit"] == sizes.quantisable + rest
    assert memory["4bit"] == sizes.quantisable * 9 // 16 + rest
    assert memory["int8"] == sizes.quantisable + 2 * rest


def test_loading_as_int8_takes_one_layer_beside_the_model():
    sizes = measure(empty_model(full_size_config()))
    assert sizes.largest == 4096 * 11008
    assert sizes.bytes_to_load("int8") - sizes.bytes_as("int8") < 5e8
    assert sizes.bytes_to_load("bfloat16") == sizes.bytes_as("bfloat16")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (SwinConfig(depths=(2, 6), num_heads=(3, 12), embed_dim=96), (192, 768, 8, 12)),
        (Qwen2VLConfig().vision_config, (1280, 5120, 32, 16)),
        (CLIPVisionConfig(), (768, 3072, 12, 12)),
    ],
    ids=["in stages", "names of its own", "plain"],
)
def test_towers_of_other_models_are_counted(seen, expected):
    assert tower(SimpleNamespace(vision_config=seen), 49) == (49, *expected)
