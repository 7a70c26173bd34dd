"""What quality control found, and which images a person should look at.

Does not know: how images are read (`quality_control`).
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench._repr import short_repr
from workbench.data.figure import plot_sheet
from workbench.data.hashes import near_pairs
from workbench.data.paths import Root
from workbench.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Warnings of the input contract that whole data sets share: listed as reasons, but no image is
#: looked at for them alone. Every other warning, also one that is added later, makes it suspect.
COMMON_WARNINGS = ("crop-loss", "low-resolution", "bit-depth")
#: Correlation with a frontal film below which a film that is called frontal is looked at.
UNLIKE = 0.3
_FRONTAL = ("PA", "AP", "frontal")


@dataclass(frozen=True, eq=False)
class QualityTable:
    """One row for each image of a manifest.

    Attributes:
        frame: path, image_id, readable, error, rows, columns (pixels), bits, lowest, highest,
            inverted, view, stated_view, modality, file_format, crop_loss (percent), warnings
            (codes joined by |), layout (likeness to a frontal film, -1 to 1), seen (difference
            hash), duplicate_of, reasons (every warning and what else was found, joined by "; "),
            suspect (whether one of them is more than a common warning).
        root: folder of the images.
    """

    frame: pd.DataFrame
    root: Path

    __repr__ = short_repr

    @classmethod
    def judged(cls, frame: pd.DataFrame, root: Path) -> QualityTable:
        """Return the table with duplicates and reasons filled in.

        Args:
            frame: what was seen, without `duplicate_of` and `reasons`.
            root: folder of the images.
        """
        defaults = {"warnings": "", "view": "unknown", "layout": np.nan, "crop_loss": np.nan}
        for name in ("seen", "rows", "columns", "bits", "inverted", *defaults):
            if name not in frame:
                frame[name] = defaults.get(name)
        seen = frame["seen"].astype("string")
        frame["duplicate_of"] = None
        at = frame.columns.get_loc("duplicate_of")
        constant = frame["warnings"].fillna("").str.contains("constant-image").to_numpy(bool)
        for one, two, _ in near_pairs(seen):
            if frame.iat[two, at] is None and not (constant[one] and constant[two]):
                frame.iat[two, at] = frame["image_id"].iloc[one]
        found = [_reasons(row) for row in frame.to_dict("records")]
        frame["reasons"] = ["; ".join(reasons) for reasons in found]
        frame["suspect"] = [not set(reasons) <= set(COMMON_WARNINGS) for reasons in found]
        first = ["image_id", "path", "readable", "suspect", "reasons", "error"]
        return cls(frame[[*first, *[c for c in frame if c not in first]]], root)

    @property
    def suspects(self) -> pd.DataFrame:
        """Rows that a person should look at, unreadable ones first."""
        rows = self.frame[self.frame["suspect"]]
        return rows.sort_values(["readable", "reasons", "image_id"], kind="stable")

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.frame.copy()

    def summary(self) -> dict:
        """Return counts as plain values."""
        frame = self.frame
        readable = frame[frame["readable"]]
        codes = readable["warnings"].fillna("").str.split("|").explode()
        loss = readable["crop_loss"].astype(float)
        return {
            "images": len(frame),
            "readable": len(readable),
            "suspects": int(frame["suspect"].sum()),
            "duplicates": int(frame["duplicate_of"].notna().sum()),
            "warnings": _counts(codes[codes != ""]),
            "views": _counts(readable["view"]),
            "bits": _counts(readable["bits"].dropna().astype(int)),
            "inverted": int(readable["inverted"].fillna(False).astype(bool).sum()),
            "crop_loss": {
                "median": float(loss.median()) if len(loss) else None,
                "greatest": float(loss.max()) if len(loss) else None,
            },
        }

    def plot(self, *, limit: int = 20) -> Figure:
        """Draw a contact sheet of the suspects.

        Args:
            limit: how many at most.
        """
        suspects = self.suspects.head(limit)
        base = Root(self.root)
        pictures = [self._picture(base, path) for path in suspects["path"]]
        captions = list(zip(suspects["image_id"], suspects["reasons"], strict=True))
        total = int(self.frame["suspect"].sum())
        title = f"{total} of {len(self.frame):,} images to look at"
        return plot_sheet(pictures, captions, title=title)

    def __str__(self) -> str:
        s = self.summary()
        return (
            f"{s['images']:,} images, {s['readable']:,} readable, {s['duplicates']} duplicates, "
            f"{s['suspects']} to look at"
        )

    def _repr_html_(self) -> str:
        from workbench.figures.tables import frame_table

        rows = self.suspects[["image_id", "reasons"]]
        return f"<p>{escape(str(self))}</p>" + frame_table(rows, limit=20)

    def _picture(self, base: Root, path: str) -> np.ndarray | None:
        from PIL import Image

        from workbench.imaging import load_radiograph

        try:
            pixels = load_radiograph(base.image(path)).pixels
        except InputError:
            return None
        image = Image.fromarray(pixels)
        image.thumbnail((256, 256))
        return np.asarray(image)


def _reasons(row: dict) -> list[str]:
    """Return everything that is known against an image: all its warnings, then what they lack."""
    if not row["readable"]:
        return ["not readable: " + str(row["error"]).split(": ", 1)[-1].split("; ")[0]]
    found = [code for code in str(row["warnings"] or "").split("|") if code]
    found.sort(key=lambda code: code in COMMON_WARNINGS)
    stated = row["stated_view"]
    if row["view"] == "lateral" and stated in _FRONTAL:
        found.append(f"the file says lateral, the manifest {stated}")
    elif stated == "lateral" and "lateral-view" in found:
        found.remove("lateral-view")  # as it should be
    elif (
        stated in _FRONTAL
        and row["layout"] < UNLIKE
        and not {"inverted?", "constant-image"} & set(found)
    ):
        found.append(f"unlike a frontal film ({row['layout']:.2f})")
    if isinstance(row["duplicate_of"], str):
        found.append(f"same image as {row['duplicate_of']}")
    return found


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(name): int(n) for name, n in values.value_counts().sort_index().items()}
