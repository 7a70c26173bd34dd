"""What a frozen vision tower makes of images: computed once, memory-mapped, never stale.

    cache = FeatureCache.open("out/features", tower, processor)
    tokens = cache.rows(cache.add(pixels))        # (B, N, W), computed or read

A row is found by the SHA-256 of the prepared pixels, so another image or another preparation is
another row. The folder is bound to the SHA-256 of the tower's weights: another tower is refused.
Several processes may share a folder: one writes at a time, and finds what the others wrote.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from workbench._repr import short_repr
from workbench._store import JsonLines
from workbench.errors import TrainingError
from workbench.finetune.parts import weights_sha256
from workbench.model.processor import ImageProcessor
from workbench.model.vision import VisionTower

KEYS, ROWS, LOCK = "keys.jsonl", "tokens.f32", "writing.lock"


@dataclass(eq=False)
class FeatureCache:
    """Vision tokens on disk.

    Attributes:
        tower: the frozen vision tower.
        shape: (N, W) of one image.
        keys: the file of the names of the rows.
        computed, found: images computed and read by this object.
    """

    folder: Path
    tower: VisionTower = field(repr=False)
    shape: tuple[int, int]
    keys: JsonLines = field(repr=False)
    computed: int = 0
    found: int = 0
    _rows: dict[str, int] = field(default_factory=dict, repr=False)
    _stored: np.ndarray | None = field(default=None, repr=False)

    __repr__ = short_repr

    @classmethod
    def open(
        cls, folder: str | Path, tower: VisionTower, processor: ImageProcessor
    ) -> FeatureCache:
        """Open a cache, or start one.

        Raises:
            TrainingError: the folder was made by another tower or another preparation, or is
                damaged.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = tower.config
        head = {
            "encoder": weights_sha256(tower.state_dict().items()),
            "preprocessing": {
                "size": processor.size, "mean": processor.mean, "std": processor.std
            },
            "tokens": config.image_tokens,
            "width": config.width,
            "dtype": "float32",
        }  # fmt: skip
        lines = JsonLines(folder / KEYS, head)
        if differing := lines.differing():
            raise TrainingError(
                f"{folder.name} has features of another {' and '.join(differing)}; delete it or "
                "name another folder, since stale features would train the wrong thing in silence"
            )
        lines.begin()
        made = cls(folder, tower, (config.image_tokens, config.width), lines)
        with FileLock(folder / LOCK):
            made._read_keys()
        return made

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def _row_bytes(self) -> int:
        return 4 * self.shape[0] * self.shape[1]

    def add(self, pixel_values: torch.Tensor) -> list[int]:
        """Return the rows of prepared images (B, 1, S, S); what is missing is computed."""
        keys = [weights_sha256([("", one)]) for one in pixel_values]
        fresh = 0
        if any(key not in self._rows for key in keys):
            with FileLock(self.folder / LOCK):
                self._read_keys()
                fresh = self._compute(keys, pixel_values)
        self.found += len(keys) - fresh
        return [self._rows[key] for key in keys]

    def rows(self, rows: Sequence[int]) -> torch.Tensor:
        """Return (B, N, W) float32 tokens of rows, read from disk."""
        if self._stored is None or len(self._stored) < len(self):
            shape = (len(self), *self.shape)
            self._stored = np.memmap(self.folder / ROWS, np.float32, "r", shape=shape)
        return torch.from_numpy(self._stored[list(rows)])

    def _compute(self, keys: list[str], pixel_values: torch.Tensor) -> int:
        """Compute and write the images that nobody has written yet; return their number."""
        missing = [
            at for at, key in enumerate(keys) if key not in self._rows and keys.index(key) == at
        ]
        if missing:
            device = next(self.tower.parameters()).device
            with torch.no_grad():
                tokens = self.tower(pixel_values[missing].to(device)).tokens
            self._append([keys[at] for at in missing], tokens.float().cpu().numpy())
        return len(missing)

    def _read_keys(self) -> None:
        """Learn what is in the folder by now."""
        names = [name for record in self.keys.read()[0] for name in record.get("keys", ())]
        if names and (self.folder / ROWS).stat().st_size < len(names) * self._row_bytes:
            raise TrainingError(
                f"{self.folder.name} is cut short; delete it, it will be made again"
            )
        self._rows = {name: row for row, name in enumerate(names)}

    def _append(self, keys: list[str], tokens: np.ndarray) -> None:
        """Write tokens, then their keys, so that a stop between the two loses only work."""
        with (self.folder / ROWS).open("r+b" if self._rows else "wb") as handle:
            handle.seek(len(self) * self._row_bytes)
            handle.write(np.ascontiguousarray(tokens, np.float32).tobytes())
            handle.flush()
            os.fsync(handle.fileno())
        self.keys.add({"keys": keys})
        for key in keys:
            self._rows[key] = len(self._rows)
        self.computed += len(keys)
