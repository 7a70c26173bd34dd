"""Run lessons and keep the pages they become, so that no lesson runs twice for nothing.

A page is kept under a name that holds a hash of everything it depends on: the notebook, the model,
the package with the small model inside, and the examples. Whatever changes makes another name.

Does not know: how a page is dressed for the course.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nbformat

from docs.site.course import ROOT, Lesson, read, with_parameters
from docs.site.kernels import forked_kernels
from workbench._store import whole_file
from workbench._version import __version__
from workbench.commands.demo import execute_to_html

HERE = Path(__file__).resolve().parent
#: The backend that puts figures into notebooks, whatever the calling process draws with.
INLINE = "module://matplotlib_inline.backend_inline"
#: What a lesson reads besides the package; lessons name it relative to their own folder.
BESIDE = "data_manifests"
_SOURCES = ("*.py", "*.json", "*.yaml", "*.yml", "*.csv", "*.safetensors", "*.model", "*.txt",
            "*.jinja")  # fmt: skip


@dataclass(frozen=True)
class Executed:
    """A lesson that was run.

    Attributes:
        lesson: which.
        page: its plain HTML page.
        seconds: how long the run took, when it was run.
        fresh: it was run just now, and not found.
    """

    lesson: Lesson
    page: Path
    seconds: float
    fresh: bool


def executed(lesson: Lesson, kept: Path, *, again: bool = False, **parameters: Any) -> Executed:
    """Return the page of a lesson; run the lesson unless the very same run is kept.

    Args:
        lesson: which.
        kept: folder of pages; made if it is not there.
        again: run it in any case, and keep the new page.
        **parameters: values of the lesson's parameters, as `MODEL="mini"`; those that it lacks are
            left out, the others keep theirs.

    Raises:
        WorkbenchError: a cell failed; nothing is kept then.
    """
    kept.mkdir(parents=True, exist_ok=True)
    page = kept / f"{lesson.stem}-{_key(lesson, parameters)}.html"
    note = page.with_suffix(".json")
    if not again and page.is_file() and note.is_file():
        return Executed(lesson, page, json.loads(note.read_text())["seconds"], fresh=False)
    started = time.perf_counter()
    with _workplace(lesson, parameters) as notebook, whole_file(page) as partial:
        execute_to_html(notebook, partial, title=lesson.title, kernel=forked_kernels())
    seconds = round(time.perf_counter() - started, 1)
    with whole_file(note) as partial:
        partial.write_text(json.dumps({"seconds": seconds, "parameters": parameters}))
    _forget_others(page)
    return Executed(lesson, page, seconds, fresh=True)


@contextmanager
def _workplace(lesson: Lesson, parameters: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a copy of a notebook with its parameters set, where all that it reads is in place."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "notebooks"
        startup = Path(name) / "ipython" / "profile_default" / "startup"
        for made in (folder, startup):
            made.mkdir(parents=True)
        if (ROOT / BESIDE).is_dir():
            shutil.copytree(ROOT / BESIDE, Path(name) / BESIDE)
        shutil.copy(HERE / "alt_text.py", startup / "00-alt-text.py")
        book = with_parameters(read(lesson.path), **parameters)
        nbformat.write(book, folder / lesson.path.name)
        search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        kernel = {"IPYTHONDIR": str(startup.parents[1]), "PYTHONPATH": search, "MPLBACKEND": INLINE}
        with _environment(kernel):
            yield folder / lesson.path.name


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for processes that start inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _key(lesson: Lesson, parameters: Mapping[str, Any]) -> str:
    """Return 16 digits that stand for everything a page depends on."""
    digest = hashlib.sha256(_fingerprint().encode())
    digest.update(lesson.path.read_bytes())
    digest.update(json.dumps(parameters, sort_keys=True).encode())
    model = Path(parameters.get("MODEL", ""))
    if model != Path() and model.is_dir():
        _add_folder(digest, model)
    return digest.hexdigest()[:16]


@cache
def _fingerprint() -> str:
    digest = hashlib.sha256(__version__.encode())
    digest.update((HERE / "alt_text.py").read_bytes())
    for folder in (ROOT / "workbench", ROOT / BESIDE):
        _add_folder(digest, folder)
    return digest.hexdigest()


def _add_folder(digest, folder: Path) -> None:
    for path in sorted({path for pattern in _SOURCES for path in folder.rglob(pattern)}):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes())


def _forget_others(page: Path) -> None:
    """Remove older runs of the same lesson."""
    stem = page.stem.rsplit("-", 1)[0]
    for other in page.parent.glob(f"{stem}-*.*"):
        if other.stem != page.stem and not other.name.endswith(".partial"):
            other.unlink(missing_ok=True)
