"""The files of a source as somebody downloaded them: found by their published names, packed or not.

Nothing is fetched here. A file that is missing is an error that says which, and where it is
published.

Does not know: what the files mean (`workbench.data.sources`).
"""

from __future__ import annotations

import csv
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from workbench.data.cards import DataCard
from workbench.errors import InputError

_PACKED = ("", ".gz", ".zip")
_DEPTH = ("", "*/", "*/*/")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")


def label_files() -> Path | None:
    """Return the folder of label files inside the package torchxrayvision, without importing it.

    None where the package is not installed (`pip install --no-deps torchxrayvision`).
    """
    spec = importlib.util.find_spec("torchxrayvision")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / "data").is_dir():
            return Path(folder) / "data"
    return None


class Download:
    """A folder of downloaded files, or one file of it.

    Args:
        source: the folder, or the annotation file in it.
        card: what is expected there, for messages.

    Raises:
        InputError: there is nothing.
    """

    def __init__(self, source: str | os.PathLike, card: DataCard) -> None:
        given = Path(source).expanduser()
        if not given.exists():
            raise InputError(
                f"{given.name or source}: no such folder; expected the downloaded files of "
                f"{card.title} ({', '.join(card.files)}); see `workbench manifest card {card.key}`"
            )
        self.only = given if given.is_file() else None
        self.folder = given.parent if given.is_file() else given
        self.card = card

    def find(self, *names: str) -> Path | None:
        """Return the first file with one of these names, as it is, gzipped or zipped.

        Args:
            names: published names; * stands for anything.
        """
        if self.only is not None:
            plain = self.only.name.removesuffix(".gz").removesuffix(".zip")
            if any(Path(plain).match(name) for name in names):
                return self.only
        for level in _DEPTH:
            for name in names:
                for packed in _PACKED:
                    found = sorted(self.folder.glob(level + name + packed))
                    if found and found[-1].is_file():
                        return found[-1]
        return None

    def require(self, *names: str) -> Path:
        """Return the file, as `find` does.

        Raises:
            InputError: it is not there; the message says where it is published.
        """
        found = self.find(*names)
        if found is None:
            raise InputError(
                f"no {' or '.join(names)} in {self.folder.name}; it belongs to {self.card.title}, "
                f"published at {self.card.url}; `workbench manifest card {self.card.key}` says "
                "what to fetch"
            )
        return found

    def table(self, path: Path, needed: Sequence[str], *, sep: str = ",") -> pd.DataFrame:
        """Read a CSV file as text, every cell as it stands; an empty cell is an empty text.

        Args:
            path: from `find` or `require`.
            needed: columns that must be there.
            sep: what separates cells.

        Raises:
            InputError: not a table, or a column is missing; the message lists those there are.
        """
        try:
            frame = pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                sep=sep,
                index_col=False,
                encoding="utf-8-sig",
                skipinitialspace=False,
            )
        except (ValueError, OSError, EOFError, csv.Error):
            raise InputError(
                f"{path.name}: cannot be read as a table; it is damaged or not the published file, "
                f"fetch it again from {self.card.url}"
            ) from None
        frame.columns = [str(name).strip() for name in frame.columns]
        missing = [name for name in needed if name not in frame.columns]
        if missing:
            there = ", ".join(name for name in frame.columns[:12])
            raise InputError(
                f"{path.name}: no column {', '.join(map(repr, missing))}; it has: {there}; "
                f"expected the file as {self.card.title} publishes it"
            )
        return frame

    def lines(self, *names: str) -> list[str] | None:
        """Return the lines of a list file without blanks; None where it is not there."""
        path = self.find(*names)
        if path is None:
            return None
        return [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]

    def images(self) -> list[str]:
        """Return the paths of all image files below the folder, relative to it, sorted."""
        found = []
        for folder, folders, files in os.walk(self.folder):
            folders.sort()
            base = Path(os.path.relpath(folder, self.folder))
            found += [
                (base / name).as_posix()
                for name in files
                if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
            ]
        return sorted(found)

    def locate(self, names: pd.Series, folders: Sequence[str]) -> pd.Series:
        """Return relative paths of images that the source names without their folder.

        Args:
            names: (n,) file names.
            folders: folders below the root where the source puts images; patterns are allowed.

        Returns:
            (n,) paths; the first folder is taken for files that are not at hand.
        """
        where: dict[str, str] = {}
        for pattern in folders:
            for folder in sorted(self.folder.glob(pattern)) if pattern else [self.folder]:
                if folder.is_dir():
                    prefix = folder.relative_to(self.folder).as_posix()
                    prefix = "" if prefix == "." else prefix + "/"
                    for entry in os.scandir(folder):
                        where.setdefault(entry.name, prefix + entry.name)
        default = folders[0].replace("*", "") + "/" if folders[0] else ""
        return names.map(lambda name: where.get(name, default + name))
