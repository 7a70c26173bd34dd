"""RoPE frequencies stay float32 under every cast, measured at positions beyond 1,000."""

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from workbench.model.config import CxrLlavaConfig
from workbench.model.llava import CxrLlavaForConditionalGeneration

HEAD = 128  # as in LLaMA-2-7B
POSITIONS = torch.arange(1001, 1101)


def build(**llama):
    torch.manual_seed(0)
    config = CxrLlavaConfig(
        clip_vision_cfg={
            "image_size": 8,
            "patch_size": 8,
            "width": 4,
            "layers": 1,
            "head_width": 4,
        },
        clip_embed_dim=3,
        llama={
            "hidden_size": 2 * HEAD,
            "intermediate_size": 37,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "vocab_size": 23,
            "initializer_range": 0.3,
            **llama,
        },
    )
    return CxrLlavaForConditionalGeneration(config).eval()


def exact_cosines():
    frequencies = 10_000.0 ** (-np.arange(0, HEAD, 2) / HEAD)
    return np.cos(np.outer(POSITIONS.numpy(), frequencies))


def cosines(model):
    values = torch.zeros(1, 1, dtype=model.dtype)
    cos, _ = model.llama.rotary_emb(values, POSITIONS[None])
    return cos[0, :, : HEAD // 2].double().numpy()


def reload(dtype):
    def cast(model, directory):
        model.save_pretrained(directory)
        return CxrLlavaForConditionalGeneration.from_pretrained(directory, dtype=dtype)

    return cast


CASTS = {
    "to(bfloat16)": lambda model, _: model.to(torch.bfloat16),
    "to(float16)": lambda model, _: model.to(dtype=torch.float16),
    "half()": lambda model, _: model.half(),
    "bfloat16()": lambda model, _: model.bfloat16(),
    "llama.to(bfloat16)": lambda model, _: (model.llama.to(torch.bfloat16), model)[1],
    "there and back": lambda model, _: model.to(torch.bfloat16).float(),
    "double()": lambda model, _: model.double(),
    "from_pretrained(bfloat16)": reload(torch.bfloat16),
    "from_pretrained(float16)": reload(torch.float16),
}


@pytest.mark.parametrize("name", CASTS)
def test_angles_beyond_1000_are_right_under_every_cast(name, tmp_path):
    model = CASTS[name](build(), tmp_path)
    rotary = model.llama.rotary_emb
    assert rotary.inv_freq.dtype == rotary.original_inv_freq.dtype == torch.float32
    assert np.abs(cosines(model) - exact_cosines()).max() < 2**-8


def test_the_measure_above_fails_for_the_stock_embedding():
    model = build()
    model.llama.rotary_emb = LlamaRotaryEmbedding(model.config.llama)
    assert np.abs(cosines(model) - exact_cosines()).max() < 2**-8
    model.to(torch.bfloat16)
    assert np.abs(cosines(model) - exact_cosines()).max() > 0.5


@torch.no_grad()
def test_hidden_states_at_1100_tokens_in_bfloat16_stay_close_to_float32():
    model = build()
    ids = torch.randint(3, 23, (1, 1100), generator=torch.Generator().manual_seed(2))

    def last_hundred():
        return model.llama(ids).last_hidden_state[0, -100:].float()

    exact = last_hundred()
    model.to(torch.bfloat16)
    close = torch.cosine_similarity(last_hundred(), exact).mean()
    model.llama.rotary_emb = LlamaRotaryEmbedding(model.config.llama).to(torch.bfloat16)
    rounded = torch.cosine_similarity(last_hundred(), exact).mean()
    assert close > 0.98
    assert rounded < 0.9


def test_a_model_built_without_storage_can_be_materialised_later():
    with torch.device("meta"):
        rotary = build().llama.rotary_emb
    assert rotary.inv_freq.device.type == "meta"
    rotary.to_empty(device="cpu")
    assert rotary.inv_freq.dtype == torch.float32


def test_linear_scaling_divides_positions():
    plain, scaled = build(), build(rope_scaling={"type": "linear", "factor": 2.0})
    torch.testing.assert_close(
        scaled.llama.rotary_emb.inv_freq * 2, plain.llama.rotary_emb.inv_freq
    )


def test_dynamic_scaling_starts_beyond_the_trained_length():
    plain = build()
    scaled = build(max_position_embeddings=64, rope_scaling={"type": "dynamic", "factor": 2.0})
    values = torch.zeros(1, 1)
    short = torch.arange(63)[None]
    torch.testing.assert_close(
        scaled.llama.rotary_emb(values, short)[0], plain.llama.rotary_emb(values, short)[0]
    )
    long = torch.arange(128)[None]
    scaled.llama.rotary_emb(values, long)
    base = 10_000.0 * ((2.0 * 128 / 64) - 1.0) ** (HEAD / (HEAD - 2))
    expected = base ** (-torch.arange(0, HEAD, 2) / HEAD)
    torch.testing.assert_close(scaled.llama.rotary_emb.inv_freq, expected)
