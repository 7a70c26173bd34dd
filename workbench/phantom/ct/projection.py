"""Cone-beam projection: from a volume to the attenuation along the rays of a radiograph.

Rays run from a point source through the patient to a flat detector. Each is sampled on planes that
are parallel to the detector; where a sample lies in the volume is read from a coarse lattice, which
holds pose and deformation. Between a source, planes and pixels that map is linear in each of the
three, so that the lattice is exact for a chest that is not deformed.

Source: line integrals as in digitally reconstructed radiographs (Siddon, Med. Phys. 12, 1985;
sampled trilinearly instead of voxel by voxel).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from workbench.phantom.ct.volume import Volume

#: mm between two planes on which rays are sampled, and points of the lattice along each axis.
STEP, LATTICE = 2.5, 41


@dataclass(frozen=True)
class Beam:
    """Where source and detector are; lengths in mm.

    Attributes:
        view: "PA" (front at the detector), "AP" (back at the detector) or "LATERAL" (left side at
            the detector).
        field: edge of the square detector.
        distance: from the source to the detector.
        gap: from the volume to the detector.
        centre: of the detector beside the middle of the volume, (down, right) in the image.
        turn: of the patient, degrees: about the long axis, sideways, and forwards.
    """

    view: str = "PA"
    field: float = 345.0
    distance: float = 1800.0
    gap: float = 40.0
    centre: tuple[float, float] = (0.0, 0.0)
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def depth(self, volume: Volume) -> float:
        """Return how long the beam runs through the volume, mm."""
        return float(volume.extent[2 if self.view == "LATERAL" else 1])

    def pixel(self, size: int) -> float:
        """Return the edge of a pixel at the detector, mm, in an image of `size` pixels."""
        return self.field / size

    def magnification(self, volume: Volume) -> float:
        """Return how much larger the middle of the volume is at the detector."""
        return self.distance / (self.distance - self.gap - self.depth(volume) / 2)


def _rotation(turn: tuple[float, float, float]) -> np.ndarray:
    """Return the matrix (3, 3) that takes a point of the room to one of the patient, (z, y, x)."""
    found = np.eye(3)
    for angle, (a, b) in zip(np.deg2rad(turn), ((1, 2), (0, 2), (0, 1)), strict=True):
        one = np.eye(3)
        one[[a, a, b, b], [a, b, a, b]] = (
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        )
        found = found @ one
    return found


#: View -> the rows that take a point of the room (z, y, x) to (down, along the beam, right).
_AXES = {
    "PA": np.eye(3),
    "AP": np.diag([1.0, -1.0, 1.0]),
    "LATERAL": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
}


Deform = Callable[[np.ndarray], np.ndarray]


def lattice(volume: Volume, beam: Beam, size: int, deform: Deform | None = None) -> torch.Tensor:
    """Return where samples lie in the volume, on a coarse grid of (planes, rows, columns).

    Args:
        deform: takes points (N, 3) of the patient, mm, to the points of the scan that are there.

    Returns:
        (planes, 3, rows, columns): (x, y, z), -1 and 1 the middles of the outermost voxels.
    """
    depth, half = beam.depth(volume), beam.field / 2 * (1 - 1 / size)
    along = np.linspace(-depth / 2, depth / 2, LATTICE)
    source = depth / 2 + beam.gap - beam.distance
    down, right = (np.linspace(-half, half, LATTICE) + at for at in beam.centre)
    share = ((along - source) / beam.distance)[:, None, None]
    v, u, w = np.broadcast_arrays(
        down[:, None] * share, right[None, :] * share, along[:, None, None]
    )
    rays = {"PA": (v, w, u), "AP": (v, -w, u), "LATERAL": (v, -u, w)}[beam.view]
    points = np.stack(rays, -1).reshape(-1, 3) @ _rotation(beam.turn).T
    if deform is not None:
        points = deform(points)
    found = (points / (volume.extent / 2)).astype(np.float32)[:, ::-1]
    return torch.from_numpy(
        found.reshape(LATTICE, LATTICE, LATTICE, 3).transpose(0, 3, 1, 2).copy()
    )


def _longer(beam: Beam, size: tuple[int, int]) -> np.ndarray:
    """Return by how much a ray is longer than the way between two planes, (rows, columns)."""
    line = (np.linspace(-beam.field / 2, beam.field / 2, n) for n in size)
    down, right = ((one + at) / beam.distance for one, at in zip(line, beam.centre, strict=True))
    return np.sqrt(1 + down[:, None] ** 2 + right[None, :] ** 2).astype(np.float32)


def cast(points: np.ndarray, volume: Volume, beam: Beam, size: int) -> np.ndarray:
    """Return where points of the patient (N, 3), mm, are seen: (row, column) in pixels, (N, 2)."""
    down, along, right = _AXES[beam.view] @ (points @ _rotation(beam.turn)).T
    source = beam.depth(volume) / 2 + beam.gap - beam.distance
    larger = beam.distance / (along - source)
    seen = np.stack([down * larger - beam.centre[0], right * larger - beam.centre[1]], 1)
    return seen / beam.pixel(size) + (size - 1) / 2


def _camera(volume: Volume, beam: Beam, size: int) -> np.ndarray:
    """Return the matrix (3, 4) of `cast`: (z, y, x, 1) to (column + 0.5, row + 0.5, 1), scaled."""
    down, along, right = _AXES[beam.view] @ _rotation(beam.turn).T
    away = np.append(along, beam.distance - beam.depth(volume) / 2 - beam.gap)
    axes = zip((right, down), beam.centre[::-1], strict=True)
    seen = [np.append(beam.distance * axis, 0) - at * away for axis, at in axes]
    return np.stack([*(one / beam.pixel(size) + size / 2 * away for one in seen), away])


def matching_lines(volume: Volume, first: Beam, second: Beam, sizes: Sequence[int]) -> np.ndarray:
    """Return the matrix (3, 3) from a point of one view to the line of another on which it lies.

    A point (x, y, 1), pixels from the corner of the image, becomes (a, b, c) of a x + b y + c = 0:
    where the ray through the point is seen in the other view. (The fundamental matrix; Hartley and
    Zisserman, Multiple View Geometry, 2004, section 9.2.)

    Args:
        sizes: pixels along each edge of both images.
    """
    beams = zip((first, second), sizes, strict=True)
    one, two = (_camera(volume, beam, size) for beam, size in beams)
    source = np.append(np.linalg.solve(one[:, :3], -one[:, 3]), 1)
    a, b, c = two @ source
    found = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]]) @ two @ np.linalg.pinv(one)
    return found / np.abs(found).max()


@torch.inference_mode()
def project(
    fields: np.ndarray,
    where: torch.Tensor,
    beam: Beam,
    size: int | tuple[int, int],
    depth: float,
    *,
    edges: str = "border",
    step: float = STEP,
) -> np.ndarray:
    """Return the integrals of fields along the rays.

    Args:
        fields: (channels, slices, rows, columns) float32, per mm.
        where: as of `lattice`.
        depth: as of `Beam.depth`.
        edges: beyond the volume "border" continues its last slices, "zeros" is empty.
        step: mm between planes.

    Returns:
        (channels, rows, columns) float32.
    """
    size = (size, size) if isinstance(size, int) else size
    planes = max(round(depth / step), 2)
    at = (torch.arange(planes) + 0.5) / planes * (len(where) - 1)
    values = torch.from_numpy(fields)[None]
    total = torch.zeros(fields.shape[0], *size)

    def enlarged(plane: int) -> torch.Tensor:
        one = where[plane, None]
        return functional.interpolate(one, size, mode="bilinear", align_corners=True)

    near, far = enlarged(0), enlarged(0)
    for first in range(len(where) - 1):
        near, far = far, enlarged(first + 1)
        between = at[(at >= first) & (at < first + 1)] - first
        if len(between):
            grid = torch.lerp(near, far, between[:, None, None, None]).permute(0, 2, 3, 1)[None]
            found = functional.grid_sample(values, grid, padding_mode=edges, align_corners=True)
            total += found[0].sum(1)
    return total.numpy() * (depth / planes) * _longer(beam, size)
