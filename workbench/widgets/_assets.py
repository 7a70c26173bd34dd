"""The JavaScript and CSS of a widget as one text each, from the files in `static`.

The files are ordinary ES modules that import from each other by `import { a, b } from "./x.js";`,
one statement on one line. A notebook takes a single text, so the modules are put behind one
another, those that are imported first, without the words "import" and "export"; top-level names are
therefore shared and must differ. Nothing is fetched and nothing is built.

Does not know: what the modules do.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from workbench.errors import InputError

STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let)\b)", re.MULTILINE)


@cache
def script(name: str) -> str:
    """Return a module and all it imports as one module that exports `render`.

    Args:
        name: file in `static` with a top-level function `render`.

    Raises:
        InputError: a module is missing, imports in another form, or there is no `render`.
    """
    text = "\n".join(_modules(name, []))
    if not re.search(r"^(?:async )?function render\(", text, re.MULTILINE):
        raise InputError(f"{name} must export a function render; it has none")
    return f"{text}\nexport default {{ render }};\n"


def _modules(name: str, seen: list[str]) -> list[str]:
    """Return the modules behind a name that were not seen yet, the deepest first."""
    if name in seen:
        return []
    seen.append(name)
    text = _text(name)
    before = [part for found in _IMPORT.findall(text) for part in _modules(found, seen)]
    own = _EXPORT.sub("", _IMPORT.sub("", text))
    if odd := re.search(r"^(?:import|export)\b.*", own, re.MULTILINE):
        raise InputError(
            f'{name} says {odd[0]!r}; expected import {{ a }} from "./file.js"; on one line, '
            "or export before function, class, const or let"
        )
    return [*before, f"// {name}\n{own}"]


@cache
def styles(*names: str) -> str:
    """Return the common style and those of the files named."""
    return "\n".join(_text(name) for name in ("common.css", *names))


def _text(name: str) -> str:
    path = STATIC / name
    if not path.is_file():
        raise InputError(f"there is no {name} in {STATIC.name}; expected one of its files")
    return path.read_text(encoding="utf-8")
