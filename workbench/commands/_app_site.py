"""What `workbench app` serves: the pages, what each needs, and the private folder they lie in.

A page is a notebook of two fixed cells; everything that a user chose (names of files, folders,
people) reaches it by a settings file, never as code. The start page shows a small picture of each
image under the name that the explorer gives it, which names nobody (`workbench.imaging.sources`).
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import logging
import os
import re
import socket
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench._store import write_private
from workbench.errors import InputError, WorkbenchError

if TYPE_CHECKING:
    from workbench.radiograph import Radiograph

logger = logging.getLogger(__name__)

#: File with the settings, in the private folder, which is where the processes of pages start.
SETTINGS = "settings.json"

#: The phantom of the explorer where no image was given.
DRAWN: dict[str, Any] = {"seed": 7, "findings": ["pleural effusion"]}

#: Pixels along the longer side of a small picture.
SIDE = 160

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        name: in its address: lower-case letters, digits and hyphens.
        kind: "explorer", "reviewer", "reader" or "monitor".
        about: what one does there.
        waits: what is said while it opens.
        needs: the options that make it be there; "" where it is.
        number: of the image, for an explorer.
        shows: name of the folder, and of the person, that the page is about; those of images come
            with their pictures.
    """

    name: str
    kind: str
    title: str
    about: str
    waits: str
    needs: str = ""
    number: int | None = None
    shows: str = ""

    @property
    def ready(self) -> bool:
        """Whether the page is there."""
        return not self.needs


@dataclass(frozen=True)
class Site:
    """What was asked for on the command line, with whole paths; see the options of the app.

    Attributes:
        model, device, dtype: as `workbench.commands._shared.open_model` takes them.
        folder: where the app was started.
    """

    model: str = "mini"
    device: str | None = None
    dtype: str | None = None
    images: tuple[str, ...] = ()
    upright: bool = False
    run: str | None = None
    reviewer: str | None = None
    study: str | None = None
    reader: str | None = None
    manifest: str | None = None
    root: str | None = None
    training: str | None = None
    folder: str = "."

    @property
    def pages(self) -> tuple[Page, ...]:
        """All pages, also those that would need another option."""
        return (
            *self._explorers(),
            Page(
                "reviewer", "reviewer", "Reviewer",
                "The suspected errors of a run one by one, and a verdict by one key. Every verdict "
                "is written at once.", "Reading the reports of the run",
                needs="" if self.run else "--run DIR", shows=_folder(self.run, self.reviewer),
            ),
            Page(
                "reader", "reader", "Reader study",
                "A radiograph, a report without a name, and one key for the grade. The list "
                "resumes where it was left.", "Opening the list",
                needs="" if self.study else "--study DIR --reader NAME",
                shows=_folder(self.study, self.reader),
            ),
            Page(
                "monitor", "monitor", "Training monitor",
                "Loss and measures of a fine-tuning run while it runs, and in the end what got "
                "better and what got worse.", "Opening the run",
                needs="" if self.training else "--training DIR", shows=_folder(self.training),
            ),
        )  # fmt: skip

    def _explorers(self) -> list[Page]:
        about = (
            "A radiograph beside the report that the model writes about it. Click any word, and "
            "see where in the image it came from."
        )
        waits = f"Loading the model {self.model}"
        if not self.images:
            about += " It opens with a phantom whose findings are known; --image FILE shows yours."
            return [Page("explorer", "explorer", "Explorer", about, waits)]
        names = [("explorer", "Explorer")]
        if len(self.images) > 1:
            counted = range(1, len(self.images) + 1)
            names = [(f"explorer-{n}", f"Explorer, image {n}") for n in counted]
        return [
            Page(name, "explorer", title, about, waits, number=at)
            for at, (name, title) in enumerate(names)
        ]

    def page(self, name: str) -> Page:
        """Return a page that is there; InputError where there is none of this name."""
        for page in self.pages:
            if page.name == name and page.ready:
                return page
        raise InputError(f"the app has no page {name!r}; go back to its start")

    def check(self) -> None:
        """Refuse a file or folder that is not there, by its option."""
        files = [("image", path) for path in self.images] + [("manifest", self.manifest)]
        for option, path in files:
            if path and not os.path.isfile(path):
                raise InputError(f"--{option} {path}: there is no such file")
        for option in ("run", "study", "root", "training"):
            path = getattr(self, option)
            if path and not os.path.isdir(path):
                begun = "; it is there once the training has begun" if option == "training" else ""
                raise InputError(f"--{option} {path}: there is no such folder{begun}")

    def to_json(self) -> str:
        """Return the settings as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Site:
        """Return the settings that `to_json` wrote."""
        found = json.loads(text)
        return cls(**found | {"images": tuple(found["images"])})


def _folder(path: str | None, person: str | None = None) -> str:
    """Return the name of a folder without the way to it, and whose page it is."""
    return ", ".join(part for part in (path and Path(path).name, person) if part)


def notebook(page: Page) -> dict[str, Any]:
    """Return a page as a notebook: two cells, and what is said while each runs."""
    from nbformat.v4 import new_code_cell, new_notebook

    steps = (
        ("Starting the workbench", "from workbench.commands._app_process import open_page"),
        (page.waits, f'open_page("{page.name}")'),
    )
    cells = [
        new_code_cell(code, id=f"step-{n}", metadata={"workbench": {"waits": says}})
        for n, (says, code) in enumerate(steps)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "workbench": {"title": page.title}}
    return new_notebook(cells=cells, metadata=metadata)


@contextmanager
def site_folder(site: Site) -> Iterator[Path]:
    """Yield a folder, closed to other users, with settings and pages; it vanishes in the end."""
    with tempfile.TemporaryDirectory(prefix="workbench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_private(folder / SETTINGS, site.to_json().encode())
        for page in site.pages:
            if page.ready:
                content = json.dumps(notebook(page)).encode()
                write_private(folder / f"{page.name}.ipynb", content)
        yield folder


def host_name(text: str) -> str:
    """Parse the name (letters, digits, dots, hyphens) or IPv4 address of a computer."""
    name = text.lower()
    if _NAME.fullmatch(name):
        return name
    raise argparse.ArgumentTypeError(
        f"expected a name such as workbench.example.org, without port or path, got {text}"
    )


def own_names(*, network: bool = False) -> frozenset[str]:
    """Return the names of this computer as they stand in a Host header, without port.

    With `network` also its name and addresses there, as far as it knows them by itself.
    """
    if not network:
        return LOCAL_NAMES
    import psutil

    name = socket.gethostname().lower()
    names = {name, f"{name}.local", *LOCAL_NAMES}
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family in (socket.AF_INET, socket.AF_INET6):
                names.add(one.address.partition("%")[0].lower())
    return frozenset(names)


class Card(NamedTuple):
    """An image on the start page: as the explorer calls it, and a PNG as a data address, or ""."""

    name: str
    picture: str = ""


READING = Card("still being read")
UNREADABLE = Card("this file cannot be read; its page says why")


class Cards:
    """The cards of all images, or of a phantom, made one after another in a thread from now on."""

    def __init__(self, images: Sequence[str], *, upright: bool = False) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cards")
        self._made = [self._pool.submit(_card, path, upright) for path in (images or (None,))]

    def ready(self, patience: float) -> list[Card]:
        """Return the cards in order; `READING` for those not there after so many seconds."""
        wait(self._made, max(0.0, patience))
        return [one.result() if one.done() else READING for one in self._made]

    def close(self) -> None:
        """Read no further images."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _card(path: str | None, upright: bool) -> Card:
    from PIL import Image

    try:
        image = _image(path, upright)
        grey = Image.fromarray((image.pixels * 255).round().astype("uint8"))
        grey.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        grey.save(buffer, "PNG")  # the pixels alone, without what else the file holds
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        return Card(image.contract.source, f"data:image/png;base64,{data}")
    except (WorkbenchError, OSError) as error:
        logger.info("no small picture of an image: %s", error)
    except Exception:
        logger.exception("no small picture of an image")
    return UNREADABLE


def _image(path: str | None, upright: bool) -> Radiograph:
    if path is None:
        from workbench.phantom.case import phantom

        return phantom(**DRAWN).image
    from workbench.imaging import load_radiograph

    return load_radiograph(path, upright=upright)
