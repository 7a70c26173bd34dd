"""The model: configuration, vision tower, projector and language model, prompts, loading, card.

Names are imported on first use, so that asking for a prompt does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench._lazy import lazy_names

if TYPE_CHECKING:
    from workbench.model.card import ModelCard as ModelCard
    from workbench.model.card import card as card
    from workbench.model.config import CxrLlavaConfig as CxrLlavaConfig
    from workbench.model.config import CxrVisionConfig as CxrVisionConfig
    from workbench.model.llava import (
        CxrLlavaForConditionalGeneration as CxrLlavaForConditionalGeneration,
    )
    from workbench.model.load import LoadedCheckpoint as LoadedCheckpoint
    from workbench.model.load import load_checkpoint as load_checkpoint
    from workbench.model.load import save_checkpoint as save_checkpoint
    from workbench.model.processor import ImageProcessor as ImageProcessor
    from workbench.model.prompt import IMAGE_TOKEN_ID as IMAGE_TOKEN_ID
    from workbench.model.prompt import Message as Message
    from workbench.model.prompt import Prompts as Prompts
    from workbench.model.prompt import render_chat as render_chat
    from workbench.model.sizes import full_size_config as full_size_config
    from workbench.model.tokenizer import CxrTokenizer as CxrTokenizer
    from workbench.model.vision import VisionTower as VisionTower
else:  # a checker of types would take `__getattr__` for every name
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__, modules=("card",))
