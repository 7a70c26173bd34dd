"""Models for the clock: random weights of any size, whole checkpoints with `mini`'s tokenizer.

`MIDDLE` stands for the published model on a CPU: 512 pixels, 1,024 image tokens, its shape in
small. `TINY` lets every section run in seconds, for the tests; its numbers mean nothing. Random
weights cost what trained ones do. No text ends early: the end token's row of the head is 0, and
greedy decoding takes a token whose logit is above 0.

Does not know: how fast anything is.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Sizes:
    """What a model and its texts are made of.

    Attributes:
        side: pixels of the image; 16 a patch.
        vision_width, vision_layers, width, layers, vocabulary: of the network.
        new_tokens: length of a report.
    """

    side: int = 512
    vision_width: int = 384
    vision_layers: int = 6
    width: int = 512
    layers: int = 8
    vocabulary: int = 32_000
    new_tokens: int = 64

    HEAD, PATCH = 64, 16

    @property
    def image_tokens(self) -> int:
        """Positions that an image takes."""
        return (self.side // self.PATCH) ** 2

    @property
    def hidden(self) -> int:
        """Width of the language model's MLP: 8/3 of its own, in steps of 32, as LLaMA's."""
        return -(-self.width * 8 // 3 // 32) * 32


MIDDLE = Sizes()
TINY = Sizes(64, 64, 1, 64, 2, 1_000, 6)


def network(sizes: Sizes, seed: int = 0):
    """Return a random `CxrLlavaForConditionalGeneration`, in evaluation mode."""
    from workbench.model.config import CxrLlavaConfig
    from workbench.model.llava import CxrLlavaForConditionalGeneration

    torch.manual_seed(seed)
    heads = sizes.width // sizes.HEAD
    config = CxrLlavaConfig(
        clip_vision_cfg={
            "image_size": sizes.side,
            "patch_size": sizes.PATCH,
            "width": sizes.vision_width,
            "layers": sizes.vision_layers,
            "head_width": sizes.HEAD,
        },
        clip_embed_dim=32,
        mm_projector_dim=sizes.vision_width,
        llama={
            "hidden_size": sizes.width,
            "intermediate_size": sizes.hidden,
            "max_position_embeddings": 4096,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "num_hidden_layers": sizes.layers,
            "vocab_size": sizes.vocabulary,
            "initializer_range": 0.05,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    )
    model = CxrLlavaForConditionalGeneration(config).eval().requires_grad_(False)
    model.lm_head.weight[2] = 0.0
    return model


def checkpoint(sizes: Sizes, directory: str, seed: int = 0) -> None:
    """Write a random model as a checkpoint directory."""
    import workbench as wb
    from workbench.model.load import save_checkpoint

    tokenizer = wb.load_model("mini").loaded.tokenizer
    facts = {"name": "random", "notice": "Random weights: for the clock only."}
    save_checkpoint(directory, network(sizes, seed), tokenizer, facts=facts)


def loaded(sizes: Sizes, **options):
    """Return a random model as a `ChestXrayModel`, through a checkpoint that is thrown away.

    It is float32 unless the options say otherwise: every processor then computes the same.
    """
    import workbench as wb

    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        checkpoint(sizes, directory)
        return wb.load_model(directory, device="cpu", **({"dtype": "float32"} | options))


def radiographs(count: int, side: int) -> list:
    """Return Radiographs of noise, each another, of the size that a model sees."""
    import numpy as np

    import workbench as wb

    draw = np.random.default_rng(0)
    return [wb.load_radiograph(draw.random((side, side), np.float32)) for _ in range(count)]


def weight_bytes(model: torch.nn.Module) -> int:
    """Return the bytes that one decoding step reads: language model and head, no embedding."""
    parts = [*model.llama.layers.parameters(), *model.llama.norm.parameters()]
    return sum(p.numel() * p.element_size() for p in [*parts, model.lm_head.weight])


def state_bytes(model: torch.nn.Module, positions: int) -> int:
    """Return the bytes of keys and values of so many positions."""
    config = model.llama.config
    width = config.num_key_value_heads * model.llama.layers[0].self_attn.head_dim
    return 2 * config.num_hidden_layers * width * positions * model.lm_head.weight.element_size()


def prompt_flops(model: torch.nn.Module, image_tokens: int, positions: int) -> dict[str, float]:
    """Return the float operations of reading one image, and a prompt of so many positions.

    Products of matrices only, two operations for each multiplication with its addition; causal
    attention counts half.
    """
    vision, llama = model.config.vision, model.llama.config
    tokens = image_tokens + 1
    block = sum(p.numel() for p in model.vision_tower.transformer.parameters() if p.dim() == 2)
    seen = 2 * tokens * block + 4 * vision.layers * tokens**2 * vision.width
    seen += 2 * image_tokens * (vision.patch_size**2 * vision.width)
    seen += 2 * image_tokens * model.mm_projector.weight.numel()
    matrices = sum(p.numel() for p in model.llama.layers.parameters() if p.dim() == 2)
    read = 2 * positions * matrices
    read += 2 * llama.num_hidden_layers * positions**2 * llama.hidden_size
    return {"vision": float(seen), "prompt": float(read)}
