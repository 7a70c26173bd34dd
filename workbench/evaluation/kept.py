"""Finished work, kept line by line, so that a long run which was stopped goes on.

Does not know: what the work is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import OptionError


class KeptLines:
    """A JSON Lines file whose first line says what all others depend on.

    Args:
        path: made where it is not there. A last line that was cut off is dropped.
        head: plain values, such as the hash of the weights and the options.

    Raises:
        OptionError: the file is of other weights or options.
    """

    def __init__(self, path: str | Path, head: Mapping[str, Any]) -> None:
        self.path = Path(path)
        content = self.path.read_bytes() if self.path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        self._lines = whole.decode("utf-8").splitlines()
        if not self._lines:
            self.path.write_bytes(b"")
            self.add(head)
            return
        if json.loads(self._lines[0]) != json.loads(json.dumps(head, default=dict)):
            raise OptionError(
                f"{self.path} was written for other weights or options; name another file"
            )
        if len(whole) < len(content):
            with self.path.open("rb+") as handle:
                handle.truncate(len(whole))

    def __iter__(self) -> Iterator[Any]:
        """Yield what was kept when the file was opened."""
        return map(json.loads, self._lines[1:])

    def add(self, value: Any) -> None:
        """Keep one more."""
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(value, default=dict) + "\n")


class KeptResults(dict):
    """Key -> result; what is set is also kept line by line in a file, where one is named.

    Args:
        path: see `KeptLines`; None keeps nothing.
        head: see `KeptLines`.
        encode: takes key and result to plain values.
        decode: takes what was read back to key and result.

    Raises:
        OptionError: the file is of other weights or options.
    """

    def __init__(
        self,
        path: str | Path | None,
        head: Mapping[str, Any],
        *,
        encode: Callable[[Any, Any], Any],
        decode: Callable[[Any], tuple[Hashable, Any]],
    ) -> None:
        self._lines = None if path is None else KeptLines(path, head)
        self._encode = encode
        super().__init__(map(decode, self._lines or ()))

    def __setitem__(self, key: Hashable, result: Any) -> None:
        super().__setitem__(key, result)
        if self._lines is not None:
            self._lines.add(self._encode(key, result))
