"""Parity: does this implementation reproduce recorded outputs of the published pipeline?

`compare` runs a directory of reference vectors against the code as users run it (reader, processor,
model, tokenizer, template, engine, stream) and gives one row per array. Nothing passes in silence:
a file that is missing or unreadable, an array nobody knows how to compare, a checkpoint without
vectors or vectors without a checkpoint are failed rows. A directory with nothing to compare is not
ok.

Each recorded array is compared on its own: what follows the image starts from the recorded pixels,
so a difference in one place shows in one row.

Does not know: how the vectors were made; their README does.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from workbench._repr import short_repr
from workbench.errors import CheckpointError, OptionError
from workbench.generation.measures import Difference, failed

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: "float32" compares both recorded sets, each in its own precision; "bfloat16" only the second.
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class ParityRow:
    """One comparison.

    Attributes:
        case: checkpoint, image and case, e.g. "A_tiny/grad_300x400/q1".
        array: name of the array or field.
        max_abs_diff: the difference in the unit of `measure`; None where none could be computed.
        tolerance: what is allowed; None where nothing is demanded.
        ok: within the tolerance.
        measure: "max abs", "relative rms", "places", "exact", ...
        note: what a person should know, empty when all is well.
    """

    case: str
    array: str
    max_abs_diff: float | None
    tolerance: float | None
    ok: bool
    measure: str = "max abs"
    note: str = ""

    @classmethod
    def of(cls, case: str, array: str, difference: Difference) -> ParityRow:
        """Make a row of a comparison; values that JSON cannot hold become None."""
        value = difference.value if math.isfinite(difference.value) else None
        return cls(
            case,
            array,
            value,
            difference.tolerance,
            difference.ok,
            difference.measure,
            difference.note,
        )


@dataclass(frozen=True)
class ParityReport:
    """All comparisons of one directory.

    Attributes:
        rows: one per array.
        directory: name of what was compared.
    """

    rows: tuple[ParityRow, ...]
    directory: str

    __repr__ = short_repr

    @property
    def ok(self) -> bool:
        """True when there is at least one row and every row is ok."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    @property
    def misses(self) -> tuple[ParityRow, ...]:
        """The rows that are not ok."""
        return tuple(row for row in self.rows if not row.ok)

    def to_dict(self) -> dict:
        """Return {"ok", "directory", "rows"} as plain values for JSON."""
        return {
            "ok": self.ok,
            "directory": self.directory,
            "rows": [vars(row).copy() for row in self.rows],
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row per comparison with the columns of `ParityRow`."""
        import pandas as pd

        columns = list(ParityRow.__dataclass_fields__)
        return pd.DataFrame([vars(row) for row in self.rows], columns=columns)

    def __str__(self) -> str:
        verdict = "all agree" if self.ok else f"{len(self.misses)} do not agree"
        if not self.rows:
            verdict = "nothing to compare"
        return f"{self.directory}: {len(self.rows)} comparisons, {verdict}"


@dataclass(frozen=True)
class ParitySet:
    """Where the parts of one checkpoint's vectors lie; a part that is missing is None.

    Attributes:
        name: the checkpoint's name.
        checkpoint: directory in the published layout.
        golden: directory of the recorded outputs.
        images: directory of the images they were recorded from.
    """

    name: str
    checkpoint: Path | None
    golden: Path | None
    images: Path


def compare(
    directory: str | Path, *, dtype: str = "float32", progress: bool = False
) -> ParityReport:
    """Compare this implementation with recorded outputs of the published pipeline.

    Args:
        directory: holds `checkpoints/`, `golden/` and `images/`, or is one of the checkpoints.
        dtype: "float32" compares the float32 set in float32 and the bfloat16 set in bfloat16;
            "bfloat16" compares only the latter.
        progress: show a progress bar.

    Raises:
        CheckpointError: the directory does not exist or has neither of the two forms.
        OptionError: dtype is not one of these.
    """
    if dtype not in DTYPES:
        raise OptionError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    directory = Path(directory)
    sets = find_sets(directory)
    from workbench.generation.parity_set import compare_set  # imports torch

    rows: list[ParityRow] = []
    for parts in tqdm(sets, unit="checkpoint", disable=not progress):
        logger.info("comparing %s", parts.name)
        missing = list(_missing_parts(parts))
        rows += missing or compare_set(parts, dtype)
    return ParityReport(tuple(rows), directory.resolve().name)


def find_sets(directory: Path) -> list[ParitySet]:
    """Find the checkpoints of a directory and their vectors.

    Raises:
        CheckpointError: the directory does not exist or has neither of the two forms.
    """
    if not directory.is_dir():
        raise CheckpointError(f"no directory {directory}; give a folder with reference vectors")
    if (directory / "config.json").is_file():
        name, root = directory.resolve().name, directory.resolve().parent.parent
        return [ParitySet(name, directory, _existing(root / "golden" / name), root / "images")]
    names = sorted(
        {path.name for part in ("checkpoints", "golden") for path in _folders(directory / part)}
    )
    if not names:
        raise CheckpointError(
            f"{directory} holds no reference vectors: expected the folders checkpoints/, golden/ "
            "and images/, or one checkpoint with its config.json"
        )
    return [
        ParitySet(
            name,
            _existing(directory / "checkpoints" / name),
            _existing(directory / "golden" / name),
            directory / "images",
        )
        for name in names
    ]


def _missing_parts(parts: ParitySet) -> Iterator[ParityRow]:
    if parts.checkpoint is None:
        yield ParityRow.of(parts.name, "checkpoint", failed("no such folder in checkpoints/"))
    if parts.golden is None:
        note = f"no recorded outputs: expected golden/{parts.name} beside checkpoints/"
        yield ParityRow.of(parts.name, "golden", failed(note))


def _folders(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return [p for p in directory.iterdir() if p.is_dir() and not p.name.startswith(".")]


def _existing(directory: Path) -> Path | None:
    return directory if directory.is_dir() else None
