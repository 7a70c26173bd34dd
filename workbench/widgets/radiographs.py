"""Where the radiographs of a review or a study come from, and their pixels for a page.

`images` may be a manifest (with the folder its paths are relative to), its file, a mapping
id -> radiograph, phantom or path, or a function of source and id.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from workbench._repr import plain, png_text
from workbench.data.images import Root
from workbench.errors import InputError
from workbench.figures.maps import one_way, two_way
from workbench.figures.radiograph import COLOURS, OTHER
from workbench.imaging.load import as_radiograph, load_radiograph
from workbench.radiograph import FitGeometry, InputContract, Radiograph
from workbench.review.sources import open_references

ImageSource = Callable[[str, str], Radiograph]


def image_source(images: Any, *, upright: bool = False) -> ImageSource | None:
    """Return a function from source and id to the radiograph; None where no images are known.

    For `images` see the head of this module; `upright` turns files as they say.

    Raises:
        InputError: it is none of these, or nothing says where the files are.
    """
    if images is None:
        return None
    if callable(images):
        return cast(ImageSource, images)
    if isinstance(images, Mapping):
        return lambda _, case: _of(images, case, upright)
    if isinstance(images, (str, os.PathLike)) and os.path.isdir(images):
        raise InputError(
            "images is a folder; give the manifest whose paths lie in it (a file or a Manifest), "
            "or a mapping id -> path"
        )
    known = open_references(images)
    if known.root is None:
        raise InputError(
            "it is not known where the images are; give a Manifest that was loaded with root=, or "
            "the file of the manifest"
        )
    root, frame = known.root, known.frame
    return lambda source, case: load_radiograph(
        Root(root).image(_path(frame, source, case)), upright=upright
    )


def _of(images: Mapping[Any, Any], case: str, upright: bool) -> Radiograph:
    found = images.get(case, images.get(int(case)) if case.isdecimal() else None)
    if found is None:
        raise InputError("images has no entry for this case")
    is_file = isinstance(found, (str, os.PathLike))
    return load_radiograph(found, upright=upright) if is_file else as_radiograph(found)


def _path(frame: pd.DataFrame, source: str, case: str) -> str:
    own = frame[frame["id"] == case]
    if len(own) > 1 and source:
        own = own[own["source"] == source]
    if len(own) != 1 or not own["path"].iloc[0]:
        raise InputError("the manifest of the images has no file for this case")
    return own["path"].iloc[0]


#: Images are sent with at most this many pixels along the longer side, and those of a grid.
MOST, SMALL = 1400, 240


def radiograph_of(image: Radiograph, contract: InputContract | None = None) -> dict[str, Any]:
    """Return a radiograph for a page: `pixels_of` it, source, facts and warnings.

    `contract` is that of the image with a model; its own when None.
    """
    contract = contract or image.contract
    return pixels_of(image) | {
        "source": contract.source,
        "facts": list(contract.facts()),
        "warnings": plain(contract.warnings),
    }


def pixels_of(image: Radiograph) -> dict[str, Any]:
    """Return png, bits, width and height of the original; no name of a file, no facts."""
    height, width = image.pixels.shape
    pixels = _within(image.pixels, MOST)
    deep = (image.contract.bits or 8) > 8
    png, bits = pixels_text(pixels, deep=deep), 16 if deep else 8
    return {"png": png, "bits": bits, "width": width, "height": height}


def thumbnail_of(image: Radiograph) -> dict[str, Any]:
    """Return png of a small copy with 8 bits."""
    return {"png": pixels_text(_within(image.pixels, SMALL))}


def _within(pixels: np.ndarray, most: int) -> np.ndarray:
    height, width = pixels.shape
    if max(height, width) <= most:
        return pixels
    size = [max(1, round(side * most / max(height, width))) for side in (width, height)]
    small = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    return np.clip(np.asarray(small), 0, 1)


def model_view_of(
    image: Radiograph, geometry: FitGeometry | None, *, size: int = 0
) -> dict[str, Any]:
    """Return what a model sees of an image: png, bits, its box and the crop in original pixels.

    Where the fit is the model's own and not the image's, what it sees is drawn as a square of
    `size` pixels; without a geometry it is the whole image.
    """
    if geometry is None:
        whole = image.size[0], image.size[1]
        geometry = FitGeometry(whole, size, "crop", (size, size), (0, 0))
    side = geometry.size
    if geometry == image.geometry(side):
        seen = image.model_view(side)
    else:
        small = Image.fromarray(np.asarray(image.pixels, np.float32))
        how = {"resample": Image.Resampling.LANCZOS, "box": geometry.crop_box}
        seen = np.asarray(small.resize((size or side, size or side), **how)).clip(0, 1)
    return {
        "png": pixels_text(seen),
        "bits": 8,
        "box": list(geometry.box_to_original((0, 0, side, side))),
        "crop": list(geometry.crop_box),
    }


def outlines_of(masks: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return the outline of each mask: name, colour, paths [x, y, x, y, ...] in original pixels."""
    return [
        {"name": name, "colour": COLOURS.get(name, OTHER), "paths": _paths(np.asarray(mask))}
        for name, mask in masks.items()
        if np.any(mask)
    ]


def _paths(mask: np.ndarray) -> list[list[float]]:
    step = max(1, max(mask.shape) // 512)
    framed = np.pad(mask[::step, ::step].astype(float), 1)
    lines = Figure().add_subplot().contour(framed, levels=[0.5]).allsegs[0]
    # A cell's middle is at + 0.5, and the frame added one cell.
    return [np.round((line - 0.5) * step, 1).ravel().tolist() for line in lines if len(line) > 2]


@cache
def colour_tables() -> dict[str, str]:
    """Return the colours of maps as in every figure: base64 of RGBA bytes, from low to high."""
    tables = {"one": one_way().colors, "two": two_way().colors}
    return {
        name: bytes_text(np.rint(np.asarray(rows, float) * 255).astype(np.uint8))
        for name, rows in tables.items()
    }


def pixels_text(pixels: np.ndarray, *, deep: bool = False) -> str:
    """Return (H, W) values in [0, 1] as base64 of a PNG; `deep`: 16 bits, as red and green."""
    if deep:
        levels = np.rint(pixels * 65535).astype(np.uint16)
        planes = (levels >> 8, levels & 255, np.zeros_like(levels))
        picture = Image.fromarray(np.stack(planes, -1).astype(np.uint8))
    else:
        picture = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
    return png_text(lambda to: picture.save(to, "PNG", compress_level=6))


def bytes_text(values: np.ndarray) -> str:
    """Return the bytes of an array, little-endian, as base64."""
    values = np.ascontiguousarray(values)
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode("ascii")


def grid_of(values: np.ndarray) -> dict[str, Any]:
    """Return numbers as 16-bit whole numbers with a scale: shape, scale, data (base64).

    A value is `data * scale`; its error is at most half a step of 1 / 32767 of the largest.
    """
    values = np.asarray(values, np.float64)
    scale = float(np.abs(values).max()) / 32767 if values.size else 0.0
    whole = np.rint(values / scale) if scale > 0 else np.zeros_like(values)
    data = bytes_text(whole.astype(np.int16))
    return {"shape": list(values.shape), "scale": scale, "data": data}
