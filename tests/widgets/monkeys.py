"""A seeded monkey at a page: keys, clicks and typing, each drawn by lot."""

from __future__ import annotations

import random

#: Ends full screen, as a person does by a key that the browser itself takes.
WINDOWED = "document.fullscreenElement && document.exitFullscreen()"


def monkey(page, *, actions: int, seed: int, keys: str) -> None:
    """Do random things to a page.

    Args:
        page: with an app on it.
        actions: how many.
        seed: of the lots.
        keys: names of keys, separated by blanks.
    """
    draw = random.Random(seed)
    size = page.viewport_size
    for _ in range(actions):
        what = draw.random()
        if what < 0.62:
            page.keyboard.press(draw.choice(keys.split()))
        elif what < 0.72:
            page.keyboard.type(draw.choice(["note <b>", "5 z 1", "\U0001f600"]))
        elif what < 0.78:
            page.mouse.wheel(0, draw.choice([-200, 200]))
        else:
            # what covers the page (a menu, a dialog) takes the click, as it would for a person
            across, down = (draw.uniform(5, size[name] - 5) for name in ("width", "height"))
            page.mouse.click(across, down)
    page.evaluate(WINDOWED)
    for _ in range(3):
        page.keyboard.press("Escape")
