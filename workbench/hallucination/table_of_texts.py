"""Grounding for a table of texts with images: reports that came from elsewhere.

Does not know: who wrote the texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from workbench._repr import short_repr
from workbench._tables import listed, read_frame
from workbench.errors import InputError
from workbench.hallucination.grounding import ground_text
from workbench.hallucination.grounding_result import Grounding

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class GroundingTable:
    """Groundings of several texts.

    Attributes:
        ids: one for each.
        groundings: in the order of the table.
    """

    ids: tuple[str, ...]
    groundings: tuple[Grounding, ...]

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: str) -> Grounding:
        """Return the grounding of an id.

        Raises:
            KeyError: there is no such id.
        """
        return self.groundings[self.ids.index(key)] if key in self.ids else _missing(key, self.ids)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per mention of a finding: id, and the columns of `Grounding.findings`."""
        import pandas as pd

        frames = [found.findings() for found in self.groundings]
        kept = [frame.assign(id=key) for key, frame in zip(self.ids, frames, strict=True)]
        whole = pd.concat(kept, ignore_index=True)
        return whole[["id", *(name for name in whole.columns if name != "id")]]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the contribution to every mention, by code, one row of points for each."""
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(6, 2.4), layout="constrained")
        frame = self.to_frame()
        codes = list(dict.fromkeys(frame.code))
        for at, code in enumerate(codes):
            own = frame[frame.code == code]
            ax.plot(own.contribution, [at] * len(own), "|", ms=14, color="#1f5f8b")
        ax.set_yticks(range(len(codes)), codes)
        ax.set(ylim=(len(codes) - 0.5, -0.5), xlabel="contribution of the image [nats]")
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def _repr_html_(self) -> str:
        from workbench.figures.tables import frame_table

        return frame_table(self.to_frame(), digits=2)


def ground_table(
    model: Any,
    rows: str | Path | Iterable[tuple[str, Any, str]],
    *,
    id_column: str = "id",
    image_column: str = "image",
    text_column: str = "text",
    progress: bool = False,
    **options: Any,
) -> GroundingTable:
    """Ground every text of a table about its image.

    Args:
        model: a `ChestXrayModel`.
        rows: a CSV file with a header, image paths in it being relative to its folder; or triples
            (id, image, text).
        id_column, image_column, text_column: of the file.
        progress: whether to show a progress bar.
        **options: see `ground_text`.

    Raises:
        InputError: the file or a column is missing, there is no row, a text is empty or an image
            cannot be read; the message names the row.
        OptionError: see `ground_text`.
    """
    if isinstance(rows, (str, Path)):
        rows = _read(Path(rows), id_column, image_column, text_column)
    rows = list(rows)
    if not rows:
        raise InputError("there is no text to ground; give a table with at least one row")
    found = []
    for key, image, text in tqdm(rows, desc="texts", disable=not progress):
        try:
            found.append(ground_text(model, image, text, **options))
        except InputError as error:
            raise InputError(f"{key}: {error}") from error
    return GroundingTable(tuple(str(key) for key, *_ in rows), tuple(found))


def _read(path: Path, *columns: str) -> list[tuple[str, Any, str]]:
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected a CSV file with a header")
    frame = read_frame(path)
    if missing := [name for name in columns if name not in frame]:
        raise InputError(
            f"{path.name} has no column {missing[0]!r}; it has: {listed(frame.columns)} (choose "
            "with id_column, image_column and text_column)"
        )
    key, image, text = (frame[name] for name in columns)
    return [(k, path.parent / i, t) for k, i, t in zip(key, image, text, strict=True)]


def _missing(key: str, ids: tuple[str, ...]) -> Grounding:
    raise KeyError(f"no text {key!r}; the first are: {', '.join(ids[:5])}")
