"""Maps over a radiograph: how strongly each place speaks for, or against, what is explained.

One direction is drawn in amber to yellow (a part of matplotlib's "plasma", legible on grey films
and for colour-blind readers) that grows more opaque with the value, so that nothing is hidden where
nothing is claimed. Two directions are drawn from blue (against) to orange (for), clear at 0, both
scaled alike.

Does not know: where numbers come from; what a method is worth, unless it is told as a caution.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from workbench.errors import InputError, OptionError
from workbench.figures.masks import COLOURS, OTHER
from workbench.figures.style import AMBER_TEXT, FILM, MUTED, new_figure, style

#: Ends of the signed scale: vermilion for, sky blue against (Okabe and Ito 2008).
FOR, AGAINST = "#ff7a1a", "#35a7ff"


def one_way() -> ListedColormap:
    """Return the colours of unsigned maps: clear at 0, bright yellow at 1."""
    from matplotlib import colormaps

    steps = np.linspace(0, 1, 256)
    colours = colormaps["plasma"](0.35 + 0.65 * steps)
    colours[:, 3] = np.clip(steps * 1.25, 0, 1)
    return ListedColormap(colours, "workbench_one_way")


def two_way() -> ListedColormap:
    """Return the colours of signed maps: blue at -1, clear at 0, orange at 1."""
    steps = np.linspace(-1, 1, 257)
    colours = np.where(steps[:, None] >= 0, to_rgb(FOR), to_rgb(AGAINST))
    return ListedColormap(
        np.column_stack([colours, np.clip(np.abs(steps) * 1.25, 0, 1)]), "workbench_two_way"
    )


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
            is hatched.
        signed: whether values below 0 mean "against".
        title: above, in bold.
        details: small print below: method, layer, head, unit, normalisation.
        caution: written below in amber.
        masks: name -> boolean (H, W), outlined.
        boxes: name -> (left, top, right, bottom) in pixels, outlined.
        opacity: of the strongest colour, in [0, 1].
        colorbar: draw the scale.
        ax: where to draw; a new figure when None.

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
    with style():
        if ax is None:
            ax = new_figure(figsize=(6.4, 7.0), layout="constrained").add_subplot()
        colours, scale = (two_way(), Normalize(-1, 1)) if signed else (one_way(), Normalize(0, 1))
        ax.imshow(pixels, cmap=FILM, vmin=0, vmax=1, interpolation="antialiased")
        painted = colours(scale(np.nan_to_num(values)))
        painted[..., 3] *= opacity
        ax.imshow(painted, interpolation="nearest")
        _hatch_unseen(ax, np.isnan(values))
        for name, mask in (masks or {}).items():
            _outline(ax, name, np.asarray(mask), np.shape(pixels))
        for name, (left, top, right, bottom) in (boxes or {}).items():
            edge = COLOURS.get(name, OTHER)
            ax.add_patch(
                Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=edge, lw=2)
            )
        ax.set_xlim(-0.5, pixels.shape[1] - 0.5)
        ax.set_ylim(pixels.shape[0] - 0.5, -0.5)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        if title:
            ax.set_title("\n".join(textwrap.wrap(title, 46)), fontsize=12.5, loc="left")
        if colorbar:
            _scale_bar(ax, colours, scale, signed)
        _small_print(ax, details, caution)
    return ax


def draw_small_multiples(
    pixels: np.ndarray,
    maps: Sequence[tuple[str, np.ndarray]],
    *,
    signed: bool = False,
    title: str = "",
    details: str = "",
    columns: int = 4,
    masks: Mapping[str, np.ndarray] | None = None,
    cautions: Mapping[str, str] | None = None,
    opacity: float = 0.65,
) -> Figure:
    """Draw several maps of one image side by side, on one scale: over layers, words or methods.

    Args:
        pixels: (H, W) in [0, 1].
        maps: (name, (H, W) values) in reading order; see `draw_map`.
        signed: see `draw_map`.
        title: above all of them.
        details: small print below all of them.
        columns: how many in a row.
        masks: outlined in each.
        cautions: name -> caution, marked at that name.
        opacity: see `draw_map`.

    Raises:
        InputError: there is no map.
    """
    if not maps:
        raise InputError("there is no map to draw; give one (name, values) at least")
    rows = -(-len(maps) // columns)
    columns = min(columns, len(maps))
    with style():
        figure = new_figure(figsize=(2.9 * columns + 0.4, 3.15 * rows + 1.0), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, (name, values) in zip(axes, maps, strict=False):
            draw_map(
                pixels,
                values,
                signed=signed,
                masks=masks,
                opacity=opacity,
                colorbar=False,
                ax=ax,
            )
            flagged = (cautions or {}).get(name)
            shown = f"{name}  \u26a0" if flagged else name
            ax.set_title(
                "\n".join(textwrap.wrap(shown, 26)),
                fontsize=11.5,
                loc="left",
                color=AMBER_TEXT if flagged else "black",
            )
        for ax in axes[len(maps) :]:
            ax.set_axis_off()
        figure.suptitle(title, fontsize=15, fontweight="bold", x=0.01, ha="left")
        notes = [details, *(f"\u26a0 {name}: {text}" for name, text in (cautions or {}).items())]
        figure.supxlabel(
            "\n".join(n for n in notes if n), fontsize=10, color=MUTED, x=0.01, ha="left"
        )
    return figure


def _hatch_unseen(ax: Axes, unseen: np.ndarray) -> None:
    """Hatch what the model did not see, as one rectangle for each side of the crop."""
    if not unseen.any() or unseen.all():
        return
    rows, columns = np.nonzero(~unseen)
    height, width = unseen.shape
    top, bottom = rows.min(), rows.max() + 1
    left, right = columns.min(), columns.max() + 1
    for x, y, wide, high in (
        (0, 0, width, top),
        (0, bottom, width, height - bottom),
        (0, top, left, bottom - top),
        (right, top, width - right, bottom - top),
    ):
        if wide > 0 and high > 0:
            ax.add_patch(
                Rectangle(
                    (x - 0.5, y - 0.5),
                    wide,
                    high,
                    fill=False,
                    hatch="///",
                    edgecolor="#8a8a8a",
                    lw=0,
                )
            )


def _outline(ax: Axes, name: str, mask: np.ndarray, shape: tuple[int, int]) -> None:
    if mask.shape != shape:
        raise InputError(
            f"the mask of {name} is {mask.shape}, the image {shape}; draw both at the same size"
        )
    if mask.any():
        colour = COLOURS.get(name, OTHER)
        ax.contour(mask.astype(float), levels=[0.5], colors=["black"], linewidths=2.6, alpha=0.55)
        ax.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=1.4)


def _scale_bar(ax: Axes, colours: ListedColormap, scale: Normalize, signed: bool) -> None:
    # On black, as over the film.
    bar = ax.inset_axes((1.02, 0.0, 0.03, 1.0))
    bar.set_facecolor("black")
    ticks = (-1, 0, 1) if signed else (0, 1)
    ax.figure.colorbar(ScalarMappable(scale, colours), cax=bar, ticks=ticks)
    bar.set_yticklabels(["against", "0", "for"] if signed else ["0", "max"], fontsize=10)


def _small_print(ax: Axes, details: str, caution: str | None) -> None:
    lines = textwrap.wrap(details, 74)
    ax.set_xlabel("\n".join(lines), fontsize=9.5, color=MUTED, loc="left", labelpad=4)
    if caution:
        text = "\n".join(textwrap.wrap("\u26a0 " + caution, 66))
        ax.text(
            0.012,
            0.012,
            text,
            transform=ax.transAxes,
            fontsize=9.5,
            color=AMBER_TEXT,
            va="bottom",
            bbox={"facecolor": "#fff4dc", "edgecolor": "#b36b00", "pad": 3, "alpha": 0.95},
        )
