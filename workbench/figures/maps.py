"""Maps over a radiograph: how strongly each place speaks for, or against, what is explained.

One direction is drawn in amber to yellow (a part of matplotlib's "plasma", legible on grey images
and for colour-blind readers) that grows more opaque with the value, so that nothing is hidden where
nothing is claimed. Two directions are drawn from blue (against) to orange (for), clear at 0, both
scaled alike. A lone outline is white, so that it is not taken for a part of the map.
One case on one page: the image with its findings and a map, what was said, and whether it is right.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from workbench.errors import InputError, OptionError
from workbench.figures.radiograph import COLOURS, OTHER, check_sizes, draw_masks, outline, outside
from workbench.figures.style import (
    AMBER,
    AMBER_GROUND,
    AMBER_TEXT,
    GREY,
    GRID,
    INK,
    MUTED,
    closed_figure,
    lines_within,
    new_axes,
    new_figure,
    style,
)

#: Ends of the signed scale: vermilion for, sky blue against (Okabe and Ito 2008).
FOR, AGAINST = "#ff7a1a", "#35a7ff"


def _opaque(strength: np.ndarray) -> np.ndarray:
    """Return how opaque a value is: clear at 0, slowly at first, full from three quarters on."""
    return np.clip(1.55 * np.abs(strength) ** 1.5, 0, 1)


def one_way() -> ListedColormap:
    """Return the colours of unsigned maps: clear at 0, bright yellow at 1."""
    steps = np.linspace(0, 1, 256)
    colours = colormaps["plasma"](0.5 + 0.5 * steps)
    colours[:, 3] = _opaque(steps)
    return ListedColormap(colours, "workbench_one_way")


def two_way() -> ListedColormap:
    """Return the colours of signed maps: blue at -1, clear at 0, orange at 1."""
    steps = np.linspace(-1, 1, 257)
    colours = np.where(steps[:, None] >= 0, to_rgb(FOR), to_rgb(AGAINST))
    return ListedColormap(np.column_stack([colours, _opaque(steps)]), "workbench_two_way")


def stamped(draw: Callable[[Axes], object], notice: str) -> np.ndarray:
    """Return what is drawn on axes, with a notice below, as pixels (H, W, 3) uint8."""
    with closed_figure(figsize=(6.6, 7.4), dpi=150) as figure:
        draw(figure.add_subplot())
        figure.supxlabel(notice, color=AMBER_TEXT, backgroundcolor=AMBER_GROUND, fontsize=14)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@style()
def draw_map(
    pixels: np.ndarray,
    values: np.ndarray,
    *,
    signed: bool = False,
    title: str = "",
    details: str = "",
    caution: str | None = None,
    masks: Mapping[str, np.ndarray] | None = None,
    boxes: Mapping[str, tuple[float, float, float, float]] | None = None,
    opacity: float = 0.6,
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw a map over an image, in the image's own coordinates.

    Args:
        pixels: (H, W) in [0, 1], 1 white.
        values: (H, W) in [-1, 1] where signed, else in [0, 1]; NaN where nothing is known, which
            is dimmed and hatched.
        details: small print below: method, layer, head, unit, normalisation.
        caution: written over the image, in amber.
        masks: name -> boolean (H, W), outlined.
        boxes: name -> (left, top, right, bottom) in pixels, outlined.

    Raises:
        InputError: shapes differ.
        OptionError: opacity is outside [0, 1].
    """
    if np.shape(values) != np.shape(pixels):
        raise InputError(
            f"the map is {np.shape(values)}, the image {np.shape(pixels)}; use "
            "ImageMap.to_original, or ImageMap.plot, which does"
        )
    if not 0 <= opacity <= 1:
        raise OptionError(f"opacity must be between 0 and 1, got {opacity}")
    masks, boxes = masks or {}, boxes or {}
    check_sizes(pixels, masks)
    ax = ax or new_axes(6.6, 7.0)
    colours, scale = (two_way(), Normalize(-1, 1)) if signed else (one_way(), Normalize(0, 1))
    ax.imshow(pixels, cmap=GREY, vmin=0, vmax=1, interpolation="antialiased")
    painted = colours(scale(np.nan_to_num(values)))
    painted[..., 3] *= opacity
    ax.imshow(painted, interpolation="nearest")
    _hatch_unseen(ax, np.isnan(values))
    colour_of = _outline_colours([*masks, *boxes])
    for name, mask in masks.items():
        outline(ax, np.asarray(mask), colour_of[name])
    for name, box in boxes.items():
        _box(ax, box, colour_of[name])
    height, width = pixels.shape
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if title:
        wrapped = "\n".join(textwrap.wrap(title, 42))
        ax.set_title(wrapped, fontsize=14, loc="left", pad=8, parse_math=False)
    if colorbar:
        _scale_bar(ax, colours, scale, signed)
    _small_print(ax, details, caution)
    return ax


@style()
def draw_small_multiples(
    pixels: np.ndarray,
    maps: Sequence[tuple[str, np.ndarray]],
    *,
    signed: Sequence[bool] = (),
    title: str = "",
    details: str = "",
    columns: int = 4,
    masks: Mapping[str, np.ndarray] | None = None,
    cautions: Mapping[str, str] | None = None,
    points: Mapping[str, tuple[float, float]] | None = None,
    opacity: float = 0.65,
) -> Figure:
    """Draw several maps of one image side by side: over layers, words or methods.

    Args:
        maps: (name, (H, W) values) in reading order.
        signed: one for each; none is signed where it is empty.
        pixels, masks, opacity: see `draw_map`.
        cautions: name -> caution, marked at that name.
        points: name -> (x, y) in pixels, marked with a ring in the map of that name.
    """
    kinds = signed or [False] * len(maps)
    rows = -(-len(maps) // columns)
    columns = min(columns, len(maps))
    heading = textwrap.wrap(title, 25 * columns)
    cautions, points = cautions or {}, points or {}
    said: dict[str, list[str]] = {}
    for name, text in cautions.items():
        said.setdefault(text, []).append(name)
    small = [details, *(f"\u26a0 {', '.join(names)}: {text}" for text, names in said.items())]
    notes = [line for text in small for line in textwrap.wrap(text, 36 * columns)]
    high = 3.3 * rows + 0.5 + 0.27 * len(heading) + 0.24 * len(notes)
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.07)
    figure = new_figure(figsize=(2.9 * columns + 0.4, high), layout=layout)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[1] * rows + [0.09])
    axes = [figure.add_subplot(grid[at // columns, at % columns]) for at in range(len(maps))]
    for ax, kind, (name, values) in zip(axes, kinds, maps, strict=True):
        draw_map(pixels, values, signed=kind, masks=masks, opacity=opacity, colorbar=False, ax=ax)
        _name_panel(ax, name, flagged=name in cautions)
        if name in points:
            _ring(ax, points[name])
    set_left = {"x": 0.01, "ha": "left", "parse_math": False}
    figure.suptitle("\n".join(heading), fontsize=16, fontweight="bold", **set_left)
    handles = _key(kinds, masks or {}, ringed=bool(points))
    key = figure.add_subplot(grid[rows, :])
    key.set_axis_off()
    close = {"handlelength": 1.2, "handletextpad": 0.5, "columnspacing": 1.4}
    close |= {"borderaxespad": 0, "borderpad": 0, "ncols": min(len(handles), 2 * columns)}
    key.legend(handles=handles, loc="upper left", fontsize=12, **close)
    figure.supxlabel("\n".join(notes), fontsize=11, color=MUTED, **set_left)
    return figure


def _name_panel(ax: Axes, name: str, *, flagged: bool) -> None:
    title = "\n".join(lines_within(name, 2.35, 13, "bold")) + ("  \u26a0" if flagged else "")
    colour = AMBER_TEXT if flagged else INK
    ax.set_title(title, fontsize=13, loc="left", color=colour, parse_math=False)


def _ring(ax: Axes, point: tuple[float, float]) -> None:
    for colour, width in (("black", 4.4), ("white", 2.0)):
        (mark,) = ax.plot(*point, "o", color=colour, markersize=19, clip_on=False)
        mark.set(markerfacecolor="none", markeredgewidth=width)


def _key(
    kinds: Sequence[bool], masks: Mapping[str, np.ndarray], *, ringed: bool
) -> list[Patch | Line2D]:
    """Return what tells the meaning of colours, outlines and rings in a legend."""
    handles: list[Patch | Line2D] = []
    if not all(kinds):
        weak, strong = one_way()(0.25)[:3], one_way()(1.0)[:3]
        handles += [Patch(color=weak, label="some"), Patch(color=strong, label="most")]
    if any(kinds):
        handles += [Patch(color=FOR, label="for"), Patch(color=AGAINST, label="against")]
    for name, colour in _outline_colours(list(masks)).items():
        handles.append(Patch(facecolor="#6e6e6e", edgecolor=colour, label=name))
    if ringed:
        ring = Line2D([], [], marker="o", color=INK, linestyle="none", label="greatest")
        ring.set(markerfacecolor="none", markersize=12, markeredgewidth=2)
        handles.append(ring)
    return handles


def _hatch_unseen(ax: Axes, unseen: np.ndarray) -> None:
    """Dim and hatch what the model did not see, as one rectangle for each side of the crop."""
    if not unseen.any() or unseen.all():
        return
    rows, columns = np.nonzero(~unseen)
    seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    look = {"facecolor": (0, 0, 0, 0.5), "hatch": "///", "edgecolor": "#c8c8c8", "lw": 0}
    for (x, y), wide, high in outside(seen, *unseen.shape):
        ax.add_patch(Rectangle((x - 0.5, y - 0.5), wide, high, **look))


def _outline_colours(names: Sequence[str]) -> dict[str, str]:
    """Return white for a lone outline, and the colour of each finding where there are several."""
    alone = len(set(names)) == 1
    return {name: OTHER if alone else COLOURS.get(name, OTHER) for name in names}


def _box(ax: Axes, box: tuple[float, float, float, float], colour: str) -> None:
    left, top, right, bottom = box
    for edge, width in (("black", 3.8), (colour, 2.0)):
        ax.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=edge, lw=width)
        )


def _scale_bar(ax: Axes, colours: ListedColormap, scale: Normalize, signed: bool) -> None:
    # On black, as over the image.
    bar = ax.inset_axes((1.02, 0.0, 0.03, 1.0))
    bar.set_facecolor("black")
    ticks = (-1, 0, 1) if signed else (0, 1)
    ax.figure.colorbar(ScalarMappable(scale, colours), cax=bar, ticks=ticks)
    bar.set_yticklabels(["against", "0", "for"] if signed else ["0", "most"], fontsize=11)
    bar.tick_params(pad=2)


def _small_print(ax: Axes, details: str, caution: str | None) -> None:
    below = "\n".join(textwrap.wrap(details, 64))
    ax.set_xlabel(below, fontsize=11, color=MUTED, loc="left", labelpad=4, parse_math=False)
    if caution:
        text = "\n".join(textwrap.wrap("\u26a0 " + caution, 58))
        ground = {"facecolor": AMBER_GROUND, "edgecolor": AMBER, "pad": 3, "alpha": 0.95}
        look = {"fontsize": 10.5, "color": AMBER_TEXT, "bbox": ground, "parse_math": False}
        ax.text(0.012, 0.012, text, transform=ax.transAxes, va="bottom", **look)


#: Inches of a picture, between pictures, of the scale of a map, and of the column of words.
_SIDE, _GAP, _SCALE, _WORDS = 5.1, 0.3, 0.75, 5.7
#: Inches of a line of the title, of the text and of the table; lines of text at most.
_TITLE, _LINE, _ROW, _LINES = 0.32, 0.262, 0.3, 16
_OUTLINED = "what is drawn, outlined"

#: Words for right and wrong: dark enough to be read, and told apart without their colour too.
_RIGHT, _WRONG = "#00664a", "#a63c00"


@style()
def plot_case(
    pixels: np.ndarray,
    masks: Mapping[str, np.ndarray],
    *,
    text: str,
    verdicts: Sequence[tuple[str, str, str]],
    title: str = "",
    footer: str = "",
    values: np.ndarray | None = None,
    signed: bool = False,
    values_title: str = "",
    values_details: str = "",
) -> Figure:
    """Draw an image with its true findings beside what a model says of it.

    The page is as tall as its words need; a map of the same image stands beside it where there is
    one.

    Args:
        pixels: (H, W) in [0, 1], 1 white.
        masks: finding -> boolean (H, W).
        verdicts: (finding, true code, stated code), codes as in `workbench.findings`.
        values, signed, values_title, values_details: of a map; see `maps.draw_map`.

    Raises:
        InputError: a mask or the map does not have the shape of the image.

    >>> compared = [("pleural effusion", "present", "present")]
    >>> figure = wb.figures.plot_case(image.pixels, case.masks, text=report.text, verdicts=compared)
    """
    pictures = 1 if values is None else 2
    side = _SIDE * min(1.3, np.shape(pixels)[0] / np.shape(pixels)[1])
    head = lines_within(title, _WORDS, 16, "bold")
    lines = lines_within(text, _WORDS, 13, most=_LINES) or ["(nothing)"]
    written = _TITLE * len(head) + _LINE * len(lines) + 0.35
    table = _ROW * (len(verdicts) + 1)
    scale = 0.0 if values is None else _SCALE
    wide = pictures * (_SIDE + _GAP) + scale + _WORDS + _GAP
    small = lines_within(footer, wide - _GAP, 10)
    high = max(0.45 + side + (0.1 if values is None else 0.6), 0.15 + written + table)
    high += 0.2 + 0.19 * len(small)
    figure = new_figure(figsize=(wide, high))

    def axes(left: float, top: float, width: float, height: float) -> Axes:
        """Return axes in inches from the upper left corner."""
        return figure.add_axes(
            (left / wide, 1 - (top + height) / high, width / wide, height / high)
        )

    draw_masks(pixels, masks, ax=axes(_GAP / 2, 0.45, _SIDE, side), title=_OUTLINED)
    left = _GAP / 2 + _SIDE + _GAP
    if values is not None:
        seen = axes(left, 0.45, _SIDE, side)
        draw_map(pixels, values, signed=signed, details=values_details, masks=masks, ax=seen)
        name = lines_within(values_title, _SIDE + scale, 13, "bold", most=1)
        seen.set_title("".join(name), fontsize=13, loc="left", pad=6, parse_math=False)
        left += _SIDE + _GAP + scale
    _write(axes(left, 0.15, _WORDS, written), head, lines, written)
    draw_verdicts(verdicts, ax=axes(left, 0.15 + written, _WORDS, table))
    print_below = {"fontsize": 10, "color": MUTED, "va": "bottom", "parse_math": False}
    figure.text(_GAP / 2 / wide, 0.1 / high, "\n".join(small), **print_below)
    return figure


def _write(ax: Axes, head: Sequence[str], lines: Sequence[str], high: float) -> None:
    """Write a title and a text from the top of axes that are so many inches high."""
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(high, 0))
    bold = {"fontsize": 16, "fontweight": "bold", "color": INK}
    ax.text(0, 0.03, "\n".join(head), va="top", parse_math=False, **bold)
    body = {"fontsize": 13, "color": INK, "linespacing": 1.4}
    top = 0.13 + _TITLE * len(head)
    ax.text(0, top, "\n".join(lines), va="top", parse_math=False, **body)


def draw_verdicts(verdicts: Sequence[tuple[str, str, str]], *, ax: Axes) -> Axes:
    """Draw a table of findings: what is true, what is stated, and whether they agree.

    A finding that the text does not mention is neither right nor wrong unless it is there;
    one that it leaves open is neither.

    Raises:
        InputError: there is no finding to draw.

    >>> ax = wb.figures.new_figure().subplots()
    >>> wb.figures.draw_verdicts([("nodule", "present", "absent")], ax=ax) is ax
    True
    """
    if not verdicts:
        raise InputError("verdicts are empty; pass one (finding, true, stated) for each finding")
    ax.set(xlim=(0, 1), ylim=(len(verdicts) + 1, 0))
    ax.set_axis_off()
    columns = (0.0, 0.36, 0.60)
    for x, name in zip(columns, ("finding", "drawn", "stated"), strict=True):
        ax.text(x, 0.5, name, fontsize=11.5, color=MUTED, va="center")
    for row, (finding, true, stated) in enumerate(verdicts, start=1):
        ax.axhline(row, color=GRID, linewidth=0.8)
        colour, mark = _verdict(true, stated)
        strong = "bold" if true == "present" else "normal"
        ax.text(columns[0], row + 0.5, finding, fontsize=12.5, va="center", fontweight=strong)
        ax.text(columns[1], row + 0.5, true, fontsize=12.5, va="center", color=INK)
        ax.text(columns[2], row + 0.5, stated, fontsize=12.5, va="center", color=colour)
        ax.text(0.985, row + 0.5, mark, fontsize=12.5, va="center", ha="right", color=colour)
    return ax


def _verdict(true: str, stated: str) -> tuple[str, str]:
    if stated == true:
        return _RIGHT, "correct"
    if stated == "present":
        return _WRONG, "false alarm"
    if true == "present" and stated != "uncertain":
        return _WRONG, "missed"
    return MUTED, "open"
