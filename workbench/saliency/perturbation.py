"""Perturbation methods: occlusion (all windows, or coarse to fine) and kernel SHAP over regions.

They need no gradient, so they work with quantised weights too, and cost one forward pass for every
changed image. Occlusion and kernel SHAP are captum's; the papers are in
`workbench.saliency.METHODS`. Every method takes a scorer of the target and the grid, rows and
columns of patches, and counts its passes as the score "forwards".
Deviations: windows are centred on cells and may reach over the edge of the image, so that its
border is covered as often as its middle; what is taken away is replaced by the image's mean grey.

Adaptive occlusion scores a sparse part of the lattice of windows first: every seventh window of a
slanted lattice, so that windows fall on and between patches alike, in both directions. Then, a few
at a time, windows are added where the scores around them differ most and the nearest scored window
is far, until the budget is spent. What was not scored is interpolated, and the map is spread from
windows to cells exactly as the full method does. Differences are weighed, and interpolated, on a
scale that is linear for falls of ordinary size and logarithmic beyond (arcsinh), so that one strong
lesion does not hide everything else. Interpolation: linear radial basis functions (Wendland,
Scattered Data Approximation, 2005), by scipy. The rule of where to look next is this project's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import KernelShap, Occlusion
from scipy.interpolate import RBFInterpolator
from scipy.spatial import KDTree

from workbench.errors import OptionError
from workbench.model.placement import drawing_from
from workbench.saliency.gradients import Attribution, baseline_pixels
from workbench.saliency.scorer import PixelScorer

#: Default side of a window, in patches; with two the map is half noise.
WIDTH = 3
#: One window in so many is scored first.
COARSE = 7
#: Columns that the coarse lattice moves from one row to the next: windows are 2.2 apart or more.
SLANT = 2
#: Scored neighbours that say how much the score moves at a place.
NEIGHBOURS = 5


@dataclass(frozen=True)
class Windows:
    """Square windows on every cell of a lattice over the model's square; sizes are in pixels."""

    side: int
    stride: int
    window: int

    @classmethod
    def of(
        cls, scorer: PixelScorer, grid: tuple[int, int], stride: int | None, window: int | None
    ) -> Windows:
        """Return windows of given sizes; by default half a patch apart and three patches wide.

        A patch of an odd side is stepped over whole; a window that cannot be centred on a cell is
        one pixel narrower. Sizes that do not fit the image raise `OptionError`.
        """
        side = scorer.base.shape[-1]
        patch = side // grid[0]
        if stride is None:
            stride = patch // (1 if patch % 2 else 2)
            stride = next(step for step in range(stride, 0, -1) if not side % step)
        if window is None:
            window = min(max(WIDTH * patch, stride), side)
            window -= (window - stride) % 2
        if stride < 1 or side % stride or not stride <= window <= side or (window - stride) % 2:
            raise OptionError(
                f"the stride must divide the image's side ({side}), and the window be a stride or "
                f"more and wider by an even number; got stride {stride} and window {window}"
            )
        return cls(side, stride, window)

    @property
    def cells(self) -> int:
        """Cells along each side."""
        return self.side // self.stride

    @property
    def margin(self) -> int:
        """How far a window reaches over its cell."""
        return (self.window - self.stride) // 2

    def box(self, *cell: int) -> tuple[slice, ...]:
        """Return the pixels of the window of a cell along each side, clipped at the edges."""
        starts = [at * self.stride - self.margin for at in cell]
        return tuple(slice(max(start, 0), start + self.window) for start in starts)

    def spread(self, falls: np.ndarray) -> np.ndarray:
        """Return per cell the mean over its pixels of the mean fall of the windows over a pixel."""
        # (side, cells) along one axis: which windows lie over a pixel, each pixel's sum being 1.
        over = np.zeros((self.side, self.cells))
        for at in range(self.cells):
            over[*self.box(at), at] = 1
        over /= over.sum(1, keepdims=True)
        share = over.reshape(self.cells, self.stride, self.cells).mean(1)
        return share @ falls @ share.T


def occlusion(
    scorer: PixelScorer,
    grid: tuple[int, int],
    *,
    stride: int | None = None,
    window: int | None = None,
    fill: str = "mean",
    batch_size: int = 16,
) -> Attribution:
    """Return how much the target falls when a window of the image is taken away, for every window.

    Args:
        stride: step of the window in model pixels; half a patch when None.
        window: its side in model pixels; three patches when None.
        fill: what stands in for the window; see `baseline_pixels`.

    Returns:
        one value for every stride x stride cell: the fall of the target, averaged over the windows
        that cover each of its pixels.
    """
    windows = Windows.of(scorer, grid, stride, window)
    start, step, frame = scorer.forwards, windows.stride, (windows.margin,) * 4
    # A frame lets windows reach over the edge; the square inside it is scored.
    inner = slice(windows.margin, windows.margin + windows.side)
    with scorer.model.exclusive(), torch.inference_mode():
        found = Occlusion(lambda pixels: scorer(pixels[..., inner, inner])).attribute(
            F.pad(scorer.base, frame, mode="replicate"),
            sliding_window_shapes=(1, windows.window, windows.window),
            strides=(1, step, step),
            baselines=F.pad(baseline_pixels(scorer, fill), frame, mode="replicate"),
            perturbations_per_eval=batch_size,
        )
    cells = found[0, 0, inner, inner].float().cpu().unfold(0, step, step).unfold(1, step, step)
    return Attribution(cells.mean((2, 3)), {"forwards": float(scorer.forwards - start)})


def adaptive_occlusion(
    scorer: PixelScorer,
    grid: tuple[int, int],
    *,
    budget: int = 200,
    stride: int | None = None,
    window: int | None = None,
    fill: str = "mean",
    batch_size: int = 16,
) -> Attribution:
    """Return what `occlusion` returns, from a limited number of forward passes.

    Args:
        budget: images to score at most, the whole one included.
        stride: step of the window in model pixels; when None half a patch, or a whole one or more
            where the budget would not last for the coarse pass.
        window, fill: see `occlusion`.
        batch_size: images in one forward pass, and windows added before looking again.

    Raises:
        OptionError: stride or window do not fit, or the budget is below the coarse pass.
    """
    windows = Windows.of(scorer, grid, stride, window)
    first = coarse_windows(windows.cells)
    side = windows.side
    for step in range(side // grid[0], side + 1):
        if stride is None and not side % step and budget < len(first) + 1:
            windows = Windows.of(scorer, grid, step, window)
            first = coarse_windows(windows.cells)
    if budget < len(first) + 1:
        raise OptionError(
            f"the coarse pass alone needs {len(first) + 1} forward passes, the budget is {budget}; "
            "raise the budget or the stride"
        )
    start = scorer.forwards
    blank = baseline_pixels(scorer, fill)
    with scorer.model.exclusive():
        whole = float(scorer.scores(scorer.base)[0])

        def fall(chosen: list[tuple[int, int]]) -> list[float]:
            changed = scorer.base.repeat(len(chosen), 1, 1, 1)
            for image, cell in zip(changed, chosen, strict=True):
                box = (0, *windows.box(*cell))
                image[box] = blank[0][box]
            return (whole - scorer.scores(changed, batch_size=batch_size)).tolist()

        known = dict(zip(first, fall(first), strict=True))
        limit = min(budget - 1, windows.cells**2)
        while len(known) < limit:
            more = next_windows(known, windows.cells, min(batch_size, limit - len(known)))
            known |= dict(zip(more, fall(more), strict=True))
    values = windows.spread(interpolated(known, windows.cells))
    forwards = float(scorer.forwards - start)
    return Attribution(torch.from_numpy(values).float(), {"forwards": forwards})


def coarse_windows(cells: int) -> list[tuple[int, int]]:
    """Return every seventh of (cells, cells) windows, slanted so that every line has some."""
    row, column = np.indices((cells, cells)) - cells // 2
    return [(r, c) for r, c in np.argwhere((column + SLANT * row) % COARSE == 0).tolist()]


def next_windows(
    known: dict[tuple[int, int], float], cells: int, count: int
) -> list[tuple[int, int]]:
    """Return the windows to score next: far from any scored one, where scores around differ."""
    places = np.array(list(known), float)
    falls = np.array(list(known.values()))
    every = np.indices((cells, cells)).reshape(2, -1).T
    # Places equally far come in the order of the tree, which its leaves decide.
    found = KDTree(places, leafsize=16).query(every, k=min(NEIGHBOURS, len(places)))
    apart, near = (np.reshape(part, (len(every), -1)) for part in found)
    moved = np.ptp(np.arcsinh(falls / _ordinary(falls))[near], axis=1)
    # 1e-9: where nothing moves at all, distance still decides.
    worth = (moved + 1e-9) * apart[:, 0] ** 2
    chosen: list[tuple[int, int]] = []
    crowded: list[tuple[int, int]] = []
    for cell in map(tuple, every[np.argsort(-worth, kind="stable")].tolist()):
        if cell in known:
            continue
        touches = any(max(abs(cell[0] - r), abs(cell[1] - c)) <= 1 for r, c in chosen)
        (crowded if touches else chosen).append(cell)
        if len(chosen) == count:
            break
    return (chosen + crowded)[:count]


def interpolated(known: dict[tuple[int, int], float], cells: int) -> np.ndarray:
    """Return (cells, cells): scored windows as they are, the others between their neighbours."""
    places = np.array(list(known), float)
    falls = np.array(list(known.values()))
    every = np.indices((cells, cells)).reshape(2, -1).T.astype(float)
    scale = 3 * _ordinary(falls)
    smooth = RBFInterpolator(places, np.arcsinh(falls / scale), kernel="linear")(every)
    filled = scale * np.sinh(smooth).reshape(cells, cells)
    filled[tuple(places.astype(int).T)] = falls
    return filled


def _ordinary(falls: np.ndarray) -> float:
    """Return the median size of the falls, above 0."""
    return float(np.median(np.abs(falls))) or float(np.abs(falls).max()) or 1.0


def kernel_shap(
    scorer: PixelScorer,
    grid: tuple[int, int],
    *,
    regions: tuple[int, int] = (8, 8),
    samples: int = 256,
    fill: str = "mean",
    seed: int = 0,
    batch_size: int = 16,
) -> Attribution:
    """Return Shapley values of image regions, estimated by captum's weighted regression.

    Args:
        regions: rows and columns of square regions; they must divide the image's side.
        samples: random sets of regions that are scored, by `seed`; below about four times the
            number of regions the estimate is noisy.
        fill: what stands in for a region; see `baseline_pixels`.

    Raises:
        OptionError: the regions do not divide the image, or there is no sample.
    """
    side, (rows, columns) = scorer.base.shape[-1], regions
    if min(rows, columns) < 1 or side % rows or side % columns:
        raise OptionError(f"regions {regions} do not divide an image of {side} pixels")
    if samples < 1:
        raise OptionError(f"kernel SHAP needs samples >= 1, got {samples}")
    high, wide = side // rows, side // columns
    pixel = torch.arange(side, device=scorer.device)
    number = (pixel[:, None] // high * columns + pixel // wide)[None, None]
    start = scorer.forwards
    with scorer.model.exclusive(), drawing_from(seed, scorer.device):
        found = KernelShap(scorer).attribute(
            scorer.base,
            baselines=baseline_pixels(scorer, fill),
            feature_mask=number,
            n_samples=samples,
            perturbations_per_eval=batch_size,
        )
    values = found[0, 0, ::high, ::wide].detach().float().cpu()
    return Attribution(values, {"forwards": float(scorer.forwards - start)})
