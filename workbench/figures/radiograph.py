"""Radiographs: outlines of findings over an image, and the input of a model with its contract.

Colours of outlines: Okabe and Ito, Color Universal Design (2008), lightened to be read on black.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.ndimage import binary_dilation, binary_erosion

from workbench.errors import InputError
from workbench.figures.style import (
    AMBER,
    AMBER_GROUND,
    AMBER_TEXT,
    GREY,
    INK,
    MUTED,
    ORANGE,
    new_axes,
    new_figure,
    style,
    text_inches,
)

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

    Raises:
        InputError: a mask does not have the shape of the image.

    >>> wb.figures.draw_masks(image.pixels, case.masks).images[0].get_array().shape
    (256, 256)
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


#: More boxes than these hide the image; a figure shows the first of them.
MOST_BOXES = 60


def draw_boxes(
    pixels: np.ndarray,
    boxes: np.ndarray,
    names: Sequence[str],
    *,
    truth: Mapping[str, np.ndarray] | None = None,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw an image with boxes in the colours of findings; true ones are dashed.

    Args:
        pixels: (H, W) in [0, 1], 1 white.
        boxes: (N, 4) left, top, right, bottom in pixels; the first `MOST_BOXES` are drawn.
        names: finding of each; "" for none.
        truth: name -> (n, 4).
    """
    if len(boxes) > MOST_BOXES:
        title = f"{title}  the first {MOST_BOXES} of {len(boxes):,} boxes".strip()
    own = list(zip(names, boxes, ["-"] * MOST_BOXES, strict=False))
    true = [(name, box, "--") for name, group in (truth or {}).items() for box in group]
    masks: dict[str, np.ndarray] = {}
    for name, box, _ in own + true:
        left, top, right, bottom = np.rint(box).astype(int)
        mask = masks.setdefault(name or "unnamed", np.zeros(pixels.shape, bool))
        mask[top : max(bottom, top + 1), left : max(right, left + 1)] = True
    ax = draw_masks(pixels, {}, ax=ax, title=title)
    for name, (left, top, right, bottom), line in own + true:
        for colour, width in (("black", 3.6), (COLOURS.get(name, OTHER), 1.8)):
            look = {"fill": False, "edgecolor": colour, "linewidth": width, "linestyle": line}
            # pixel i is drawn around i
            corner = (left - 0.5, top - 0.5)
            ax.add_patch(Rectangle(corner, right - left, bottom - top, **look))
    _write_names(ax, masks)
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
        x, side = (0.02, "left") if left else (0.98, "right")
        ground = {"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 1.5}
        look = {"color": COLOURS.get(name, OTHER), "fontsize": _LETTERS, "bbox": ground}
        ax.text(width * x, top, name, ha=side, va="center", parse_math=False, **look)


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


_WIDTH = 12.0
_IMAGE_HEIGHT = 6.0
_LINE = 0.27
_CHARACTERS = 116
_EDGE = 0.03
#: Images are drawn with at most this many pixels a side; more would only slow the notebook.
_DRAWN = 1200

Box = tuple[float, float, float, float]


def plot_radiograph(
    ax: Axes, pixels: np.ndarray, *, visible_box: Box | None = None, title: str = ""
) -> Axes:
    """Draw one radiograph in its own pixels, and dim what lies outside a box.

    Args:
        pixels: (H, W) in [0, 1].
        visible_box: (left, top, right, bottom) in pixels; None for no box.

    >>> axes = wb.figures.new_figure().subplots()
    >>> wb.figures.plot_radiograph(axes, image.pixels, title="a phantom").get_title()
    'a phantom'
    """
    height, width = pixels.shape
    step = max(1, -(-max(height, width) // _DRAWN))
    view = {"extent": (0, width, height, 0), "interpolation": "antialiased"}
    ax.imshow(pixels[::step, ::step], cmap=GREY, vmin=0, vmax=1, **view)
    if visible_box is not None:
        _draw_box(ax, visible_box, height, width)
    ax.set(title=title, xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


@style()
def plot_input(
    pixels: np.ndarray,
    model_view: np.ndarray,
    *,
    visible_box: Box,
    fit: str,
    facts: Sequence[str],
    warnings: Sequence[tuple[str, str]] = (),
) -> Figure:
    """Draw a radiograph and the model's view of it side by side, with the input contract below.

    Args:
        pixels: (H, W) in [0, 1], the whole radiograph.
        model_view: (S, S) in [0, 1], what the model receives.
        visible_box: (left, top, right, bottom) of the model's view, in original pixels.
        fit: "crop" or "pad".
        facts: short phrases; the first is the name of the image.
        warnings: (code, message) pairs.

    >>> view = {"visible_box": (0, 0, 256, 256), "fit": "crop", "facts": image.contract.facts()}
    >>> figure = wb.figures.plot_input(image.pixels, image.model_view(128), **view)
    """
    name, *rest = facts
    fact_lines = _joined(rest)
    notes = [
        textwrap.wrap(f"{code}: {message}", _CHARACTERS - 4, break_on_hyphens=False)
        for code, message in warnings
    ]
    below = _LINE * (1.4 + len(fact_lines)) + sum(_LINE * (len(n) + 0.75) for n in notes) + 0.15
    total = _IMAGE_HEIGHT + below
    height, width = pixels.shape
    size = model_view.shape[0]
    figure = new_figure(figsize=(_WIDTH, total))
    top, bottom = 1 - 0.5 / total, below / total
    grid = figure.add_gridspec(
        1, 2, left=_EDGE, right=1 - _EDGE, top=top, bottom=bottom, wspace=0.05
    )
    box = visible_box if fit == "crop" else None
    whole, seen = (figure.add_subplot(cell, anchor="NW") for cell in grid)
    title = f"the radiograph, {height} x {width}"
    plot_radiograph(whole, pixels, visible_box=box, title=title)
    manner = "centre crop" if fit == "crop" else "padded"
    plot_radiograph(seen, model_view, title=f"the model's view, {size} x {size}, {manner}")
    _write_contract(figure, name, fact_lines, notes, below, total)
    return figure


def outside(box: Box, height: int, width: int) -> list[tuple[tuple[float, float], float, float]]:
    """Return what of an image lies around a box: corner (x, y), width and height of each part."""
    left, top, right, bottom = box
    parts = [
        ((0.0, 0.0), width, top),
        ((0.0, bottom), width, height - bottom),
        ((0.0, top), left, bottom - top),
        ((right, top), width - right, bottom - top),
    ]
    return [part for part in parts if part[1] > 0 and part[2] > 0]


def _draw_box(ax: Axes, box: Box, height: int, width: int) -> None:
    left, top, right, bottom = box
    hatching = {"fill": False, "hatch": "//", "edgecolor": ORANGE, "alpha": 0.5, "linewidth": 0}
    frame = {"fill": False, "edgecolor": ORANGE, "linewidth": 3}
    for part in outside(box, height, width):
        ax.add_patch(Rectangle(*part, facecolor="black", alpha=0.55, edgecolor="none"))
        ax.add_patch(Rectangle(*part, **hatching))
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, **frame))


def _joined(facts: Sequence[str]) -> list[str]:
    """Set facts in lines of text without breaking inside a fact."""
    lines = [""]
    for fact in facts:
        longer = f"{lines[-1]}  ·  {fact}" if lines[-1] else fact
        if len(longer) <= _CHARACTERS:
            lines[-1] = longer
        else:
            lines.append(fact)
    return lines


def _write_contract(
    figure: Figure,
    name: str,
    fact_lines: list[str],
    notes: list[list[str]],
    below: float,
    total: float,
) -> None:
    body = {"va": "top", "fontsize": 13, "linespacing": 1.35}
    y = below - 0.12
    figure.text(_EDGE, y / total, name, va="top", fontsize=14, fontweight="bold", color=INK)
    y -= _LINE * 1.2
    figure.text(_EDGE, y / total, "\n".join(fact_lines), color=MUTED, **body)
    y -= _LINE * len(fact_lines) + 0.12
    for note in notes:
        tall = _LINE * (len(note) + 0.4)
        for wide, colour in ((1 - 2 * _EDGE, AMBER_GROUND), (0.006, AMBER)):
            corner = (_EDGE, (y - tall) / total)
            block = Rectangle(corner, wide, tall / total, facecolor=colour, edgecolor="none")
            figure.add_artist(block)
        at = (y - _LINE * 0.2) / total
        figure.text(_EDGE + 0.014, at, "\n".join(note), color=AMBER_TEXT, **body)
        y -= tall + _LINE * 0.35
