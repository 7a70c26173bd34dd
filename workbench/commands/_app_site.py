"""What `workbench app` serves: the pages, the private folder they lie in, the process of each.

A page is a notebook of two fixed cells; everything that a user chose (names of files, folders,
people) reaches it by a settings file, never as code. Run as a program, this is the process of a
page: IPython's kernel, without the port that this opens for its subprocesses. The start page shows
a small picture of each image under the name that the explorer gives it, which names nobody.
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
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import chdir, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import workbench.commands._shared as shared
from workbench._store import write_private
from workbench.errors import InputError, WorkbenchError

if TYPE_CHECKING:
    from ipywidgets import DOMWidget

    from workbench.interface import ChestXrayModel
    from workbench.phantom.case import Phantom
    from workbench.radiograph import Radiograph

logger = logging.getLogger(__name__)

#: File with the settings, in the private folder, which is where the processes of pages start.
SETTINGS = "settings.json"

#: Pixels along the longer side of a small picture.
SIDE = 160

#: Environment variable of a process that loads the model before it has a page.
WARM = "WORKBENCH_APP_WARM"

WIDGET = "application/vnd.jupyter.widget-view+json"

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


class Page(NamedTuple):
    """One page: its name in the address, its kind, and the options that make it be there.

    `number` is of the image, for an explorer; `shows` the name of the folder, and of the person,
    that the page is about (cards of images come with their pictures).
    """

    name: str
    kind: str
    title: str
    waits: str
    needs: str = ""
    number: int | None = None
    shows: str = ""

    @property
    def ready(self) -> bool:
        return not self.needs


@dataclass(frozen=True)
class Site:
    """What was asked for on the command line, with whole paths, and where the app was started."""

    model: str = "mini"
    device: str | None = None
    dtype: str | None = None
    name: str | None = None
    allow_remote: bool = False
    prompts: str | None = None
    images: Sequence[str] = ()
    upright: bool = False
    run: str | None = None
    whole: bool = False
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
            Page("reviewer", "reviewer", "Reviewer", "Reading the reports of the run",
                 "" if self.run else "--run DIR", shows=_folder(self.run, self.reviewer)),
            Page("reader", "reader", "Reader study", "Opening the list",
                 "" if self.study else "--study DIR --reader NAME",
                 shows=_folder(self.study, self.reader)),
            Page("monitor", "monitor", "Training monitor", "Opening the run",
                 "" if self.training else "--training DIR", shows=_folder(self.training)),
        )  # fmt: skip

    def _explorers(self) -> list[Page]:
        waits = f"Loading the model {self.model}"
        if len(self.images) < 2:
            number = 0 if self.images else None
            return [Page("explorer", "explorer", "Explorer", waits, number=number)]
        return [
            Page(f"explorer-{n}", "explorer", f"Explorer, image {n}", waits, number=n - 1)
            for n in range(1, len(self.images) + 1)
        ]

    def page(self, name: str) -> Page:
        """Return a page that is there; InputError where there is none of this name."""
        for page in self.pages:
            if page.name == name and page.ready:
                return page
        raise InputError(f"the app has no page {name!r}; go back to its start")


def _folder(path: str | None, person: str | None = None) -> str:
    """Return the name of a folder without the way to it, and whose page it is."""
    return ", ".join(part for part in (path and Path(path).name, person) if part)


def notebook(page: Page) -> dict[str, Any]:
    """Return a page as a notebook: two cells, and what is said while each runs."""
    from nbformat.v4 import new_code_cell, new_notebook

    steps = (
        ("Starting the workbench", "from workbench.commands._app_site import open_page"),
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
        write_private(folder / SETTINGS, json.dumps(asdict(site)).encode())
        for page in (page for page in site.pages if page.ready):
            write_private(folder / f"{page.name}.ipynb", json.dumps(notebook(page)).encode())
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
    found = [one for several in psutil.net_if_addrs().values() for one in several]
    ips = [one.address for one in found if one.family in (socket.AF_INET, socket.AF_INET6)]
    own = (ip.partition("%")[0].lower() for ip in ips)
    return LOCAL_NAMES | {name, f"{name}.local", *own}


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
    except Exception:
        logger.info("no small picture of an image", exc_info=True)
        return UNREADABLE


def _image(path: str | None, upright: bool) -> Radiograph:
    from workbench.imaging import load_radiograph

    return _drawn().image if path is None else load_radiograph(path, upright=upright)


def _drawn() -> Phantom:
    from workbench.phantom.case import phantom

    return phantom(seed=7, findings=["pleural effusion"])


# --- the process of a page -----------------------------------------------------------------------

#: Widgets of this process; they live as long as it does.
_opened: list[DOMWidget] = []
#: The model of a process that waited for its page.
_loaded: list[ChestXrayModel] = []


def prepare() -> None:
    """Load the model, and use it once, before there is a page; what fails the page will say."""
    from workbench.widgets.explorer import Side

    with suppress(Exception):
        site = _settings()
        with chdir(site.folder):
            _loaded.append(_model(site))
            first = Side(_loaded[0], _drawn())
            if first.small:
                first.ensure_report()


def _settings() -> Site:
    return Site(**json.loads(Path(SETTINGS).read_text(encoding="utf-8")))


def _model(site: Site) -> ChestXrayModel:
    return _loaded[0] if _loaded else shared.open_model(argparse.Namespace(**asdict(site)))


def open_page(name: str) -> None:
    """Show the widget of a page of this folder's settings, or the reason why there is none."""
    from IPython.display import display

    try:
        site = _settings()
        page = site.page(name)
        os.chdir(site.folder)
        widget = OPENERS[page.kind](site, page)
    except Exception as error:
        said = str(error)
        if not isinstance(error, (WorkbenchError, OSError)):
            traceback.print_exc(file=sys.__stderr__)
            kind = type(error).__name__
            said = f"Unexpected {kind}. Where the app was started stands more about it."
        failure = {"workbench": {"failure": True}}  # the page escapes what is said
        display({"text/plain": said}, raw=True, metadata=failure)
        return
    _opened.append(widget)
    view = {"model_id": widget.model_id, "version_major": 2, "version_minor": 0}
    display({WIDGET: view}, raw=True)


def _explorer(site: Site, page: Page) -> DOMWidget:
    from workbench.widgets.explorer import explore

    model = _model(site)
    if page.number is None:
        return explore(model, _drawn())
    path = site.images[page.number]  # beside the file may lie masks
    return explore(model, _image(path, upright=True) if site.upright else path)


def _reviewer(site: Site, page: Page) -> DOMWidget:
    from workbench.widgets.reviewer import app

    who, known = site.reviewer or "", site.manifest
    return app(site.run, reviewer=who, manifest=known, root=site.root, whole=site.whole)


def _reader(site: Site, page: Page) -> DOMWidget:
    """Open a list, with what is known of the images and where they are."""
    from workbench.data import load
    from workbench.runs.record import kept_places, read_record
    from workbench.widgets.reader import StudyApp

    run, root, images = site.run and Path(site.run), site.root, site.manifest
    if run and root is None:
        root = next(iter(kept_places(read_record(run), run)), None)
    if images and root:
        images = load(images, root=root, check=False)
    return StudyApp(site.study or "", reader=site.reader, images=images)


def _monitor(site: Site, page: Page) -> DOMWidget:
    from workbench.widgets.monitor import monitor

    return monitor(site.training or "")


OPENERS: dict[str, Callable[[Site, Page], DOMWidget]] = {
    "explorer": _explorer,
    "reviewer": _reviewer,
    "reader": _reader,
    "monitor": _monitor,
}


def main() -> None:
    """Run IPython's kernel without the port on which it listens for what subprocesses print.

    It has no setting for this, and every user of the computer can connect to that port.
    """
    from ipykernel import iostream, kernelapp

    def own_output(socket, pipe=False, session=False) -> iostream.IOPubThread:
        return iostream.IOPubThread(socket, pipe=False, session=session)

    kernelapp.IOPubThread = own_output  # pyright: ignore
    kernel = kernelapp.IPKernelApp.instance()
    kernel.initialize()  # before widgets are imported, which look for it
    if os.environ.pop(WARM, None):
        from workbench.commands import _app_site  # not this module, which is __main__

        _app_site.prepare()
    kernel.start()


if __name__ == "__main__":
    main()
