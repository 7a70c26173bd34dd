"""Figure of a comparison: the difference of F1, finding by finding, with intervals.

Does not know: how anything was counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.figures.style import BLUE, GRID, INK, MUTED, VERMILION, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.evaluation.comparison import Comparison, FindingDifference

_SURE = 0.05


def plot_comparison(found: Comparison, ax: Axes | None = None) -> Axes:
    """Draw F1 of the first system minus that of the second; a filled mark survives Holm's test."""
    drawn = {name: item for name, item in found.per_finding.items() if item.n}
    items = [*drawn.values(), *found.averages.values()]
    places = [at + (0.6 if at >= len(drawn) else 0.0) for at in range(len(items))]
    with style():
        if ax is None:
            figure = new_figure(figsize=(11, 2.6 + 0.42 * len(items)), layout="constrained")
            ax = figure.add_subplot()
        ax.axvline(0, color=INK, lw=1.2)
        for item, y in zip(items, places, strict=True):
            _draw(ax, item, y, average=y > len(drawn))
            ax.text(1.03, y, _note(item), transform=ax.get_yaxis_transform(), va="center",
                    fontsize=11.5)  # fmt: skip
        if drawn:
            ax.axhline(len(drawn) - 0.2, color=GRID, lw=1.2)
        ax.set_yticks(places, [item.finding for item in items])
        edge = max([0.1, *(abs(end) for item in items for end in _ends(item))]) * 1.1
        ax.set(xlim=(-edge, edge), ylim=(max(places) + 0.7, -0.7))
        ax.set_xlabel(f"\u2190 {found.b} better     difference of F1     {found.a} better \u2192")
        ax.set_title(f"{found.a} against {found.b}, {found.pairs:,} pairs, {found.policy}", pad=14)
        ax.grid(axis="x")
        ax.tick_params(axis="y", length=0)
    return ax


def _draw(ax: Axes, item: FindingDifference, y: float, *, average: bool) -> None:
    value, low, high = item.difference.value, item.difference.low, item.difference.high
    if value is None:
        ax.text(0, y, " undefined", color=MUTED, va="center", fontsize=11, style="italic")
        return
    colour = BLUE if value >= 0 else VERMILION
    if low is not None and high is not None:
        ax.plot([low, high], [y, y], color=colour, lw=2.2, solid_capstyle="butt")
        ax.plot([low, high], [y, y], "|", color=colour, ms=9, mew=2.2)
    sure = item.p_holm is not None and item.p_holm < _SURE
    face = colour if sure else "white"
    ax.plot(value, y, "D" if average else "o", color=colour, mfc=face, ms=8, mew=1.8)


def _ends(item: FindingDifference) -> list[float]:
    found = item.difference
    return [end for end in (found.value, found.low, found.high) if end is not None]


def _note(item: FindingDifference) -> str:
    if item.p is None:
        return f"n {item.n:,}"
    p = "p < 0.001" if (item.p_holm or 0) < 0.001 else f"p {item.p_holm:.3f}"
    return f"n {item.n:,}   {item.a_only} : {item.b_only}   {p} (Holm)"
