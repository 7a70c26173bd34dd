"""A bar on stderr for work that takes longer than two seconds; nothing when stderr is a file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def progress(
    items: Iterable[T], *, total: int | None = None, label: str = "", show: bool = True
) -> Iterable[T]:
    """Return the items with a bar around them; `show=False` for none at all."""
    from tqdm import tqdm

    hidden = None if show else True  # None: where stderr is no terminal
    return tqdm(items, total=total, desc=label, delay=2.0, leave=False, disable=hidden)
