"""Tiny random checkpoints of families of transformers, whole directories, made without a network.

`FAMILIES[name](directory)` writes configuration, weights, processor and tokenizer as
`save_pretrained` writes them. Sizes differ from each other, so that swapped axes fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from workbench.backends.vlm_processor import still

WORDS = (
    "Write a radiologic report of the chest radiograph. The heart is enlarged. There is a left "
    "pleural effusion. No pneumothorax. Is there an opacity in the right lower lung? Yes, no. "
    "Findings: clear lungs. Impression: normal. user assistant system You are a helpful assistant"
)
#: Special tokens of all families; each uses some.
MARKS = (
    "<pad>", "<s>", "</s>", "<image>", "<video>", "<boi>", "<eoi>", "<|image_pad|>",
    "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<fake_token_around_image>",
    "<end_of_utterance>", "<global-img>", "<img>", "</img>", "<IMG_CONTEXT>", "<|START_OF_IMG|>",
    "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE_GLOBAL",
    *(f"TILE_{n}" for n in range(1, 13)),
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)  # fmt: skip

#: A dialogue with what stands for an image written by the template, as checkpoints have it.
CHAT = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def tokenizer(**special: str) -> tf.PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer that knows every mark."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        special_tokens=list(MARKS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([WORDS], trainer)
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens=special,
    )  # fmt: skip


def text(kind: type[tf.PreTrainedConfig] | None, words: int, **more: object) -> object:
    """Return the configuration of a small language model with grouped queries."""
    options: dict[str, object] = {
        "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": words,
        "max_position_embeddings": 2048, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    options |= more
    return options if kind is None else kind(**options)


def siglip(size: int, patch: int = 7, **more: object) -> dict:
    return {
        "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2,
        "num_attention_heads": 4, "image_size": size, "patch_size": patch,
    } | more  # fmt: skip


def _write(
    directory: Path, config: tf.PreTrainedConfig, processor: tf.ProcessorMixin, spread: float = 0.08
) -> Path:
    torch.manual_seed(20)
    config.tie_word_embeddings = False
    model = tf.AutoModelForImageTextToText.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 or "mm_input_projection" in name:
                weight.normal_(std=spread)
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = 0, 2
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def _chat(image: str) -> str:
    return CHAT.replace("IMAGE", image)


def _id(words: tf.PreTrainedTokenizerFast, token: str) -> int:
    return int(words.convert_tokens_to_ids(token))


def llava(directory: Path, size: int = 42, decoder: type = tf.LlamaConfig, **more: object) -> Path:
    """CLIP with a class token that is dropped; shorter edge, then centre crop."""
    words = tokenizer(image_token="<image>")
    images = tf.LlavaImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}, do_pad=False
    )
    processor = tf.LlavaProcessor(
        images,
        words,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_chat("<image>"),
    )
    config = tf.LlavaConfig(
        vision_config=tf.CLIPVisionConfig(**siglip(size), projection_dim=32),
        text_config=text(decoder, len(words), **more),
        image_token_index=_id(words, "<image>"),
        vision_feature_layer=-2,
    )
    return _write(directory, config, processor)


def llava_next(directory: Path) -> Path:
    """Tiles beside an overview; padding is cut off again; a mark behind each row."""
    words = tokenizer(image_token="<image>")
    pins = [[42, 84], [84, 42], [84, 84]]
    images = tf.LlavaNextImageProcessorPil(
        size={"shortest_edge": 42}, crop_size={"height": 42, "width": 42}, image_grid_pinpoints=pins
    )
    processor = tf.LlavaNextProcessor(
        images,
        words,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_chat("<image>"),
    )
    config = tf.LlavaNextConfig(
        vision_config=tf.CLIPVisionConfig(**siglip(42), projection_dim=32),
        text_config=text(tf.MistralConfig, len(words)),
        image_token_index=_id(words, "<image>"),
        image_grid_pinpoints=pins,
        vision_feature_layer=-2,
    )
    return _write(directory, config, processor)


def llava_onevision(directory: Path) -> Path:
    words = tokenizer(image_token="<image>", video_token="<video>")
    pins = [[42, 42], [42, 84], [84, 42], [84, 84]]
    images = tf.LlavaOnevisionImageProcessorPil(
        size={"height": 42, "width": 42}, image_grid_pinpoints=pins
    )
    processor = still(tf.LlavaOnevisionProcessor)(
        images,
        words,
        None,
        num_image_tokens=36,
        vision_feature_select_strategy="full",
        chat_template=_chat("<image>"),
    )
    config = tf.LlavaOnevisionConfig(
        vision_config=tf.SiglipVisionConfig(**siglip(42)),
        text_config=text(tf.Qwen2Config, len(words)),
        image_token_index=_id(words, "<image>"), video_token_index=_id(words, "<video>"),
        image_grid_pinpoints=pins, vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )  # fmt: skip
    return _write(directory, config, processor)


def gemma3(directory: Path, size: int = 56) -> Path:
    """2 x 2 patches pooled into a token, image tokens look both ways, sliding windows."""
    words = tokenizer(image_token="<image>", boi_token="<boi>", eoi_token="<eoi>")
    images = tf.Gemma3ImageProcessorPil(size={"height": size, "width": size})
    tokens = (size // 14) ** 2
    processor = tf.Gemma3Processor(
        images, words, image_seq_length=tokens, chat_template=_chat("<boi>")
    )
    config = tf.Gemma3Config(
        vision_config=tf.SiglipVisionConfig(**siglip(size)),
        text_config=text(
            tf.Gemma3TextConfig, len(words), sliding_window=11, query_pre_attn_scalar=8,
            layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        ),
        mm_tokens_per_image=tokens,
        image_token_index=_id(words, "<image>"),
        boi_token_index=_id(words, "<boi>"), eoi_token_index=_id(words, "<eoi>"),
    )  # fmt: skip
    return _write(directory, config, processor)


def paligemma(directory: Path) -> Path:
    """A prefix that looks both ways; no chat template; soft-capped scores."""
    words = tokenizer(image_token="<image>")
    images = tf.SiglipImageProcessorPil(size={"height": 42, "width": 42})
    images.image_seq_length = 36
    processor = tf.PaliGemmaProcessor(images, words)
    config = tf.PaliGemmaConfig(
        vision_config=tf.SiglipVisionConfig(**siglip(42), projection_dim=48),
        text_config=text(
            tf.Gemma2Config, len(words), query_pre_attn_scalar=8, sliding_window=4096,
            attn_logit_softcapping=5.0, final_logit_softcapping=9.0,
        ),
        image_token_index=_id(words, "<image>"),
        projection_dim=48,
    )  # fmt: skip
    return _write(directory, config, processor)


def _qwen(directory: Path, config: type, processor: type, vision: dict, rope: dict) -> Path:
    words = tokenizer(
        image_token="<|image_pad|>", video_token="<|video_pad|>",
        vision_start_token="<|vision_start|>", vision_end_token="<|vision_end|>",
    )  # fmt: skip
    images = tf.Qwen2VLImageProcessorPil(
        patch_size=7, merge_size=2, temporal_patch_size=2, min_pixels=28 * 28, max_pixels=70 * 70
    )
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    made = config(
        vision_config=vision | {"patch_size": 7, "spatial_merge_size": 2, "temporal_patch_size": 2},
        text_config=text(None, len(words), **rope),
        image_token_id=_id(words, "<|image_pad|>"), video_token_id=_id(words, "<|video_pad|>"),
        vision_start_token_id=_id(words, "<|vision_start|>"),
        vision_end_token_id=_id(words, "<|vision_end|>"),
    )  # fmt: skip
    return _write(
        directory, made, still(processor)(images, words, None, chat_template=_chat(image))
    )


def qwen2_vl(directory: Path) -> Path:
    """Any size; 2 x 2 patches merged; rotary positions in three directions."""
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 48, "num_heads": 4, "mlp_ratio": 2}
    rope = {"rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]}}
    return _qwen(directory, tf.Qwen2VLConfig, tf.Qwen2VLProcessor, vision, rope)


def qwen2_5_vl(directory: Path) -> Path:
    """As `qwen2_vl`, with windows in the vision tower."""
    vision = {
        "depth": 3, "hidden_size": 32, "intermediate_size": 56, "num_heads": 4,
        "out_hidden_size": 48, "fullatt_block_indexes": [1], "window_size": 28,
    }  # fmt: skip
    rope = {"rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]}}
    return _qwen(directory, tf.Qwen2_5_VLConfig, tf.Qwen2_5_VLProcessor, vision, rope)


def qwen3_vl(directory: Path) -> Path:
    """As `qwen2_vl`, and features of several vision layers enter several language layers."""
    vision = {
        "depth": 3, "hidden_size": 32, "intermediate_size": 56, "num_heads": 4,
        "out_hidden_size": 48, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64,
    }  # fmt: skip
    scaling = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    rope = {"rope_scaling": scaling}
    return _qwen(directory, tf.Qwen3VLConfig, tf.Qwen3VLProcessor, vision, rope)


def qwen3_5(directory: Path) -> Path:
    """As `qwen3_vl`, and two of three language layers are recurrent; in no list of families."""
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 56, "num_heads": 4,
        "out_hidden_size": 48, "num_position_embeddings": 64,
    }  # fmt: skip
    scaling = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    sizes = {
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "partial_rotary_factor": 1.0, "rope_scaling": scaling,
    }  # fmt: skip
    return _qwen(directory, tf.Qwen3_5Config, tf.Qwen3VLProcessor, vision, sizes)


def idefics3(directory: Path) -> Path:
    """Tiles named by row and column, then an overview; pixel shuffle 2 x 2."""
    words = tokenizer(image_token="<image>")
    images = tf.Idefics3ImageProcessorPil(
        size={"longest_edge": 84}, max_image_size={"longest_edge": 42}
    )
    processor = tf.Idefics3Processor(images, words, image_seq_len=9, chat_template=_chat("<image>"))
    config = tf.Idefics3Config(
        vision_config=tf.Idefics3VisionConfig(**siglip(42)),
        text_config=text(tf.LlamaConfig, len(words)),
        image_token_id=_id(words, "<image>"),
        scale_factor=2,
    )
    return _write(directory, config, processor)


def internvl(directory: Path) -> Path:
    """Tiles, then an overview; pixel shuffle 2 x 2; a class token that is dropped."""
    words = tokenizer(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )  # fmt: skip
    images = tf.GotOcr2ImageProcessorPil(
        size={"height": 56, "width": 56}, crop_to_patches=True, max_patches=4
    )
    processor = still(tf.InternVLProcessor)(
        images, words, None, image_seq_length=16, chat_template=_chat("<IMG_CONTEXT>")
    )
    config = tf.InternVLConfig(
        vision_config=tf.InternVLVisionConfig(
            **(siglip(56) | {"image_size": [56, 56], "patch_size": [7, 7]})
        ),
        text_config=text(tf.Qwen2Config, len(words)),
        image_token_id=_id(words, "<IMG_CONTEXT>"),
        image_seq_length=16,
        downsample_ratio=0.5,
    )
    return _write(directory, config, processor)


def aya_vision(directory: Path) -> Path:
    """Tiles with marks of their own; pixel shuffle; a language model without a norm behind it."""
    words = tokenizer(image_token="<image>")
    images = tf.GotOcr2ImageProcessorPil(
        size={"height": 56, "width": 56}, crop_to_patches=True, max_patches=4
    )
    processor = tf.AyaVisionProcessor(
        images,
        words,
        patch_size=7,
        img_size=56,
        downsample_factor=2,
        chat_template=_chat("<image>"),
    )
    config = tf.AyaVisionConfig(
        vision_config=tf.SiglipVisionConfig(**siglip(56)),
        text_config=text(tf.Cohere2Config, len(words), sliding_window=64),
        image_token_index=_id(words, "<|IMG_PATCH|>"),
        vision_feature_layer=-1, downsample_factor=2,
        vision_feature_select_strategy="full",
    )  # fmt: skip
    return _write(directory, config, processor)


def deepseek_vl_hybrid(directory: Path) -> Path:
    """Two vision towers, and an image of its own for each; in no list of families."""
    words = tokenizer(image_token="<image>")
    images = tf.DeepseekVLHybridImageProcessorPil(
        size={"height": 42, "width": 42}, min_size=14,
        high_res_size={"height": 112, "width": 112}, high_res_min_size=14,
    )  # fmt: skip
    fine = tf.SamVisionConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=112, mlp_dim=40,
        output_channels=16, window_size=4, global_attn_indexes=[1],
    )  # fmt: skip
    config = tf.DeepseekVLHybridConfig(
        vision_config=tf.SiglipVisionConfig(**siglip(42)), high_res_vision_config=fine,
        text_config=text(tf.LlamaConfig, len(words)), image_token_id=_id(words, "<image>"),
    )  # fmt: skip
    made = tf.DeepseekVLHybridProcessor
    return _write(
        directory, config, made(images, words, num_image_tokens=36, chat_template=_chat("<image>"))
    )


def ernie4_5_vl_moe(directory: Path) -> Path:
    """Experts by the type of a token, and marks that are of the image's type; in no list."""
    marks = {
        "image": "<|image_pad|>", "image_start": "<|vision_start|>", "image_end": "<|vision_end|>",
        "video": "<|video_pad|>", "video_start": "<boi>", "video_end": "<eoi>",
    }  # fmt: skip
    words = tokenizer(**{f"{name}_token": mark for name, mark in marks.items()})
    images = tf.Ernie4_5_VLMoeImageProcessorPil(
        patch_size=7, merge_size=2, size={"shortest_edge": 28 * 28, "longest_edge": 70 * 70}
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    experts = {"moe_num_experts": 4, "moe_k": 2, "moe_num_shared_experts": 1}
    config = tf.Ernie4_5_VLMoeConfig(
        vision_config=siglip(0) | {"depth": 2, "num_heads": 4, "spatial_merge_size": 2},
        text_config=text(
            None, len(words), rope_parameters=rope, moe_intermediate_size=[24, 24], **experts
        ),
        **{f"{name}_token_id": _id(words, mark) for name, mark in marks.items()},
    )
    image = marks["image_start"] + marks["image"] + marks["image_end"]
    made: Any = still(tf.Ernie4_5_VLMoeProcessor)(images, words, None, chat_template=_chat(image))
    made.save_pretrained = partial(tf.ProcessorMixin.save_pretrained, made)  # its own wants a font
    return _write(directory, config, made)


FAMILIES: Mapping[str, Callable[[Path], Path]] = {
    make.__name__: make
    for make in (
        llava, llava_next, llava_onevision, gemma3, paligemma, qwen2_vl, qwen2_5_vl, qwen3_vl,
        idefics3, internvl, aya_vision,
    )
}  # fmt: skip


def kept(root: Path) -> Callable[[str], Path]:
    """Return a function from a family to its checkpoint below a folder, made when first asked."""
    return cache(lambda name: FAMILIES[name](root / name))
