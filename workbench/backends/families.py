"""What differs between families of transformers models and cannot be read from a checkpoint.

Keys are `config.model_type`. A family that is not here works where the checks of
`workbench.backends.checks` pass.
"""

from __future__ import annotations

#: Token type of text that the model writes, where it is not that of the prompt's text. Paligemma's
#: prompt looks both ways (type 0); what it writes must not, or logits are wrong in silence.
WRITTEN_TOKEN_TYPE = {"paligemma": 1}

#: Families that the tests prove; others have to pass the checks when they are loaded.
TESTED = frozenset(
    {
        "aya_vision", "gemma3", "idefics3", "internvl", "llava", "llava_next", "llava_onevision",
        "paligemma", "qwen2_5_vl", "qwen2_vl", "qwen3_vl",
    }
)  # fmt: skip
