"""The `workbench` command: one parser, exit codes, and how errors are said.

Exit codes: 0 done, 1 failed (one line on stderr says what and what to do), 2 wrong usage,
130 interrupted. Every command module is `workbench.commands.<name>`, with `_` for `-`, and has
`add_arguments(parser)` and `run(args) -> int`; it is imported only when its command is asked for.

Does not know: what the commands do.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence

from workbench._version import __version__
from workbench.commands._parser import Parser
from workbench.errors import WorkbenchError

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

#: What a full and a read-only place are called by the system.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

#: Command -> what it does, in the order in which a newcomer needs them.
COMMANDS = {
    "demo": "write a report for a drawn and for a real chest, with figures, to out/demo",
    "report": "write a report, or a differential, for image files",
    "ask": "ask a question about an image",
    "phantom": "draw a chest with known findings",
    "label": "read the findings out of a column of report texts",
    "check-text": "find what no single image can show in a column of report texts",
    "evaluate": "score reports against references: F1 with intervals, coverage, omissions",
    "manifest": "build and check tables of data sets, divide and freeze cohorts, judge images",
    "run": "run a model over a manifest: resumable, one folder, results as Parquet",
    "review": "list the errors of a run, collect verdicts, blinded reader studies",
    "app": "look at model, errors, studies and training in the browser",
    "models": "list the models: parameters, memory, context budget",
    "doctor": "check this installation, a checkpoint against reference vectors, or mini",
    "benchmark": "score saliency methods or hallucination detectors against phantoms",
    "train": "fine-tune a model by a recipe, plan its memory, or make mini again",
}


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
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if command in (None, name):
            _module(name).add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: arguments without the program name; those of the process when None.
    """
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
    except (WorkbenchError, OSError) as error:
        return _failure(error, args.parser)
    except KeyboardInterrupt:
        sys.stderr.write("\nworkbench: interrupted\n")
        return INTERRUPTED


def _module(command: str):
    """Import the module of a command."""
    return importlib.import_module(f"workbench.commands.{command.replace('-', '_')}")


def _log(verbose: bool, parser: Parser) -> None:
    """Write warnings to stderr, in words of the command line; with --verbose what is done too."""
    formatter = logging.Formatter(
        "%(levelname)s %(name)s: %(message)s" if verbose else "%(message)s"
    )
    said = formatter.format
    formatter.format = lambda record: parser.spoken(said(record))
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])


def _failure(error: WorkbenchError | OSError, parser: Parser) -> int:
    """Say an expected error in one line; a reader that closed the pipe is told nothing."""
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    said = parser.spoken(" ".join(_words(error).split()))
    sys.stderr.write(f"workbench: {said}\n")
    return FAILED


def _words(error: WorkbenchError | OSError) -> str:
    """Return what is said of an error; a place that cannot be written to is named as such."""
    if not isinstance(error, OSError) or isinstance(error, WorkbenchError):
        return str(error)
    if not (error.filename or error.errno in _UNWRITABLE):
        return str(error)
    if error.errno not in _UNWRITABLE:
        return f"{os.fsdecode(error.filename)}: {(error.strerror or 'cannot be used').lower()}"
    name = os.path.basename(os.fsdecode(error.filename)) if error.filename else "the result"
    return (
        f"{name.removesuffix('.partial')}: cannot be written ({(error.strerror or '').lower()}); "
        "what was there before is kept. Make room, or name a folder that can be written to"
    )
