"""The process of a page: IPython's kernel, without the port that it opens for its subprocesses."""

from __future__ import annotations

import os
import sys
from typing import Any

from ipykernel import kernelapp
from ipykernel.iostream import IOPubThread


class OwnOutput(IOPubThread):
    """What goes to the page is written by this process alone.

    IPython's kernel listens on a port of 127.0.0.1 for what subprocesses print, even where it is
    itself talked to by files; every user of the computer can connect to that port.
    """

    def __init__(self, socket: Any, pipe: bool = False, session: Any = False) -> None:
        del pipe
        super().__init__(socket, pipe=False, session=session)


if __name__ == "__main__":
    if sys.path[0] in ("", os.getcwd()):  # as ipykernel_launcher does
        del sys.path[0]
    kernelapp.IOPubThread = OwnOutput
    kernelapp.launch_new_instance()
