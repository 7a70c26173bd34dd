"""What a run of a model left behind: the layout of its tokens, its attention, and maps over it."""

from workbench.trace.image_map import ImageMap
from workbench.trace.layout import Selection, SelectionOptions, Span, TokenLayout
from workbench.trace.record import record_trace
from workbench.trace.trace import AttentionRows, Trace, load_trace

__all__ = [
    "AttentionRows",
    "ImageMap",
    "Selection",
    "SelectionOptions",
    "Span",
    "TokenLayout",
    "Trace",
    "load_trace",
    "record_trace",
]
