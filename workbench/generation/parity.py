"""Parity: does this implementation reproduce recorded outputs of the published pipeline?

`compare` runs a directory of reference vectors against the code as users run it and gives one row
per array. Nothing passes in silence: what is missing, unreadable or cannot be compared is a failed
row. What follows the image starts from the recorded pixels, so a difference in one place shows in
one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from workbench._repr import short_repr
from workbench.errors import CheckpointError
from workbench.generation.measures import ParityRow, failed

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ParityReport:
    """All comparisons of one directory, one row per array."""

    rows: tuple[ParityRow, ...]
    directory: str

    __repr__ = short_repr

    @property
    def ok(self) -> bool:
        """True when there is at least one row and every row is ok."""
        return bool(self.rows) and not self.misses

    @property
    def misses(self) -> tuple[ParityRow, ...]:
        """The rows that are not ok."""
        return tuple(row for row in self.rows if not row.ok)

    def to_dict(self) -> dict:
        """Return {"ok", "directory", "rows"} as plain values for JSON."""
        rows = [vars(row).copy() for row in self.rows]
        return {"ok": self.ok, "directory": self.directory, "rows": rows}

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


def compare(directory: str | Path, *, progress: bool = False) -> ParityReport:
    """Compare this implementation with recorded outputs, the float32 and the bfloat16 set.

    Args:
        directory: holds `checkpoints/`, `golden/` and `images/`, or is one of the checkpoints.

    Raises:
        CheckpointError: the directory does not exist or has neither of the two forms.
    """
    directory = Path(directory)
    rows: list[ParityRow] = []
    for checkpoint, golden in tqdm(_find_sets(directory), unit="checkpoint", disable=not progress):
        name = checkpoint.name
        if not checkpoint.is_dir():
            rows.append(failed("no such folder in checkpoints/", name, "checkpoint"))
        elif not golden.is_dir():
            note = f"no recorded outputs: expected golden/{name} beside checkpoints/"
            rows.append(failed(note, name, "golden"))
        else:
            from workbench.generation.recorded import compare_set  # imports torch

            rows += compare_set(checkpoint, golden)
    return ParityReport(tuple(rows), directory.resolve().name)


def _find_sets(directory: Path) -> list[tuple[Path, Path]]:
    """Return the folder of each checkpoint and that of its vectors; one of them may be missing."""
    if not directory.is_dir():
        raise CheckpointError(f"no directory {directory}; give a folder with reference vectors")
    if (directory / "config.json").is_file():
        checkpoint = directory.resolve()
        return [(checkpoint, checkpoint.parent.parent / "golden" / checkpoint.name)]
    names = {
        path.name
        for part in ("checkpoints", "golden")
        for path in directory.glob(f"{part}/*")
        if path.is_dir() and not path.name.startswith(".")
    }
    if not names:
        raise CheckpointError(
            f"{directory} holds no reference vectors: expected the folders checkpoints/, golden/ "
            "and images/, or one checkpoint with its config.json"
        )
    return [(directory / "checkpoints" / n, directory / "golden" / n) for n in sorted(names)]
