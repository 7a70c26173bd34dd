"""Decoding: one engine for reports, questions, dialogues, batches and streams; and parity."""

from workbench.generation.chat import Chat, Turn
from workbench.generation.engine import Engine, Request, Step
from workbench.generation.kvcache import ImagePrefix
from workbench.generation.result import Generation, ModelIdentity, Word
from workbench.generation.sampling import DecodingSettings
from workbench.generation.stream import TextStream

__all__ = [
    "Chat",
    "DecodingSettings",
    "Engine",
    "Generation",
    "ImagePrefix",
    "ModelIdentity",
    "Request",
    "Step",
    "TextStream",
    "Turn",
    "Word",
]
