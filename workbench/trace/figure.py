"""Where the attention of each token went: prompt, image, question, or the model's own words.

Does not know: models; it draws what a `Trace` holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.figures.lines import legend_inches, text_inches
from workbench.figures.style import BLUE, GREEN, INK, ORANGE, SKY, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.trace.trace import Trace

#: Colour of each kind of position.
KIND_COLOURS = {"prompt": SKY, "image": ORANGE, "question": BLUE, "generated": GREEN}
KIND_NAMES = {
    "prompt": "prompt before the image",
    "image": "image",
    "question": "prompt behind it",
    "generated": "own words",
}
_TITLE = "Where each token looked (mean of layers and heads)"


def plot_sources(trace: Trace, ax: Axes | None = None) -> Axes:
    """Draw one stacked bar per token: the share of its attention that each kind of position got.

    Args:
        trace: its language rows, averaged over recorded layers and heads.
        ax: where to draw; a new figure as wide as the text needs when None.
    """
    frame = trace.to_frame()
    with style():
        if ax is None:
            words = max(text_inches(_TITLE, 16, "bold"), legend_inches(KIND_NAMES.values(), 11))
            width = float(np.clip(0.24 * len(frame) + 2.5, words + 1, 26))
            ax = new_figure(figsize=(width, 4.6), layout="constrained").add_subplot()
        below = np.zeros(len(frame))
        for kind, colour in KIND_COLOURS.items():
            share = frame[kind].to_numpy()
            ax.bar(range(len(frame)), share, 0.9, below, color=colour, label=KIND_NAMES[kind])
            below += share
        words = [str(token).replace("\u2581", " ").strip() or "\u00b7" for token in frame["token"]]
        ax.set_xticks(
            range(len(frame)), words, rotation=90, fontsize=10, color=INK, parse_math=False
        )
        ax.set(xlim=(-0.6, len(frame) - 0.4), ylim=(0, 1), ylabel="share of attention")
        ax.set_title(_TITLE, pad=34)
        ax.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=11)
    return ax
