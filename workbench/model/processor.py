"""Radiograph to model input: fit to the square, then normalise.

The geometry and the resampling are those of `workbench.radiograph.fit`; this module adds the mean
and standard deviation of a checkpoint.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from workbench.errors import OptionError
from workbench.model.config import PIXEL_MEAN, PIXEL_STD, CxrLlavaConfig
from workbench.radiograph import FitGeometry, Radiograph, fit_geometry, fit_pixels


class ImageProcessor:
    """Prepare radiographs for one model.

    Args:
        size: S, side of the model's square input in pixels.
        mean, std: of pixels in [0, 1]; subtracted, and divided by.

    Raises:
        OptionError: size or std is not above 0.
    """

    def __init__(self, size: int, mean: float = PIXEL_MEAN, std: float = PIXEL_STD) -> None:
        if size < 1 or std <= 0:
            raise OptionError(f"size and std must be above 0, got size {size} and std {std}")
        self.size = int(size)
        self.mean = float(mean)
        self.std = float(std)

    @classmethod
    def from_config(cls, config: CxrLlavaConfig) -> ImageProcessor:
        """Return the processor of a model's configuration."""
        return cls(config.vision.image_size, config.pixel_mean, config.pixel_std)

    def __call__(
        self, radiograph: Radiograph, fit: str | None = None
    ) -> Float[torch.Tensor, "1 S S"]:
        """Fit and normalise one radiograph to (1, S, S) float32.

        Args:
            radiograph: pixels (H, W) in [0, 1] of any size.
            fit: "crop", the published preprocessing, or "pad"; by default what the radiograph's
                input contract says.

        Raises:
            OptionError: fit is neither.
            InputError: the image is too thin to be fitted.
        """
        fit = radiograph.contract.fit if fit is None else fit
        square = fit_pixels(radiograph.pixels, self.size, fit)
        return torch.from_numpy(self.normalise(square)).unsqueeze(0)

    def geometry(self, radiograph: Radiograph) -> FitGeometry:
        """Return how the radiograph lies in the model's square input."""
        return fit_geometry(*radiograph.size, self.size, radiograph.contract.fit)

    def normalise(self, square: np.ndarray) -> np.ndarray:
        """Return (pixel - mean) / std in float32."""
        return (np.asarray(square, np.float32) - np.float32(self.mean)) / np.float32(self.std)

    def restore(self, pixel_values: np.ndarray) -> np.ndarray:
        """Return pixels in [0, 1] from normalised ones: the inverse of `normalise`, clipped."""
        values = np.asarray(pixel_values, np.float32)
        return np.clip(values * np.float32(self.std) + np.float32(self.mean), 0.0, 1.0)

    def __repr__(self) -> str:
        return f"ImageProcessor(size={self.size}, mean={self.mean:.6g}, std={self.std:.6g})"
