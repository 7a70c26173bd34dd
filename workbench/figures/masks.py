"""Outlines of findings over an image: what is drawn where.

Does not know: where masks come from (truth, a model, a reader) or what a finding means.
Colours: Okabe and Ito, Color Universal Design (2008), lightened to be read on black.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from workbench.errors import InputError
from workbench.figures.style import FILM, new_figure, style

#: One colour for each drawable finding; any other name takes the last.
COLOURS = {
    "atelectasis": "#56b4e9",
    "cardiomegaly": "#ff7f6b",
    "consolidation": "#f0e442",
    "pulmonary edema": "#e8a6d0",
    "pleural effusion": "#2fd3a5",
    "pneumothorax": "#ffb347",
    "nodule": "#b7f06a",
    "support device": "#c9b6ff",
}
OTHER = "#ffffff"


def draw_masks(
    pixels: np.ndarray,
    masks: Mapping[str, np.ndarray],
    *,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw an image with the outline and the name of each mask.

    Args:
        pixels: (H, W) in [0, 1], 1 white.
        masks: name -> boolean (H, W); an empty mask draws nothing.
        ax: where to draw; a new figure when None.
        title: above the image.

    Returns:
        The Axes, in image coordinates.

    Raises:
        InputError: a mask does not have the shape of the image.
    """
    for name, mask in masks.items():
        if np.shape(mask) != np.shape(pixels):
            raise InputError(
                f"the mask of {name} is {np.shape(mask)}, the image {np.shape(pixels)}; "
                "draw both at the same size"
            )
    if ax is None:
        with style():
            ax = new_figure(figsize=(6, 6.3), layout="constrained").add_subplot()
    ax.imshow(pixels, cmap=FILM, vmin=0, vmax=1, interpolation="antialiased")
    taken: list[tuple[bool, float]] = []
    for name, mask in masks.items():
        if np.any(mask):
            colour = COLOURS.get(name, OTHER)
            ax.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=1.8)
            _name(ax, name, mask, colour, taken)
    ax.set_title(title, fontsize=13, loc="left")
    ax.set_axis_off()
    return ax


def _name(ax: Axes, name: str, mask: np.ndarray, colour: str, taken: list) -> None:
    """Write a name beside its outline, below the names already written there."""
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    line = height / 22
    # Below the side marker, which stands in an upper corner.
    top = float(np.clip(rows.min() - 0.4 * line, 3.2 * line, height - line))
    left = bool(columns.mean() < width / 2)
    while any(side == left and abs(top - other) < line for side, other in taken):
        top += line
    taken.append((left, top))
    ax.text(
        width * (0.02 if left else 0.98),
        top,
        name,
        color=colour,
        fontsize=11,
        ha="left" if left else "right",
        va="center",
        bbox={"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 1.5},
    )
