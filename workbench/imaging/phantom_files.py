"""The masks that `workbench phantom` writes beside a phantom, by their names.

Does not know: how a phantom is drawn.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from workbench.errors import WorkbenchError
from workbench.findings import ALL_FINDINGS
from workbench.imaging.load import load_radiograph
from workbench.radiograph import Radiograph

logger = logging.getLogger(__name__)


def mask_name(image: str, finding: str) -> str:
    """Return the name of the file with the mask of a finding, beside that of its image."""
    return f"{Path(image).stem}_mask_{finding.replace(' ', '_')}.png"


def masks_beside(path: str | os.PathLike, image: Radiograph) -> dict[str, np.ndarray]:
    """Return the masks that lie beside the file of a phantom.

    A mask that cannot be read or has another size than the image is left out, and logged.

    Args:
        path: the file of the image.
        image: what was read from it.

    Returns:
        dict: finding -> boolean (H, W), True where it is drawn; empty where no masks lie there, or
        the image is no phantom.
    """
    if image.contract.domain != "phantom":
        return {}
    found = {}
    for finding in ALL_FINDINGS:
        beside = Path(path).with_name(mask_name(os.fspath(path), finding))
        if not beside.is_file():
            continue
        try:
            mask = load_radiograph(beside).pixels > 0.5
        except WorkbenchError as error:
            logger.warning("a mask of the phantom is left out: %s", error)
            continue
        if mask.shape == image.size:
            found[finding] = mask
        else:
            logger.warning(
                "%s: a mask of the phantom is left out, it has %s pixels and the image %s",
                beside.name, "x".join(map(str, mask.shape)), "x".join(map(str, image.size)),
            )  # fmt: skip
    return found
