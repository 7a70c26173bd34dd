"""Paths of images: relative to a root, and never out of it.

A manifest that somebody else wrote must not make this program open a file elsewhere: a path is
refused when it is absolute, names a drive, a home or an address, climbs with "..", or leads through
a symbolic link that leaves the root.

Does not know: what the files hold.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.errors import InputError

#: Absolute, home, drive, address, backslash, NUL, or a component "..".
OUTSIDE = r"^(?:/|~|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.\-]+://)|\\|\x00|(?:^|/)\.\.(?:/|$)"


def outside(paths: pd.Series) -> np.ndarray:
    """Return (n,) bool: the path as written cannot lie below a root."""
    return paths.str.contains(OUTSIDE, regex=True).fillna(False).to_numpy(bool)


class Root:
    """A folder, and the files below it.

    Args:
        folder: the folder that paths are relative to.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(
                f"{self.folder.name or folder}: no such folder; expected the folder that the "
                "paths of the manifest are relative to; name it with root="
            )
        self._real = os.path.realpath(self.folder)
        self._folders: dict[str, bool] = {}

    def contains(self, path: str) -> bool:
        """Say whether a path stays below the root once every symbolic link is followed."""
        if outside(pd.Series([path], dtype="string"))[0]:
            return False
        full = os.path.join(self.folder, path)
        parent = os.path.dirname(full)
        if parent not in self._folders:
            self._folders[parent] = self._inside(os.path.realpath(parent))
        if not self._folders[parent]:
            return False
        return not os.path.islink(full) or self._inside(os.path.realpath(full))

    def resolve(self, path: str) -> Path:
        """Return the full path of a file.

        Raises:
            InputError: the path leaves the root.
        """
        if not isinstance(path, str) or not path:
            raise InputError("the row has no image: its path is empty (a report without an image)")
        if not self.contains(path):
            raise InputError(
                f"{path.rsplit('/', 1)[-1]}: its path leads out of the root; write paths relative "
                "to the root, without .. and without links that leave it"
            )
        return self.folder / path

    def image(self, path: str) -> Path:
        """Return the full path of an image that is there.

        Raises:
            InputError: the path leaves the root, or there is no such file.
        """
        found = self.resolve(path)
        if not found.exists():
            raise InputError(
                f"{found.name}: no such file; the paths of a manifest start at its root, by "
                "default the folder that it lies in: restore the file, or name a folder with root="
            )
        return found

    def relative(self, path: str) -> str:
        """Return a path below the root as the manifest writes it; any other as it came."""
        text = path.replace("\\", "/") if "\\" in path and "/" not in path else path
        if os.path.isabs(text):
            for base in (str(self.folder), self._real):
                if os.path.commonpath([base, os.path.normpath(text)]) == base:
                    return Path(os.path.relpath(text, base)).as_posix()
        return text.removeprefix("./")

    def _inside(self, real: str) -> bool:
        return real == self._real or real.startswith(self._real.rstrip(os.sep) + os.sep)
