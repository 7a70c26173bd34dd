"""Perturbation methods: occlusion (all windows, or coarse to fine) and kernel SHAP over regions.

They need no gradient, so they work with quantised weights too, and cost one forward pass for every
changed image.

Papers: occlusion, Zeiler & Fergus, ECCV 2014, arXiv 1311.2901; kernel SHAP, Lundberg & Lee, NeurIPS
2017, arXiv 1705.07874. Both by captum.
Does not know: words (`target`).
Deviations: windows are centred on cells and may reach over the edge of the film, so that its border
is covered as often as its middle; what is taken away is replaced by the film's mean grey.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import KernelShap, Occlusion

from workbench.errors import OptionError
from workbench.saliency.gradients import Attribution, baseline_pixels
from workbench.saliency.scorer import Scorer

#: Default side of a window, in patches; with two the map is half noise.
WIDTH = 3


@dataclass(frozen=True)
class Windows:
    """Square windows centred on every cell of a lattice over the model's square.

    Attributes:
        side: of the model's square, pixels.
        stride: side of a cell.
        window: side of a window, `stride` or more, clipped at the edges of the square.
    """

    side: int
    stride: int
    window: int

    @classmethod
    def of(
        cls, scorer: Scorer, grid: tuple[int, int], stride: int | None, window: int | None
    ) -> Windows:
        """Return windows of given sizes; by default half a patch apart and three patches wide.

        A patch of an odd side is stepped over whole; a window that cannot be centred on a cell is
        one pixel narrower.

        Raises:
            OptionError: stride or window do not fit the image.
        """
        side = scorer.base.shape[-1]
        patch = side // grid[0]
        if stride is None:
            stride = patch // (1 if patch % 2 else 2)
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
        """How far a window reaches over its cell, pixels."""
        return (self.window - self.stride) // 2

    def box(self, row: int, column: int) -> tuple[slice, slice]:
        """Return the rows and columns of the window of a cell."""
        return tuple(
            slice(max(at * self.stride - self.margin, 0), (at + 1) * self.stride + self.margin)
            for at in (row, column)
        )

    def spread(self, falls: np.ndarray) -> np.ndarray:
        """Return per cell the mean over its pixels of the mean fall of the windows over a pixel.

        Args:
            falls: (cells, cells), the fall of the target for the window of each cell.

        Returns:
            (cells, cells); equal falls stay as they are.
        """
        pixel = np.arange(self.side)[:, None]
        first = np.arange(self.cells) * self.stride - self.margin
        # (side, cells) along one axis: which windows lie over a pixel, each pixel's sum being 1.
        over = ((pixel >= first) & (pixel < first + self.window)).astype(float)
        over /= over.sum(1, keepdims=True)
        share = over.reshape(self.cells, self.stride, self.cells).mean(1)
        return share @ falls @ share.T


def occlusion(
    scorer: Scorer,
    grid: tuple[int, int],
    *,
    stride: int | None = None,
    window: int | None = None,
    fill: str = "mean",
    batch_size: int = 16,
) -> Attribution:
    """Return how much the target falls when a window of the film is taken away, for every window.

    Args:
        scorer: the target.
        grid: rows and columns of patches.
        stride: step of the window in model pixels; half a patch when None.
        window: its side in model pixels; three patches when None.
        fill: what stands in for the window; see `baseline_pixels`.
        batch_size: images in one forward pass.

    Returns:
        one value for every stride x stride cell: the fall of the target, averaged over the windows
        that cover each of its pixels; score "forwards".

    Raises:
        OptionError: stride or window do not fit.
    """
    windows = Windows.of(scorer, grid, stride, window)
    margin = windows.margin
    start = scorer.forwards

    def framed(pixels: torch.Tensor) -> torch.Tensor:
        """Score the square inside a frame, so that windows can reach over the edge."""
        return scorer(pixels[..., margin : margin + windows.side, margin : margin + windows.side])

    with scorer.model.exclusive(), torch.inference_mode():
        found = Occlusion(framed).attribute(
            F.pad(scorer.base, (margin,) * 4, mode="replicate"),
            sliding_window_shapes=(1, windows.window, windows.window),
            strides=(1, windows.stride, windows.stride),
            baselines=F.pad(baseline_pixels(scorer, fill), (margin,) * 4, mode="replicate"),
            perturbations_per_eval=batch_size,
        )
    inner = found[0, 0, margin : margin + windows.side, margin : margin + windows.side]
    step = windows.stride
    cells = inner.float().cpu().unfold(0, step, step).unfold(1, step, step)
    return Attribution(cells.mean((2, 3)), {"forwards": float(scorer.forwards - start)})


def kernel_shap(
    scorer: Scorer,
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
        scorer: the target.
        grid: rows and columns of patches.
        regions: rows and columns of square regions; they must divide the image's side.
        samples: random sets of regions that are scored; below about four times the number of
            regions the estimate is noisy.
        fill: what stands in for a region; see `baseline_pixels`.
        seed: of the sets.
        batch_size: images in one forward pass.

    Returns:
        one value for each region; score "forwards".

    Raises:
        OptionError: the regions do not divide the image.
    """
    side, (rows, columns) = scorer.base.shape[-1], regions
    if min(rows, columns) < 1 or side % rows or side % columns:
        raise OptionError(f"regions {regions} do not divide an image of {side} pixels")
    if samples < 1:
        raise OptionError(f"kernel SHAP needs samples >= 1, got {samples}")
    high, wide = side // rows, side // columns
    row = torch.arange(side, device=scorer.device) // high
    column = torch.arange(side, device=scorer.device) // wide
    number = (row[:, None] * columns + column)[None, None]
    start = scorer.forwards
    devices = [scorer.device] if scorer.device.type == "cuda" else []
    with scorer.model.exclusive(), torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        found = KernelShap(scorer).attribute(
            scorer.base,
            baselines=baseline_pixels(scorer, fill),
            feature_mask=number,
            n_samples=samples,
            perturbations_per_eval=batch_size,
        )
    values = found[0, 0, ::high, ::wide].detach().float().cpu()
    return Attribution(values, {"forwards": float(scorer.forwards - start)})
