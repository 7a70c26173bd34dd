"""Ablations: the image as the model would have seen it with what it shows taken away.

    blank          black everywhere
    noise          independent normal noise of the image's own mean and spread, seeded
    blurred        the image blurred until no finding is left (Gaussian, 8 % of its side)
    mean image     the grey to which the model's normalisation gives 0
    other patient  another image: given, or a phantom that is drawn
    mirrored       left and right exchanged
    without X      finding X taken away: a phantom drawn again

The first five take the image away; the last two change one thing about it. What the model says of
an image without content is partly what it makes of an input that it never saw in training, so there
are several. The drawn phantom is another patient only to `mini`: give other models your own images.

Test-time augmentations differ from an image by less than a reader would notice. A finding that is
there survives them; one that was read into the image often does not. All are made at the model's
input, (S, S), so that all of them are fitted to it alike.
Source: noise and blur as ablations, Leng et al., Visual Contrastive Decoding, CVPR 2024, arXiv
2311.16922 (its noise is a diffusion's, ours is white); test-time augmentation as a measure of
uncertainty, Wang et al., Neurocomputing 2019, arXiv 1807.07356 (there of a segmentation).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter, shift

from workbench.errors import InputError, check_one_of
from workbench.findings import PRESENT
from workbench.interface import ChestXrayModel
from workbench.phantom import Phantom
from workbench.phantom.case import phantom as draw_phantom
from workbench.phantom.case import size_near
from workbench.radiograph import Radiograph
from workbench.reports import label

#: Ablations that take the image away; the contribution of the image is the mean over these.
REMOVING = ("blank", "noise", "blurred", "mean image", "other patient")

#: All that need nothing but the image, in the order in which they are shown.
ABLATIONS = (*REMOVING, "mirrored")

#: Seed of the phantom that stands for another patient, moved by the seed that is asked for.
_OTHER_SEED = 9_000_000
_BLUR = 0.08
#: Name -> shift down and right as parts of the side.
_SHIFTS = {
    "shifted down": (0.023, 0.0),
    "shifted up": (-0.023, 0.0),
    "shifted right": (0.0, 0.023),
    "shifted left": (0.0, -0.023),
    "shifted aslant": (0.016, 0.016),
}
_GAMMAS = {"darker": 1.15, "brighter": 0.87}
_SOFTENED = 0.0047
_GRAIN = 0.03


def ablated_images(
    model: ChestXrayModel,
    pixels: np.ndarray,
    *,
    ablations: Sequence[str] = ABLATIONS,
    other: object = None,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Return the ablations of one image (1, S, S) by name; (1, 1, S, S), all float32 normalised.

    Args:
        other: image of another patient: what a model accepts as an image; None draws a phantom.
        seed: of the noise and of the phantom.

    Raises:
        OptionError: an ablation is unknown.
        InputError: another patient's image cannot be read, or is this image.
    """
    found: dict[str, torch.Tensor] = {}
    for name in dict.fromkeys(ablations):
        check_one_of("ablation", name, ABLATIONS)
        if name == "other patient":
            found[name] = _other(model, pixels, other, seed)
        else:
            changed = np.ascontiguousarray(_changed(model, pixels[0], name, seed), np.float32)
            found[name] = torch.from_numpy(changed)[None, None]
    return found


def _changed(model: ChestXrayModel, image: np.ndarray, name: str, seed: int) -> np.ndarray:
    if name == "mirrored":
        return image[:, ::-1]
    if name == "mean image":
        return np.full_like(image, model.processor.grey)
    if name == "blank":
        return np.full_like(image, model.processor.normalise(np.zeros(1))[0])
    shown = model.processor.restore(image)
    if name == "blurred":
        changed = gaussian_filter(shown, _BLUR * len(image), mode="nearest")
    else:
        noise = np.random.default_rng([seed, 1]).standard_normal(image.shape)
        changed = np.clip(shown.mean() + shown.std() * noise, 0, 1)
    return model.processor.normalise(changed)


def _other(model: ChestXrayModel, pixels: np.ndarray, image: object, seed: int) -> torch.Tensor:
    if image is None:
        image = draw_phantom(_OTHER_SEED + seed, size=size_near(model.image_size))
    values = model.pixels(image)
    if values.shape[1:] != pixels.shape:  # as many image tokens as the image itself has
        values = F.interpolate(values, pixels.shape[1:], mode="bilinear", antialias=True)
    if np.array_equal(values[0], pixels):
        raise InputError(
            "the image of another patient is the image itself; give another one as other=..."
        )
    return values


def without_findings(model: ChestXrayModel, image: Radiograph, text: str, phantom: Phantom) -> dict:
    """Return "without X" -> the phantom drawn again without a finding that the text states.

    Raises:
        InputError: the phantom is not the image.
    """
    there, here = image.pixels, phantom.image.pixels
    if there.shape != here.shape or not np.allclose(there, here, atol=1 / 255):
        raise InputError(
            f"the text is about {image.contract.source!r}, the phantom is "
            f"{phantom.image.contract.source!r}; give the phantom that the text is about"
        )
    drawn = {lesion.finding for lesion in phantom.lesions}
    stated = [row.finding for row in label(text).rows if row.code == PRESENT]
    return {
        f"without {name}": model.pixels(phantom.without(name)) for name in stated if name in drawn
    }


def augmented_images(
    model: ChestXrayModel, pixels: np.ndarray, *, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Return all test-time augmentations of one radiograph, (1, S, S) normalised, by name.

    Each is (1, 1, S, S) float32, normalised too; `seed` is that of the grain.
    """
    processor = model.processor
    image = processor.restore(pixels[0])
    side = len(image)
    found = {
        name: shift(image, (down * side, right * side), order=1, mode="nearest")
        for name, (down, right) in _SHIFTS.items()
    }
    found |= {name: image**gamma for name, gamma in _GAMMAS.items()}
    found["softer"] = gaussian_filter(image, _SOFTENED * side)
    noise = np.random.default_rng([seed, 2]).standard_normal(image.shape)
    found["grainier"] = image + _GRAIN * noise
    return {
        name: torch.from_numpy(processor.normalise(np.clip(changed, 0, 1)))[None, None]
        for name, changed in found.items()
    }
