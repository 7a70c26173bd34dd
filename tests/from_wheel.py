"""What a user of the wheel meets outside the repository: `make wheel` runs this elsewhere.

The demo runs, and the lesson it leaves; every command that is printed is there; the app answers.
Only the standard library is used, with the interpreter of the environment of the wheel.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

BIN = Path(sys.executable).absolute().parent
LESSON = Path("out/demo/00_start_here.ipynb")


def run(*command: str) -> str:
    """Run a command of the environment, which finds nothing else; return what it printed."""
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.defpath}", "JUPYTER_PREFER_ENV_PATH": "1"}
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], capture_output=True, text=True, env=env
    )
    print(f"$ {' '.join(command)}", flush=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def missing(said: str) -> list[str]:
    """Return the commands in backticks that are not there, or have no such subcommand."""
    found = []
    for words in (text.split() for text in re.findall(r"`([^`]+)`", said)):
        if words[0] == ".":
            good = Path(words[1]).is_file()
        else:
            good = (BIN / words[0]).is_file()
            if good and words[0] == "workbench":
                run("workbench", words[1], "--help")
        found += [] if good else [" ".join(words)]
    return found


def answers() -> None:
    """Start the app, and read its first page."""
    command = [str(BIN / "workbench"), "app", "--no-browser", "--json", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as app:
        try:
            said = ""
            while not said.endswith("\n}\n"):
                if not (line := app.stdout.readline()):
                    sys.exit(f"workbench app ended: {said}")
                said += line
            browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            with browser.open(json.loads(said)["url"]) as page:
                html = page.read().decode()
        finally:
            app.terminate()
    if "/page/explorer" not in html:
        sys.exit(f"workbench app answered with another page: {html[:500]}")
    print("workbench app answers")


def main() -> None:
    import workbench

    if Path(sys.prefix).resolve() not in Path(workbench.__file__).resolve().parents:
        sys.exit(f"expected the package of {sys.prefix}, got {workbench.__file__}")
    print(said := run("workbench", "demo"))
    if absent := missing(said):
        sys.exit(f"the demo names what is not there: {absent}")
    run("jupyter", "execute", "--inplace", str(LESSON))
    answers()


if __name__ == "__main__":
    main()
