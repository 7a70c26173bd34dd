"""Rendered phantoms on disk: drawn once, memory-mapped, shared by all stages.

Each phantom gives its pixels (uint8) and, for every patch, the share of the patch that each
finding and each organ covers (uint8, 255 = all of it). Of a CT phantom it also gives how many mm
of each structure the rays of a patch pass. Scenes are not stored: a seed brings them back in a
millisecond, so texts are written anew for every epoch.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from workbench.errors import TrainingError
from workbench.findings import PHANTOM_FINDINGS
from workbench.phantom.case import CT, phantom, sample_scene
from workbench.phantom.scene import Scene

logger = logging.getLogger(__name__)

ORGANS = ("right lung", "left lung", "heart")
CHANNELS = (*PHANTOM_FINDINGS, *ORGANS)
STRUCTURES = (
    "right upper lobe",
    "right middle lobe",
    "right lower lobe",
    "left upper lobe",
    "left lower lobe",
    "heart",
    "aorta",
    "trachea",
    "spine",
    "right ribs",
    "left ribs",
    "clavicles",
    "scapulae",
    "liver",
    "stomach",
)
CHUNK = 100
#: In `PhantomSet.depth`: mm in a step, and what is unknown.
DEPTH_STEP, UNKNOWN = 2, 255


@dataclass(frozen=True, eq=False)
class PhantomSet:
    """Rendered phantoms.

    Attributes:
        cases: domain and seed of each row.
        pixels: (n, size, size) uint8.
        cover: (n, patches, len(CHANNELS)) uint8; share of a patch that is covered, times 255.
        depth: (n, patches, len(STRUCTURES)) uint8; mm of a structure, in steps.
    """

    cases: tuple[tuple[str, int], ...]
    pixels: np.ndarray
    cover: np.ndarray
    depth: np.ndarray

    def __len__(self) -> int:
        return len(self.cases)

    def __add__(self, other: PhantomSet) -> PhantomSet:
        """Return the phantoms of both, in memory."""
        parts = (
            np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("pixels", "cover", "depth")
        )
        return PhantomSet(self.cases + other.cases, *parts)

    def scene(self, row: int) -> Scene:
        """Return the scene of a row."""
        domain, seed = self.cases[row]
        return sample_scene(seed, domain=domain, view=_view(domain, seed))


def _view(domain: str, seed: int) -> str | None:
    """Return the view of a training phantom; one CT phantom in four is taken from the front."""
    return "AP" if domain == CT and seed % 4 == 3 else None


def patch_cover(mask: np.ndarray, patch: int) -> np.ndarray:
    """Return the share of each patch that a boolean (S, S) mask covers, (patches,) in [0, 1]."""
    n = mask.shape[0] // patch
    return mask.reshape(n, patch, n, patch).mean((1, 3), dtype=np.float32).ravel()


def patch_depth(scene: Scene, grid: int) -> np.ndarray:
    """Return mm of each structure behind each patch, in steps, (patches, structures) uint8."""
    if scene.domain != CT:
        return np.full((grid**2, len(STRUCTURES)), UNKNOWN, np.uint8)
    from workbench.phantom.ct.render import structure_depths

    found = structure_depths(scene, 2 * grid, STRUCTURES)
    mean = found.reshape(len(found), grid, 2, grid, 2).mean((2, 4)).reshape(len(found), -1).T
    return np.clip(mean / DEPTH_STEP, 0, UNKNOWN - 1).astype(np.uint8)


def _render_chunk(job: tuple) -> int:
    folder, first_seed, start, stop, count, domain, size, patch = job
    pixels, cover, depth = _open(Path(folder), count, size, patch, "r+")
    for row in range(start, stop):
        seed = first_seed + row
        case = phantom(seed, domain=domain, view=_view(domain, seed), size=size)
        depth[row] = patch_depth(case.scene, size // patch)
        pixels[row] = np.round(case.image.pixels * 255).astype(np.uint8)
        named = {**case.masks, **case.anatomy}
        for k, name in enumerate(CHANNELS):
            if name in named:
                share = patch_cover(named[name], patch)
                cover[row, :, k] = np.ceil(share * 255).astype(np.uint8)
    for array in (pixels, cover, depth):
        array.flush()
    return start


def _open(folder: Path, count: int, size: int, patch: int, mode: Literal["r", "r+", "w+"]):
    pixels = np.memmap(folder / "pixels.u8", np.uint8, mode, shape=(count, size, size))
    patches = (size // patch) ** 2
    cover, depth = (
        np.memmap(folder / f"{name}.u8", np.uint8, mode, shape=(count, patches, len(of)))
        for name, of in (("cover", CHANNELS), ("depth", STRUCTURES))
    )
    return pixels, cover, depth


def rendered(
    folder: Path, *, first_seed: int, count: int, domain: str, size: int, patch: int, workers: int
) -> PhantomSet:
    """Render phantoms into a folder, or open what is there; resumes where it was stopped.

    Raises:
        TrainingError: the folder holds phantoms of other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "first_seed": first_seed,
        "count": count,
        "domain": domain,
        "size": size,
        "patch": patch,
        "channels": [*CHANNELS, *STRUCTURES],
    }
    state_path = folder / "state.json"
    if state_path.exists():
        state = json.loads(state_path.read_text())
        if state["settings"] != settings:
            raise TrainingError(
                f"{folder.name} holds phantoms of other settings; choose another --out or delete it"
            )
    else:
        state = {"settings": settings, "done": []}
        _open(folder, count, size, patch, "w+")
    done = set(state["done"])
    jobs = [
        (str(folder), first_seed, start, min(start + CHUNK, count), count, domain, size, patch)
        for start in range(0, count, CHUNK)
        if start not in done
    ]
    if jobs:
        logger.info("rendering %d phantoms", sum(job[3] - job[2] for job in jobs))
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for start in tqdm(
                pool.imap_unordered(_render_chunk, jobs), total=len(jobs), desc=f"phantoms x{CHUNK}"
            ):
                done.add(start)
                state["done"] = sorted(done)
                state_path.write_text(json.dumps(state))
    cases = tuple((domain, seed) for seed in range(first_seed, first_seed + count))
    return PhantomSet(cases, *_open(folder, count, size, patch, "r"))
