"""The input contract: what is known about a radiograph before any model sees it.

Does not know: how files are read (`workbench.imaging`) or how pixels are resized (`fit`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class InputWarning:
    """One thing a person should know or do about an input image.

    Attributes:
        code: stable short name, e.g. "lateral-view", "aspect-ratio", "out-of-domain".
        message: what was seen and what to do about it.
    """

    code: str
    message: str


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
        original_size: (rows, columns) of the stored image.
        fit: "crop" (published preprocessing) or "pad".
        crop_loss: percent of the area that the centre crop removes (0 for "pad").
        domain: "phantom" for drawn images, "radiograph" for everything read from a file.
        warnings: what a person should act on.
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

    def to_dict(self) -> dict:
        """Return the contract as plain values for JSON."""
        return asdict(self)
