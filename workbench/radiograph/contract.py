"""The input contract: what is known about a radiograph before any model sees it, and its warnings.

The contract never holds patient identifiers. Its `source` is the base name of a file, and a file
name can itself identify a patient: rename such files before sharing results.

Polarity comes from the layout of a frontal chest radiograph: black corners, dark lungs, bright
spine and abdomen. The layout is the 8 x 8 mean of 799 frontal radiographs of NIH ChestX-ray14 (Wang
et al., CVPR 2017, arXiv 1705.02315; data provided by the NIH Clinical Center), made symmetric and
rounded. On those the score is 0.80 in the median; one of the 799 falls below the limit, and that
one is stored inverted. Turned over on purpose, 99.6 % of them fall below it. Whether an image shows
a chest at all the same score tells badly (two of 799 radiographs lie below 0.05, but only half of
other images), so no such warning is given from pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
from PIL import Image

from workbench._repr import short_repr
from workbench.radiograph.fit import PUBLISHED_SIZE, FitGeometry, fit_geometry


@dataclass(frozen=True)
class InputWarning:
    """One thing a person should know or do about an input image.

    Attributes:
        code: stable short name; `WARNING_CODES` lists them all.
        message: what was seen and what to do about it.
    """

    code: str
    message: str


#: What is said of a lateral view.
LATERAL_VIEW = InputWarning(
    "lateral-view",
    "this is a lateral view; the models read frontal (PA or AP) radiographs: pass the frontal "
    "image of the study",
)

#: Every code an `InputWarning` may carry, with what it stands for.
WARNING_CODES = {
    "out-of-domain": "the model was not trained on images like this one",
    "lateral-view": "the file says lateral; the models read frontal radiographs",
    "not-a-chest": "modality or body part say that this is not a chest radiograph",
    "inverted?": "bright and dark lie as in a radiograph shown with the wrong polarity",
    "polarity": "the file contradicts itself, or is silent, about which end is white",
    "constant-image": "the image holds (almost) one grey value",
    "almost-blank": "nearly all pixels lie in a few percent of the grey scale, or at its ends",
    "crop-loss": "cutting to the model's input removes more than 5 percent of the area",
    "aspect-ratio": "the image is much longer than wide, or wider than long",
    "low-resolution": "the image has far fewer pixels than the model's input",
    "non-square-pixels": "a pixel is not as wide as it is high",
    "burned-in": "the file says that text is part of the pixels",
    "exif-ignored": "an EXIF orientation was not applied, as in the published preprocessing",
    "colour": "the file is coloured; only its lightness was used",
    "bit-depth": "pixels use far fewer bits than the file could hold",
    "for-processing": "the file holds raw detector data, not an image for viewing",
    "window": "a grey-scale transform of the file is unusable or hides the image; not used",
    "extremes": "values far from all others were left out of the grey scale",
    "orientation": "the file says that the image is mirrored, upside down or on its side",
    "header": "a value of the header cannot be read, or does not fit the pixel data",
}

#: Code of the warning that an answer holds no word; of the answer, so none of an image has it.
NO_WORDS = "no-words"


@dataclass(frozen=True)
class InputContract:
    """Facts about one input image, kept with it through every analysis.

    Attributes:
        source: file name without its folder, or "phantom seed 7 (internal)".
        modality: DICOM modality ("CR", "DX", "DR"), "phantom", or "unknown" for plain images.
        bits: significant bits of a stored pixel.
        stored_range: smallest and largest stored value.
        inverted: True when stored values were turned over to make bone bright.
        view: "PA", "AP", "lateral" or "unknown".
        burned_in: DICOM BurnedInAnnotation; None where the file does not say.
        pixel_spacing: millimetres (row, column), or None.
        original_size: (rows, columns) of the image that was read.
        fit: "crop" (published preprocessing), "pad", or "own": the model's own processor decides.
        crop_loss: percent of the area that the fit removes (0 for "pad", NaN where not known).
        squeeze: of "own": by how much the image is narrowed (above 1) or flattened (below 1).
        domain: "phantom" for phantoms, "radiograph" for everything read from a file.
        warnings: what a person should act on.
        file_format: "PNG", "JPEG", "DICOM, JPEG 2000 Image Compression", "array", ...
        grey_scale: how stored values became [0, 1]: "full range", "VOI LUT",
            "window 15000 / 30000 (LINEAR)", ...

    >>> image.contract.source, image.contract.domain
    ('phantom seed 7 (internal)', 'phantom')
    """

    source: str
    modality: str = "unknown"
    bits: int = 8
    stored_range: tuple[float, float] = (0.0, 255.0)
    inverted: bool = False
    view: str = "unknown"
    burned_in: bool | None = None
    pixel_spacing: tuple[float, float] | None = None
    original_size: tuple[int, int] = (0, 0)
    fit: str = "crop"
    crop_loss: float = 0.0
    squeeze: float = 1.0
    domain: str = "radiograph"
    warnings: tuple[InputWarning, ...] = ()
    file_format: str = "unknown"
    grey_scale: str = "full range"

    __repr__ = short_repr

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the warnings, in order."""
        return tuple(warning.code for warning in self.warnings)

    def facts(self) -> tuple[str, ...]:
        """Return the contract as short phrases for one line under an image."""
        rows, columns = self.original_size
        low, high = self.stored_range
        if self.pixel_spacing is None:
            spacing = "pixel spacing unknown"
        else:
            spacing = " x ".join(f"{mm:.3g}" for mm in self.pixel_spacing) + " mm pixels"
        burned_in = {None: "burned-in text unknown", True: "burned-in text"}
        return (
            self.source,
            f"modality {self.modality}",
            f"view {self.view}",
            f"{rows} x {columns} px",
            f"{self.bits} bit [{low:g}, {high:g}]",
            "inverted" if self.inverted else "not inverted",
            self.grey_scale,
            spacing,
            burned_in.get(self.burned_in, "no burned-in text"),
            self._fitted(),
        )

    def _fitted(self) -> str:
        if self.fit != "own":
            crops = self.fit == "crop"
            return f"crop loses {self.crop_loss:.3g} %" if crops else "padded, nothing lost"
        if np.isnan(self.crop_loss):
            return "fitted by the server"
        squeezed = ""
        if abs(self.squeeze - 1) > SQUEEZE_LIMIT:
            does = "narrows" if self.squeeze > 1 else "flattens"
            squeezed = f", {does} it {max(self.squeeze, 1 / self.squeeze):.2f}-fold"
        return f"the model's own processor cuts off {self.crop_loss:.3g} %{squeezed}"

    def fitted_by(self, loss: float, squeeze: float = 1.0) -> InputContract:
        """Return the contract with a model whose own processor fits the image.

        Args:
            loss: percent of the area that it cuts off; NaN where that is not known.
            squeeze: by how much it narrows the image; below 1 where it flattens it.
        """
        kept = tuple(w for w in self.warnings if w.code not in ("crop-loss", "low-resolution"))
        if loss > CROP_LOSS_LIMIT:
            rows, columns = self.original_size
            cut = (
                f"the model's own processor cuts off {loss:.0f} % of this {rows} x {columns} image;"
                " maps show which part it sees. Pad the image to a square to keep all of it"
            )
            kept += (InputWarning("crop-loss", cut),)
        return replace(self, fit="own", crop_loss=loss, squeeze=squeeze, warnings=kept)

    def to_dict(self) -> dict:
        """Return the contract as plain values for JSON."""
        return asdict(self)


#: Percent of the area a centre crop may remove before it is said.
CROP_LOSS_LIMIT = 5.0
#: Change of the aspect ratio from which it is said.
SQUEEZE_LIMIT = 0.02
#: Longer edge / shorter edge beyond which a chest radiograph is unusual.
ASPECT_LIMIT = 1.5
#: Shorter edge below which an image is called low in resolution.
SHORT_EDGE_LIMIT = 384
#: Range of grey below which an image counts as constant: two of 255 levels.
CONSTANT_LIMIT = 2.5 / 255
#: Correlation with the layout of a frontal radiograph below which polarity is doubted.
LAYOUT_LIMIT = -0.1
#: Shorter edge to which an image is thinned out before it is compared with the layout.
_LAYOUT_EDGE = 512

#: An image hides where this share of its pixels lies in so small a part of the grey scale, in at
#: most so many groups, or where so large a share is black or white. Of 1,077 frontal radiographs of
#: NIH ChestX-ray14 none uses less than 0.39 of the scale, and none has more than 0.66 at its ends.
_BULK, SCALE_LIMIT, _GROUPS, ENDS_LIMIT = 0.98, 0.2, 3, 0.95
#: Steps of the scale, pixels below which nothing is said, and pixels that are looked at.
_STEPS, _FEW, _SAMPLE = 64, 100, 1 << 16

_FRONTAL_LEFT_HALF = (
    (-2.2, -1.9, -1.3, 0.1),
    (-0.3, -0.1, -0.7, -0.1),
    (0.3, 0.1, -1.2, -0.2),
    (0.1, 0.0, -1.0, 0.3),
    (-0.3, 0.0, -0.3, 0.9),
    (-0.6, 0.2, 0.6, 1.4),
    (-1.0, 0.6, 1.4, 1.8),
    (-1.1, 0.9, 1.7, 2.0),
)


def pixel_warnings(
    pixels: np.ndarray, *, fit: str, polarity: bool = True
) -> tuple[InputWarning, ...]:
    """Find what is wrong with an image that its pixels, (H, W) in [0, 1], and shape can tell.

    `polarity` says whether the layout of a frontal chest radiograph may be expected.
    """
    height, width = pixels.shape
    geometry = fit_geometry(height, width, PUBLISHED_SIZE, fit)
    found = (*_about_shape(geometry), *_about_pixels(pixels, geometry, polarity))
    return tuple(InputWarning(code, message) for code, message in found)


def _about_pixels(
    pixels: np.ndarray, geometry: FitGeometry, polarity: bool
) -> Iterator[tuple[str, str]]:
    if float(pixels.max()) - float(pixels.min()) < CONSTANT_LIMIT:
        yield (
            "constant-image",
            "the image holds (almost) one grey value; check that the file is the one you meant",
        )
        return
    left, top, right, bottom = map(round, geometry.crop_box)
    beside = 1 - min(pixels.shape) / max(pixels.shape) if geometry.fit == "pad" else 0.0
    step = max(1, int((pixels.size / _SAMPLE) ** 0.5))
    little = little_seen(pixels[top:bottom:step, left:right:step], beside)
    if little:
        yield (
            "almost-blank",
            f"a model sees next to nothing: {little}; look at it with .show(), and check the "
            "file's window and bit depth, or export it again",
        )
    if polarity and frontal_layout(pixels) < LAYOUT_LIMIT:
        yield (
            "inverted?",
            "dark lies where a frontal chest radiograph is bright; the image may be inverted, "
            "upside down or no chest radiograph: look at it, and if bone is dark load it with "
            "invert=True (or invert=False where it was turned over)",
        )


def _about_shape(geometry: FitGeometry) -> Iterator[tuple[str, str]]:
    height, width = geometry.original_size
    ratio = max(height, width) / min(height, width)
    if geometry.crop_loss > CROP_LOSS_LIMIT:
        edge = "height" if height > width else "width"
        yield (
            "crop-loss",
            f"the centre crop removes {geometry.crop_loss:.0f} % of the {edge} of this {height} x "
            f"{width} image (aspect ratio {ratio:.2f} : 1); look at what is lost with .show(), or "
            "load it with fit='pad'",
        )
    if ratio > ASPECT_LIMIT:
        yield (
            "aspect-ratio",
            f"{height} x {width} pixels is {ratio:.1f} : 1, unusual for a chest radiograph; "
            "check that it is one image and not a strip or two views side by side",
        )
    if min(height, width) < SHORT_EDGE_LIMIT:
        yield (
            "low-resolution",
            f"{height} x {width} pixels is little beside the model's {PUBLISHED_SIZE} x "
            f"{PUBLISHED_SIZE}; nodules and thin lines may be lost: use the original file",
        )


def little_seen(
    pixels: np.ndarray, beside: float = 0.0, *, limit: float = SCALE_LIMIT
) -> str | None:
    """Say how little of an image can be seen; None where enough, or there are under 100 pixels.

    Args:
        pixels: any shape, in [0, 1].
        beside: black pixels beside them, as a share of all.
        limit: part of the grey scale below which an image counts as hidden.
    """
    values = np.ravel(pixels)
    values = values[:: max(1, values.size // _SAMPLE)]
    if values.size < _FEW:
        return None
    steps = np.minimum((values * _STEPS).astype(np.intp), _STEPS - 1)
    counts = np.bincount(steps, minlength=_STEPS) / values.size * (1 - beside)
    counts[0] += beside
    ends = float(counts[0] + counts[-1])
    order = np.argsort(-counts, kind="stable")
    used = np.sort(order[: int(np.searchsorted(np.cumsum(counts[order]), _BULK)) + 1])
    groups = 1 + int(np.count_nonzero(np.diff(used) > 2))
    if used.size <= limit * _STEPS and groups <= _GROUPS:
        part = 100 * used.size / _STEPS
        return f"{100 * _BULK:.0f} % of its pixels lie in {part:.0f} % of the grey scale"
    return f"{100 * ends:.0f} % of its pixels are black or white" if ends >= ENDS_LIMIT else None


def frontal_layout(pixels: np.ndarray) -> float:
    """Correlate an image (H, W) with the layout of a frontal chest radiograph.

    Returns:
        Pearson correlation over an 8 x 8 grid, in [-1, 1]; 0 for a constant image.
    """
    layout = np.array([[*row, *row[::-1]] for row in _FRONTAL_LEFT_HALF]).ravel()
    step = max(1, min(pixels.shape) // _LAYOUT_EDGE)
    image = Image.fromarray(np.asarray(pixels[::step, ::step], dtype=np.float32))
    coarse = np.asarray(image.resize((8, 8), Image.Resampling.BOX), dtype=np.float64).ravel()
    layout, coarse = layout - layout.mean(), coarse - coarse.mean()
    norm = float(np.linalg.norm(layout) * np.linalg.norm(coarse))
    return float(layout @ coarse) / norm if norm > 1e-6 else 0.0


def domain_warning(contract: InputContract, model_domain: str) -> InputWarning | None:
    """Warn where a model was trained on another kind of image: "phantom" or "radiograph"."""
    if contract.domain == model_domain:
        return None
    if model_domain == "phantom":
        message = (
            "this model was trained on phantoms only and this is a real radiograph: its words "
            "about it mean nothing; use the published checkpoint for real radiographs"
        )
    else:
        message = (
            f"this model was trained on images of the kind {model_domain!r} and this one is of "
            f"the kind {contract.domain!r}: do not trust what it says about it"
        )
    return InputWarning("out-of-domain", message)
