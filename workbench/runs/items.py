"""The rows of a manifest, a few thousand at a time, so that a million of them need no memory.

Whether the manifest is right is not checked (`workbench manifest check`): a path that leaves the
root, or leads nowhere, is a failed row.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset

from workbench._store import file_sha256
from workbench.data import Manifest
from workbench.data.frames import restore
from workbench.data.images import Root
from workbench.errors import InputError
from workbench.runs.plan import Item

_LOG = logging.getLogger(__name__)

COLUMNS = ("image_id", "path", "source")
NEEDED = ("image_id", "path")
_CHUNK = 4096
_BYTES = 1 << 22


class Items:
    """The rows of a manifest as a stream that can be gone through several times.

    Args:
        root: what its paths are relative to; None for the root of the manifest, or the first of
            `kept` with an image, or the folder of the file.

    Attributes:
        root: the folder of the images.
        folder: that of the manifest; None for one in memory.
        identity: for `run.json`: "rows", and "sha256" of the file or `Manifest.digest()`.

    Raises:
        InputError: no such file or folder, damaged, or a needed column is missing.
    """

    def __init__(
        self,
        manifest: Manifest | str | os.PathLike,
        root: str | os.PathLike | None,
        kept: Sequence[Path] = (),
    ) -> None:
        self._chunks: Callable[[], Iterator[pd.DataFrame]]
        self.folder: Path | None = None
        if isinstance(manifest, Manifest):
            self.name, found, frame = "manifest", manifest.root, manifest.frame
            starts = range(0, len(frame), _CHUNK)
            self._chunks = lambda: (frame.iloc[at : at + _CHUNK] for at in starts)
            self.identity = {"digest": manifest.digest(), "rows": len(manifest)}
        else:
            path = Path(manifest)
            self._chunks = partial(_read, path)
            self.name, found, self.folder = path.name, path.parent, path.parent
            rows = sum(map(len, self._chunks()))
            self.identity = {"sha256": file_sha256(path), "rows": rows}
        start = found if root is None else root
        if start is None:
            raise InputError(
                "no root: expected the folder that the paths of the manifest are relative to; "
                "name it with root="
            )
        self.root = Path(start)
        if not len(self):
            raise InputError(f"{self.name}: the manifest has no rows; there is nothing to run")
        named = root is not None or (self.folder is None and found is not None)
        self._find_images([] if named else kept)

    def __len__(self) -> int:
        return int(self.identity["rows"])

    def __iter__(self) -> Iterator[Item]:
        row = 0
        for frame in self._chunks():
            sources = frame["source"] if "source" in frame else [""] * len(frame)
            for name, path, source in zip(frame["image_id"], frame["path"], sources, strict=True):
                yield Item(row, _text(name) or f"row-{row}", _text(source) or "", _text(path))
                row += 1

    def _find_images(self, others: Sequence[Path]) -> None:
        """Take the first root with an image; say where the first rows have none."""
        for folder in (*others, self.root):
            root = Root(folder)
            for item in self:
                path = item.path
                if path and os.path.exists(root.folder / path) and root.contains(path):
                    self.root = folder
                    if item.row:
                        _LOG.warning("%s: the first %d rows have no image", self.name, item.row)
                    return
        raise InputError(
            f"{self.name}: none of its {len(self):,} rows has an image in {self.root.resolve()}; "
            "its paths start there. Name the folder that they start at with root="
        )


def _open(path: Path) -> pyarrow.dataset.Dataset:
    """Open a manifest file; of CSV the columns that a run needs are texts."""
    if path.suffix.lower() not in (".parquet", ".csv") or not path.is_file():
        raise InputError(
            f"{path.name}: no such manifest; expected a .parquet or .csv file, which "
            "`workbench manifest build` writes"
        )
    text = pyarrow.dataset.CsvFileFormat(
        pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(COLUMNS, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
        ),
        read_options=pyarrow.csv.ReadOptions(block_size=_BYTES),
    )
    try:
        return pyarrow.dataset.dataset(path, format=text if _is_csv(path) else "parquet")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path) from error


def _read(path: Path) -> Iterator[pd.DataFrame]:
    table = _open(path)
    names = [name for name in COLUMNS if name in table.schema.names]
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise InputError(
            f"{path.name}: no column {missing[0]!r}; expected a manifest, which "
            "`workbench manifest build` makes of any table of images"
        )
    try:
        for batch in table.to_batches(names, batch_size=_CHUNK, use_threads=False):
            batch.validate(full=True)
            frame = batch.to_pandas()
            yield frame.astype("string").apply(restore) if _is_csv(path) else frame
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise _damaged(path) from error


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path.name}: cannot be read as {path.suffix[1:].upper()}; it is damaged or another kind "
        "of file, build it again"
    )


def _text(value: str | float | None) -> str | None:
    return None if pd.isna(value) else str(value) or None
