"""A bar on stderr for work that takes longer than two seconds; nothing when stderr is a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def progress(
    items: Iterable[T], *, total: int | None = None, label: str = "", show: bool = True
) -> Iterable[T]:
    """Return the items with a bar around them; `show=False` for none at all."""
    from tqdm import tqdm

    return tqdm(
        items,
        total=total,
        desc=label,
        delay=2.0,
        leave=False,
        file=sys.stderr,
        disable=None if show else True,
    )
