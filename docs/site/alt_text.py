"""Run by every kernel that makes a page of the course: a figure is described by its own words.

Lies in the start-up folder of the kernel's profile, so no lesson has to know of it. Every picture
that is drawn by matplotlib carries its titles, labels and legends as alternative text; a figure
without any words keeps the text that the page gives it, the heading that it stands under.

Does not know: what a figure means; what it says is what its author wrote on it.
"""

from __future__ import annotations

from typing import Any

#: Longer descriptions are cut; a listener can read the lesson's own words.
LONGEST = 400


def describe(figure: Any) -> str:
    """Return what is written on a matplotlib figure, or "" where nothing is."""
    titles = [figure.get_suptitle()]
    scales: list[str] = []
    series: list[str] = []
    for ax in figure.axes:
        titles += [ax.get_title(loc) for loc in ("left", "center", "right")]
        scales += [ax.get_xlabel(), ax.get_ylabel()]
        legend = ax.get_legend()
        series += [text.get_text() for text in legend.get_texts()] if legend else []
    parts = [_joined(titles)]
    for name, words in (("Axes", scales), ("Series", series)):
        if found := _joined(words):
            parts.append(f"{name}: {found}")
    text = ". ".join(part.rstrip(".") for part in parts if part)
    return text if len(text) <= LONGEST else text[: LONGEST - 4].rsplit(" ", 1)[0] + " ..."


def _joined(words: list[str]) -> str:
    """Return different words once each, on one line."""
    lines = (" ".join(word.split()) for word in words)
    return "; ".join(dict.fromkeys(line for line in lines if line))


def install(shell: Any) -> None:
    """Let a kernel give every figure that it shows its description.

    Args:
        shell: an IPython shell; whatever it shows from now on goes through here.
    """
    from IPython.core import pylabtools

    drawn: list[str] = []
    draw, bundle = pylabtools.print_figure, shell.display_formatter.format

    def print_figure(figure: Any, *args: Any, **options: Any) -> Any:
        drawn[:] = [describe(figure)]
        return draw(figure, *args, **options)

    def format_bundle(thing: Any, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        data, metadata = bundle(thing, include=include, exclude=exclude)
        if "image/png" in data and drawn:
            text = drawn.pop()
            if text:
                metadata.setdefault("image/png", {}).setdefault("alt", f"Figure: {text}")
        return data, metadata

    pylabtools.print_figure = print_figure
    shell.display_formatter.format = format_bundle


if __name__ == "__main__":  # IPython runs start-up files as scripts
    from IPython import get_ipython

    install(get_ipython())
