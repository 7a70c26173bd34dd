"""The parts of CXR-LLaVA that training tells apart, by the names of the published checkpoint."""

from __future__ import annotations

#: Part -> its modules.
PART_MODULES = {
    "embeddings": ("llama.embed_tokens", "lm_head"),
    "language": ("llama.layers", "llama.norm"),
    "projector": ("mm_projector",),
    "vision": ("vision_tower",),
}
#: Part -> pattern of the linear layers that LoRA goes to.
LORA_TARGETS = {
    "language": r"llama\.layers\.\d+\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)",
    "projector": r"mm_projector",
    "vision": r"vision_tower\.transformer\.resblocks\.\d+\.mlp\.(?:c_fc|c_proj)",
}
