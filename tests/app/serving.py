"""`workbench app` as a process of its own, and plain requests to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

#: Seconds within which anything must have happened, also on a busy machine.
PATIENCE = 240


class App:
    """A running app.

    Attributes:
        url: the address it printed, with the token.
        folder: the private folder with its pages.
        log: file with what it wrote to stderr.
    """

    def __init__(self, process: subprocess.Popen, said: dict, temporary: Path, log: Path) -> None:
        self.process, self.said, self.log = process, said, log
        self.url, self.port = said["url"], said["port"]
        self.token = self.url.partition("token=")[2]
        self.temporary = temporary

    @property
    def folder(self) -> Path:
        (found,) = self.temporary.glob("workbench-*")
        return found

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        path: str,
        *,
        key: bool = True,
        method: str = "GET",
        host: str | None = None,
        body: str | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, str], str]:
        """Send one request, its path as it is; return status, headers (lower case) and text."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key:
            sent["Authorization"] = f"token {self.token}"
        sent["Host"] = host or f"127.0.0.1:{self.port}"
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            line.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                line.putheader(name, value)
            if body is not None:
                line.putheader("Content-Type", "application/x-www-form-urlencoded")
                line.putheader("Content-Length", str(len(body)))
            line.endheaders(None if body is None else body.encode())
            answer = line.getresponse()
            found: dict[str, str] = {}
            for name, value in answer.getheaders():
                found[name.lower()] = (
                    f"{found[name.lower()]}\n{value}" if name.lower() in found else value
                )
            text = "" if answer.status == 101 else answer.read().decode("utf-8", "replace")
            return answer.status, found, text
        finally:
            line.close()

    def open_page(self, name: str) -> tuple[str, str]:
        """Ask for a page until it is whole; return the id of its process and its HTML."""
        status, _, text = self.ask(f"/page/{name}")
        assert status == 200, text
        return re.search(r'"kernelId": "([0-9a-f-]{36})"', text)[1], text

    def processes(self) -> list[psutil.Process]:
        """The processes of the pages."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End the app and return its exit code."""
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)


@contextmanager
def serving(work: Path, *arguments: str, **environ: str) -> Iterator[App]:
    """Start the app in a folder of its own; end it afterwards.

    Args:
        work: an empty folder.
        *arguments: of `workbench app`.
        **environ: further environment variables.
    """
    # not within `work`: the paths of sockets are short
    temporary, log = Path(tempfile.mkdtemp(prefix="app-")), work / "log"
    work.mkdir(parents=True, exist_ok=True)
    env = os.environ | {"TMPDIR": str(temporary), "IPYTHONDIR": str(work / "ipython")} | environ
    command = [sys.executable, "-m", "workbench", "--verbose", "app", "--json", "--no-browser"]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*command, "--port", "0", *arguments], env=env, stdout=subprocess.PIPE,
            stderr=errors, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    late = threading.Timer(PATIENCE, process.kill)
    late.start()
    said = ""
    while not said.endswith("\n}\n"):
        line = process.stdout.readline()
        assert line, f"the app ended: {log.read_text()}"
        said += line
    late.cancel()
    try:
        yield App(process, json.loads(said), temporary, log)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE)
        process.stdout.close()
        shutil.rmtree(temporary)
