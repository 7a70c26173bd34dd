"""Figures of manifests: how often each finding occurs, and a contact sheet of suspect images.

Does not know: how counts and suspects came about.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.figures.style import (
    BLUE,
    FILM,
    MUTED,
    ORANGE,
    VERMILION,
    new_figure,
    style,
)
from workbench.findings import ABSENT, ALL_FINDINGS, PRESENT, UNCERTAIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.data.manifest import Manifest

_COLOURS = {PRESENT: VERMILION, UNCERTAIN: ORANGE, ABSENT: BLUE}
_NOTHING = "#e8e8e8"
_COLUMNS = 5
_LINE = 34


def plot_findings(manifest: Manifest, *, ax: Axes | None = None) -> Axes:
    """Draw one bar for each finding: shares that are present, uncertain, absent, not mentioned.

    Findings of reports are always drawn, so that what was never asked is seen; others where they
    occur.

    Args:
        manifest: what is counted.
        ax: where to draw; a new figure as high as needed when None.
    """
    rows = max(1, len(manifest))
    counts = {
        name: n
        for name, n in manifest.summary()["findings"].items()
        if name in ALL_FINDINGS or any(n[code] for code in _COLOURS)
    }
    names = list(counts)
    with style():
        if ax is None:
            height = 0.42 * max(3, len(names)) + 1.7
            ax = new_figure(figsize=(11, height), layout="constrained").add_subplot()
        left = np.zeros(len(names))
        for code, colour in (*_COLOURS.items(), ("not mentioned", _NOTHING)):
            share = np.array([counts[name][code] for name in names]) / rows
            ax.barh(names, share, 0.72, left, color=colour, label=code)
            left = left + share
        for at, name in enumerate(names):
            ax.text(1.01, at, f"{counts[name][PRESENT]:,} present", va="center", color=MUTED)
        ax.invert_yaxis()
        ax.set(xlim=(0, 1), xlabel=f"share of {len(manifest):,} images")
        ax.set_title("What is known of each finding", pad=34)
        if names:
            ax.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1), fontsize=12)
    return ax


def plot_sheet(
    pictures: Sequence[np.ndarray | None], captions: Sequence[tuple[str, str]], *, title: str
) -> Figure:
    """Draw images in a grid with a name and a reason under each.

    Args:
        pictures: (H, W) in [0, 1], or None for one that cannot be read.
        captions: name and reason of each.
        title: above all.
    """
    rows = max(1, -(-len(pictures) // _COLUMNS))
    with style():
        figure = new_figure(figsize=(2.9 * _COLUMNS, 3.75 * rows + 0.7), layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, _COLUMNS, squeeze=False)).ravel()
        for ax in axes:
            ax.set_axis_off()
        for ax, picture, (name, reason) in zip(axes, pictures, captions, strict=False):
            if picture is None:
                ax.add_patch(_plate(ax))
                ax.text(0.5, 0.5, "not readable", ha="center", va="center", color=MUTED)
                ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
            else:
                ax.imshow(picture, cmap=FILM, vmin=0, vmax=1)
            text = "\n".join(textwrap.wrap(reason, _LINE)[:3])
            short = name if len(name) <= _LINE else "..." + name[-_LINE + 3 :]
            ax.set_title(short, fontsize=11, loc="left", parse_math=False)
            ax.text(
                0, -0.03, text, transform=ax.transAxes, va="top", fontsize=10, color=MUTED,
                parse_math=False,
            )  # fmt: skip
        figure.suptitle(title, x=0.01, ha="left", weight="bold")
    return figure


def _plate(ax: Axes):
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), 1, 1, color=_NOTHING, transform=ax.transAxes)
