"""The parser of every command: errors in two lines that know what was meant, in words of the shell.

A misspelt command, option or choice is answered with the nearest one; words left over, with the
quotes that they lack; and what the package says in words of Python (`partial=True`) is said as it
is typed (`--partial`). For that the name of an option, dashes aside, is that of the argument.

Does not know: any command.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from workbench.errors import did_you_mean, unknown_name

#: name='value', name=True, name=3, name=..., name=FOLDER, name=: an argument as Python has it.
_GIVEN = re.compile(
    r"(?<![\w.\-?&/='\"])(?<!\w\()([a-z][a-z0-9_]*)="
    r"('[^']*'|\"[^\"]*\"|True|False|None|-?\d+(?:\.\d+)?|\.\.\.|[A-Z]+|(?=[\s,;:.)]|$))"
    r"(?![\w/=\-]|\.\w)"
)
#: batch_size: an argument that no word of English looks like.
_NAMED = re.compile(r"(?<![\w.\-/'\"`])[a-z]+(?:_[a-z0-9]+)+(?![\w/=('\"`\-]|\.\w)")
#: temperature must be ...
_OPENS = re.compile(r"^([a-z]+)(?= must )")
#: resume=True (--resume): said in both ways.
_TWICE = re.compile(r"(--[a-z-]+) \(\1\)")


class Parser(argparse.ArgumentParser):
    """A parser of arguments; `args.parser` is the one of the command, or of its action."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.set_defaults(parser=self)

    def error(self, message: str) -> NoReturn:
        """Say in one line how the command is used, in another what was wrong, and end with 2."""
        self.exit(2, f"{self.short_usage()}\n{self.prog}: error: {message}\n")

    def short_usage(self) -> str:
        """Return the usage in one line: what the command cannot do without."""
        needed = [action for action in self._actions if _needed(action)]
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, needed, [])
        return f"{' '.join(formatter.format_help().split())} [options] (--help explains them)"

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Parse, and refuse what is not known: a command takes all that stands behind it."""
        given = list(sys.argv[1:] if args is None else args)
        self._check_options(given)
        found, extra = super().parse_known_args(given, namespace)
        if extra:
            self._refuse(given, extra)
        return found, extra

    def spoken(self, text: str) -> str:
        """Return a message of the package in words of the command line.

        Args:
            text: may name arguments as Python has them. Those that the command has no option for
                are marked as Python's.
        """
        text = _GIVEN.sub(self._typed, text)
        text = _NAMED.sub(lambda found: self._option(found[0]) or found[0], text)
        text = _OPENS.sub(lambda found: self._option(found[0]) or found[0], text)
        return _TWICE.sub(r"\1", text)

    def _typed(self, found: re.Match) -> str:
        option, value = self._option(found[1]), found[2].strip("'\"")
        if option is None:
            return f"{found[0]} (in Python)"
        flag = self._option_string_actions[option].nargs == 0
        return option if flag or not value else f"{option} {value}"

    def _option(self, name: str) -> str | None:
        """Return the option that an argument of Python is given by."""
        for action in self._actions:
            if action.dest == name and action.option_strings:
                return action.option_strings[-1]
        return None

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse what is none of the choices, with the nearest of them."""
        if action.choices is None or value in action.choices:
            return
        if not isinstance(action, argparse._SubParsersAction):
            raise argparse.ArgumentError(action, unknown_name("choice", value, action.choices))
        also = self._option_string_actions
        said = unknown_name(action.metavar.lower(), value, action.choices, also=also)
        raise argparse.ArgumentError(None, said)

    def _check_options(self, given: Sequence[str]) -> None:
        """Refuse an option that there is not, before what else is missing is asked for."""
        for word in given:
            if word == "--" or (self._subparsers and not word.startswith("-")):
                return
            name = word.partition("=")[0]
            if word.startswith("--") and " " not in name and not self._knows(name):
                self.error(self._unknown(name))

    def _knows(self, name: str) -> bool:
        return any(known.startswith(name) for known in self._option_string_actions)

    def _unknown(self, name: str) -> str:
        """Say what an unknown option may have meant."""
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
        end = start = given.index(words[0])
        while end < len(given) and given[end] in words:
            end += 1
        said = f"unexpected {' '.join(given[start:end])!r}"
        before = given[start - 1] if start else "-"
        if before.startswith("-"):
            self.error(f"{said}; nothing more is expected there")
        option = f"{given[start - 2]} " if start > 1 and given[start - 2].startswith("--") else ""
        whole = " ".join(given[start - 1 : end])
        self.error(f'{said}; a text of several words stands in quotes: {option}"{whole}"')


def _needed(action: argparse.Action) -> bool:
    """Return whether a command cannot do without an argument."""
    optional = (argparse.OPTIONAL, argparse.ZERO_OR_MORE)
    return action.required if action.option_strings else action.nargs not in optional
