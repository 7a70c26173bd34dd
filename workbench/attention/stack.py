"""AttentionStack: maps of one part of the text that differ in one thing, the layer or the head.

Does not know: how a map is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from workbench.attention.figure import draw_stack, figure_html
from workbench.errors import OptionError
from workbench.trace import ImageMap

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class AttentionStack:
    """Several maps of one target.

    Attributes:
        maps: the maps, all on one grid.
        numbers: number of the layer or head of each.
        axis: "layer" or "head": what differs.
        target: the words that looked.
        fixed: what is the same for all, in words: the head or heads, or the layer or layers.
    """

    maps: tuple[ImageMap, ...]
    numbers: tuple[int, ...]
    axis: str
    target: str
    fixed: str

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each map, such as "layer 3"."""
        return tuple(f"{self.axis} {number}" for number in self.numbers)

    @property
    def values(self) -> Float[np.ndarray, "maps rows columns"]:
        """All maps as one array."""
        return np.stack([item.values for item in self.maps])

    @property
    def image_shares(self) -> Float[np.ndarray, " maps"]:
        """Share of all attention that the image got, for each map, in [0, 1]."""
        return np.array([item.scores["image_share"] for item in self.maps])

    def __len__(self) -> int:
        return len(self.maps)

    def __iter__(self) -> Iterator[ImageMap]:
        return iter(self.maps)

    def __getitem__(self, number: int) -> ImageMap:
        """Return the map of a layer or head, by its number in the model.

        Raises:
            OptionError: there is none.
        """
        if number not in self.numbers:
            listed = ", ".join(map(str, self.numbers))
            raise OptionError(f"there is no map of {self.axis} {number}; there are {listed}")
        return self.maps[self.numbers.index(number)]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per map and cell: layer or head, image_share, row, column, value, box."""
        import pandas as pd

        parts = []
        for number, item in zip(self.numbers, self.maps, strict=True):
            frame = item.to_frame()
            frame.insert(0, self.axis, number)
            frame.insert(1, "image_share", item.scores["image_share"])
            parts.append(frame)
        return pd.concat(parts, ignore_index=True)

    def plot(
        self,
        *,
        columns: int = 4,
        together: bool = False,
        masks: Mapping[str, np.ndarray] | None = None,
        smooth: bool = True,
    ) -> Figure:
        """Draw all maps side by side.

        Args:
            columns: how many in a row.
            together: one scale for all, so that weak maps look weak; else each has its own, so that
                every shape can be seen.
            masks: name -> boolean (H, W) of the original's size, outlined in each.
            smooth: interpolate between patches.
        """
        return draw_stack(
            self.maps,
            [
                f"{label}: {share:.0%} on image"
                for label, share in zip(self.labels, self.image_shares, strict=True)
            ],
            title=f"Attention by {self.axis}: {self.target}",
            details=self.fixed,
            columns=columns,
            together=together,
            masks=masks,
            smooth=smooth,
        )

    def __repr__(self) -> str:
        rows, columns = self.maps[0].grid
        return (
            f"<AttentionStack of {self.target!r}: {len(self)} maps by {self.axis}, "
            f"{rows} x {columns}, {self.fixed}>"
        )

    def _repr_html_(self) -> str:
        return figure_html(self.plot(), f"attention by {self.axis}: {self.target}")
