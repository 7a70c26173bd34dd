"""The level of a model that an analysis needs, and the one sentence that refuses below it.

texts     a table of reports, whoever wrote them
writer    a model that writes about an image: an endpoint, or any below
reader    a model whose inside can be read: CXR-LLaVA, any image-text-to-text model of transformers
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from workbench.errors import OptionError, check_one_of

if TYPE_CHECKING:
    from workbench.backends.reader import Writer

TEXTS, WRITER, READER = LEVELS = "texts", "writer", "reader"

#: What some analyses ask of a writer besides.
LOGPROBS = "log-probabilities of an answer's first word"

P = ParamSpec("P")
R = TypeVar("R")


def needs(level: str, also: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare the level that a function needs of the models, or traces, among its arguments.

    The function gets the attributes `level` and `also`, its docstring a last line that states them,
    and a model below the level is refused with `OptionError` before the function runs.
    """
    check_one_of("level", level, LEVELS)

    def declare(run: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(run)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for given in (*args, *kwargs.values()):
                for model in (given, getattr(given, "model", None)):
                    if isinstance(getattr(model, "level", None), str):
                        check_level(cast("Writer", model), level, checked.__qualname__)
            return run(*args, **kwargs)

        told = inspect.cleandoc(run.__doc__ or "")
        checked.__doc__ = f"{told}\n\nLevel: {level}{f' with {also}' if also else ''}."
        vars(checked).update(level=level, also=also)
        return cast("Callable[P, R]", checked)

    return declare


def check_level(model: Writer, level: str, name: str) -> None:
    """Refuse a model that is below a level, in one sentence.

    Raises:
        OptionError: it is.
    """
    if LEVELS.index(model.level) < LEVELS.index(level):
        raise OptionError(
            f"{name} needs a reader, a model whose inside can be read, and {model.identity.id} is "
            "behind an endpoint, which writes texts only; load its checkpoint, or that of another "
            "model, with wb.load_model(DIRECTORY)"
        )
