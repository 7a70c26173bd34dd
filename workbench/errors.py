"""Errors of the workbench: each says what was expected, what came and what to do next.

Every class also inherits the builtin that fits, so that `except ValueError` works
for callers who have never heard of this package.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from importlib import import_module
from numbers import Integral
from types import ModuleType


def did_you_mean(given: object, known: Iterable[object]) -> str:
    """Return "; did you mean 'x'?" with the nearest of the known names; "" where none is near.

    >>> wb.errors.did_you_mean("nodul", ["nodule", "fracture"])
    "; did you mean 'nodule'?"
    """
    from difflib import get_close_matches

    def plain(name: object) -> str:
        return str(name).lower().replace("_", "-").strip("- ")

    names = {plain(name): str(name) for name in known}
    begun = [name for name in names if len(plain(given)) > 1 and name.startswith(plain(given))]
    close = begun[:1] or get_close_matches(plain(given), names, n=1, cutoff=0.6)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def unknown_name(
    what: str, given: object, known: Iterable[str], *, also: Iterable[str] = (), of: str = "one of"
) -> str:
    """Return what is said of a name that is none of the known: the nearest, or all of them.

    `also` are further names that it may have meant, which are not listed; `of` is "some of" where
    several may be given.

    >>> wb.errors.unknown_name("finding", "nodul", ["nodule", "fracture"])
    "unknown finding 'nodul'; did you mean 'nodule'?"
    """
    names = tuple(known)
    listed = f"; expected {of}: {', '.join(names)}"
    return f"unknown {what} {given!r}{did_you_mean(given, (*names, *also)) or listed}"


class WorkbenchError(Exception):
    """Base of every error the workbench raises on purpose.

    >>> issubclass(wb.InputError, wb.WorkbenchError)
    True
    """


class InputError(WorkbenchError, ValueError):
    """An image, file or text cannot be used as it is.

    >>> wb.load_radiograph("nowhere.png")
    Traceback (most recent call last):
    workbench.errors.InputError: nowhere.png: no such file; check the path, relative...
    """


class OptionError(WorkbenchError, ValueError):
    """An argument or setting has a value that is not allowed.

    >>> model.report(image, temperature=-1)
    Traceback (most recent call last):
    workbench.errors.OptionError: temperature must be 0 (greedy) or above, got -1...
    """


class CheckpointError(WorkbenchError, RuntimeError):
    """A checkpoint directory is incomplete, misshapen or not in the published layout.

    >>> wb.load_model("images")
    Traceback (most recent call last):
    workbench.errors.CheckpointError: no config.json in ...; copy it beside the weights
    """


class ContextBudgetError(WorkbenchError, ValueError):
    """Prompt, image tokens and new tokens together exceed the model's context.

    >>> model.ask(image, 400 * "Is there a pneumothorax? ")
    Traceback (most recent call last):
    workbench.errors.ContextBudgetError: ... prompt tokens + 256 image tokens + 1...
    """


class DeviceError(WorkbenchError, RuntimeError):
    """The requested device, dtype or quantisation is not available on this machine.

    >>> wb.load_model("mini", device="cuda:99")
    Traceback (most recent call last):
    workbench.errors.DeviceError: device 'cuda:99' was asked for, but torch sees...
    """


class MissingDependencyError(WorkbenchError, ImportError):
    """An optional package is needed for what was asked; the message says how to install it.

    >>> issubclass(wb.MissingDependencyError, ImportError)
    True
    """


class TrainingError(WorkbenchError, RuntimeError):
    """A training run cannot start or go on; the message says which stage and what to do.

    >>> issubclass(wb.TrainingError, RuntimeError)
    True
    """


class RunError(WorkbenchError, RuntimeError):
    """A run over a manifest cannot start or go on; what it finished is kept in its folder.

    >>> wb.run(manifest, model=model, root="images", out="runs/first", batch_size=3)
    Traceback (most recent call last):
    workbench.errors.RunError: first holds a run with other settings: batch_size was...
    """


def check_whole(least: int, **numbers: object) -> None:
    """Raise `OptionError` for the first that is no whole number from `least` up.

    >>> wb.errors.check_whole(1, workers=0)
    Traceback (most recent call last):
    workbench.errors.OptionError: workers must be a whole number of 1 or more, got 0
    """
    for name, value in numbers.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
            raise OptionError(f"{name} must be a whole number of {least} or more, got {value!r}")


def need_package(name: str, extra: str, *, what: str) -> ModuleType:
    """Import an optional package; `MissingDependencyError` names the extra that brings it.

    >>> wb.errors.need_package("no_such_package", "ray", what="a test")
    Traceback (most recent call last):
    workbench.errors.MissingDependencyError: a test needs the package no_such_package...
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"{what} needs the package {name}; install it with "
            f"pip install 'cxr-llava-workbench[{extra}]'"
        ) from error


def check_one_of(what: str, given: str, allowed: Collection[str]) -> None:
    """Raise `OptionError` for a name that is none of those allowed.

    >>> wb.errors.check_one_of("engine", "rai", ["local", "ray"])
    Traceback (most recent call last):
    workbench.errors.OptionError: engine must be one of local, ray; got 'rai'; did...
    """
    if given not in allowed:
        near = did_you_mean(given, allowed)
        listed = ", ".join(filter(None, allowed))
        raise OptionError(f"{what} must be one of {listed}; got {given!r}{near}")
