"""The `workbench` command: one parser, exit codes, and how errors are said.

Exit codes: 0 done, 1 failed (one line on stderr says what and what to do), 2 wrong usage,
130 interrupted. A command is a module of `workbench.commands`, imported only when it is asked for.

Slips of typing get two lines: a misspelt command, option or choice is answered with the nearest
one; words left over, with the quotes that they lack; and what the package says in words of Python
(`partial=True`) is said as it is typed (`--partial`). For that the name of an option, dashes aside,
is that of the argument.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import logging
import os
import re
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NoReturn

from workbench._version import __version__
from workbench.errors import OptionError, WorkbenchError, did_you_mean, unknown_name

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

#: What a full and a read-only place are called by the system.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

#: Command -> what it does, in the order in which a newcomer needs them.
COMMANDS = {
    "demo": "write a report for a phantom and for a real chest, with figures, to out/demo",
    "report": "write a report, or a differential, for image files",
    "ask": "ask a question about an image",
    "phantom": "draw phantoms: chests with known findings",
    "label": "read the findings out of a column of report texts",
    "check-text": "find what no single image can show in a column of report texts",
    "evaluate": "score reports against references, or a model on phantoms or a manifest",
    "manifest": "build and check tables of data sets, divide and freeze cohorts, judge images",
    "run": "run a model over a manifest: resumable, one folder, results as Parquet",
    "review": "list the errors of a run, collect verdicts, blinded reader studies",
    "app": "look at model, errors, studies and training in the browser",
    "models": "list the models: parameters, memory, context budget",
    "doctor": "check this installation, a checkpoint against reference vectors, or mini",
    "benchmark": "score saliency methods, hallucination detectors and remedies",
    "train": "fine-tune a model by a recipe, plan its memory, or make mini again",
}

#: name='value', name=True, name=3, name=..., name=FOLDER, name=: an argument as Python has it.
_GIVEN = re.compile(
    r"(?<![\w.\-?&/='\"])(?<!\w\()([a-z][a-z0-9_]*)="
    r"('[^']*'|\"[^\"]*\"|True|False|None|-?\d+(?:\.\d+)?|\.\.\.|[A-Z]+|(?=[\s,;:.)]|$))"
    r"(?![\w/=\-]|\.\w)"
)
#: batch_size: an argument that no word of English looks like; or temperature must be ...
_NAMED = re.compile(
    r"(?<![\w.\-/'\"`])[a-z]+(?:_[a-z0-9]+)+(?![\w/=('\"`\-]|\.\w)|^[a-z]+(?= must )"
)
#: resume=True (--resume): said in both ways.
_TWICE = re.compile(r"(--[a-z-]+) \(\1\)")


class Parser(argparse.ArgumentParser):
    """A parser; `args.parser` is that of the command, or of its action.

    `args.refused` is the exit code for a value that only the command itself can refuse.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.set_defaults(parser=self, refused=FAILED)

    def error(self, message: str) -> NoReturn:
        """Say in one line how the command is used, in another what was wrong, and end with 2."""
        self.exit(2, f"{self.short_usage()}\n{self.prog}: error: {message}\n")

    def short_usage(self) -> str:
        """Return the usage in one line: what the command cannot do without."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, [one for one in self._actions if one.required], [])
        return f"{' '.join(formatter.format_help().split())} [options] (--help explains them)"

    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Parse, and refuse what is not known: a command takes all that stands behind it."""
        given = list(sys.argv[1:] if args is None else args)
        self._check_options(given)
        found, extra = super().parse_known_args(given, namespace)
        if extra:
            self._refuse(given, extra)
        return found, extra

    def spoken(self, text: str) -> str:
        """Return a message of the package in words of the command line.

        Arguments of Python that the command has no option for are marked as Python's.
        """
        text = _GIVEN.sub(self._typed, text)
        text = _NAMED.sub(lambda found: self._option(found[0]) or found[0], text)
        return _TWICE.sub(r"\1", text)

    def _typed(self, found: re.Match) -> str:
        option, value = self._option(found[1]), found[2].strip("'\"")
        if option is None:
            return f"{found[0]} (in Python)"
        flag = self._option_string_actions[option].nargs == 0
        return option if flag or not value else f"{option} {value}"

    def _option(self, name: str) -> str | None:
        """Return the option that an argument of Python is given by."""
        found = [one.option_strings[-1:] for one in self._actions if one.dest == name]
        return found[0][0] if found and found[0] else None

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Refuse what is none of the choices, with the nearest of them."""
        if action.choices is None or value in action.choices:
            return
        if not isinstance(action, argparse._SubParsersAction):
            raise argparse.ArgumentError(action, unknown_name("choice", value, action.choices))
        also = self._option_string_actions
        said = unknown_name(str(action.metavar).lower(), value, action.choices, also=also)
        raise argparse.ArgumentError(None, said)

    def _check_options(self, given: Sequence[str]) -> None:
        """Refuse an option that there is not, before what else is missing is asked for."""
        for word in given:
            if word == "--" or (self._subparsers and not word.startswith("-")):
                return
            name = word.partition("=")[0]
            known = any(option.startswith(name) for option in self._option_string_actions)
            if word.startswith("--") and " " not in name and not known:
                self.error(self._unknown(name))

    def _unknown(self, name: str) -> str:
        meant = did_you_mean(name, self._option_string_actions)
        if not meant and self._subparsers:
            meant = f"; an option of a command stands behind it: {self.prog} COMMAND {name}"
        elif not meant and name in ("--verbose", "--version"):
            program, _, rest = self.prog.partition(" ")
            meant = f"; it stands before the command: {program} {name} {rest}"
        return f"unknown option {name}{meant}"

    def _refuse(self, given: list[str], extra: list[str]) -> NoReturn:
        """Refuse words that are left over; mostly they are part of a text without its quotes."""
        words = [word for word in extra if not word.startswith("-")]
        if not words:
            self.error(self._unknown(extra[0]))
        start = given.index(words[0])
        rest = list(takewhile(words.__contains__, given[start:]))
        said = f"unexpected {' '.join(rest)!r}"
        before = given[start - 1] if start else "-"
        if before.startswith("-"):
            self.error(f"{said}; nothing more is expected there")
        option = f"{given[start - 2]} " if start > 1 and given[start - 2].startswith("--") else ""
        whole = " ".join([before, *rest])
        self.error(f'{said}; a text of several words stands in quotes: {option}"{whole}"')


def build_parser(command: str | None = None) -> Parser:
    """Return the parser; only `command`, if given, gets its arguments (and its imports)."""
    parser = Parser(
        prog="workbench",
        description="Chest radiographs in, reports out. Not for clinical use.",
        epilog="`workbench COMMAND --help` explains each command.",
    )
    parser.add_argument("--version", action="version", version=f"workbench {__version__}")
    parser.add_argument("--verbose", action="store_true", help="say on stderr what is being done")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    raw = argparse.RawDescriptionHelpFormatter
    for name, summary in COMMANDS.items():
        said = f"{summary[0].upper()}{summary[1:]}."
        sub = commands.add_parser(name, help=summary, description=said, formatter_class=raw)
        if command in (None, name):
            _module(name).add_arguments(sub)
            sub.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, by default with the arguments of the process; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # a terminal that knows few letters gets the others spelled out, and no command fails
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    command = next((word for word in arguments if word in COMMANDS), "")
    args = build_parser(command).parse_args(arguments)
    _log(args.verbose, args.parser)
    try:
        code = _module(args.command).run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader that closed the pipe is told nothing
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (WorkbenchError, OSError) as error:
        sys.stderr.write(f"workbench: {args.parser.spoken(' '.join(_words(error).split()))}\n")
        return args.refused if isinstance(error, OptionError) else FAILED
    except KeyboardInterrupt:
        sys.stderr.write("\nworkbench: interrupted\n")
        return INTERRUPTED


def _module(command: str):
    return importlib.import_module(f"workbench.commands.{command.replace('-', '_')}")


def _log(verbose: bool, parser: Parser) -> None:
    """Write warnings to stderr, in words of the command line; with --verbose what is done too."""
    formatter = logging.Formatter("%(levelname)s %(name)s: %(message)s" if verbose else None)
    said = formatter.format
    formatter.format = lambda record: parser.spoken(said(record))
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])


def _words(error: WorkbenchError | OSError) -> str:
    """Return what is said of an error; a place that cannot be written to is named as such."""
    full = isinstance(error, OSError) and error.errno in _UNWRITABLE
    if isinstance(error, WorkbenchError) or not (full or error.filename):
        return str(error)
    if not full:
        return f"{os.fsdecode(error.filename)}: {(error.strerror or 'cannot be used').lower()}"
    name = os.path.basename(os.fsdecode(error.filename)) if error.filename else "the result"
    return (
        f"{name.removesuffix('.partial')}: cannot be written ({(error.strerror or '').lower()}); "
        "what was there before is kept. Make room, or name a folder that can be written to"
    )
