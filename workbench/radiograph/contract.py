"""The input contract: what is known about a radiograph before any model sees it.

The contract never holds patient identifiers. Its `source` is the base name of a file, and a file
name can itself identify a patient: rename such files before sharing results.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from workbench._repr import short_repr


@dataclass(frozen=True)
class InputWarning:
    """One thing a person should know or do about an input image.

    Attributes:
        code: stable short name; `WARNING_CODES` lists them all.
        message: what was seen and what to do about it.
    """

    code: str
    message: str


#: Every code an `InputWarning` may carry, with what it stands for.
WARNING_CODES = {
    "out-of-domain": "the model was not trained on images like this one",
    "lateral-view": "the file says lateral; the models read frontal radiographs",
    "not-a-chest": "modality or body part say that this is not a chest radiograph",
    "inverted?": "bright and dark lie as in a radiograph shown with the wrong polarity",
    "polarity": "the file contradicts itself, or is silent, about which end is white",
    "constant-image": "the image holds (almost) one grey value",
    "almost-blank": "nearly all pixels lie in a few percent of the grey scale, or at its ends",
    "crop-loss": "the centre crop removes more than 5 percent of the area",
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
        burned_in: DICOM BurnedInAnnotation; None when the file does not say.
        pixel_spacing: millimetres (row, column), or None.
        original_size: (rows, columns) of the image that was read.
        fit: "crop" (published preprocessing) or "pad".
        crop_loss: percent of the area that the centre crop removes (0 for "pad").
        domain: "phantom" for phantoms, "radiograph" for everything read from a file.
        warnings: what a person should act on.
        file_format: "PNG", "JPEG", "DICOM, JPEG 2000 Image Compression", "array", ...
        grey_scale: how stored values became [0, 1]: "full range", "VOI LUT",
            "window 15000 / 30000 (LINEAR)", ...
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
        crops = self.fit == "crop"
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
            f"crop loses {self.crop_loss:.3g} %" if crops else "padded, nothing lost",
        )

    def to_dict(self) -> dict:
        """Return the contract as plain values for JSON."""
        return asdict(self)
