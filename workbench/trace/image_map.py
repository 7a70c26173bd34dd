"""ImageMap: one number for every cell of a grid over what the model saw, and what it means.

Attention, saliency and truth baselines all end in one of these, so that they can be drawn, scored
and compared alike. The grid may be the patches or finer; its cells share the model's square.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import map_coordinates

from workbench.errors import InputError
from workbench.model.licence import RESEARCH_NOTICE as NOTICE
from workbench.radiograph import FitGeometry, Radiograph
from workbench.trace.layout import cell_box

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class ImageMap:
    """A map over a radiograph.

    Attributes:
        values: (rows, columns) float32; in `unit`.
        method: how it was made, e.g. "attention" or "integrated gradients".
        target: what it explains, in words.
        unit: what a value is, e.g. "share of attention" or "change of log-probability".
        signed: True where values below 0 speak against the target; such maps are centred at 0.
        layer, head: which, in words.
        caution: what a reader must know before believing it; None where nothing is known.
        settings: every option that decided it.
        scores: numbers that belong to it, e.g. {"delta": ...} (completeness) or {"forwards": ...}.
        seconds: wall time.
    """

    values: np.ndarray
    geometry: FitGeometry
    image: Radiograph
    method: str
    target: str
    unit: str = ""
    signed: bool = False
    layer: str = "all layers"
    head: str = "mean of heads"
    caution: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float32)
        if values.ndim != 2 or values.size == 0:
            raise InputError(f"a map needs a 2-D grid of values, got shape {values.shape}")
        if not np.isfinite(values).all():
            raise InputError(f"the {self.method} map holds NaN or infinite values")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.values.shape[0], self.values.shape[1]

    def cell_box(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Return (left, top, right, bottom) of a cell in original pixels, unclipped."""
        return cell_box(self.geometry, self.grid, row, column)

    @property
    def peak_cell(self) -> tuple[int, int]:
        """(row, column) of the greatest value, the first where several are equal."""
        row, column = np.unravel_index(self.values.argmax(), self.grid)
        return int(row), int(column)

    @property
    def peak(self) -> tuple[float, float]:
        """(x, y) of the middle of the greatest cell, in original pixels."""
        left, top, right, bottom = self.cell_box(*self.peak_cell)
        return (left + right) / 2, (top + bottom) / 2

    @property
    def normalisation(self) -> str:
        """How colours are scaled when the map is drawn."""
        return "divided by the largest magnitude" if self.signed else "divided by the largest value"

    @property
    def _largest(self) -> float:
        return float(np.abs(self.values).max() if self.signed else self.values.max())

    def normalised(self) -> np.ndarray:
        """Return values divided by the largest: in [-1, 1] where signed, else at most 1."""
        return self.values / self._largest if self._largest > 0 else np.zeros_like(self.values)

    def to_original(self, *, smooth: bool = True) -> np.ndarray:
        """Return the map (H, W) float32 over the original; NaN where the model did not see it.

        `smooth` interpolates between the middles of cells; else cells stay as they are.
        """
        height, width = self.geometry.original_size
        x = self.geometry.to_model(np.stack([np.arange(width) + 0.5, np.zeros(width)], 1))[:, 0]
        y = self.geometry.to_model(np.stack([np.zeros(height), np.arange(height) + 0.5], 1))[:, 1]
        rows = y * self.grid[0] / self.geometry.size - 0.5
        columns = x * self.grid[1] / self.geometry.size - 0.5
        where = np.meshgrid(rows, columns, indexing="ij")
        drawn = map_coordinates(self.values, where, order=1 if smooth else 0, mode="nearest")
        inside = self.geometry.size
        seen = ((y >= 0) & (y < inside))[:, None] & ((x >= 0) & (x < inside))[None]
        return np.where(seen, drawn, np.nan).astype(np.float32)

    def normalised_original(self, *, largest: float | None = None) -> np.ndarray:
        """Return `to_original` divided by the largest value: in [-1, 1] where signed, else [0, 1].

        `largest` is what to divide by; the map's own largest value, or magnitude, when None.
        """
        largest = self._largest if largest is None else largest
        return self.to_original() / (largest if largest > 0 else 1)

    def cells_of(self, mask: np.ndarray) -> np.ndarray:
        """Return the share of each cell, in [0, 1], that a mask (H, W) of the original covers.

        Raises:
            InputError: the mask is of another size.
        """
        mask = np.asarray(mask)
        if mask.shape != tuple(self.geometry.original_size):
            raise InputError(
                f"the mask is {mask.shape}, the radiograph {self.geometry.original_size}; draw "
                "both at the same size"
            )
        # Sampled at 8 x 8 points of every cell, mapped back to the original.
        fine = 8
        step = [(np.arange(n * fine) + 0.5) * self.geometry.size / (n * fine) for n in self.grid]
        points = np.stack(np.meshgrid(step[1], step[0]), -1)
        x, y = np.moveaxis(np.floor(self.geometry.to_original(points)).astype(int), -1, 0)
        inside = (x >= 0) & (x < mask.shape[1]) & (y >= 0) & (y < mask.shape[0])
        found = np.zeros(inside.shape, bool)
        found[inside] = mask[y[inside], x[inside]] > 0
        rows, columns = self.grid
        return found.reshape(rows, fine, columns, fine).mean((1, 3), dtype=np.float32)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per cell: row, column, value and its box in original pixels."""
        import pandas as pd

        rows = [(*at, value, *self.cell_box(*at)) for at, value in np.ndenumerate(self.values)]
        columns = ["row", "column", "value", "left", "top", "right", "bottom"]
        return pd.DataFrame(rows, columns=columns).astype({"value": np.float32})

    @property
    def title(self) -> str:
        """Method and target in one line."""
        return f"{self.method}: {self.target}"

    @property
    def details(self) -> str:
        """Layer, head, unit and normalisation in one line."""
        return " · ".join(filter(None, (self.layer, self.head, self.unit, self.normalisation)))

    def plot(
        self,
        ax: Axes | None = None,
        *,
        masks: Mapping[str, np.ndarray] | None = None,
        boxes: Mapping[str, tuple[float, float, float, float]] | None = None,
        opacity: float = 0.6,
        details: bool = True,
    ) -> Axes:
        """Draw the map over the radiograph, in original geometry.

        Args:
            masks: name -> boolean (H, W) of the original's size, outlined.
            boxes: name -> (left, top, right, bottom) in original pixels, outlined.
            opacity: of the strongest colour, in [0, 1].
            details: write layer, head, unit and normalisation under the image.
        """
        from workbench.figures.maps import draw_map

        return draw_map(
            self.image.pixels,
            self.normalised_original(),
            signed=self.signed,
            title=self.title,
            details=self.details if details else "",
            caution=self.caution,
            masks=masks,
            boxes=boxes,
            opacity=opacity,
            ax=ax,
        )

    def save_dicom(
        self,
        path: str | os.PathLike[str],
        *,
        source: str | os.PathLike[str] | None = None,
        identified: bool = False,
    ) -> Path:
        """Write the drawn map as a DICOM secondary capture that says it is not for clinical use.

        The words are part of the pixels, so that no viewer can hide them.

        Args:
            path: a .dcm file.
            source: the DICOM file of the radiograph, whose study the map then belongs to.
            identified: say who the patient is, as `source` does.

        Raises:
            InputError: the name does not end in .dcm.
        """
        from workbench.figures.maps import stamped
        from workbench.imaging.writing import image_header, save_dicom, secondary_capture, uid

        key = ("map", self.image.contract.source)
        header = image_header(
            None if source is None else Path(source), key=key, identified=identified
        )
        pixels = stamped(self.plot, NOTICE)
        of = (header.SOPInstanceUID, header.PatientID)
        drawn = (*of, self.title, hashlib.sha256(pixels.tobytes()).hexdigest())
        header.SeriesInstanceUID, header.SOPInstanceUID = (
            uid(what, *drawn) for what in ("map series", "map")
        )
        description = f"{self.method}, not for clinical use"
        burned_in = self.image.contract.burned_in
        made = secondary_capture(pixels, header, description=description, burned_in=burned_in)
        return save_dicom(made, Path(path))

    def __repr__(self) -> str:
        rows, columns = self.grid
        return f"<ImageMap {self.title!r}, {rows} x {columns}, {self.layer}, {self.head}>"

    def _repr_html_(self) -> str:
        from workbench.figures.page import embedded_png
        from workbench.figures.style import closed_figure

        with closed_figure(figsize=(5.6, 6.2)) as figure:
            self.plot(figure.add_subplot())
            return embedded_png(figure, f"Figure: {self.title}; {self.details}", dpi=90)
