"""What is known against a method on a certain model: verdicts of the randomisation check.

Those for `mini` ship beside its weights (written by `workbench benchmark saliency --record`) and
hold for the weights of their hash only. For others nothing is known until `randomisation` has been
run; a failure it finds then counts for the rest of the session.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

_session: dict[tuple[str, str], str | None] = {}

#: Beside the weights of `mini`.
FILE = "saliency_checks.json"


@cache
def _shipped() -> dict:
    path = files("workbench") / "assets" / "mini" / FILE
    return json.loads(path.read_text()) if path.is_file() else {"sha256": None, "methods": {}}


def caution_of(method: str, sha256: str) -> str | None:
    """Return what to write beside a map of a method by the weights of a hash; None for nothing."""
    shipped = _shipped()
    if shipped["sha256"] == sha256 and method in shipped["methods"]:
        found = shipped["methods"][method]
        # One more case that passes does not outweigh a failure over several.
        if not found["ok"]:
            return caution_text(found["similarity"], found["cases"])
    return _session.get((method, sha256))


def caution_text(similarity: float, cases: int) -> str:
    """Return the caution of a method that failed the randomisation check."""
    return (
        "fails the randomisation check: with random weights the map stays much the same "
        f"(rank correlation {similarity:.2f}, {cases} case{'s' if cases != 1 else ''})"
    )


def remember(method: str, sha256: str, caution: str | None) -> None:
    """Let a verdict count for the rest of the session."""
    _session[method, sha256] = caution
