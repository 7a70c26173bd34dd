"""The vision tower: shapes, names, arithmetic by hand, and the attention registry."""

import pytest
import torch
from torch import nn
from transformers import AttentionInterface
from transformers.models.llama.modeling_llama import eager_attention_forward

from workbench.errors import InputError
from workbench.model.config import CxrVisionConfig
from workbench.model.vision import VisionTower


def tower(**changes):
    torch.manual_seed(0)
    fields = {"image_size": 21, "patch_size": 7, "width": 10, "layers": 2, "head_width": 5}
    fields["embed_dim"] = 3
    return VisionTower(CxrVisionConfig(**{**fields, **changes})).eval()


@pytest.fixture
def pixels():
    return torch.randn(2, 1, 21, 21, generator=torch.Generator().manual_seed(1))


def test_shapes(pixels):
    with torch.no_grad():
        out = tower()(pixels, output_hidden_states=True)
    assert out.tokens.shape == (2, 9, 10)
    assert out.pooled.shape == (2, 3)
    assert [tuple(state.shape) for state in out.hidden_states] == [(2, 10, 10)] * 3


def test_parameter_names_are_those_of_open_clip():
    names = set(dict(tower(layers=1).named_parameters()))
    block = "transformer.resblocks.0."
    linear = {"attn.out_proj", "mlp.c_fc", "mlp.c_proj", "ln_1", "ln_2"}
    assert names == {
        "class_embedding",
        "positional_embedding",
        "conv1.weight",
        "proj",
        "ln_pre.weight",
        "ln_pre.bias",
        "ln_post.weight",
        "ln_post.bias",
        block + "attn.in_proj_weight",
        block + "attn.in_proj_bias",
        *(f"{block}{name}.{kind}" for name in linear for kind in ("weight", "bias")),
    }


def test_attention_equals_torch_multihead_attention(pixels):
    model = tower()
    layer = model.transformer.resblocks[0].attn
    reference = nn.MultiheadAttention(10, 2, batch_first=True)
    reference.load_state_dict(layer.state_dict())
    hidden = torch.randn(2, 10, 10)
    with torch.no_grad():
        expected, rows = reference(hidden, hidden, hidden, average_attn_weights=False)
        torch.testing.assert_close(layer(hidden)[0], expected)
        model.set_attn_implementation("eager")
        output, eager_rows = layer(hidden)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(eager_rows, rows)


def test_patches_are_row_major_and_images_independent(pixels):
    model = tower(layers=1)
    with torch.no_grad():
        both = model(pixels).tokens
        alone = model(pixels[1:]).tokens
        embedded = model.conv1(pixels)
    torch.testing.assert_close(both[1:], alone)
    torch.testing.assert_close(embedded.flatten(2).transpose(1, 2)[:, 5], embedded[:, :, 1, 2])


def test_a_registered_attention_function_sees_every_layer(pixels):
    seen = []

    def record(module, query, key, value, attention_mask, **kwargs):
        output, rows = eager_attention_forward(module, query, key, value, attention_mask, **kwargs)
        seen.append((module.layer_idx, rows))
        return output, rows

    AttentionInterface.register("vision_recorder", record)
    model = tower()
    with torch.no_grad():
        plain = model(pixels).tokens
        model.set_attn_implementation("vision_recorder")
        recorded = model(pixels).tokens
    assert [index for index, _ in seen] == [0, 1]
    for _, rows in seen:
        torch.testing.assert_close(rows.sum(-1), torch.ones(2, 2, 10))
    torch.testing.assert_close(recorded, plain)


def test_training_start_is_that_of_open_clip():
    model = tower(image_size=256, patch_size=16, width=128, head_width=32, layers=3)
    block = model.transformer.resblocks[1]
    expected = {
        model.proj: 128**-0.5,
        model.positional_embedding: 128**-0.5,
        block.attn.in_proj_weight: 128**-0.5,
        block.attn.out_proj.weight: 128**-0.5 * 6**-0.5,
        block.mlp.c_fc.weight: 256**-0.5,
        block.mlp.c_proj.weight: 128**-0.5 * 6**-0.5,
    }
    for parameter, std in expected.items():
        assert parameter.std().item() == pytest.approx(std, rel=0.1)
    assert not block.mlp.c_fc.bias.any()


def test_every_parameter_but_proj_is_reached_by_the_tokens(pixels):
    model = tower().train()
    model(pixels).tokens.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == ["proj"]


def test_gradient_checkpointing_changes_nothing(pixels):
    model = tower().train()
    plain = model(pixels).tokens
    model.activation_checkpointing_enable()
    checkpointed = model(pixels).tokens
    torch.testing.assert_close(checkpointed, plain)
    checkpointed.sum().backward()
    assert model.conv1.weight.grad is not None


def test_saved_alone_and_read_back(tmp_path, pixels):
    model = tower()
    model.save_pretrained(tmp_path)
    again = VisionTower.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(pixels).tokens, model(pixels).tokens)


@pytest.mark.parametrize("shape", [(1, 21, 21), (1, 3, 21, 21), (1, 1, 14, 21)])
def test_wrong_shape_is_an_error_naming_the_right_one(shape):
    with pytest.raises(InputError, match=r"shape \(B, 1, 21, 21\)"):
        tower()(torch.zeros(shape))
