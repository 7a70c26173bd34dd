"""Findings in three dimensions: what each adds to the attenuation of the chest, and where.

A finding is made in the scan, before it is deformed and projected, from its anatomy (a nodule so
that it is as large as is said in the chest that it ends up in): fluid fills
the pleural space from below up to a meniscus, air lies between wall and a collapsed lung, a
consolidation ends at its lobe and leaves bronchi open, septal lines stand in the outer lung.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
from scipy import ndimage

from workbench import findings
from workbench.phantom.anatomy import FIELD_MM, edge
from workbench.phantom.ct.shape import Shape
from workbench.phantom.ct.site import Patch, Site, distance, dome, rim_distance
from workbench.phantom.ct.volume import chest
from workbench.phantom.drawing import sides_of
from workbench.phantom.scene import Lesion

#: Density of fluid, of solid lung and tumour, and of air, HU.
FLUID, SOLID, AIR = 8.0, 35.0, -1000.0


def _bounds(mask: np.ndarray) -> tuple[slice, ...]:
    return ndimage.find_objects(mask.astype(np.uint8))[0]


def _wide(lesion: Lesion, side: str) -> float:
    """Return the radius of a lesion, mm."""
    if lesion.finding == findings.CONSOLIDATION:
        return 1.2 * FIELD_MM * lesion.params[side]["radius"]
    return float(lesion.size_mm or 20.0) / 2


def middle_of(lesion: Lesion, side: str) -> np.ndarray:
    """Return the middle of a lesion that has a place, (z, y, x) in mm."""
    return np.array(lesion.params["middle"][side])


def collapsed(lesion: Lesion, side: str) -> str:
    """Return which lobe a lobar atelectasis is."""
    return f"{side} {'upper' if lesion.zone == 'upper' else 'lower'} lobe"


def located(lesion: Lesion, seed: int, shape: Shape) -> Lesion:
    """Return a lesion with its place in the scan, and with its lobe where it is in one lung.

    The nodule of the scan gets the size that it has in a chest of this shape.
    """
    if lesion.zone is None:
        return lesion
    volume, sides = chest(), sides_of(lesion)
    if lesion.kind == "lobar":
        return replace(lesion, lobe=collapsed(lesion, sides[0]) if len(sides) == 1 else None)
    site = Site(volume, np.random.default_rng([seed, 10, *lesion.finding.encode()]))
    middles = {side: _middle(site, lesion, side) for side in sides}
    middle = np.array(middles[sides[0]])
    lobe = volume.lobe(middle) if len(sides) == 1 else None
    size = lesion.size_mm
    if size is not None and lesion.kind == findings.SCAN:
        size = round(size * float(np.cbrt(np.linalg.det(shape.stretch(middle, volume)))), 1)
    return replace(lesion, lobe=lobe, size_mm=size, params=lesion.params | {"middle": middles})


def _middle(site: Site, lesion: Lesion, side: str) -> tuple[float, ...]:
    if lesion.kind == findings.SCAN:
        at = np.argwhere(site.volume.votes >= 2).mean(0) + site.volume.corner
        return tuple(map(float, site.volume.points(at)))
    deep = {
        findings.CONSOLIDATION: 0.5 * _wide(lesion, side),
        findings.NODULE: _wide(lesion, side) + 2,
    }.get(lesion.finding, 9.0)
    clear = lesion.finding == findings.NODULE
    return tuple(map(float, site.place(side, lesion.zone, deep, clear=clear)))


def effusion(site: Site, lesion: Lesion) -> Iterator[Patch]:
    """Fluid in the deepest recess up to a meniscus, or in a layer behind the lung if supine."""
    for side in sides_of(lesion):
        lung = site.lung(side)
        box = _bounds(lung)
        yield site.fill(box, FLUID, (_layer if site.supine else _level)(site, lesion, side, box))


def _level(site: Site, lesion: Lesion, side: str, box: tuple[slice, ...]) -> np.ndarray:
    z, _, _ = site.axes(box)
    # all of them fill most of the recess behind the dome of the diaphragm
    above = {"small": (0, 8), "moderate": (34, 46), "large": (76, 100)}[str(lesion.severity)]
    height = 0.62 * (z.max() - dome(site.volume, side)) + site.rng.uniform(*above)
    away = rim_distance(site.volume, side)[box[0], :, box[2]]
    level = z.max() - height - site.rng.uniform(30, 50) * np.exp(-away / 18)
    return edge(z - level, 2.5) * site.lung(side)[box]


def _layer(site: Site, lesion: Lesion, side: str, box: tuple[slice, ...]) -> np.ndarray:
    deep = {"small": (16, 21), "moderate": (28, 36), "large": (48, 62)}[str(lesion.severity)]
    z, y, _ = site.axes(box)
    lung = site.lung(side)[box]
    back = lung.argmax(1)[:, None] * site.volume.spacing[1] + y.min()
    back = ndimage.gaussian_filter(back, (3, 0, 6))
    down = (z - z.min()) / (z.max() - z.min())
    level = back + site.rng.uniform(*deep) * (0.35 + 0.65 * edge(down - 0.4, 0.4))
    return edge(level - y, 2.5) * lung


def pneumothorax(site: Site, lesion: Lesion) -> Iterator[Patch]:
    """Air between the wall and a lung that has drawn back, with its pleural line.

    The lung beside the air is pressed together: vessels move inwards, what is between them gets
    denser, and nothing of it is left in the air.
    """
    gap = {"small": (13, 18), "moderate": (26, 34), "large": (44, 60)}[str(lesion.severity)]
    side = str(lesion.side)
    box = _bounds(site.lung(side))
    lung = site.lung(side)[box]
    z, y, _ = site.axes(box)
    down = (z - z.min()) / (z.max() - z.min())
    wide = site.rng.uniform(*gap) * (1 - site.rng.uniform(0.45, 0.8) * down)
    away = np.minimum(
        rim_distance(site.volume, side)[box[0], :, box[2]],
        # at the apex it draws back from the mediastinum too
        distance(np.pad(lung.any(1), 1), site.volume.spacing[[0, 2]])[1:-1, None, 1:-1]
        + 0.45 * (z - z.min()),
    )
    inset = away - wide
    air = edge(-inset, 1.2)
    # seen where the surface of the lung lies along the rays
    line = np.clip(1 - np.abs(inset - 1.4) / 1.6, 0, 1) * np.exp(-np.square((y - y.mean()) / 35))
    pressed = _pressed(site.volume.density[box], lung, away[:, 0], wide[:, 0], site.volume.spacing)
    density = pressed - line * pressed
    density = density + air * (AIR - density)
    yield site.fill(box, density, lung.astype(np.float32))


def _pressed(
    density: np.ndarray, lung: np.ndarray, away: np.ndarray, wide: np.ndarray, step: np.ndarray
) -> np.ndarray:
    """Return the densities of a lung, HU, that has drawn back from the wall.

    Args:
        density, lung: (slices, rows, columns).
        away: from the wall, mm, (slices, columns).
        wide: how far the lung has drawn back, mm, (slices, 1).
        step: mm from voxel to voxel (z, y, x).
    """
    reach = 1.6 * wide + 12
    left = np.clip(1 - (away - wide) / reach, 0, 1)
    shift = wide * np.square(left)
    outward = np.asarray(np.gradient(away, step[0], step[2])) * -shift
    rows, columns = np.indices(away.shape, np.float32)
    grids = [rows + outward[0] / step[0], columns + outward[1] / step[2]]
    grids = [np.clip(g, 0, n - 1.001) for g, n in zip(grids, away.shape, strict=True)]
    inside = np.where(lung, density, -870.0).astype(np.float32)
    moved = _between(inside.transpose(0, 2, 1), *grids).transpose(0, 2, 1)
    dense = (1 + 2 * wide / reach * left)[:, None]
    return np.where(moved < -500, (moved + 1000) * dense - 1000, moved)


def _between(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return values (rows, columns, ...) at places (rows, columns) between those of the grid."""
    (top, down), (left, right) = ((g.astype(int), g % 1) for g in (rows, columns))
    down, right = down[..., None].astype(np.float32), right[..., None].astype(np.float32)
    upper = values[top, left] * (1 - right) + values[top, left + 1] * right
    lower = values[top + 1, left] * (1 - right) + values[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def _ball(
    site: Site, middle: np.ndarray, reach: float, stretch: np.ndarray
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Return the box around a ball, and how far places are from its middle once stretched, mm."""
    ends = reach * np.linalg.norm(np.linalg.inv(stretch), axis=1)
    box = site.box(middle - ends, middle + ends)
    steps = [axis - at for axis, at in zip(site.axes(box), middle, strict=True)]
    return box, np.sqrt(sum(np.square(sum(map(np.multiply, row, steps))) for row in stretch))


def consolidation(site: Site, lesion: Lesion) -> Iterator[Patch]:
    """Solid lung that ends at its lobe and leaves bronchi open."""
    for side in sides_of(lesion):
        middle, wide = middle_of(lesion, side), _wide(lesion, side)
        lobe = site.volume.number(middle)
        box, away = _ball(site, middle, wide * 1.35, np.eye(3))
        inside = edge(wide * (1 + 0.22 * site.noise(box, 22)) - away, 7)
        bronchi = edge(0.10 - np.abs(site.noise(box, 16)), 0.05) * edge(
            0.12 - np.abs(site.noise(box, 16)), 0.05
        )
        amount = site.rng.uniform(0.65, 0.9) * (1 + 0.15 * site.noise(box, 12))
        share = inside * np.clip(amount, 0.2, 1) * (1 - 0.9 * bronchi)
        yield site.fill(box, SOLID, share * (site.volume.structures[box] == lobe))


def nodule(site: Site, lesion: Lesion) -> Iterator[Patch]:
    """A ball of the chest that it is seen in, smooth, lobulated or with spikes."""
    if lesion.kind == findings.SCAN:
        yield _own_nodule(site)
        return
    radius, middle = _wide(lesion, str(lesion.side)), middle_of(lesion, str(lesion.side))
    box, away = _ball(site, middle, radius * 1.7, site.shape.stretch(middle, site.volume))
    rough = site.rng.choice([0.03, 0.10, 0.20])
    shape = radius * (1 + rough * site.noise(box, max(radius * 0.7, 5.0))) - away
    yield site.fill(box, SOLID, edge(shape, 1.6) * (site.volume.density[box] < 0))


def _own_nodule(site: Site) -> Patch:
    """Return the patch that puts the nodule of the scan back, as radiologists outlined it."""
    volume = site.volume
    box = tuple(slice(at, at + n) for at, n in zip(volume.corner, volume.nodule.shape, strict=True))
    return site.fill(box, volume.density[box] + volume.nodule, volume.votes >= 2)


def edema(site: Site, lesion: Lesion) -> Iterator[Patch]:
    """Haze that is densest around the hila, thickened vessels, and septal lines at the bases."""
    amount = {"small": (0.12, 0.15), "moderate": (0.21, 0.26), "large": (0.36, 0.45)}
    strength = site.rng.uniform(*amount[str(lesion.severity)])
    for side in sides_of(lesion):
        lung = site.lung(side)
        box = _bounds(lung)
        z, y, x = site.axes(box)
        where = np.argwhere(lung[box])[::997]
        middle = site.volume.points(where.mean(0) + [part.start for part in box])
        inward = -18 if side == "left" else 18
        hilum = middle + np.array([-5.0, 0.0, inward])
        away = (
            np.square((z - hilum[0]) / 75)
            + np.square((y - hilum[1]) / 70)
            + np.square((x - hilum[2]) / 55)
        )
        cloud = np.exp(-away) * (1 + 0.45 * site.noise(box, 20)) + 0.25
        density = site.volume.density[box]
        cuffs = np.where(density > -750, 0.25, 0.0) * (strength / 0.3)
        lines = _septa(site, box, side) * min(strength * 2.2, 0.6)
        yield site.fill(box, SOLID, np.clip(strength * cloud + cuffs + lines, 0, 0.85) * lung[box])


def _septa(site: Site, box: tuple[slice, ...], side: str) -> np.ndarray:
    """Return thin horizontal sheets in the outer lower lung: 1 in them, 0 elsewhere."""
    z, _, _ = site.axes(box)
    low, high = site.zone(side, "lower")
    near = rim_distance(site.volume, side)[box[0], :, box[2]]
    rows = np.zeros(z.shape, np.float32)
    inside = np.flatnonzero((z[:, 0, 0] > low - 25) & (z[:, 0, 0] < high + 10))
    rows[site.rng.choice(inside, max(len(inside) // 5, 1), replace=False)] = 1
    return rows * edge(14 + 5 * site.noise(box, 18) - near, 2) * edge(site.noise(box, 18), 0.6)


def atelectasis(site: Site, lesion: Lesion) -> Iterator[Patch]:
    """Plates across the lung, or a lobe that has shrunk towards the hilum."""
    for side in sides_of(lesion):
        yield from (_plates if lesion.kind == "linear" else _lobe)(site, lesion, side)


def _plates(site: Site, lesion: Lesion, side: str) -> Iterator[Patch]:
    length = 34 if lesion.severity == "small" else 46
    first = middle_of(lesion, side)
    for down in site.rng.permutation((0, 14, -14))[: int(site.rng.integers(2, 4))]:
        middle = first + site.rng.uniform((down - 3, -12, -12), (down + 3, 12, 12))
        half = site.rng.uniform(0.8, 1.1) * length
        reach = np.array([25, half, half])
        box = site.box(middle - reach, middle + reach)
        z, y, x = (axis - at for axis, at in zip(site.axes(box), middle, strict=True))
        slope, thick = site.rng.uniform(-0.3, 0.3, 2), site.rng.uniform(2.4, 3.6)
        height = z - slope[0] * x - 0.25 * slope[1] * y + 1.5 * site.noise(box, 30)
        flat = edge(half - np.sqrt(np.square(x) + np.square(y * 1.3)), 6)
        flat = flat * edge(thick - np.abs(height), 1.3)
        yield site.fill(box, SOLID, 0.8 * flat * site.lung(side)[box])


def _lobe(site: Site, lesion: Lesion, side: str) -> Iterator[Patch]:
    lobe = site.volume.mask(collapsed(lesion, side))
    box = _bounds(lobe)
    z, _, x = site.axes(box)
    reach = {"small": 0.42, "moderate": 0.52, "large": 0.66}[str(lesion.severity)]
    inward = (x.max() - x) if side == "right" else (x - x.min())
    across = inward / inward.max()
    down = (z - z.min()) / (z.max() - z.min())
    border = reach * (1.15 - 0.5 * down if lesion.zone == "upper" else 0.45 + 0.75 * down)
    share = edge((border - across + 0.03 * site.noise(box, 30)) * inward.max(), 4)
    yield site.fill(box, SOLID, 0.75 * share * lobe[box])


def volume_loss(lesions: Iterable[Lesion]) -> tuple[float, float]:
    """Return by how much lobes that collapse draw up the (right, left) hemidiaphragm, mm."""
    rise = {"right": 0.0, "left": 0.0}
    for lesion in lesions:
        if lesion.kind == "lobar":
            more = {"small": 0.7, "moderate": 1.0, "large": 1.5}[str(lesion.severity)] * FIELD_MM
            rise |= {side: more * lesion.params[side]["raise"] for side in sides_of(lesion)}
    return rise["right"], rise["left"]


def fracture(site: Site, lesion: Lesion) -> Iterator[Patch]:
    """Ribs that are broken behind: a gap, and the outer piece displaced across the rib."""
    first = 92 if lesion.side == "left" else 104
    start, count = int(site.rng.integers(4, 7)), int(site.rng.integers(3, 5))
    share = site.rng.uniform(0.7, 0.82)
    for rib in range(first + start - 1, first + start - 1 + count):
        yield _broken(site, rib, share + site.rng.uniform(-0.04, 0.04))


def _broken(site: Site, rib: int, share: float) -> Patch:
    """Return the patch that breaks a rib at a share of its way from the spine to the side."""
    bone = site.volume.structures == rib
    points = site.volume.points(np.argwhere(bone))
    out = np.sign(points[0, 2])
    behind = points[points[:, 1] < points[np.argmax(out * points[:, 2]), 1]]
    goal = (out * behind[:, 2]).max() * share
    ends = (np.abs(out * behind[:, 2] - goal - more) < 4 for more in (-6, 0, 6))
    before, at, after = (behind[one].mean(0) for one in ends)
    near = site.box(at - 60, at + 60)
    axes = [axis - m for axis, m in zip(site.axes(near), at, strict=True)]
    course = (after - before) / np.linalg.norm(after - before)
    along = sum((axis * c for axis, c in zip(axes, course, strict=True)), np.zeros(1))
    # the piece beyond the break is moved across its course as it is seen from the front
    moved = site.rng.uniform(10, 14) * edge(along, 1.0) * (1 - edge(along - 42, 18))
    across = np.array([out * course[2], -out * course[0]]) / np.hypot(course[0], course[2])
    step = site.volume.spacing
    here = ndimage.binary_dilation(bone[near], iterations=1).astype(np.float32)
    grid = np.indices(here.shape, np.float32)
    grid[0] -= across[0] * moved / step[0]
    grid[2] -= across[1] * moved / step[2]
    density = site.volume.density[near]
    empty = density + here * (np.minimum(density, 30.0) - density)
    there, back = (
        ndimage.map_coordinates(one, grid, order=1, mode="nearest") for one in (here, density)
    )
    # the ends are pressed together, and denser for it, before they part
    there = there * (1 - edge(2.5 - np.abs(along), 1.0))
    back = back + 700 * (back > 100) * (1 - edge(np.abs(along) - 8, 4))
    made = empty + there * np.maximum(back - empty, 0)
    return site.fill(near, made, np.ones((1, 1, 1), np.float32))


MAKE: dict[str, Callable[[Site, Lesion], Iterator[Patch]]] = {
    findings.EFFUSION: effusion,
    findings.PNEUMOTHORAX: pneumothorax,
    findings.CONSOLIDATION: consolidation,
    findings.ATELECTASIS: atelectasis,
    findings.NODULE: nodule,
    findings.EDEMA: edema,
    findings.FRACTURE: fracture,
}
