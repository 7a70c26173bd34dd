"""Radiograph to model input: fit to the square, then normalise.

The geometry and the resampling are those of `workbench.radiograph.fit`; this module adds the mean
and standard deviation of a checkpoint.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from workbench.model.config import PIXEL_MEAN, PIXEL_STD, CxrLlavaConfig
from workbench.radiograph import FitGeometry, Radiograph, fit_pixels


class ImageProcessor:
    """Prepare radiographs for one model.

    Args:
        size: S, side of the model's square input in pixels.
        mean, std: of pixels in [0, 1]; subtracted, and divided by.

    >>> wb.model.ImageProcessor(128)(image).shape
    torch.Size([1, 128, 128])
    """

    #: The mean grey of the training images, as `normalise` gives it.
    grey = 0.0

    def __init__(self, size: int, mean: float = PIXEL_MEAN, std: float = PIXEL_STD) -> None:
        self.size = int(size)
        self.mean = float(mean)
        self.std = float(std)

    @classmethod
    def from_config(cls, config: CxrLlavaConfig) -> ImageProcessor:
        """Return the processor of a model's configuration."""
        return cls(config.vision.image_size, config.pixel_mean, config.pixel_std)

    def __call__(
        self, radiograph: Radiograph, fit: str | None = None
    ) -> Float[torch.Tensor, "1 H W"]:
        """Fit and normalise one radiograph of any size to (1, S, S) float32.

        `fit` is "crop", the published preprocessing, or "pad"; by default what the input contract
        says.

        Raises:
            InputError: the image is too thin to be fitted.
        """
        return torch.from_numpy(self.normalise(self.fitted(radiograph, fit))).unsqueeze(0)

    def fitted(self, radiograph: Radiograph, fit: str | None = None) -> np.ndarray:
        """Return the fitted square (S, S) in [0, 1]."""
        return fit_pixels(radiograph.pixels, self.size, fit or radiograph.contract.fit)

    def geometry(self, radiograph: Radiograph) -> FitGeometry:
        """Return how the radiograph lies in the model's square input."""
        return radiograph.geometry(self.size)

    def normalise(self, square: np.ndarray) -> np.ndarray:
        """Return (pixel - mean) / std in float32."""
        return (np.asarray(square, np.float32) - np.float32(self.mean)) / np.float32(self.std)

    def restore(self, pixel_values: np.ndarray) -> np.ndarray:
        """Return pixels in [0, 1] from normalised ones: the inverse of `normalise`, clipped."""
        values = np.asarray(pixel_values, np.float32)
        return np.clip(values * np.float32(self.std) + np.float32(self.mean), 0.0, 1.0)

    def __repr__(self) -> str:
        return f"ImageProcessor(size={self.size}, mean={self.mean:.6g}, std={self.std:.6g})"
