"""What the commands share: output, progress, options, and opening a model.

Results go to stdout, everything said on the way to stderr, so that `--json | jq` always works.
"""

from __future__ import annotations

import argparse
import codecs
import csv
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from workbench._progress import progress as progress
from workbench._repr import to_json as to_json
from workbench._store import whole_file
from workbench._tables import listed, neutral, read_rows
from workbench.errors import InputError, check_whole
from workbench.settings import DTYPES, Settings, check_device

if TYPE_CHECKING:
    from workbench.interface import ChestXrayModel

WIDTH = 92
#: Those of `workbench.phantom`, which takes longer to import than a parser may.
DOMAINS = ("internal", "external", "ct")


def say(text: str = "") -> None:
    """Write one line of a result to stdout."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Write one line about the work to stderr."""
    sys.stderr.write(f"{text}\n")


def answer(
    args: argparse.Namespace, value: object, lines: Iterable[str], *, good: bool = True
) -> int:
    """Write a result to stdout, with --json `value`, else `lines`; return the exit code.

    Where stdout is not UTF-8, letters of the JSON that are not ASCII are written as escapes.
    """
    if args.json:
        known = codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name
        lines = [to_json(value, ascii_only=known != "utf-8")]
    for line in lines:
        say(line)
    return 0 if good else 1


def wrap(text: str, *, indent: str = "  ") -> str:
    """Return text as indented lines of readable width; its own line breaks stay."""
    lines = []
    for line in text.strip().splitlines():
        lines += textwrap.wrap(line, WIDTH - len(indent)) or [""]
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)


def table(rows: Sequence[Sequence[object]], *, header: Sequence[str]) -> str:
    """Return rows as aligned columns under a header; numbers go right, None is an empty cell."""
    lines: list[list[str]] = [[] for _ in range(len(rows) + 2)]
    for name, *cells in zip(header, *rows, strict=True):
        given = [cell for cell in cells if cell is not None]
        number = bool(given) and all(isinstance(cell, (int, float)) for cell in given)
        cells = ["" if cell is None else cell for cell in cells]
        width = max(len(str(cell)) for cell in (name, *cells))
        for line, cell in zip(lines, (name, "-" * width, *cells), strict=True):
            line.append(str(cell).rjust(width) if number else str(cell).ljust(width))
    return "\n".join("  ".join(line).rstrip() for line in lines)


def option(parser: argparse._ActionsContainer, typed: str, help: str, **more: Any) -> None:
    """Add an option or argument: `option(parser, "--out DIR", "folder of the run", type=Path)`.

    The rest is as for `add_argument`; numbers and paths give the type by their default.
    """
    name, _, metavar = typed.partition(" ")
    default = more.get("default")
    if isinstance(default, (int, float, Path)) and "action" not in more:
        more.setdefault("type", type(default))
    if metavar:
        more["metavar"] = metavar
    parser.add_argument(name, help=help, **more)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --model, --device, --dtype, --name, --allow-remote and --prompts."""
    group = parser.add_argument_group("model")
    known = (
        "mini (default), ECOFRI/CXR-LLAVA-v2, a hub id or directory of any image-text-to-text "
        "model of transformers, or the address of an OpenAI-compatible endpoint"
    )
    option(group, "--model NAME", known, default="mini")
    option(group, "--name NAME", "of the model that an endpoint serves")
    remote = "let images leave this machine for the host of an endpoint"
    option(group, "--allow-remote", remote, action="store_true")
    asked = "what the model is asked with: cxr-llava, medgemma, lingshu, llava-med, radvlm"
    option(group, "--prompts NAME", f"{asked} (default: by the model's card)")
    option(group, "--device", "auto (default), cpu, mps, cuda or cuda:N")
    option(group, "--dtype", "precision of the weights (default auto)", choices=DTYPES)


def given(typed: str, help: str, **more: object) -> Callable[[argparse.ArgumentParser], None]:
    """Return what adds an option to an action; see `option`."""
    return lambda parser: option(parser, typed, help, **more)


class Actions:
    """The actions of a command: functions decorated by `add`, in the order of their declaration."""

    def __init__(self) -> None:
        self._declared: list[tuple[str, Sequence[Callable], FunctionType]] = []

    def add(self, summary: str, *options: Callable) -> Callable[[FunctionType], FunctionType]:
        """Declare a function as an action of its name."""

        def declare(act: FunctionType) -> FunctionType:
            self._declared.append((summary, options, act))
            return act

        return declare

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add the actions to a parser; the chosen one is called as `args.act(args)`."""
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
        for summary, options, act in self._declared:
            name = act.__name__.strip("_")
            said = f"{summary[:1].upper()}{summary[1:]}."
            sub = actions.add_parser(name, help=summary, description=said)
            for add in options:
                add(sub)
            sub.set_defaults(act=act)
            # the flag of the command may stand behind the action too
            option(sub, "--json", "print JSON", action="store_true", default=argparse.SUPPRESS)
        actions.help = ", ".join(actions.choices)


def names(text: str) -> tuple[str, ...]:
    """Parse "a, b"."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def chosen(args: object, options: str) -> dict[str, Any]:
    """Return the values of options, or fields, by name: `chosen(args, "seed resamples")`."""
    return {name: getattr(args, name) for name in options.split()}


_MANIFEST = (
    "no such manifest; expected a .parquet or .csv file, which `workbench manifest build` writes"
)
_REPORTS = "no such file; expected reports or labels as CSV, TSV or Parquet, or a run"
#: What is said of the file, or folder, of an option that is not there.
_FILES = {
    **dict.fromkeys(("file", "against", "manifest"), _MANIFEST),
    **dict.fromkeys(("predictions", "references", "compare"), _REPORTS),
    "list": "no such list of identifiers",
    "cohort": "no such cohort; expected what `workbench manifest freeze` wrote",
    "image": "there is no such file",
}
_EITHER = ("predictions", "compare")
_FOLDERS = {
    "run": "no run in this folder; expected what `workbench run --out` wrote",
    "study": "no such folder of a study",
    "root": "no such folder; expected the one that the paths of the manifest start at",
    "training": "no such folder; it is there once the training has begun",
}


def need_paths(args: argparse.Namespace) -> None:
    """Refuse files and folders that were named and are not there, before anything is imported."""
    for name, said in (_FILES | _FOLDERS).items():
        given = getattr(args, name, None) or ()
        there = os.path.isdir if name in _FOLDERS else os.path.isfile
        there = os.path.exists if name in _EITHER else there
        for path in given if isinstance(given, Sequence) else (given,):
            if not there(path):
                raise InputError(f"{path}: {said}")


def at_least(args: argparse.Namespace, **least: int) -> None:
    """Refuse numbers below their least; those that were not given are None."""
    for name, low in least.items():
        if (value := getattr(args, name)) is not None:
            check_whole(low, **{name: value})


def loading(args: argparse.Namespace) -> None:
    """Say at once that the model is being loaded: the libraries alone take seconds."""
    check_model(args)
    note(f"loading {args.model} ...")


def check_model(args: argparse.Namespace) -> None:
    """Refuse a model that is not there and a device of no known kind, before anything is loaded."""
    check_device(args.device or "auto")
    if args.model != "mini" and not os.path.isdir(args.model):
        from workbench.model.source import find_local, is_endpoint

        if not is_endpoint(args.model):
            find_local(args.model)


def placement(args: argparse.Namespace) -> dict[str, Any]:
    """Return --device and --dtype; the environment fills gaps."""
    settings = Settings.from_env()
    return {"device": args.device or settings.device, "dtype": args.dtype or settings.dtype}


def open_model(args: argparse.Namespace) -> ChestXrayModel:
    """Load the model that --model, --device and --dtype ask for."""
    from workbench.interface import load_model

    where = {"name": args.name, "allow_remote": args.allow_remote, "prompts": args.prompts}
    return load_model(args.model, **placement(args), **where)


# --- texts in a table ----------------------------------------------------------------------------


def add_text_arguments(parser: argparse.ArgumentParser) -> None:
    """Add FILE, --text-column, --id-column and --out."""
    add = partial(option, parser)
    add("file FILE", "CSV (or .tsv) with a header", type=Path)
    add("--text-column C", "texts (default text)", default="text")
    add("--id-column I", "identifiers (default id, or the row number without one)")
    add("--out OUT.csv", "result (default stdout)", type=Path)


def read_texts(
    path: Path, *, text_column: str = "text", id_column: str | None = None
) -> Iterable[tuple[str, str]]:
    """Return (identifier, text) of each row under a bar, read as they are asked for.

    The whole file is looked through at once, so that a fault at its end is found before anything is
    written; no more than a row is held.

    Raises:
        InputError: no such file, not readable as text, a row does not fit the header, or a column
            is missing or there twice; the message names the row, or lists the columns there are.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected a CSV file with a header")
    header = next(read_rows(path), [])
    key = id_column or ("id" if "id" in header else None)
    for name in filter(None, (text_column, key)):
        if header.count(name) != 1:
            has = "no" if name not in header else "more than one"
            raise InputError(
                f"{path.name} has {has} column {name!r}; it has: {listed(header)} "
                "(choose with --text-column and --id-column)"
            )
    for _ in read_rows(path):
        pass
    text_at, key_at = header.index(text_column), header.index(key) if key else None
    rows = enumerate(islice(read_rows(path), 1, None), start=1)
    found = ((str(n) if key_at is None else row[key_at], row[text_at]) for n, row in rows)
    return progress(found, label="texts")


def write_rows(
    args: argparse.Namespace, columns: Sequence[str], rows: Iterable[Mapping[str, object]]
) -> list[Mapping[str, object]]:
    """Write rows as CSV to --out or stdout as they come; return them with --json and no file.

    Cells that a spreadsheet would run as a formula get an apostrophe in front. A file appears under
    its name once it is whole.
    """
    if args.json and not args.out:
        return list(rows)
    with ExitStack() as opened:
        handle = sys.stdout
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            unfinished = opened.enter_context(whole_file(args.out))
            handle = opened.enter_context(unfinished.open("w", newline="", encoding="utf-8"))
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: neutral(v) if isinstance(v, str) else v for k, v in row.items()})
    return []
