"""Where a finding is, from the boxes of a manifest row: what mask supervision learns from.

Does not know: readers that disagree; every box counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from workbench.data.boxes import from_cell
from workbench.imaging import load_radiograph


def manifest_regions(values: Any, path: Path, root: Path | None) -> dict[str, np.ndarray]:
    """Return finding -> boolean (H, W) in the pixels of the image file.

    Args:
        values: one row of a manifest.
        path: its image.
        root: what paths of mask files are relative to.

    Raises:
        InputError: the image or a mask cannot be read.
    """
    height, width = load_radiograph(path).size
    found: dict[str, np.ndarray] = {}
    for box in from_cell(values["boxes"]) or ():
        name = box.get("finding")
        if name:
            mask = found.setdefault(name, np.zeros((height, width), bool))
            left, top = int(box["x"]), int(box["y"])
            mask[top : top + int(box["height"]), left : left + int(box["width"])] = True
    for mask in from_cell(values["masks"]) or ():
        if mask.get("path") and mask.get("finding") and root is not None:
            drawn = Image.fromarray(np.rint(load_radiograph(root / mask["path"]).pixels * 255))
            shown = np.asarray(drawn.resize((width, height))) > 127
            found[mask["finding"]] = found.get(mask["finding"], np.zeros_like(shown)) | shown
    return found


def patch_targets(
    regions: Mapping[str, np.ndarray], findings: tuple[str, ...], size: int, patch: int, fit: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return what each patch shows, and for which findings that is known.

    Args:
        regions: finding -> boolean (H, W).
        findings: columns.
        size: S, side of the model's input, pixels.
        patch: side of a patch.
        fit: takes a float (H, W) in [0, 1] to (S, S), as the model's images are fitted.

    Returns:
        (N, F) float32, share of a patch that is covered, and (F,) bool.
    """
    side = size // patch
    target = np.zeros((side * side, len(findings)), np.float32)
    known = np.zeros(len(findings), bool)
    for at, name in enumerate(findings):
        if name in regions:
            shown = fit(regions[name].astype(np.float32))
            cells = shown[: side * patch, : side * patch].reshape(side, patch, side, patch)
            target[:, at], known[at] = cells.mean((1, 3)).ravel(), True
    return target, known
