"""The whole model: splicing, causality, cache, loss, names, saving."""

import json

import pytest
import torch
from safetensors import safe_open
from transformers import AttentionInterface, AutoModel, AutoModelForImageTextToText
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from workbench.errors import InputError
from workbench.model.config import CxrLlavaConfig
from workbench.model.llava import CxrLlavaForConditionalGeneration, stretch
from workbench.model.prompt import IMAGE_TOKEN_ID

VISION = {"image_size": 14, "patch_size": 7, "width": 10, "layers": 2, "head_width": 5}
LLAMA = {
    "hidden_size": 12,
    "intermediate_size": 17,
    "max_position_embeddings": 131,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "num_key_value_heads": 1,
    "vocab_size": 23,
}
N = 4


def build(**llama):
    torch.manual_seed(0)
    config = CxrLlavaConfig(
        clip_vision_cfg=VISION, clip_embed_dim=3, llama={**LLAMA, "initializer_range": 0.3, **llama}
    )
    return CxrLlavaForConditionalGeneration(config).eval()


@pytest.fixture
def model():
    return build()


@pytest.fixture
def pixels():
    return torch.randn(2, 1, 14, 14, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ids():
    image = IMAGE_TOKEN_ID
    return torch.tensor([[1, 1, 5, image, 7, 8], [1, 1, image, 6, 9, 2]])


@torch.no_grad()
def test_features_stand_where_the_image_id_was(model, pixels, ids):
    features = model.encode_image(pixels)
    embeds = model.splice(ids, features)
    table = model.llama.embed_tokens.weight
    assert embeds.shape == (2, 6 - 1 + N, 12)
    assert torch.equal(embeds[0, 3 : 3 + N], features[0])
    assert torch.equal(embeds[1, 2 : 2 + N], features[1])
    assert torch.equal(embeds[0, [0, 1, 2, 7, 8]], table[[1, 1, 5, 7, 8]])
    assert torch.equal(embeds[1, [0, 1, 6, 7, 8]], table[[1, 1, 6, 9, 2]])


@torch.no_grad()
def test_several_images_in_reading_order_and_one_for_all(model, pixels):
    ids = torch.tensor([[1, IMAGE_TOKEN_ID, 5, IMAGE_TOKEN_ID]])
    features = model.encode_image(pixels)
    embeds = model.splice(ids, features)
    assert torch.equal(embeds[0, 1 : 1 + N], features[0])
    assert torch.equal(embeds[0, 2 + N :], features[1])
    shared = model.splice(ids, features[:1])
    assert torch.equal(shared[0, 2 + N :], features[0])


@torch.no_grad()
def test_the_three_ways_of_giving_an_image_agree(model, pixels, ids):
    from_pixels = model(ids, pixel_values=pixels).logits
    features = model.encode_image(pixels)
    assert torch.equal(model(ids, image_features=features).logits, from_pixels)
    embeds = model.splice(ids, features)
    assert torch.equal(model(inputs_embeds=embeds).logits, from_pixels)


@torch.no_grad()
def test_no_position_sees_a_later_one_image_tokens_included(model, pixels, ids):
    embeds = model.splice(ids, model.encode_image(pixels))
    before = model(inputs_embeds=embeds).logits
    for position in range(embeds.shape[1]):
        changed = embeds.clone()
        changed[:, position] += 1.0
        after = model(inputs_embeds=changed).logits
        torch.testing.assert_close(after[:, :position], before[:, :position], atol=1e-6, rtol=0)
        assert not torch.allclose(after[:, position], before[:, position], atol=1e-3)


@torch.no_grad()
def test_cached_continuation_equals_one_pass(model, pixels, ids):
    whole = model(ids, pixel_values=pixels).logits
    first = model(ids[:, :4], pixel_values=pixels, use_cache=True)
    rest = model(ids[:, 4:], past_key_values=first.past_key_values, use_cache=True)
    torch.testing.assert_close(rest.logits, whole[:, -2:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_mask_per_id_hides_padding(model, pixels):
    image = IMAGE_TOKEN_ID
    alone = model(torch.tensor([[1, image, 5]]), pixel_values=pixels[:1]).logits
    ids = torch.tensor([[0, 0, 1, image, 5]])
    mask = torch.tensor([[0, 0, 1, 1, 1]])
    positions = torch.tensor([[0, 0, *range(3 - 1 + N)]])
    padded = model(ids, pixel_values=pixels[:1], attention_mask=mask, position_ids=positions).logits
    torch.testing.assert_close(padded[:, 2:], alone, atol=1e-5, rtol=1e-5)


def test_loss_is_cross_entropy_of_the_labelled_positions_only(model, pixels, ids):
    labels = ids.clone()
    labels[:, :4] = -100
    output = model(ids, pixel_values=pixels, labels=labels)
    chosen = output.logits.log_softmax(-1)
    by_hand = -sum(
        chosen[row, N - 1 + column - 1, ids[row, column]] for row in (0, 1) for column in (4, 5)
    )
    torch.testing.assert_close(output.loss, by_hand / 4)
    long = stretch(labels, ids, N, -100)
    torch.testing.assert_close(model(ids, pixel_values=pixels, labels=long).loss, output.loss)


def test_loss_reaches_every_part(model, pixels, ids):
    model.train()
    model(ids, pixel_values=pixels, labels=ids.masked_fill(ids < 0, -100)).loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == ["vision_tower.proj"]


@torch.no_grad()
def test_only_the_last_logits_on_request(model, pixels, ids):
    whole = model(ids, pixel_values=pixels).logits
    last = model(ids, pixel_values=pixels, logits_to_keep=2).logits
    torch.testing.assert_close(last, whole[:, -2:], atol=1e-6, rtol=1e-5)
    some = model(ids, pixel_values=pixels, logits_to_keep=torch.tensor([0, 5])).logits
    torch.testing.assert_close(some, whole[:, [0, 5]], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_one_registered_function_sees_vision_and_language_attention(model, pixels, ids):
    from transformers.models.llama.modeling_llama import eager_attention_forward as eager

    seen = []

    def record(module, query, key, value, attention_mask, **kwargs):
        output, rows = eager(module, query, key, value, attention_mask, **kwargs)
        seen.append((type(module).__name__, module.layer_idx, rows.sum(-1)))
        return output, rows

    AttentionInterface.register("whole_recorder", record)
    AttentionMaskInterface.register("whole_recorder", eager_mask)
    plain = model(ids, pixel_values=pixels).logits
    model.set_attn_implementation("whole_recorder")
    recorded = model(ids, pixel_values=pixels).logits
    assert [entry[:2] for entry in seen] == [
        *(("VisionAttention", i) for i in range(2)),
        *(("LlamaAttention", i) for i in range(3)),
    ]
    for _, _, sums in seen:
        torch.testing.assert_close(sums, torch.ones_like(sums))
    torch.testing.assert_close(recorded, plain, atol=1e-5, rtol=1e-5)


def test_names_are_those_of_the_published_checkpoint(model):
    names = set(model.state_dict())
    assert {name.split(".")[0] for name in names} == {
        "vision_tower",
        "mm_projector",
        "llama",
        "lm_head",
    }
    assert {"mm_projector.weight", "mm_projector.bias", "lm_head.weight"} <= names
    assert "llama.layers.2.self_attn.k_proj.weight" in names
    assert not any("inv_freq" in name for name in names)


@torch.no_grad()
def test_saved_in_the_published_layout_and_read_by_auto_classes(tmp_path, model, pixels, ids):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "CXR-LLAVA"
    assert config["clip_vision_cfg"]["head_width"] == 5
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(model.state_dict())
    expected = model(ids, pixel_values=pixels).logits
    for auto in (AutoModel, AutoModelForImageTextToText):
        again = auto.from_pretrained(tmp_path)
        assert torch.equal(again(ids, pixel_values=pixels).logits, expected)


@torch.no_grad()
def test_a_tied_head_is_one_matrix_and_survives_saving(tmp_path, pixels, ids):
    model = build(tie_word_embeddings=True)
    assert model.lm_head.weight is model.llama.embed_tokens.weight
    model.save_pretrained(tmp_path)
    again = CxrLlavaForConditionalGeneration.from_pretrained(tmp_path)
    assert again.lm_head.weight is again.llama.embed_tokens.weight
    expected = model(ids, pixel_values=pixels).logits
    assert torch.equal(again(ids, pixel_values=pixels).logits, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of input_ids and inputs_embeds"),
        ({"input_ids": torch.tensor([[1, -200]])}, "no image came"),
        (
            {"input_ids": torch.tensor([[1, 2]]), "image_features": torch.zeros(1, N, 12)},
            "0 image places",
        ),
        (
            {"input_ids": torch.tensor([[1, -200]]), "image_features": torch.zeros(3, N, 12)},
            "1 image places .* 3 images came",
        ),
        (
            {"input_ids": torch.tensor([[1, -200]]), "image_features": torch.zeros(1, N, 11)},
            r"shape \(K, N, 12\)",
        ),
        (
            {
                "input_ids": torch.tensor([[1, -200], [1, 2]]),
                "image_features": torch.zeros(1, N, 12),
            },
            "same number of images",
        ),
        (
            {
                "input_ids": torch.tensor([[1, 2]]),
                "labels": torch.tensor([[1, 2]]),
                "logits_to_keep": 1,
            },
            "one value per id",
        ),
    ],
)
def test_misuse_is_an_error_that_says_what_was_expected(model, arguments, message):
    with pytest.raises(InputError, match=message):
        model(**arguments)
