"""What the commands share: output, progress, opening a model, and saying its notice.

Results go to stdout, everything said on the way to stderr, so that `--json | jq` always works.
Does not know: what any command computes.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench._plain import to_json as to_json
from workbench._progress import progress as progress
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


def emit_json(value: Any) -> None:
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


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --model, --device and --dtype."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default="mini",
        metavar="NAME",
        help="mini (default), ECOFRI/CXR-LLAVA-v2, or a directory in the published layout",
    )
    group.add_argument("--device", help="auto (default), cpu, mps, cuda or cuda:N")
    group.add_argument("--dtype", choices=DTYPES, help="precision of the weights (default auto)")


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


Add = Callable[[argparse.ArgumentParser], None]


def add_actions(parser: argparse.ArgumentParser, actions: Mapping[str, tuple[str, Add]]) -> None:
    """Add --json and the actions of a command; the chosen one's name becomes `args.action`.

    Args:
        parser: of the command.
        actions: name -> summary, and what adds the action's arguments.
    """
    add_json_argument(parser)
    listed = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, help=", ".join(actions)
    )
    for name, (summary, add) in actions.items():
        sub = listed.add_parser(
            name, help=summary, description=f"{summary[:1].upper()}{summary[1:]}."
        )
        add(sub)
        # the flag may stand before or behind the action
        sub.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON"
        )


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
