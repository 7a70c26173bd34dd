"""What a run of a model left behind: the layout of its tokens, its attention, and maps over it."""

from workbench.trace.image_map import ImageMap
from workbench.trace.layout import Selection, Span, TokenLayout
from workbench.trace.record import record_trace
from workbench.trace.store import load_trace, save_trace
from workbench.trace.trace import AttentionRows, Trace

__all__ = [
    "AttentionRows",
    "ImageMap",
    "Selection",
    "Span",
    "TokenLayout",
    "Trace",
    "load_trace",
    "record_trace",
    "save_trace",
]
