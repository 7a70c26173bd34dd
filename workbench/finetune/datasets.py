"""Rows of a run as torch reads them, and their order, decided before the first step.

A batch is a list of (pass, row) keys. The whole run is one list, so that a resumed run leaves out
the batches that are done, and each of two processes takes every second one. Rows of like length
come together; which batches follow each other is random.

What a frozen vision tower makes of images is computed once: a `FeatureCache` has a file for each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset

from workbench._repr import short_repr
from workbench._store import whole_file
from workbench.cases import Case
from workbench.errors import TrainingError
from workbench.findings import ABSENT, NO_FINDING, NOT_MENTIONED, PRESENT
from workbench.finetune.encoding import Example, packed
from workbench.finetune.parts import weights_sha256
from workbench.model.processor import ImageProcessor
from workbench.model.prompt import IGNORE_LABEL
from workbench.model.vision import VisionTower
from workbench.radiograph.fit import fit_pixels

#: Rows are sorted by length inside windows of this many batches.
_WINDOW = 8

Key = tuple[int, int]


class PlannedBatches(list[list[Key]]):
    """All batches of a run over `total` rows, as keys."""

    # both for accelerate, which asks; there is no smaller batch at the end
    drop_last = True

    def __init__(self, batches: Sequence[Sequence[Key]], total: int) -> None:
        super().__init__(map(list, batches))
        self.epochs = sum(map(len, self)) / total
        self.batch_size = len(self[0])


def plan_batches(
    lengths: Sequence[int], *, micro: int, batch: int, epochs: float, seed: int
) -> PlannedBatches:
    """Return the batches of a run: `micro` rows in each, `batch` rows in a step.

    `lengths` are of all rows; the last of `epochs` may be a part. `TrainingError` where there are
    fewer rows than one step needs.
    """
    total = len(lengths)
    steps = max(round(epochs * total / batch), 1)
    if total < batch and epochs * total < batch:
        raise TrainingError(
            f"{total} rows and {epochs:g} passes do not fill one step of {batch}; lower "
            "training.batch_size or give more cases"
        )
    keys: list[Key] = []
    for epoch in range(math.ceil(steps * batch / total)):
        order = np.random.default_rng([seed, 76, epoch]).permutation(total)
        keys += [(epoch, int(row)) for row in order]
    keys = keys[: steps * batch]
    rng, window = np.random.default_rng([seed, 77]), _WINDOW * batch
    batches: list[list[Key]] = []
    for start in range(0, len(keys), window):
        part = sorted(keys[start : start + window], key=lambda key: lengths[key[1]])
        cut = [part[at : at + micro] for at in range(0, len(part), micro)]
        batches += [cut[at] for at in rng.permutation(len(cut))]
    return PlannedBatches(batches, total)


def augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change exposure, contrast, blur and noise of images (B, S, S) in [0, 1].

    The geometry stays, so that sides stay sides.
    """
    batch = len(pixels)

    def draw(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(batch, 1, 1, generator=generator)

    changed = pixels.clamp_min(1e-4) ** torch.exp(draw(-0.5, 0.45))
    changed = 0.5 + (changed - 0.5) * draw(0.65, 1.12) + draw(-0.10, 0.08)
    soft = F.avg_pool2d(changed[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    changed = torch.lerp(changed, soft, draw(-0.3, 0.9).clamp_min(0))
    noise = torch.randn(pixels.shape, generator=generator)
    changed = changed + noise * draw(0.0, 0.045) * (0.4 + 0.8 * changed)
    plain = (draw(0, 1) < 0.25).float()
    return (plain * pixels + (1 - plain) * changed).clamp(0, 1)


def augmented(pixels: torch.Tensor, *, seed: int, epoch: int, case: int) -> torch.Tensor:
    """Return one image (S, S) in [0, 1] with a change that seed, epoch and case decide."""
    number = int(np.random.SeedSequence([seed, 75, epoch, case]).generate_state(1)[0])
    generator = torch.Generator().manual_seed(number)
    return augment(pixels[None], generator)[0]


@dataclass(frozen=True, eq=False)
class Images:
    """Prepared images of cases, each read when it is asked for and kept nowhere."""

    cases: Sequence[Case]
    processor: ImageProcessor
    augment: bool = False
    seed: int = 0

    def __len__(self) -> int:
        return len(self.cases)

    def batch(self, rows: Iterable[int]) -> torch.Tensor:
        """Return (B, 1, S, S) of rows in the first pass."""
        return torch.stack([self.prepared(int(row)) for row in rows])

    def batches(self, size: int = 16) -> Iterator[torch.Tensor]:
        """Yield (B, 1, S, S) of all rows in order, in the first pass."""
        for at in range(0, len(self), size):
            yield self.batch(range(at, min(at + size, len(self))))

    def prepared(self, row: int, epoch: int = 0) -> torch.Tensor:
        """Return (1, S, S) normalised pixels of a case in a pass."""
        image = self.cases[row].load()
        if not self.augment:
            return self.processor(image)
        fitted = self.processor.fitted(image)
        changed = augmented(
            torch.from_numpy(np.ascontiguousarray(fitted, np.float32)),
            seed=self.seed, epoch=epoch, case=row,
        )  # fmt: skip
        return torch.from_numpy(self.processor.normalise(changed.numpy()))[None]


@dataclass(eq=False)
class FeatureCache:
    """Vision tokens of images on disk, never of another tower.

        cache = FeatureCache("out/features", tower)
        tokens = cache.rows(cache.add(pixels))        # (B, N, W), computed or read

    A file is named by the SHA-256 of the frozen tower's weights and of the prepared pixels. Several
    processes may share a folder: one writes at a time, and finds what the others wrote.

    Attributes:
        computed, found: images computed by this object, and found in the folder.

    >>> cache = wb.finetune.FeatureCache("features", model.network.vision)
    >>> cache.rows(cache.add(model.pixels(image))).shape[0]
    1
    """

    folder: Path
    tower: VisionTower = field(repr=False)
    computed: int = 0
    found: int = 0

    __repr__ = short_repr

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._encoder = weights_sha256(self.tower.state_dict().items())

    @torch.no_grad()
    def add(self, pixel_values: torch.Tensor) -> list[str]:
        """Return the names of prepared images (B, 1, S, S); what is missing is computed."""
        names = [weights_sha256([(self._encoder, one)]) for one in pixel_values]
        with FileLock(self.folder / "writing.lock"):
            missing = {name: at for at, name in enumerate(names) if not self._file(name).is_file()}
            if missing:
                seen = pixel_values[list(missing.values())].to(self.tower.proj.device)
                tokens = self.tower(seen).tokens.float().cpu()
                for name, row in zip(missing, tokens, strict=True):
                    with whole_file(self._file(name)) as partial:
                        save_file({"tokens": row.contiguous()}, partial)
        self.computed += len(missing)
        self.found += len(names) - len(missing)
        return names

    def rows(self, names: Sequence[str]) -> torch.Tensor:
        """Return (B, N, W) float32 tokens of images; `TrainingError` where a file is damaged."""
        try:
            return torch.stack([load_file(self._file(name))["tokens"] for name in names])
        except SafetensorError as error:
            raise TrainingError(
                f"a file in {self.folder.name} is cut short; delete the folder, it will be made "
                "again"
            ) from error

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


class PlannedRows(Dataset):
    """Rows that are read a batch at a time: an item is its key."""

    def __getitem__(self, key: Key) -> Key:
        return key


@dataclass(eq=False, repr=False)
class TurnRows(PlannedRows):
    """Rows of stages 2 and 3: one turn, or all turns of an image.

    Attributes:
        groups: examples of one image in each row.
        cache: a feature cache; None lets the tower see every image again.
        untaught: batches have also "base", what the base is asked: the same rows without what is
            about the taught finding; and "unlabelled" (B, L), True in rows without labels.
    """

    groups: Sequence[Sequence[Example]]
    images: Images
    cache: FeatureCache | None
    image_tokens: int
    untaught: bool = False

    def __post_init__(self) -> None:
        self._cached: dict[int, str] = {}
        if self.cache is not None:
            for case in sorted({group[0].case for group in self.groups}):
                self._cached[case] = self.cache.add(self.images.batch([case]))[0]

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def lengths(self) -> list[int]:
        """Tokens of every row, for rows of like length to come together."""
        return [sum(len(example.ids) for example in group) for group in self.groups]

    def collate(self, keys: Sequence[Key]) -> dict[str, Any]:
        """Return a batch for `Student`."""
        groups = [self.groups[row] for _, row in keys]
        batch = self.texts(groups)
        if self.untaught:
            bare = [[one.untaught for one in group] for group in groups]
            batch["base"] = self.texts(bare)
            given = torch.tensor([group[0].turn.given for group in groups])
            batch["unlabelled"] = given[:, None].expand_as(batch["labels"]).contiguous()
        cases = [group[0].case for group in groups]
        if self.cache is not None:
            batch["vision_tokens"] = self.cache.rows([self._cached[case] for case in cases])
        else:
            seen = [self.images.prepared(c, e) for c, (e, _) in zip(cases, keys, strict=True)]
            batch["pixel_values"] = self.seen(seen)
        return batch

    def texts(self, groups: Sequence[Sequence[Example]]) -> dict[str, Any]:
        """Return the ids of rows, and what is learned of them."""
        return dict(packed(groups, self.image_tokens))

    def seen(self, images: Sequence[torch.Tensor]) -> torch.Tensor | Sequence[torch.Tensor]:
        """Return the images of a batch, (B, 1, S, S)."""
        return torch.stack(list(images))


@dataclass(eq=False, repr=False)
class LabelRows(PlannedRows):
    """Rows of stage 1: an image, its labels, and where its findings are.

    Attributes:
        unlisted: "absent" takes a finding that a row does not mention as absent; "unknown" gives it
            no loss.
        regions: whether masks and boxes are read.
        labels: (n, F) 1, 0, or -100 for unknown.
    """

    images: Images
    findings: tuple[str, ...]
    unlisted: str
    regions: bool
    patch: int = 16

    def __post_init__(self) -> None:
        rows = [[label_of(case, name, self.unlisted) for name in self.findings]
                for case in self.images.cases]  # fmt: skip
        self.labels = np.array(rows, np.int64)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def lengths(self) -> list[int]:
        """Images of every row."""
        return [1] * len(self)

    def collate(self, keys: Sequence[Key]) -> dict[str, torch.Tensor]:
        """Return pixel_values (B, 1, S, S), labels (B, F), cover (B, N, F) and known (B, F)."""
        rows = [row for _, row in keys]
        pixels = torch.stack([self.images.prepared(row, epoch) for epoch, row in keys])
        batch = {"pixel_values": pixels, "labels": torch.from_numpy(self.labels[rows])}
        if self.regions:
            cover, known = zip(*map(self._cover, rows), strict=True)
            batch["cover"] = torch.from_numpy(np.stack(cover))
            batch["known"] = torch.from_numpy(np.stack(known))
        return batch

    def _cover(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        case, size = self.images.cases[row], cast(ImageProcessor, self.images.processor).size
        regions = dict(case.regions())
        if case.drawn is not None and regions:
            some = next(iter(regions.values()))
            for name in self.findings:
                if case.code(name) == ABSENT:
                    regions.setdefault(name, np.zeros_like(some))
        return patch_targets(regions, self.findings, size, self.patch)


def label_of(case: Case, finding: str, unlisted: str) -> int:
    """Return 1 present, 0 absent, -100 for what carries no loss."""
    code = case.code(finding)
    if code == PRESENT:
        return 1
    silent = code == NOT_MENTIONED and unlisted == "absent"
    absent = code == ABSENT or case.code(NO_FINDING) == PRESENT or silent
    return 0 if absent else IGNORE_LABEL


def patch_targets(
    regions: Mapping[str, np.ndarray], findings: tuple[str, ...], size: int, patch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the share (N, F) of each patch that is covered, and (F,) whether that is known.

    Args:
        regions: finding -> boolean (H, W).
        size, patch: sides of the model's input and of a patch, pixels.
    """
    side = size // patch
    target = np.zeros((side * side, len(findings)), np.float32)
    known = np.zeros(len(findings), bool)
    for at, name in enumerate(findings):
        if name in regions:
            shown = fit_pixels(regions[name].astype(np.float32), size, "crop")
            cells = shown[: side * patch, : side * patch].reshape(side, patch, side, patch)
            target[:, at], known[at] = cells.mean((1, 3)).ravel(), True
    return target, known
