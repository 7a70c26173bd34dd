"""Decoding: one engine for reports, questions, dialogues, batches and streams; and parity.

Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench._lazy import lazy_names

if TYPE_CHECKING:
    from workbench.generation.chat import Chat as Chat
    from workbench.generation.chat import Turn as Turn
    from workbench.generation.engine import Engine as Engine
    from workbench.generation.engine import Request as Request
    from workbench.generation.engine import Step as Step
    from workbench.generation.kvcache import ImagePrefix as ImagePrefix
    from workbench.generation.options import DecodingSettings as DecodingSettings
    from workbench.generation.result import Generation as Generation
    from workbench.generation.result import ModelIdentity as ModelIdentity
    from workbench.generation.result import Word as Word
    from workbench.generation.stream import TextStream as TextStream
else:  # a checker of types would take `__getattr__` for every name
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
