"""The code that pages show, so that it can be run: fenced blocks of Markdown, and a page of them.

Blocks of Python and of shell run in their order, all Python of a page in the same names. Other
blocks, and those that stand indented, are for reading.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.cli import DONE, main
from workbench.errors import WorkbenchError

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
#: Where pages look for a server.
SERVED = "127.0.0.1:8000"

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Return every page whose code and links have to be right, the README first."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def blocks(text: str, language: str = "python") -> list[str]:
    """Return the fenced blocks of a language."""
    return [code for name, code in _FENCE.findall(text) if name == language]


def run(code: str, names: dict[str, Any], *, source: str) -> Any:
    """Run Python as a cell of a notebook does; return the value of its last line, or None."""
    tree = ast.parse(code, source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, source, "exec"), names)
    return last and eval(compile(ast.Expression(last.value), source, "eval"), names)


def commands(code: str) -> list[list[str]]:
    """Return the words of each line of a block of shell."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_page(page: Path, *, served: str = SERVED) -> Iterator[tuple[str, Any]]:
    """Run the Python and the commands of a page in this process and folder, block by block.

    Args:
        page: its file.
        served: what takes the place of `SERVED`.

    Yields:
        what stands before the block, since the one before it, and the value of its last line: of
        commands None. `make` is left out.

    Raises:
        WorkbenchError: a command failed; what it said went to the standard error.
    """
    names: dict[str, Any] = {}
    rest = page.read_text(encoding="utf-8").replace(SERVED, served)
    while found := re.search(_FENCE, rest):
        before, rest = rest[: found.start()], rest[found.end() :]
        if found[1] == "python":
            yield before, run(found[2], names, source=page.name)
        elif found[1] == "sh":
            for program, *words in commands(found[2]):
                if program == "workbench" and main(words) != DONE:
                    raise WorkbenchError(f"{page.name}: workbench {shlex.join(words)} failed")
            yield before, None
