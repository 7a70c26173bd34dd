"""Models for the clock: random weights of any size, whole checkpoints with `mini`'s tokenizer.

`MIDDLE` stands for the published model on a CPU: 512 pixels, 1,024 image tokens, its shape in
small. `TINY` lets every section run in seconds, for the tests; its numbers mean nothing. Random
weights cost what trained ones do. No text ends early: the end token's row of the head is 0, and
greedy decoding takes a token whose logit is above 0.

Does not know: how fast anything is.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

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


def full_checkpoint(directory: Path, share: float = 1.0, shard: int = 1 << 28) -> None:
    """Write a random model of the full width in the published layout, bfloat16, shard by shard.

    `share` of its layers, of both transformers; `shard` parameters at most are there at a time.
    """
    from safetensors.torch import save_file

    import workbench as wb
    from workbench.model.config import CxrLlavaConfig
    from workbench.model.load import GENERATION_FILE
    from workbench.model.sizes import empty_model, full_size_config

    config = full_size_config().to_dict()
    config["llama"]["num_hidden_layers"] = round(share * config["llama"]["num_hidden_layers"])
    config["clip_vision_cfg"]["layers"] = round(share * config["clip_vision_cfg"]["layers"])
    model = empty_model(CxrLlavaConfig.from_dict(config))
    model.config.dtype = torch.bfloat16
    model.config.save_pretrained(directory)
    tokenizer = wb.load_model("mini", device="cpu").loaded.tokenizer
    tokenizer.save(directory)
    ends = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    (directory / GENERATION_FILE).write_text(json.dumps(ends))
    # a prime number of values, over and over: drawing them all would take minutes
    noise = torch.randn(16_777_259, generator=torch.Generator().manual_seed(0)) * 0.02
    shards, sizes = [[]], [0]
    for name, empty in model.state_dict().items():
        if sizes[-1] and sizes[-1] + empty.numel() > shard:
            shards.append([])
            sizes.append(0)
        shards[-1].append(name)
        sizes[-1] += empty.numel()
    places = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        made = {name: _filled(name, model.state_dict()[name], noise.bfloat16()) for name in names}
        save_file(made, directory / file, {"format": "pt"})
        places |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": 2 * sum(sizes)}, "weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def _filled(name: str, empty: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return values for a parameter without storage; norms and biases start as they do."""
    if empty.dim() == 1 and "embedding" not in name:
        return torch.full(empty.shape, float(not name.endswith("bias")), dtype=noise.dtype)
    found = torch.empty(empty.shape, dtype=noise.dtype)
    for part in found.view(-1).split(len(noise)):
        part.copy_(noise[: len(part)])
    if name == "lm_head.weight":
        found[2] = 0  # no text ends early
    return found


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
