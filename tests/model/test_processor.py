"""The processor fits, normalises and can be undone."""

import numpy as np
import torch

from workbench.model.config import PIXEL_MEAN, PIXEL_STD, CxrLlavaConfig
from workbench.model.processor import ImageProcessor
from workbench.radiograph import InputContract, Radiograph


def radiograph(height, width, fit="crop"):
    levels = np.random.default_rng(0).integers(0, 256, (height, width))
    return Radiograph((levels / 255).astype(np.float32), InputContract("x", fit=fit))


def test_shape_dtype_and_values():
    image = radiograph(16, 16)
    values = ImageProcessor(16, 0.5, 0.25)(image)
    assert values.shape == (1, 16, 16)
    assert values.dtype == torch.float32
    np.testing.assert_allclose(values[0].numpy(), (image.pixels - 0.5) / 0.25, atol=1e-6)


def test_the_contract_decides_about_the_fit_unless_told_otherwise():
    processor = ImageProcessor(8, 0.0, 1.0)
    padded = processor(radiograph(16, 8, fit="pad"))
    assert not padded[0, :, 0].any()
    assert not padded[0, :, -1].any()
    cropped = processor(radiograph(16, 8, fit="pad"), "crop")
    assert cropped[0, :, 0].any()
    assert processor.geometry(radiograph(16, 8)).crop_loss == 50.0
    assert processor.geometry(radiograph(16, 8, fit="pad")).crop_loss == 0.0


def test_restore_undoes_normalise():
    pixels = np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7)
    processor = ImageProcessor(7)
    np.testing.assert_allclose(processor.restore(processor.normalise(pixels)), pixels, atol=1e-6)
    assert processor.restore(np.full((1, 1), 99.0)).item() == 1.0


def test_settings_come_from_the_configuration():
    config = CxrLlavaConfig(clip_vision_cfg={"image_size": 48, "patch_size": 16})
    processor = ImageProcessor.from_config(config)
    assert (processor.size, processor.mean, processor.std) == (48, PIXEL_MEAN, PIXEL_STD)
