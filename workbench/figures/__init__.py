"""Figures: arrays, boxes and texts in, matplotlib Axes or a Figure out; never a model."""

from workbench.figures.maps import draw_verdicts, plot_case
from workbench.figures.radiograph import COLOURS, draw_masks, plot_input, plot_radiograph
from workbench.figures.style import new_figure, style

__all__ = [
    "COLOURS",
    "draw_masks",
    "draw_verdicts",
    "new_figure",
    "plot_case",
    "plot_input",
    "plot_radiograph",
    "style",
]
