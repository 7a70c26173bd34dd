"""Look at every image of a manifest before any model does: readable, and what the contract says.

Each image is read once; its input contract, its difference hash and how much it looks like a
frontal radiograph are kept. The work is written down line by line, so that it can be stopped and
taken up again. Exposure and positioning are not judged.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from workbench._progress import progress
from workbench._repr import result
from workbench._store import JsonLines, file_stamp
from workbench.data.images import Root, dhash, near_pairs
from workbench.data.manifest import Manifest
from workbench.errors import InputError, check_one_of, check_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CHUNK = 16
#: Raised when the reading of images changes, so that older lines of a journal are not believed.
_READING = 2
#: Warnings of the input contract that whole data sets share: listed as reasons, but no image is
#: looked at for them alone. Every other warning, also one that is added later, makes it suspect.
COMMON_WARNINGS = ("crop-loss", "low-resolution", "bit-depth")
#: Correlation with a frontal radiograph below which one that is called frontal is looked at.
UNLIKE = 0.3
_FRONTAL = ("PA", "AP", "frontal")
#: Suspects that are shown, images in a row of the contact sheet, characters in a line below one.
_SHOWN, _COLUMNS, _LINE = 20, 5, 34


@result()
class QualityTable:
    """One row for each image of a manifest.

    Attributes:
        frame: path, image_id, readable, error, rows, columns (pixels), bits, lowest, highest,
            inverted, view, stated_view, modality, file_format, crop_loss (percent), warnings
            (codes joined by "|"), layout (likeness to a frontal radiograph, -1 to 1), seen
            (difference hash), duplicate_of, reasons (every warning and what else was found,
            joined by "; "), suspect (whether one of them is more than a common warning).
        root: folder of the images.
    """

    frame: pd.DataFrame
    root: Path

    @classmethod
    def judged(cls, frame: pd.DataFrame, root: Path) -> QualityTable:
        """Return the table of what was seen, with duplicates and reasons filled in."""
        defaults = {"warnings": "", "view": "unknown", "layout": np.nan, "crop_loss": np.nan}
        for name in ("seen", "rows", "columns", "bits", "inverted", *defaults):
            if name not in frame:
                frame[name] = defaults.get(name)
        constant = frame["warnings"].fillna("").str.contains("constant-image").to_numpy(bool)
        twins: list[str | None] = [None] * len(frame)
        for one, two, _ in near_pairs(frame["seen"].astype("string")):
            if twins[two] is None and not (constant[one] and constant[two]):
                twins[two] = frame["image_id"].iloc[one]
        frame["duplicate_of"] = pd.Series(twins, dtype=object)
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

    def plot(self) -> Figure:
        """Draw a contact sheet of the first suspects: each image, its name and the reason."""
        from workbench.figures.style import new_figure, style

        suspects = self.suspects.head(_SHOWN)
        root = Root(self.root)
        rows = max(1, -(-len(suspects) // _COLUMNS))
        with style():
            figure = new_figure(figsize=(2.9 * _COLUMNS, 3.75 * rows + 0.7), layout="constrained")
            axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
            for ax in axes:
                ax.set_axis_off()
            cells = suspects[["path", "image_id", "reasons"]].itertuples(index=False)
            for ax, (path, name, reason) in zip(axes, cells, strict=False):
                _draw(ax, _picture(root, path), name, reason)
            title = f"{int(self.frame['suspect'].sum())} of {len(self.frame):,} images to look at"
            figure.suptitle(title, x=0.01, ha="left", weight="bold")
        return figure

    def __str__(self) -> str:
        s = self.summary()
        return (
            f"{s['images']:,} images, {s['readable']:,} readable, {s['duplicates']} duplicates, "
            f"{s['suspects']} to look at"
        )

    def _repr_html_(self) -> str:
        from workbench.figures.tables import frame_table

        rows = self.suspects[["image_id", "reasons"]]
        return f"<p>{escape(str(self))}</p>" + frame_table(rows, limit=_SHOWN)


def quality(
    manifest: Manifest,
    *,
    root: str | os.PathLike | None = None,
    out: str | os.PathLike | None = None,
    workers: int = 2,
    fit: str = "crop",
    show: bool = False,
) -> QualityTable:
    """Read every image of a manifest and gather what is known of it.

    Args:
        manifest: rows with a path are looked at.
        root: what the paths are relative to; None for that of the manifest.
        out: folder for `quality.jsonl`; images that are in it, unchanged, are not read again.
        workers: processes; 1 stays in this one.
        fit: "crop" or "pad", for the crop loss.

    Raises:
        InputError: there is no root.
        OptionError: workers is not positive, or fit is not known.

    >>> len(wb.data.quality(manifest, root="images").frame)
    6
    """
    folder = Path(root) if root is not None else manifest.root
    if folder is None:
        raise InputError("no image is at hand; name the folder of the images with root=")
    check_whole(1, workers=workers)
    check_one_of("fit", fit, ("crop", "pad"))
    images = manifest.frame[manifest.frame["path"].notna()]
    journal = None if out is None else JsonLines(Path(out) / "quality.jsonl")
    # torn lines, and those of other readings, are passed over
    wanted = {"fit": fit, "reading": _READING}
    earlier = [] if journal is None else journal.read()[0]
    records = {one["path"]: one for one in earlier if wanted.items() <= one.items()}
    tasks, base = [], Root(folder)
    for path in images["path"]:
        inside = base.contains(path)
        stamp = list(file_stamp(folder / path) or (0, 0)) if inside else [0, 0]
        if records.get(path, {}).get("stamp") != stamp:
            tasks.append((path, stamp, inside))
    if journal is not None:
        journal.path.parent.mkdir(parents=True, exist_ok=True)
    seen = _seen(tasks, folder, workers, fit)
    for record in progress(seen, total=len(tasks), label="images", show=show):
        if journal is not None:
            journal.add(record)
        records[record["path"]] = record
    table = pd.DataFrame([records[path] for path in images["path"]])
    table = table.drop(columns=["stamp", "fit", "reading"], errors="ignore")
    for name in ("image_id", "patient_id", "source"):
        table[name] = images[name].to_numpy(object)
    table["stated_view"] = images["view"].astype(str).to_numpy(object)
    return QualityTable.judged(table, folder)


def look_at(task: tuple[str, list, bool], *, folder: Path, fit: str) -> dict:
    """Return what is known of one image as plain values.

    A task is the path, (size, time) of the file, and whether it stays below the root.
    """
    from workbench.imaging import load_radiograph
    from workbench.radiograph import frontal_layout

    path, stamp, inside = task
    record = {"path": path, "stamp": stamp, "fit": fit, "reading": _READING}
    record |= {"readable": False, "error": None}
    if not inside:
        return record | {"error": "its path leads out of the root"}
    try:
        image = load_radiograph(folder / path, fit=fit)
    except InputError as error:
        return record | {"error": str(error)}
    contract = image.contract
    low, high = contract.stored_range
    return record | {
        "readable": True,
        "rows": image.size[0],
        "columns": image.size[1],
        "bits": contract.bits,
        "lowest": float(low),
        "highest": float(high),
        "inverted": bool(contract.inverted),
        "view": contract.view,
        "modality": contract.modality,
        "file_format": contract.file_format,
        "domain": contract.domain,
        "crop_loss": round(float(contract.crop_loss), 3),
        "warnings": "|".join(contract.codes),
        "layout": round(frontal_layout(image.pixels), 4),
        "seen": dhash(image.pixels),
    }


def _seen(tasks: list, folder: Path, workers: int, fit: str) -> Iterator[dict]:
    look = partial(look_at, folder=folder, fit=fit)
    if workers == 1 or len(tasks) < 2 * _CHUNK:
        yield from map(look, tasks)
        return
    pool = ProcessPoolExecutor(max_workers=workers)
    try:
        yield from pool.map(look, tasks, chunksize=_CHUNK)
    finally:
        pool.shutdown(cancel_futures=True)


def _picture(root: Root, path: str) -> np.ndarray:
    """Return (H, W) of at most 256 pixels; grey for an image that cannot be read."""
    from workbench.imaging import load_radiograph

    try:
        image = Image.fromarray(load_radiograph(root.image(path)).pixels)
    except InputError:
        return np.full((1, 1), 0.91)
    image.thumbnail((256, 256))
    return np.asarray(image)


def _draw(ax: Axes, picture: np.ndarray, name: str, reason: str) -> None:
    from workbench.figures.style import GREY, MUTED

    small = {"fontsize": 10, "color": MUTED, "parse_math": False}
    ax.imshow(picture, cmap=GREY, vmin=0, vmax=1)
    short = name if len(name) <= _LINE else "..." + name[-_LINE + 3 :]
    ax.set_title(short, fontsize=11, loc="left", parse_math=False)
    text = "\n".join(textwrap.wrap(reason, _LINE)[:3])
    ax.text(0, -0.03, text, transform=ax.transAxes, va="top", **small)


def _reasons(row: dict) -> list[str]:
    """Return everything that is known against an image: its warnings, and what else was found."""
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
        found.append(f"unlike a frontal radiograph ({row['layout']:.2f})")
    if isinstance(row["duplicate_of"], str):
        found.append(f"same image as {row['duplicate_of']}")
    return found


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(name): int(n) for name, n in values.value_counts().sort_index().items()}
