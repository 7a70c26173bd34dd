"""Outlines of findings over an image: what is drawn where.

Colours: Okabe and Ito, Color Universal Design (2008), lightened to be read on black.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from scipy.ndimage import binary_dilation, binary_erosion

from workbench.errors import InputError
from workbench.figures.lines import text_inches
from workbench.figures.style import GREY, new_axes, style

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
#: Size of a name in points.
_LETTERS = 11


def draw_masks(
    pixels: np.ndarray, masks: Mapping[str, np.ndarray], *, ax: Axes | None = None, title: str = ""
) -> Axes:
    """Draw an image with the outline and the name of each mask, in image coordinates.

    Args:
        pixels: (H, W) in [0, 1], 1 white.
        masks: name -> boolean (H, W); an empty mask draws nothing.
        ax: where to draw; a new figure when None.
        title: above the image.

    Raises:
        InputError: a mask does not have the shape of the image.
    """
    check_sizes(pixels, masks)
    if ax is None:
        with style():
            ax = new_axes(6, 6.3)
    ax.imshow(pixels, cmap=GREY, vmin=0, vmax=1, interpolation="antialiased")
    shown = {name: np.asarray(mask, bool) for name, mask in masks.items() if np.any(mask)}
    for name, mask in shown.items():
        colour = COLOURS.get(name, OTHER)
        ax.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=1.8)
    _write_names(ax, shown)
    ax.set_title(title, fontsize=13, loc="left")
    ax.set_axis_off()
    return ax


def check_sizes(pixels: np.ndarray, masks: Mapping[str, np.ndarray]) -> None:
    """Raise InputError where a mask does not have the shape of the image."""
    for name, mask in masks.items():
        if np.shape(mask) != np.shape(pixels):
            raise InputError(
                f"the mask of {name} is {np.shape(mask)}, the image {np.shape(pixels)}; "
                "draw both at the same size"
            )


def outline(ax: Axes, mask: np.ndarray, colour: str, *, line: str = "-") -> None:
    """Draw the outline of a mask, on black so that it is seen on any image."""
    if mask.any():
        for drawn, width, alpha in (("black", 3.6, 0.6), (colour, 1.7, 1)):
            look = {"linewidths": width, "alpha": alpha, "linestyles": line}
            ax.contour(mask.astype(float), [0.5], colors=[drawn], **look)


def _write_names(ax: Axes, masks: Mapping[str, np.ndarray]) -> None:
    """Write each name near its outline, at the edge of the image, over no outline and no name."""
    if not masks:
        return
    height, width = next(iter(masks.values())).shape
    covered = np.zeros((height, width), bool)
    reach = max(1, round(height / 150))
    for mask in masks.values():
        covered |= binary_dilation(mask, iterations=reach) > binary_erosion(mask, iterations=reach)
    line, per_inch = height / 22, _pixels_in_an_inch(ax, height, width)
    for name, mask in masks.items():
        across = min(1.1 * text_inches(name, _LETTERS) * per_inch + 0.02 * width, 0.98 * width)
        tall = max(line, 1.5 * _LETTERS / 72 * per_inch)
        left, top = _place(covered, mask, across, tall, line)
        rows, columns = _box(covered.shape, left, top, across, tall)
        covered[rows, columns] = True
        ax.text(
            width * (0.02 if left else 0.98),
            top,
            name,
            color=COLOURS.get(name, OTHER),
            fontsize=_LETTERS,
            ha="left" if left else "right",
            va="center",
            parse_math=False,
            bbox={"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 1.5},
        )


def _place(
    covered: np.ndarray, mask: np.ndarray, across: float, tall: float, line: float
) -> tuple[bool, float]:
    """Return side and height of a name: the nearest free ones, or those that cover least."""
    rows, columns = np.nonzero(mask)
    height, width = covered.shape
    # Below the side marker, which stands in an upper corner.
    low, high = 3.2 * line, height - line
    middle, own = rows.mean(), bool(columns.mean() < width / 2)
    places = sorted(
        (
            max(rows.min() - top, top - rows.max(), 0) + (0 if left == own else height / 4),
            abs(top - middle),
            left,
            float(top),
        )
        for left in (own, not own)
        for top in np.arange(low, high, line / 2)
    )
    over = [covered[_box(covered.shape, *place[2:], across, tall)].sum() for place in places]
    return places[int(np.argmin(over))][2:]


def _box(
    shape: tuple[int, int], left: bool, top: float, across: float, tall: float
) -> tuple[slice, slice]:
    """Return rows and columns that a name covers."""
    height, width = shape
    first = 0 if left else max(0, int(width - across))
    rows = slice(max(0, int(top - tall / 2)), min(height, int(np.ceil(top + tall / 2))))
    return rows, slice(first, min(width, first + int(np.ceil(across))))


def _pixels_in_an_inch(ax: Axes, height: int, width: int) -> float:
    """Return how many pixels of the image are drawn in an inch of the figure."""
    box, figure = ax.get_position(), ax.get_figure(root=True)
    assert figure is not None
    wide, tall = box.width * figure.get_figwidth(), box.height * figure.get_figheight()
    return max(width / wide, height / tall)
