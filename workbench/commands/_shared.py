"""What the commands share: output, progress, options, and opening a model.

Results go to stdout, everything said on the way to stderr, so that `--json | jq` always works.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import workbench.commands._shared as shared
from workbench._progress import progress as progress
from workbench._repr import to_json as to_json
from workbench._store import whole_file
from workbench._tables import check_rows, listed, read_rows
from workbench.errors import InputError, OptionError
from workbench.settings import DTYPES, check_device

if TYPE_CHECKING:
    from workbench.interface import ChestXrayModel

WIDTH = 92


def say(text: str = "") -> None:
    """Write one line of a result to stdout."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Write one line about the work to stderr."""
    sys.stderr.write(f"{text}\n")


def answer(
    args: argparse.Namespace, value: object, lines: Iterable[str], *, good: bool = True
) -> int:
    """Write a result to stdout and return the exit code.

    Args:
        args: with `json`.
        value: the result with --json, as for `to_json`.
        lines: the result without; not asked for with --json.
        good: False for a check that failed.
    """
    if args.json:
        emit_json(value)
    else:
        for line in lines:
            say(line)
    return 0 if good else 1


def emit_json(value: object) -> None:
    """Write a result to stdout as JSON; undefined numbers are null, never NaN.

    Where stdout does not know a letter, all of them are written as JSON escapes.
    """
    text = to_json(value)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = to_json(value, ascii_only=True)
    say(text)


def wrap(text: str, *, indent: str = "  ") -> str:
    """Return text as indented lines of readable width; its own line breaks stay."""
    lines = []
    for line in text.strip().splitlines():
        lines += textwrap.wrap(line, WIDTH - len(indent)) or [""]
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)


def table(rows: Sequence[Sequence[object]], *, header: Sequence[str]) -> str:
    """Return rows as aligned columns under a header; numbers are set to the right."""
    cells = [list(header), *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    right = [
        all(isinstance(row[i], (int, float)) for row in rows) and bool(rows)
        for i in range(len(header))
    ]
    lines = [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        )
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(line.rstrip() for line in lines)


def option(parser: argparse._ActionsContainer, typed: str, help: str, **more: Any) -> None:
    """Add an option or argument: `option(parser, "--out DIR", "folder of the run", type=Path)`.

    Args:
        parser: of the command, or a group of its options.
        typed: the name, and what stands for the value in the help.
        help: what it is for.
        **more: as for `add_argument`; numbers and paths give the type by their default.
    """
    name, _, metavar = typed.partition(" ")
    default = more.get("default")
    if isinstance(default, (int, float, Path)) and "action" not in more:
        more.setdefault("type", type(default))
    if metavar:
        more["metavar"] = metavar
    parser.add_argument(name, help=help, **more)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --model, --device and --dtype."""
    group = parser.add_argument_group("model")
    known = "mini (default), ECOFRI/CXR-LLAVA-v2, or a directory in the published layout"
    option(group, "--model NAME", known, default="mini")
    option(group, "--device", "auto (default), cpu, mps, cuda or cuda:N")
    option(group, "--dtype", "precision of the weights (default auto)", choices=DTYPES)


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    option(parser, "--json", "print the result as JSON", action="store_true")


#: Action of a command -> summary, what adds its arguments, and what it does.
Actions = Mapping[
    str,
    tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]],
]


def add_actions(parser: argparse.ArgumentParser, actions: Actions) -> None:
    """Add --json and the actions of a command; the chosen one is called as `args.act(args)`."""
    add_json_argument(parser)
    listed = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, help=", ".join(actions)
    )
    for name, (summary, add, act) in actions.items():
        said = f"{summary[:1].upper()}{summary[1:]}."
        sub = listed.add_parser(name, help=summary, description=said)
        add(sub)
        sub.set_defaults(act=act)
        # the flag may stand before or behind the action
        option(sub, "--json", "print JSON", action="store_true", default=argparse.SUPPRESS)


def names(text: str) -> tuple[str, ...]:
    """Parse "a, b"."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


#: What a manifest has to be.
MANIFEST = (
    "no such manifest; expected a .parquet or .csv file, which `workbench manifest build` writes"
)
RUN = "no run in this folder; expected what `workbench run --out` wrote"


def need(path: Path | None, said: str, *, folder: bool = False) -> None:
    """Refuse a file or folder that is not there, before anything is imported or loaded.

    Args:
        path: what the user named; None where nothing was.
        said: what is said of it then, and what to do.
        folder: whether it should be a folder.

    Raises:
        InputError: it is not there.
    """
    if path is not None and not (os.path.isdir(path) if folder else os.path.isfile(path)):
        raise InputError(f"{path}: {said}")


def at_least(args: argparse.Namespace, **least: int) -> None:
    """Refuse numbers below their least; those that were not given are None.

    Raises:
        OptionError: one is too small.
    """
    for name, low in least.items():
        value = getattr(args, name)
        if value is not None and value < low:
            raise OptionError(f"{name} must be a whole number of {low} or more, got {value}")


def loading(args: argparse.Namespace) -> None:
    """Say at once that the model is being loaded: the libraries alone take seconds.

    Raises:
        CheckpointError: there is no such model.
        OptionError: there is no such kind of device.
    """
    check_model(args)
    note(f"loading {args.model} ...")


def check_model(args: argparse.Namespace) -> None:
    """Refuse a model that is not there and a device of no known kind, before anything is loaded.

    Raises:
        CheckpointError: there is no such model.
        OptionError: there is no such kind of device.
    """
    check_device(args.device or "auto")
    if args.model != "mini" and not os.path.isdir(args.model):
        from workbench.model.source import find_local

        find_local(args.model)


def open_model(args: argparse.Namespace) -> ChestXrayModel:
    """Load the model that --model, --device and --dtype ask for; the environment fills gaps."""
    from workbench.interface import load_model
    from workbench.settings import Settings

    settings = Settings.from_env()
    device, dtype = args.device or settings.device, args.dtype or settings.dtype
    return load_model(args.model, device=device, dtype=dtype)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add FILE, --text-column, --id-column and --out."""
    numbered = "identifiers (default id, or the row number without one)"
    shared.option(parser, "file FILE", "CSV (or .tsv) with a header", type=Path)
    shared.option(parser, "--text-column C", "texts (default text)", default="text")
    shared.option(parser, "--id-column I", numbered)
    shared.option(parser, "--out OUT.csv", "result (default stdout)", type=Path)


def read_texts(
    path: Path, *, text_column: str = "text", id_column: str | None = None
) -> Iterator[tuple[str, str]]:
    """Return (identifier, text) of each row, read as they are asked for.

    The whole file is looked through at once, so that a fault at its end is found before anything is
    written; no more than a row is held.

    Raises:
        InputError: no such file, not readable as text, a row does not fit the header, or a column
            is missing; the message names the row, or lists the columns there are.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected a CSV file with a header")
    header = next(read_rows(path), [])
    key = _checked(path, header, text_column, id_column)
    check_rows(path)
    text_at, key_at = header.index(text_column), header.index(key) if key else None
    rows = enumerate(islice(read_rows(path), 1, None), start=1)
    return ((str(number) if key_at is None else row[key_at], row[text_at]) for number, row in rows)


def _checked(path: Path, columns: list[str], text: str, key: str | None) -> str | None:
    """Return the column of identifiers, None where rows are numbered.

    Raises:
        InputError: a column is missing, or there twice.
    """
    key = key or ("id" if "id" in columns else None)
    for name in [text] + ([key] if key else []):
        if columns.count(name) != 1:
            has = "no" if name not in columns else "more than one"
            raise InputError(
                f"{path.name} has {has} column {name!r}; it has: {listed(columns)} "
                "(choose with --text-column and --id-column)"
            )
    return key


@contextmanager
def open_result(out: Path | None) -> Iterator[TextIO]:
    """Open the result; a file gets its name only once it is whole; None is stdout."""
    if out is None:
        yield sys.stdout
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as partial, partial.open("w", newline="", encoding="utf-8") as handle:
        yield handle
