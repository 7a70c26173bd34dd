"""The files of a source as somebody downloaded them: found by their published names, packed or not.

Nothing is fetched here.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Collection, Sequence
from itertools import product
from pathlib import Path

import pandas as pd

from workbench._tables import listed, open_text, read_frame
from workbench.data.cards import DataCard, folded
from workbench.data.frames import IMAGE_SUFFIXES, join, name_form, refuse_two
from workbench.errors import InputError, check_one_of

_PACKED = ("", ".gz", ".zip")
_DEPTH = ("", "*/", "*/*/")


def label_files() -> Path | None:
    """Return the folder of label files inside the package torchxrayvision, without importing it.

    None where it is not installed (`pip install --no-deps torchxrayvision`).

    >>> wb.data.label_files() is None or wb.data.label_files().is_dir()
    True
    """
    spec = importlib.util.find_spec("torchxrayvision")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / "data").is_dir():
            return Path(folder) / "data"
    return None


class Download:
    """A folder of downloaded files, or one file of it, and what `build` wants of it.

    Raises:
        OptionError: the source has no such set of labels.
        InputError: there is nothing.
    """

    def __init__(
        self,
        source: str | os.PathLike,
        card: DataCard,
        *,
        labels: str | None,
        reports: bool,
        show: bool,
    ) -> None:
        self.card = card
        self.labels = next(iter(card.variants)) if labels is None else labels
        self.reports, self.show = reports, show
        check_one_of(f"labels of {card.key}", self.labels, card.variants)
        given = Path(source).expanduser()
        if not given.exists():
            raise InputError(
                f"{given.name or source}: no such folder; expected the downloaded files of "
                f"{card.title} ({', '.join(card.files)}); see `workbench manifest card {card.key}`"
            )
        self.only = given if given.is_file() else None
        self.folder = given.parent if given.is_file() else given

    def find(self, *names: str) -> Path | None:
        """Return the first file with one of these names or patterns, as it is or packed."""
        if self.only is not None:
            plain = self.only.name.removesuffix(".gz").removesuffix(".zip")
            if any(Path(plain).match(name) for name in names):
                return self.only
        for level, name, packed in product(_DEPTH, names, _PACKED):
            found = sorted(self.folder.glob(level + name + packed))
            if found and found[-1].is_file():
                return found[-1]
        return None

    def require(self, *names: str) -> Path:
        """Return the file, as `find` does, or raise an InputError that says where to fetch it."""
        found = self.find(*names)
        if found is None:
            raise InputError(
                f"no {' or '.join(names)} in {self.folder.name}; it belongs to {self.card.title}, "
                f"published at {self.card.url}; `workbench manifest card {self.card.key}` says "
                "what to fetch"
            )
        return found

    def table(
        self,
        path: Path,
        needed: Sequence[str],
        known: Sequence[str] = (),
        labels: Collection[str] = (),
        *,
        sep: str | None = None,
    ) -> pd.DataFrame:
        """Read a CSV file as text, every cell as it stands; an empty cell is an empty text.

        Columns are known in upper or lower case, with _ for a blank; they get the published name.
        Blanks around the cells of needed columns are cut.

        Args:
            needed: columns that must be there.
            known: columns that are empty where they are not there.
            labels: columns of which some must be there.
            sep: what separates cells; None for a comma, or a tab in a .tsv file.

        Raises:
            InputError: not a table, a row does not fit the header, two columns stand for one, or a
                column is missing.
        """
        try:
            frame = read_frame(path, delimiter=sep)
        except (InputError, OSError) as error:
            cause = str(error) if isinstance(error, InputError) else "it cannot be opened"
            raise InputError(
                f"{path.name}: cannot be read as a table ({cause}); if it is damaged or not the "
                f"published file, fetch it again from {self.card.url}"
            ) from None
        names = _published(list(frame.columns), (*needed, *known, *labels), path.name)
        frame = frame.rename(columns=names)
        missing = [name for name in needed if name not in frame.columns]
        if missing:
            raise InputError(
                f"{path.name}: no column {', '.join(map(repr, missing))}; "
                f"it has: {listed(frame.columns)}; "
                f"expected the file as {self.card.title} publishes it"
            )
        if labels and frame.columns.intersection(list(labels)).empty:
            raise InputError(
                f"{path.name} has none of the label columns of {self.card.title}; expected "
                f"{', '.join(list(labels)[:3])}, ..."
            )
        cut = {name: frame[name].str.strip() for name in needed}
        return frame.assign(**cut, **{name: "" for name in known if name not in frame})

    def look_up(
        self,
        keys: pd.Series,
        path: Path,
        on: str,
        columns: Sequence[str],
        *,
        what: str,
        things: str = "images",
        form: Callable[[str], str] = name_form,
    ) -> tuple[pd.DataFrame, str]:
        """Look keys up in a CSV file: `table`, then `join`, of which some columns are wanted."""
        table = self.table(path, [on, *columns])[[on, *columns]]
        return join(keys, table, on, what=what, things=things, said=path.name, form=form)

    def lines(self, *names: str) -> list[str] | None:
        """Return the lines of a list file without blanks; None where it is not there."""
        path = self.find(*names)
        if path is None:
            return None
        try:
            with open_text(path) as handle:
                return [line.strip() for line in handle if line.strip()]
        except (UnicodeDecodeError, EOFError, OSError):
            raise InputError(
                f"{path.name}: not a text file in UTF-8; fetch it again from {self.card.url}"
            ) from None

    def images(self) -> list[str]:
        """Return the paths of all image files below the folder, relative to it, sorted."""
        return sorted(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("[!.]*")
            if path.name.lower().endswith(IMAGE_SUFFIXES) and path.is_file()
        )

    def locate(self, names: pd.Series, folders: Sequence[str]) -> pd.Series:
        """Return (n,) relative paths of images that the source names without their folder.

        The folders are names or patterns below the root; the first is taken for files that are not
        at hand.
        """
        where: dict[str, str] = {}
        for pattern in folders:
            for path in sorted(self.folder.glob(f"{pattern}/*" if pattern else "*")):
                where.setdefault(path.name, path.relative_to(self.folder).as_posix())
        default = folders[0].replace("*", "") + "/" if folders[0] else ""
        return names.map(lambda name: where.get(str(name), f"{default}{name}"))


def _published(there: Sequence[str], wanted: Sequence[str], said: str) -> dict[str, str]:
    """Return column of a table -> the published name that is meant."""
    found = {}
    for name in dict.fromkeys(wanted):
        hits = [column for column in there if folded(column) == folded(name)]
        if len(hits) > 1:
            refuse_two(hits[0], hits[1], repr(name), said)
        found |= dict.fromkeys(hits, name)
    return found
