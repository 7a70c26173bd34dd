"""The rows of a manifest, a few thousand at a time, so that a million of them need no memory.

A file is read as a stream: of Parquet and CSV only the columns that a run needs. Its SHA-256 is
what the run records; of a `Manifest` in memory it is `Manifest.digest()`.

Does not know: whether the manifest is right (`workbench manifest check`); a path that leaves the
root, or leads nowhere, is a failed row.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

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
        manifest: a `Manifest`, or the path of a .parquet or .csv file.
        root: what its paths are relative to; None for the root of the manifest, or the first of
            `kept` with an image, or the folder of the file.
        kept: folders that may be the root, where none is named.

    Attributes:
        name: what the manifest is called.
        root: the folder of the images.
        folder: that of the manifest; None for one in memory.
        identity: {"name", "sha256" or "digest", "rows"} for `run.json`.

    Raises:
        InputError: no such file or folder, damaged, or a needed column is missing.
    """

    def __init__(
        self,
        manifest: Manifest | str | os.PathLike,
        root: str | os.PathLike | None,
        kept: Sequence[Path] = (),
    ) -> None:
        self._frame = manifest.frame if isinstance(manifest, Manifest) else None
        self._path = None if self._frame is not None else Path(manifest)
        folder = manifest.root if self._path is None else self._path.parent
        folder = folder if root is None else Path(root)
        if folder is None or not Path(folder).is_dir():
            raise InputError(
                f"{'no root' if folder is None else Path(folder).name}: expected the folder that "
                "the paths of the manifest are relative to; name it with root="
            )
        self.root = Path(folder)
        self.folder = None if self._path is None else self._path.parent
        if self._path is None:
            self.name = "manifest"
            self.identity = {"digest": manifest.digest(), "rows": len(self._frame)}
        else:
            self._check_file()
            self.name = self._path.name
            self.identity = {"sha256": file_sha256(self._path), "rows": self._count()}
        if not self.identity["rows"]:
            raise InputError(f"{self.name}: the manifest has no rows; there is nothing to run")
        named = root is not None or (self._path is None and manifest.root is not None)
        self._find_images([] if named else kept)

    def __len__(self) -> int:
        return self.identity["rows"]

    def __iter__(self) -> Iterator[Item]:
        row = 0
        for frame in self._chunks():
            sources = frame["source"] if "source" in frame else [""] * len(frame)
            for name, path, source in zip(frame["image_id"], frame["path"], sources, strict=True):
                yield Item(row, _text(name) or f"row-{row}", _text(source) or "", _text(path))
                row += 1

    def _find_images(self, others: Sequence[Path]) -> None:
        """Take the first root with an image; say where the first rows have none.

        Raises:
            InputError: no row has an image in any of them.
        """
        for folder in (*others, self.root):
            root = Root(folder)
            for item in self:
                path = item.path
                if path and os.path.exists(root.folder / path) and root.contains(path):
                    self.root = Path(folder)
                    if item.row:
                        _LOG.warning("%s: the first %d rows have no image", self.name, item.row)
                    return
        raise InputError(
            f"{self.name}: none of its {len(self):,} rows has an image in {self.root.resolve()}; "
            "its paths start there. Name the folder that they start at with root="
        )

    def _chunks(self) -> Iterator[pd.DataFrame]:
        if self._frame is not None:
            for start in range(0, len(self._frame), _CHUNK):
                yield self._frame.iloc[start : start + _CHUNK]
            return
        try:
            if self._path.suffix.lower() == ".parquet":
                with pa.parquet.ParquetFile(self._path) as file:
                    names = [name for name in COLUMNS if name in file.schema_arrow.names]
                    for batch in file.iter_batches(_CHUNK, columns=names, use_threads=False):
                        batch.validate(full=True)
                        yield batch.to_pandas()
            else:
                for batch in self._csv(self._header):
                    frame = batch.to_pandas().astype("string")
                    yield frame.apply(restore)
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise self._damaged() from error

    def _csv(self, header: list[str]) -> pa.csv.CSVStreamingReader:
        names = [name for name in COLUMNS if name in header]
        return pa.csv.open_csv(
            self._path,
            read_options=pa.csv.ReadOptions(block_size=_BYTES, use_threads=False),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                include_columns=names,
                column_types={name: pa.string() for name in names},
                strings_can_be_null=True,
                null_values=[""],
            ),
        )

    def _check_file(self) -> None:
        path = self._path
        if path.suffix.lower() not in (".parquet", ".csv") or not path.is_file():
            raise InputError(
                f"{path.name}: no such manifest; expected a .parquet or .csv file, which "
                "`workbench manifest build` writes"
            )
        try:
            if path.suffix.lower() == ".parquet":
                self._header = pa.parquet.read_schema(path).names
            else:
                with pa.csv.open_csv(path) as reader:
                    self._header = reader.schema.names
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged() from error
        missing = [name for name in NEEDED if name not in self._header]
        if missing:
            raise InputError(
                f"{path.name}: no column {missing[0]!r}; expected a manifest, which "
                "`workbench manifest build` makes of any table of images"
            )

    def _count(self) -> int:
        if self._path.suffix.lower() == ".parquet":
            return pa.parquet.read_metadata(self._path).num_rows
        return sum(len(frame) for frame in self._chunks())

    def _damaged(self) -> InputError:
        return InputError(
            f"{self._path.name}: cannot be read as {self._path.suffix[1:].upper()}; it is damaged "
            "or another kind of file, build it again"
        )


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value or None
    return None if pd.isna(value) else str(value)
