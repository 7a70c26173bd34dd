"""The process of a page: open its widget, or say why it cannot be opened.

Run as a program it is IPython's kernel, without the port that this opens for its subprocesses.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from IPython.display import display

import workbench.commands._shared as shared
from workbench.commands._app_site import DRAWN, SETTINGS, Page, Site
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from ipywidgets import DOMWidget

    from workbench.data import Manifest

WIDGET = "application/vnd.jupyter.widget-view+json"

#: Widgets of this process; they live as long as it does.
_opened: list[DOMWidget] = []


def open_page(name: str) -> None:
    """Show the widget of a page of this folder's settings, or the reason why there is none."""
    try:
        site = Site.from_json(Path(SETTINGS).read_text(encoding="utf-8"))
        page = site.page(name)
        os.chdir(site.folder)
        widget = OPENERS[page.kind](site, page)
    except (WorkbenchError, OSError) as error:
        _say(str(error))
        return
    except Exception as error:
        traceback.print_exc(file=sys.__stderr__)
        _say(f"Unexpected {type(error).__name__}. Where the app was started stands more about it.")
        return
    _opened.append(widget)
    view = {"model_id": widget.model_id, "version_major": 2, "version_minor": 0}
    display({WIDGET: view}, raw=True)


def _explorer(site: Site, page: Page) -> DOMWidget:
    from workbench.imaging import load_radiograph
    from workbench.phantom.case import phantom
    from workbench.widgets.explorer import explore

    asked = argparse.Namespace(model=site.model, device=site.device, dtype=site.dtype)
    model = shared.open_model(asked)
    if page.number is None:
        return explore(model, phantom(**DRAWN))
    path = site.images[page.number]
    return explore(model, load_radiograph(path, upright=True) if site.upright else path)


def _reviewer(site: Site, page: Page) -> DOMWidget:
    from workbench.widgets.reviewer import app

    return app(site.run, reviewer=site.reviewer or "", manifest=site.manifest, root=site.root)


def _reader(site: Site, page: Page) -> DOMWidget:
    from workbench.widgets.reader import StudyApp

    return StudyApp(site.study or "", reader=site.reader, images=_known(site))


def _monitor(site: Site, page: Page) -> DOMWidget:
    from workbench.widgets.monitor import monitor

    return monitor(site.training or "")


def _known(site: Site) -> str | Manifest | None:
    """Return what is known of the images, and where they are."""
    from workbench.data import load
    from workbench.runs.record import kept_places, read_record

    run = Path(site.run) if site.run else None
    root = site.root or next(iter(kept_places(run and read_record(run), run) if run else ()), None)
    if site.manifest is None or root is None:
        return site.manifest
    return load(site.manifest, root=root, check=False)


OPENERS: dict[str, Callable[[Site, Page], DOMWidget]] = {
    "explorer": _explorer,
    "reviewer": _reviewer,
    "reader": _reader,
    "monitor": _monitor,
}


def _say(text: str) -> None:
    """Show a text as a failure; the page escapes it."""
    display({"text/plain": text}, raw=True, metadata={"workbench": {"failure": True}})


def main() -> None:
    """Run IPython's kernel without the port on which it listens for what subprocesses print.

    It has no setting for this, and every user of the computer can connect to that port.
    """
    from ipykernel import iostream, kernelapp

    class OwnOutput(iostream.IOPubThread):
        def __init__(self, socket, pipe=False, session=False) -> None:
            super().__init__(socket, pipe=False, session=session)

    kernelapp.IOPubThread = OwnOutput  # pyright: ignore[reportPrivateImportUsage]
    kernelapp.launch_new_instance()


if __name__ == "__main__":
    main()
