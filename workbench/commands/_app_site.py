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
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        title: heading.
        about: what one does there.
        needs: the options that make it be there; "" where it is.
        waits: what is said while it opens.
        number: of the image, for an explorer.
        shows: name of the folder, and of the person, that the page is about; those of images come
            with their pictures.
    """

    name: str
    kind: str
    title: str
    about: str
    needs: str = ""
    waits: str = ""
    number: int | None = None
    shows: str = ""

    @property
    def ready(self) -> bool:
        """Whether the page is there."""
        return not self.needs


@dataclass(frozen=True)
class Site:
    """What was asked for on the command line, with whole paths.

    Attributes:
        model, device, dtype: as `workbench.commands._shared.open_model` takes them.
        images: files to explore; a phantom where there are none.
        upright: whether these are turned as they say.
        run, reviewer: what the reviewer needs.
        study, reader: what the reader study needs.
        manifest: what is known of the images of run and study.
        root: folder of these images; that of the manifest when None.
        training: folder of a training run.
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
                "is written at once.",
                needs="" if self.run else "--run DIR",
                waits="Reading the reports of the run",
                shows=_folder(self.run, self.reviewer),
            ),
            Page(
                "reader", "reader", "Reader study",
                "A radiograph, a report without a name, and one key for the grade. The list "
                "resumes where it was left.",
                needs="" if self.study else "--study DIR --reader NAME",
                waits="Opening the list",
                shows=_folder(self.study, self.reader),
            ),
            Page(
                "monitor", "monitor", "Training monitor",
                "Loss and measures of a fine-tuning run while it runs, and in the end what got "
                "better and what got worse.",
                needs="" if self.training else "--training DIR",
                waits="Opening the run",
                shows=_folder(self.training),
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
            return [Page("explorer", "explorer", "Explorer", about, waits=waits)]
        many = len(self.images) > 1
        return [
            Page(
                f"explorer-{n}" if many else "explorer", "explorer",
                f"Explorer, image {n}" if many else "Explorer", about, waits=waits, number=n - 1,
            )
            for n in range(1, len(self.images) + 1)
        ]  # fmt: skip

    def page(self, name: str) -> Page:
        """Return a page that is there.

        Raises:
            InputError: there is none of this name.
        """
        for page in self.pages:
            if page.name == name and page.ready:
                return page
        raise InputError(f"the app has no page {name!r}; go back to its start")

    def check(self) -> None:
        """Look whether files and folders are there.

        Raises:
            InputError: one is not; the message names it and the option.
        """
        for path in self.images:
            if not os.path.isfile(path):
                raise InputError(f"--image {path}: there is no such file")
        for option in ("run", "study", "root", "training"):
            path = getattr(self, option)
            if path and not os.path.isdir(path):
                begun = "; it is there once the training has begun" if option == "training" else ""
                raise InputError(f"--{option} {path}: there is no such folder{begun}")
        if self.manifest and not os.path.isfile(self.manifest):
            raise InputError(f"--manifest {self.manifest}: there is no such file")

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
    """Return a page as a notebook: two cells, and what is said while each runs.

    Args:
        page: its name is part of the code and may contain no quotation mark.
    """
    if not re.fullmatch(r"[a-z0-9-]+", page.name):
        raise InputError(f"a page cannot be called {page.name!r}")
    steps = (
        ("Starting the workbench", "from workbench.commands._app_process import open_page"),
        (page.waits, f'open_page("{page.name}")'),
    )
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": kernel, "workbench": {"title": page.title}},
        "cells": [
            {"cell_type": "code", "id": f"step-{n}", "source": code, "outputs": [],
             "execution_count": None, "metadata": {"workbench": {"waits": says}}}
            for n, (says, code) in enumerate(steps)
        ],
    }  # fmt: skip


@contextmanager
def site_folder(site: Site) -> Iterator[Path]:
    """Yield a folder, closed to other users, with settings and pages; it vanishes in the end."""
    folder = Path(tempfile.mkdtemp(prefix="workbench-"))
    try:
        write_private(folder / SETTINGS, site.to_json().encode())
        for page in site.pages:
            if page.ready:
                content = json.dumps(notebook(page)).encode()
                write_private(folder / f"{page.name}.ipynb", content)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def host_name(text: str) -> str:
    """Parse the name of a computer.

    Raises:
        argparse.ArgumentTypeError: not a name (letters, digits, dots, hyphens) or an IPv4 address.
    """
    name = text.lower()
    if _NAME.fullmatch(name):
        return name
    raise argparse.ArgumentTypeError(
        f"expected a name such as workbench.example.org, without port or path, got {text}"
    )


def own_names(*, network: bool = False) -> frozenset[str]:
    """Return the names of this computer as they stand in a Host header, without port.

    Args:
        network: also its name and addresses in the network, as far as it knows them by itself.
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
    """The cards of all images, made one after another in a thread from the start of the app on.

    Args:
        images: files; a phantom where there are none.
        upright: whether they are turned as they say.
    """

    def __init__(self, images: Sequence[str], *, upright: bool = False) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cards")
        self._made: list[Future[Card]] = [
            self._pool.submit(_card, path, upright) for path in (images or (None,))
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


def _card(path: str | None, upright: bool) -> Card:
    try:
        image = _image(path, upright)
        return Card(image.contract.source, _picture(image))
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


def _picture(image: Radiograph) -> str:
    """Return a small picture of the pixels alone, without what else the file holds."""
    import numpy as np
    from PIL import Image

    grey = Image.fromarray(np.rint(image.pixels * 255).astype(np.uint8))
    grey.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
