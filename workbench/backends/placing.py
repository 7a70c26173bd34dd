"""Where every pixel that a network sees lies in the original, and which image token reads it.

Nothing is known about a family. Pictures of ramps go through the family's own processor: what
comes out says for each number of its output where in the original it comes from, whatever was
resized, cut, padded, tiled or put into another order. Then the vision tower runs with every
position attending to itself only (`own_value`), so that an image token depends on its own pixels
alone; gradients of sums over some of the tokens, one for each binary digit of a token's number,
give each pixel the number of its token. It holds for pooling, merging and shuffling of patches; a
resampler that lets tokens look at the whole image is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from workbench._repr import short_repr
from workbench.errors import CheckpointError
from workbench.radiograph import FitGeometry
from workbench.radiograph.fit import box_geometry

#: Ramps along each axis that show where a pixel comes from.
_RAMPS = 8

#: The square of a view is a multiple of so many pixels.
_EVEN = 8

#: A display grid has at most this many rows or columns.
_MOST_CELLS = 256


@dataclass(frozen=True, eq=False)
class Placement:
    """Places of one size of image.

    Attributes:
        size: (rows, columns) of the original.
        points: (..., 2) float32, x and y in original pixels of each number that the network gets;
            NaN where it is padding.
        gain: (...) float32, by how much the number changes from black to white.
        boxes: (N, 4) float64, left, top, right, bottom of each image token in original pixels; NaN
            for tokens that see no part of the image, such as marks between rows.
    """

    size: tuple[int, int]
    points: np.ndarray
    gain: np.ndarray
    boxes: np.ndarray

    __repr__ = short_repr

    @cached_property
    def seen(self) -> np.ndarray:
        """(left, top, right, bottom) of what the network sees, original pixels."""
        low, high = np.nanmin(self.boxes, 0), np.nanmax(self.boxes, 0)
        edge = np.array([self.size[1], self.size[0]], float)
        # edges of the image itself are found to about half a pixel of what the network gets
        low = np.where(low[:2] < 0.01 * edge, 0, low[:2])
        high = np.where(high[2:] > 0.99 * edge, edge, high[2:])
        return np.concatenate((low, high))

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the finest regular grid that the tokens ask for."""
        left, top, right, bottom = self.seen
        wide, high = np.nanmin(self.boxes[:, 2:] - self.boxes[:, :2], 0)
        rows, columns = (bottom - top) / high, (right - left) / wide
        return tuple(int(min(max(round(n), 1), _MOST_CELLS)) for n in (rows, columns))  # type: ignore[return-value]

    @cached_property
    def geometry(self) -> FitGeometry:
        """The grid's place in the original: what is seen fills the square."""
        return box_geometry(self.size, tuple(self.seen.tolist()))

    @cached_property
    def shares(self) -> np.ndarray:
        """(N, cells) float32: how a token's value is spread over the cells of the grid.

        Rows sum to 1, or to 0 for tokens that see no part of the image.
        """
        left, top, right, bottom = self.seen
        rows, columns = self.grid
        across = _overlap(self.boxes[:, [0, 2]], np.linspace(left, right, columns + 1))
        down = _overlap(self.boxes[:, [1, 3]], np.linspace(top, bottom, rows + 1))
        return (down[:, :, None] * across[:, None]).reshape(len(self.boxes), -1).astype(np.float32)


def _overlap(spans: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return (N, cells): the share of each span (N, 2) in each cell; hairs are left out."""
    low = np.maximum(spans[:, :1], edges[None, :-1])
    high = np.minimum(spans[:, 1:], edges[None, 1:])
    cover = np.nan_to_num((high - low).clip(0))
    cover[cover < 0.25 * np.diff(edges)[0]] = 0
    total = cover.sum(1, keepdims=True)
    return np.divide(cover, total, out=np.zeros_like(cover), where=total > 0)


def fit_of(
    pixels_of: Callable[[Image.Image], torch.Tensor], size: tuple[int, int]
) -> tuple[float, float]:
    """Return what a processor cuts off a picture, percent of its area, and its squeeze.

    The latter is by how much it is narrowed, below 1 where it is flattened; 1 where the processor
    makes more than one picture of it. Of values that are evenly spread over a length, the standard
    deviation is that length / sqrt(12). Arguments are those of `pixel_points`.
    """
    points, _ = pixel_points(pixels_of, size, ramps=1)
    extent = np.array([size[1], size[0]], float)
    spans = np.nanstd(points.reshape(-1, 2), 0) * math.sqrt(12)
    spans = np.where(spans > 0.99 * extent, extent, spans)
    loss = 100 * (1 - float(np.prod(spans / extent)))
    shape = points.shape[:-1]
    if len(shape) != 4 or shape[0] != 1 or np.isnan(points).any():
        return loss, 1.0
    return loss, float(spans[0] / shape[3] / (spans[1] / shape[2]))


def frame_of(
    pixels_of: Callable[[Image.Image], torch.Tensor], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return the box that what a processor makes of a picture covers, in original pixels.

    Of one picture it includes the padding, which lies beyond the original; of several it is what
    they show together. Arguments are those of `pixel_points`.
    """
    points, gain = pixel_points(pixels_of, size, ramps=1)
    extent = np.array([size[1], size[0]], float)
    if points.ndim == 5 and points.shape[0] == 1:
        strong = np.abs(gain) > 0.98 * np.abs(gain).max((2, 3), keepdims=True)
        points[~strong] = np.nan  # where image and padding are mixed
        ends = [_ends(np.moveaxis(points[0, ..., n], 2 - n, -1)) for n in (0, 1)]
    else:
        flat = points.reshape(-1, 2)
        middle, half = np.nanmean(flat, 0), np.nanstd(flat, 0) * math.sqrt(3)
        ends = [
            (m - h, m + h) if h < 0.495 * e else (0.0, e)
            for m, h, e in zip(middle, half, extent, strict=True)
        ]
    (left, right), (top, bottom) = ends
    return float(left), float(top), float(right), float(bottom)


def _ends(places: np.ndarray) -> tuple[float, float]:
    """Return where the first pixel of lines (..., n) begins and the last ends, from their middles.

    A straight line through the inner half of those known: near its edges a picture is blurred.
    """
    known = (~np.isnan(places)).sum((0, 1))
    at = np.flatnonzero(known)
    inner = at[len(at) // 4 : max(len(at) - len(at) // 4, 2)]
    step, first = np.polyfit(inner, np.nansum(places, (0, 1))[inner] / known[inner], 1)
    return first - step / 2, first + (len(known) - 0.5) * step


def pixel_points(
    pixels_of: Callable[[Image.Image], torch.Tensor], size: tuple[int, int], ramps: int = _RAMPS
) -> tuple[np.ndarray, np.ndarray]:
    """Return where each number that a processor makes lies in the original, and its gain.

    A ramp over the whole picture has 256 greys; ramps over parts of it, which add up to the whole
    one, are finer.

    Args:
        pixels_of: runs the processor on a picture.
        size: (rows, columns) of the original.

    Returns:
        (..., 2) x and y in original pixels, NaN where the number is padding; and (...) by how much
        the number changes from black to white.
    """

    def seen(values: np.ndarray) -> np.ndarray:
        grey = np.rint(np.broadcast_to(values, size) * 255).astype(np.uint8)
        return pixels_of(Image.fromarray(grey).convert("RGB")).double().numpy()

    black = seen(np.zeros(1))
    whole = seen(np.ones(1)) - black
    padding = np.abs(whole) < 1e-6
    points = []
    for extent, shape in ((size[1], (1, -1)), (size[0], (-1, 1))):
        steps = (np.arange(extent) + 0.5) / extent * ramps
        parts = (seen((steps - n).clip(0, 1).reshape(shape)) - black for n in range(ramps))
        share = sum(parts) / np.where(padding, 1, whole) / ramps
        points.append(np.where(padding, np.nan, share * extent))
    return np.stack(points, -1), whole


def place(
    points: np.ndarray,
    gain: np.ndarray,
    size: tuple[int, int],
    features: Callable[[torch.Tensor], torch.Tensor],
    pixels: torch.Tensor,
) -> Placement:
    """Find the image token that reads each number.

    Args:
        points, gain: of `pixel_points`.
        features: pixels to image tokens (N, H), differentiable, with `own_value` in the tower.
        pixels: what the network gets for some image, of the shape of `points` less its last axis.

    Raises:
        CheckpointError: tokens do not depend on pixels of their own alone.
    """
    start = pixels.detach().clone().requires_grad_()
    tokens = features(start)
    scalar = tokens.float().square().sum(-1)
    count = len(scalar)
    whole = _gradient(scalar.sum(), start)
    read = whole != 0
    number = np.zeros(read.shape, np.int64)
    for digit in range(max(1, (count - 1).bit_length())):
        chosen = torch.tensor([(n >> digit) & 1 for n in range(count)], device=scalar.device)
        share = _gradient((scalar * chosen).sum(), start)
        near = np.abs(share - whole) <= 1e-2 * np.abs(whole)
        far = np.abs(share) <= 1e-2 * np.abs(whole)
        if not (near | far | ~read).all():
            raise CheckpointError(
                "image tokens share pixels, so that a token has no place of its own in the image"
            )
        number |= (near & ~far).astype(np.int64) << digit
    boxes = _boxes(points, np.where(read & ~np.isnan(points[..., 0]), number, -1), count)
    return Placement(size, points.astype(np.float32), gain.astype(np.float32), boxes)


def _gradient(value: torch.Tensor, pixels: torch.Tensor) -> np.ndarray:
    (found,) = torch.autograd.grad(value, pixels, retain_graph=True)
    return found.double().cpu().numpy()


def _boxes(points: np.ndarray, token: np.ndarray, count: int) -> np.ndarray:
    """Return (N, 4): from the first to the last pixel of each token, half a pixel further out.

    `token` (...) is the number of the token that reads each of `points`, -1 where none does. Of k
    evenly spaced values, 12 * variance / range^2 is (k + 1) / (k - 1): that gives the width of a
    pixel.
    """
    boxes = np.full((count, 4), np.nan)
    known = token >= 0
    of, number = token[known], np.bincount(token[known], minlength=count).clip(1)
    for axis in (0, 1):
        values = points[known][:, axis]
        low, high = np.full(count, np.inf), np.full(count, -np.inf)
        np.minimum.at(low, of, values)
        np.maximum.at(high, of, values)
        found = high > low
        mean = np.bincount(of, values, count) / number
        variance = np.bincount(of, (values - mean[of]) ** 2, count) / number
        ratio = 12 * variance[found] / (high - low)[found] ** 2
        pixels = np.rint((ratio + 1) / (ratio - 1).clip(1e-3)).clip(2)
        half = (high - low)[found] / (pixels - 1) / 2
        boxes[found, axis], boxes[found, 2 + axis] = low[found] - half, high[found] + half
    return boxes


class View:
    """An image as a square that can be changed: changes of it become changes of a network's inputs.

    The inputs of the unchanged square are those of the image, to the bit; a change is carried over
    by interpolation at the place of each number that the network gets.

    Attributes:
        base: (1, 1, S, S) float32 in [0, 1], what is seen of the image; S is a multiple of 8, and
            of the rows and the columns of the grid where that is no much larger square.
    """

    def __init__(
        self,
        values: Mapping[str, torch.Tensor],
        placement: Placement,
        image: np.ndarray,
        read: Callable[..., torch.Tensor],
    ) -> None:
        self._values, self._read = values, read
        pixels = values["pixel_values"]
        rows, columns = placement.grid
        left, top, right, bottom = placement.seen
        fine = max(rows, columns) * math.sqrt(placement.gain.size / 3 / len(placement.boxes))
        # whole cells where that is no much larger square, as it is for 37 x 31 cells
        step = math.lcm(2 * rows, 2 * columns, _EVEN)
        if step > 1.5 * fine:
            step = _EVEN if fine < 64 * _EVEN else 8 * _EVEN
        side = step * max(1, round(fine / step))
        square = Image.fromarray(image.astype(np.float32)).resize(
            (side, side), Image.Resampling.BICUBIC, box=(left, top, right, bottom)
        )
        self.base = torch.from_numpy(np.array(square))[None, None].to(pixels.device)
        start, extent = np.array([left, top]), np.array([right - left, bottom - top])
        at = (placement.points.reshape(-1, 2) - start) / extent * 2 - 1
        gain = np.where(np.isnan(at[:, 0]), 0, placement.gain.ravel())
        self._at = torch.from_numpy(np.nan_to_num(at)).float().to(pixels.device)
        self._gain = torch.from_numpy(gain).float().to(pixels.device)

    def logits(
        self, square: torch.Tensor, prompt_ids: Sequence[int], tokens: Sequence[int]
    ) -> torch.Tensor:
        """Return the (B, n, V) float32 logits that n given tokens are chosen from; differentiable.

        Args:
            square: (B, 1, S, S), `base` with changes.
        """
        count, pixels = len(square), self._values["pixel_values"]
        change = F.grid_sample(
            square.float() - self.base, self._at.expand(count, 1, -1, -1),
            padding_mode="border", align_corners=False,
        )  # fmt: skip
        moved = (change[:, 0, 0] * self._gain).reshape(count, *pixels.shape)
        stacked = {key: torch.cat([value] * count) for key, value in self._values.items()}
        stacked["pixel_values"] = (pixels + moved.to(pixels)).flatten(0, 1)
        return self._read(stacked, prompt_ids, tokens, batch=count)
