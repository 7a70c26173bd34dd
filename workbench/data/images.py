"""Image files of a manifest: paths that stay below a root, and fingerprints of what is there.

A manifest that somebody else wrote must not make this program open a file elsewhere: a path is
refused that is absolute, names a drive, a home or an address, climbs with "..", or leads through a
symbolic link that leaves the root.

Fingerprints are the SHA-256 of the bytes and a difference hash of what is seen. The difference hash
(dHash, N. Krawetz, "Kind of Like That", 2013) says of 16 x 16 places whether it gets brighter to
the right: 256 bits that survive scaling and compression. Frontal chest radiographs are so alike
that the customary 64 bits collide: among 799 of NIH ChestX-ray14, 64 bits are equal for different
patients. With 256 bits the closest two different radiographs differ in 18, while one saved again
(JPEG quality 60 to 95, 300 to 512 pixels) differs from itself in 10 at most. A duplicate is a fact
about pixels: two radiographs of one patient on one day can be alike without being one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from workbench._progress import progress
from workbench._store import file_sha256
from workbench.errors import InputError

#: Absolute, home, drive, address, backslash, NUL, or a component "..".
OUTSIDE = r"^(?:/|~|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.\-]+://)|\\|\x00|(?:^|/)\.\.(?:/|$)"
SIDE = 16
#: Bits that two files of one image may differ in.
NEAR = 10
#: Pairs that are compared at most; the largest groups that share a piece are left out.
_PAIRS = 60_000_000


class Root:
    """A folder that paths are relative to, and the files below it.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(
                f"{self.folder.name or folder}: no such folder; expected the folder that the "
                "paths of the manifest are relative to; name it with root="
            )
        self._real = os.path.realpath(self.folder)
        self._folders: dict[str, bool] = {}

    def contains(self, path: str) -> bool:
        """Say whether a path stays below the root once every symbolic link is followed."""
        if re.search(OUTSIDE, path):
            return False
        full = os.path.join(self.folder, path)
        parent = os.path.dirname(full)
        if parent not in self._folders:
            self._folders[parent] = self._inside(os.path.realpath(parent))
        if not self._folders[parent]:
            return False
        return not os.path.islink(full) or self._inside(os.path.realpath(full))

    def resolve(self, path: str | None) -> Path:
        """Return the full path of a file; an InputError where there is none, or it leaves."""
        if not isinstance(path, str) or not path:
            raise InputError("the row has no image: its path is empty (a report without an image)")
        if not self.contains(path):
            raise InputError(
                f"{path.rsplit('/', 1)[-1]}: its path leads out of the root; write paths relative "
                "to the root, without .. and without links that leave it"
            )
        return self.folder / path

    def image(self, path: str | None) -> Path:
        """Return the full path of an image that is there; else raise an InputError."""
        found = self.resolve(path)
        if not found.exists():
            raise InputError(
                f"{found.name}: no such file; the paths of a manifest start at its root, by "
                "default the folder that it lies in: restore the file, or name a folder with root="
            )
        return found

    def relative(self, path: str) -> str:
        """Return a path below the root as the manifest writes it; any other as it came."""
        text = path.replace("\\", "/") if "\\" in path and "/" not in path else path
        if os.path.isabs(text):
            for base in (str(self.folder), self._real):
                if os.path.commonpath([base, os.path.normpath(text)]) == base:
                    return Path(os.path.relpath(text, base)).as_posix()
        return text.removeprefix("./")

    def _inside(self, real: str) -> bool:
        return real == self._real or real.startswith(self._real.rstrip(os.sep) + os.sep)


def dhash(pixels: np.ndarray) -> str:
    """Return the 256-bit difference hash of (H, W) real numbers, as 64 hexadecimal digits."""
    image = Image.fromarray(np.asarray(pixels, dtype=np.float32))
    small = np.asarray(image.resize((SIDE + 1, SIDE), Image.Resampling.BOX))
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes().hex()


def file_dhash(path: Path) -> str | None:
    """Return the difference hash of an image file, None where it cannot be read."""
    from workbench.imaging import load_radiograph
    from workbench.imaging.guards import guarded_decoders, silent_libtiff

    try:
        with guarded_decoders(), Image.open(path) as image, silent_libtiff(image):
            image.draft("L", (128, 128))
            return dhash(np.asarray(image.convert("F")))
    except Exception:  # pillow raises many kinds; quality control says which file and why
        try:
            return dhash(load_radiograph(path).pixels)  # DICOM
        except InputError:
            return None


def fingerprint(
    paths: pd.Series, root: Root, *, workers: int = 2, show: bool = True
) -> pd.DataFrame:
    """Return (n, 2) sha256 and dhash of files; both are missing for those not at hand."""

    def both(path: object) -> tuple[str | None, str | None]:
        if not isinstance(path, str) or not root.contains(path):
            return None, None
        full = root.folder / path
        try:
            return file_sha256(full), file_dhash(full)
        except OSError:
            return None, None

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        bar = progress(pool.map(both, paths), total=len(paths), label="hashes", show=show)
        return pd.DataFrame(list(bar), columns=["sha256", "dhash"], dtype="string")


def near_pairs(hashes: pd.Series) -> Iterator[tuple[int, int, int]]:
    """Yield (first row, second row, bits that differ) of hashes that are (nearly) equal.

    Two hashes that differ in at most `NEAR` < 16 of 256 bits agree in one of their 16 pieces of 16
    bits at least, so only rows that share a piece are compared. Above some 10,000 images the
    largest groups (black corners, say) are left to the other pieces; equal hashes are always found.
    """
    valid = hashes.str.fullmatch(r"[0-9a-f]{64}").fillna(False).to_numpy(bool)
    rows = np.flatnonzero(valid)
    if rows.size < 2:
        return
    words = np.array([bytes.fromhex(text) for text in hashes.iloc[rows]], dtype="S32")
    unique, first, inverse = np.unique(words, return_index=True, return_inverse=True)
    for index in np.flatnonzero(first[inverse] != np.arange(rows.size)):
        yield int(rows[first[inverse[index]]]), int(rows[index]), 0
    yield from _near_unique(unique, rows[first])


def _near_unique(unique: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, int, int]]:
    bits = np.frombuffer(unique.tobytes(), dtype=np.uint64).reshape(len(unique), 4)
    pieces = bits.view(np.uint16).reshape(len(unique), 16)
    sizes = np.sort(np.concatenate([np.bincount(piece) for piece in pieces.T]))
    affordable = sizes[np.cumsum(sizes * (sizes - 1) // 2) <= _PAIRS]
    close = [_close(bits, pieces[:, k], k, affordable.max(initial=0)) for k in range(16)]
    for one, two in np.unique(np.concatenate(close), axis=0):
        distance = int(np.bitwise_count(bits[one] ^ bits[two]).sum())
        first, second = sorted((int(rows[one]), int(rows[two])))
        yield first, second, distance


def _close(bits: np.ndarray, keys: np.ndarray, piece: int, largest: int) -> np.ndarray:
    """Return (pairs, 2) indices of near hashes in groups, of `largest` at most, that share a piece.

    A quarter of the bits, away from the shared piece, sorts nearly every pair out.
    """
    order = np.argsort(keys, kind="stable")
    order = order[np.bincount(keys)[keys[order]] <= largest]
    keys, quarter = keys[order], bits[order, (piece // 4 + 1) % 4]
    found = [np.empty((0, 2), dtype=np.int64)]
    active, step = np.arange(len(order)), 1
    while active.size:
        active = active[active + step < len(order)]
        active = active[keys[active] == keys[active + step]]
        hopeful = np.bitwise_count(quarter[active] ^ quarter[active + step]) <= NEAR
        one, two = order[active[hopeful]], order[active[hopeful] + step]
        distance = np.bitwise_count(bits[one] ^ bits[two]).sum(axis=1)
        pairs = np.stack([one, two], axis=1)[distance <= NEAR]
        found.append(np.sort(pairs, axis=1))
        step += 1
    return np.concatenate(found)
