"""What a frozen vision tower makes of images: computed once, a file for each, never stale.

    cache = FeatureCache.open("out/features", tower, processor)
    tokens = cache.rows(cache.add(pixels))        # (B, N, W), computed or read

A file is named by the SHA-256 of the prepared pixels, and the folder is bound to that of the
tower's weights: another tower is refused. Several processes may share a folder: one writes at a
time, and finds what the others wrote.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from workbench._repr import short_repr
from workbench._store import read_json, whole_file
from workbench.errors import TrainingError
from workbench.finetune.parts import weights_sha256
from workbench.model.processor import ImageProcessor
from workbench.model.vision import VisionTower

NOTE, LOCK = "features.json", "writing.lock"


@dataclass(eq=False)
class FeatureCache:
    """Vision tokens on disk.

    Attributes:
        tower: the frozen vision tower.
        computed, found: images computed by this object, and found in the folder.
    """

    folder: Path
    tower: VisionTower = field(repr=False)
    computed: int = 0
    found: int = 0

    __repr__ = short_repr

    @classmethod
    def open(
        cls, folder: str | Path, tower: VisionTower, processor: ImageProcessor
    ) -> FeatureCache:
        """Open a cache, or start one.

        Raises:
            TrainingError: the folder was made by another tower or another preparation.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        own = {
            "encoder": weights_sha256(tower.state_dict().items()),
            "preprocessing": [processor.size, processor.mean, processor.std],
        }
        with FileLock(folder / LOCK):
            if not (folder / NOTE).is_file():
                with whole_file(folder / NOTE) as partial:
                    partial.write_text(json.dumps(own), encoding="utf-8")
        there = read_json(folder / NOTE)
        if differing := [name for name in own if own[name] != there.get(name)]:
            raise TrainingError(
                f"{folder.name} has features of another {' and '.join(differing)}; delete it or "
                "name another folder, since stale features would train the wrong thing in silence"
            )
        return cls(folder, tower)

    def add(self, pixel_values: torch.Tensor) -> list[str]:
        """Return the names of prepared images (B, 1, S, S); what is missing is computed."""
        names = [weights_sha256([("", one)]) for one in pixel_values]
        with FileLock(self.folder / LOCK):
            missing = {name: at for at, name in enumerate(names) if not self._file(name).is_file()}
            if missing:
                self._compute(list(missing), pixel_values[list(missing.values())])
        self.computed += len(missing)
        self.found += len(names) - len(missing)
        return names

    def rows(self, names: Sequence[str]) -> torch.Tensor:
        """Return (B, N, W) float32 tokens of images, read from disk.

        Raises:
            TrainingError: a file is damaged.
        """
        try:
            return torch.stack([load_file(self._file(name))["tokens"] for name in names])
        except SafetensorError as error:
            raise TrainingError(
                f"a file in {self.folder.name} is cut short; delete the folder, it will be made "
                "again"
            ) from error

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    @torch.no_grad()
    def _compute(self, names: Sequence[str], pixel_values: torch.Tensor) -> None:
        device = next(self.tower.parameters()).device
        tokens = self.tower(pixel_values.to(device)).tokens.float().cpu()
        for name, row in zip(names, tokens, strict=True):
            with whole_file(self._file(name)) as partial:
                save_file({"tokens": row.contiguous()}, partial)
