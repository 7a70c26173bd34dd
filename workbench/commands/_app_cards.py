"""What the start page shows of an image: its name and a small picture of it.

The images are read one after another in a thread, from the start of the app on; the page shows what
is there. Names are those of the explorer, which name nobody (`workbench.imaging.names`).

Does not know: pages or servers.
"""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any

from workbench.commands._app_site import DRAWN
from workbench.errors import WorkbenchError

logger = logging.getLogger(__name__)

#: Pixels along the longer side of a small picture.
SIDE = 160


@dataclass(frozen=True)
class Card:
    """An image on the start page.

    Attributes:
        name: as the explorer calls it.
        picture: a PNG as a data address; "" where there is none.
    """

    name: str
    picture: str = ""


READING = Card("still being read")
UNREADABLE = Card("this file cannot be read; its page says why")


class Cards:
    """The cards of all images, made in the background.

    Args:
        images: files; a phantom where there are none.
        upright: whether they are turned as they say.
    """

    def __init__(self, images: Sequence[str], *, upright: bool = False) -> None:
        read = partial(_image, upright=True) if upright else _image
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cards")
        self._made: list[Future[Card]] = [
            self._pool.submit(_card, path, read) for path in (images or (None,))
        ]

    def ready(self, patience: float) -> list[Card]:
        """Return the cards in the order of the images; `READING` where one is not there in time.

        Args:
            patience: seconds to wait for those that are not there.
        """
        wait(self._made, max(0.0, patience))
        return [one.result() if one.done() else READING for one in self._made]

    def close(self) -> None:
        """Read no further images."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _card(path: str | None, read: Callable[[str | None], Any]) -> Card:
    try:
        image = read(path)
        return Card(image.contract.source, _picture(image))
    except (WorkbenchError, OSError) as error:
        logger.info("no small picture of an image: %s", error)
    except Exception:
        logger.exception("no small picture of an image")
    return UNREADABLE


def _image(path: str | None, *, upright: bool = False) -> Any:
    if path is None:
        from workbench.phantom.case import phantom

        return phantom(**DRAWN).image
    from workbench.imaging import load_radiograph

    return load_radiograph(path, upright=upright)


def _picture(image: Any) -> str:
    """Return a small picture of the pixels alone, without what else the file holds."""
    import numpy as np
    from PIL import Image

    grey = Image.fromarray(np.rint(image.pixels * 255).astype(np.uint8))
    grey.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
