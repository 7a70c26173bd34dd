"""The documentation beside the course: pages of Markdown, and pages that the code writes itself.

Sphinx (theme pydata, Markdown by MyST) makes pages that load nothing and can be searched from a
file. The README, and every page of the repository that can be reached from it by links, keeps its
place; reference, methods, command line and data cards are written from docstrings, tables, parsers
and cards when the site is made.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from io import StringIO
from pathlib import Path
from types import ModuleType

from docs.fences import DOCS, ROOT
from docs.site.examples import SETUP, SHELL, TRAINED, Names, example, shown_by
from docs.site.explorers import list_of_explorers
from workbench.errors import MissingDependencyError, WorkbenchError
from workbench.model.costs import MAPS

#: Folder of the lessons within the site.
COURSE = "course"
#: Domain -> method -> how many of its maps point at the truth: share, its interval, of how many.
TRUTH = ROOT / "docs" / "site" / "saliency.json"
#: Page -> pages, in the order of the navigation.
TREE = {
    "Start": ("docs/start", "docs/explore", "docs/app", "docs/commands", "docs/limits"),
    "Course": ("docs/course", "notebooks/README", "notebooks/glossary"),
    "Guides": ("docs/guides/dicom", "docs/guides/manifest", "docs/guides/checkpoint",
               "docs/guides/endpoint", "docs/guides/reader_study", "docs/guides/fine_tune",
               "docs/guides/cluster", "docs/maps", "docs/hallucination", "docs/reports",
               "docs/data", "data_manifests/README", "docs/runs", "docs/review", "docs/finetune",
               "docs/models"),
    "Reference": ("docs/reference", "docs/methods", "docs/command_line", "docs/cards",
                  "docs/gallery"),
    "About": ("docs/speed", "docs/gpu", "docs/faults", "docs/licences", "SECURITY", "ARCHITECTURE",
              "CHANGELOG", "LOG", "workbench/assets/ct/README"),
}  # fmt: skip
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|mailto:|#)([^)#\s]+)((?:#[^)]*)?)\)")


def documentation(out: Path) -> list[str]:
    """Write the documentation into a folder; return what Sphinx warns of.

    Raises:
        WorkbenchError: a page of `TREE` is not there, or Sphinx is not.
    """
    try:
        from sphinx.application import Sphinx
    except ImportError:
        raise MissingDependencyError(
            "the documentation needs Sphinx; `make site` installs it, or: "
            "pip install 'cxr-llava-workbench[docs]'"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        stage(Path(folder))
        warned = StringIO()
        places = (str(out), str(Path(folder) / ".doctrees"))
        Sphinx(folder, str(DOCS), *places, "html", status=None, warning=warned, parallel=2).build()
    return [line for line in warned.getvalue().splitlines() if line.strip()]


def stage(folder: Path) -> None:
    """Put every source of the documentation into a folder, as it lies in the repository."""
    for name, text in generated().items():
        _write(folder / f"{name}.md", text)
    wanted = {Path(f"{page}.md") for pages in TREE.values() for page in pages}
    wanted.add(Path("README.md"))
    done: set[Path] = set()
    while left := sorted({path for path in wanted if not (folder / path).exists()} - done):
        for page in left:
            done.add(page)
            if not (ROOT / page).is_file():
                raise WorkbenchError(f"expected the page {page}, which the navigation lists")
            text, links = staged((ROOT / page).read_text(encoding="utf-8"), page)
            home = page == Path("README.md")
            _write(folder / ("index.md" if home else page), _home(text) if home else text)
            wanted |= {link for link in links if link.suffix == ".md"}
            for link in links - wanted:
                (folder / link).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / link, folder / link)
    for name, pages in TREE.items():
        _write(folder / f"{name.lower()}.md", f"# {name}\n\n{_toctree(pages)}")


def staged(text: str, page: Path) -> tuple[str, set[Path]]:
    """Return a page with links that hold on the site, and the files that it links to.

    Lessons are linked to as executed pages; a folder is named without a link.
    """
    links: set[Path] = set()

    def one(found: re.Match) -> str:
        mark, words, path, anchor = found.groups()
        target = (ROOT / page).parent.joinpath(path).resolve()
        if target.suffix == ".ipynb":
            up = "../" * (len(page.parts) - 1)
            return f'<a href="{up}{COURSE}/{target.stem}.html">{words}</a>'
        if not target.is_file():
            return words
        relative = target.relative_to(ROOT)
        if relative == Path("README.md"):
            return f"{mark}[{words}]({'../' * (len(page.parts) - 1)}index.md{anchor})"
        links.add(relative)
        return found[0]

    return _LINK.sub(one, text), links


def _home(text: str) -> str:
    """Return the README as the first page: without badges, with the navigation of all others."""
    sections = "".join(f"{name.lower()}\n" for name in TREE)
    text = re.sub(r"^\[!\[.*\n", "", text, flags=re.MULTILINE)
    return f"{text}\n```{{toctree}}\n:hidden:\n\n{sections}```\n"


def _toctree(pages: tuple[str, ...]) -> str:
    return "```{toctree}\n:maxdepth: 1\n\n" + "\n".join(pages) + "\n```\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# --- pages that the code writes ------------------------------------------------------------------


def generated() -> dict[str, str]:
    """Return the pages that are written from the code, by name."""
    listed = public_names()
    pages = {f"docs/reference/{name}": _module_page(name, listed) for name in listed}
    tree = _toctree(tuple(f"reference/{name}" for name in listed))
    head = (
        "# Reference\n\nEvery public name, from its docstring: shapes, units, errors, papers.\n\n"
        "Examples start from a folder with six phantoms, a model, one case, one run, one verdict "
        "and one examination:\n\n"
        f"```sh\n{SHELL}```\n\n```python\n{SETUP}```\n\n"
        f"Those of `wb.finetune` also from a training run:\n\n```python\n{TRAINED}```\n\n"
    )
    return pages | {
        "docs/reference": head + tree,
        "docs/methods": _methods(),
        "docs/command_line": _command_line(),
        "docs/cards": _cards(),
        "docs/explore": list_of_explorers(),
    }


def public_names() -> dict[str, dict[str, object]]:
    """Return name -> object of everything public, by module; "workbench" has what is no module."""
    import workbench as wb

    found: dict[str, dict[str, object]] = {"workbench": {}}
    for name in wb.__all__:
        value = getattr(wb, name)
        if not isinstance(value, ModuleType):
            found["workbench"][name] = value
            continue
        listed = getattr(value, "__all__", None) or [
            one for one, thing in vars(value).items()
            if not one.startswith("_") and getattr(thing, "__module__", None) == value.__name__
        ]  # fmt: skip
        found[name] = {one: getattr(value, one) for one in sorted(listed, key=str.casefold)}
    return found


def _module_page(module: str, listed: Names) -> str:
    import workbench as wb

    package = "workbench" if module == "workbench" else f"workbench.{module}"
    about = inspect.getdoc(wb if module == "workbench" else getattr(wb, module)) or ""
    summary = about.split("\n\n")[0].replace("\n", " ")
    start = "Examples start [from here](../reference.md)."
    blocks = [f"# {'wb' if module == 'workbench' else f'wb.{module}'}\n\n{summary}\n\n{start}\n"]
    for name, value in listed[module].items():
        if isinstance(value, ModuleType):
            continue
        if inspect.isclass(value):
            directive = f".. autoclass:: {package}.{name}\n   :members:\n"
            if not example(value):
                directive += "\n" + _shown(value, listed)
        elif callable(value):
            directive = f".. autofunction:: {package}.{name}\n"
        else:
            directive = f".. py:data:: {package}.{name}\n\n   {_constant(name, value)}\n"
        blocks.append(f"## {name}\n\n```{{eval-rst}}\n{directive}```\n")
    return "\n".join(blocks)


def _shown(value: type, listed: Names) -> str:
    """Return the example of what returns a class, and whose it is."""
    place, lines = shown_by(value, listed)
    return f"Returned by ``{place}``:\n\n{lines}\n"


@cache
def _sources() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in (ROOT / "workbench").rglob("*.py")]


def _constant(name: str, value: object) -> str:
    """Return what stands above a constant in the code, and its names or value."""
    above = re.compile(rf"((?:^#:.*\n)+){name}\b.* = ", re.MULTILINE)
    said = next((found[1] for text in _sources() if (found := above.search(text))), "")
    words = " ".join(line.removeprefix("#:").strip() for line in said.splitlines())
    listed = value if isinstance(value, dict | tuple | list | frozenset) else [value]
    return f"{words} Values: " + ", ".join(f"``{one!r}``" for one in listed) + "."


def _methods() -> str:
    """Return two tables of saliency methods: what checks say of `mini`, and how each is made."""
    from workbench.saliency import METHODS
    from workbench.saliency.methods import _shipped

    truth = json.loads(TRUTH.read_text()).values()
    found, made = [], []
    for name, method in METHODS.items():
        options = ", ".join(f"`{key}={value!r}`" for key, value in method.options.items())
        checked = _shipped()["methods"].get(name)
        passed = "" if checked is None else ("passes" if checked["ok"] else "**fails**")
        similar = "" if checked is None else f"{checked['similarity']:.2f}"
        hits = (_share(domain.get(name)) for domain in truth)
        found.append(f"| `{name}` | {' | '.join(hits)} | {passed} {similar} | {_cost(name)} |")
        made.append(f"| `{name}` | {method.level} | {options} | {method.unit} | {method.paper} |")
    return (
        "# Methods of saliency\n\n"
        "`wb.saliency.explain(trace, method=..., **options)`. Drawn and CT: on reserved phantoms "
        "whose finding `mini` reports, the share of maps whose largest value lies on it, with "
        "the 95 % interval. Random weights: the rank correlation of the map with that of a model "
        "with random weights, for `mini`; it should be low. Cost: passes through the model and "
        "gradients, beside the trace. `workbench benchmark saliency` makes these "
        "numbers anew, with many more measures; the [log](../LOG.md) has them.\n\n"
        "| method | drawn | CT | random weights | cost |\n"
        "|---|---|---|---|---|\n" + "\n".join(found) + "\n\n"
        "Level: what a model has to offer, a writer (texts and their log-probabilities) or a "
        "reader (its inside).\n\n"
        "| method | level | options and defaults | unit | source |\n"
        "|---|---|---|---|---|\n" + "\n".join(made) + "\n"
    )


def _cost(method: str) -> str:
    """Return what a method computes beside the trace, in words."""
    passes, gradients, _ = MAPS[method]
    of = " for each image token" if method == "occlusion" else ""
    counts = ((passes, "pass", f"passes{of}"), (gradients, "gradient", "gradients"))
    said = [f"{n} {one if n == 1 else many}" for n, one, many in counts if n]
    return ", ".join(said) or "none"


def _share(row: Sequence[float] | None) -> str:
    """Return a share with its interval and how many maps it is of."""
    if row is None:
        return ""
    share, low, high, count = row
    interval = f"({low:.2f} to {high:.2f})".replace(" ", "\N{NO-BREAK SPACE}")
    return f"{share:.2f} {interval} of {count:.0f}"


def _command_line() -> str:
    """Return the help of every command and of its actions."""
    from workbench.cli import COMMANDS, build_parser

    blocks = ["# Command line\n"]
    for command in COMMANDS:
        for parser in _parsers(build_parser(command), f"workbench {command}"):
            level = "#" * (len(parser.prog.split()))
            blocks.append(
                f"{level} {parser.prog}\n\n```text\n{parser.format_help().strip()}\n```\n"
            )
    return "\n".join(blocks)


def _parsers(parser: argparse.ArgumentParser, program: str) -> Iterator[argparse.ArgumentParser]:
    """Yield the parser of a program and those below it."""
    if parser.prog.startswith(program):
        yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                yield from _parsers(below, program)


def _cards() -> str:
    """Return the card of every data set."""
    from workbench.data import SOURCES, card
    from workbench.data.cards import card_text

    blocks = ["# Data cards\n\nNothing is fetched for you: `workbench manifest card NAME`.\n"]
    for source in SOURCES:
        found = card(source)
        blocks.append(f"## {found.title}\n\n{found.about}\n\n```yaml\n{card_text(source)}```\n")
    return "\n".join(blocks)
