"""Radiograph: the pixels of one frontal chest image and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from workbench._repr import png_text
from workbench.errors import InputError, OptionError
from workbench.radiograph.contract import InputContract, InputWarning, pixel_warnings
from workbench.radiograph.fit import PUBLISHED_SIZE, FitGeometry, fit_geometry, fit_pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Warnings that depend on the fit or the pixels, found again when either changes.
_RECOMPUTED = {"crop-loss", "aspect-ratio", "low-resolution"}
_RECOMPUTED |= {"constant-image", "almost-blank", "inverted?"}
#: Where one of these holds, the layout of a frontal chest radiograph is not to be expected.
_OTHER_LAYOUT = {"not-a-chest", "lateral-view"}
_THUMBNAIL = 224
#: Depths that detectors and exporters use inside 16-bit files.
USUAL_BITS = (8, 10, 12, 14, 15, 16)
#: Share of the pixels that may lie above the depth of all others: hot pixels, not the image.
_OUTLIERS = 0.001


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One greyscale image, bone bright.

    Attributes:
        pixels: (H, W) float32 in [0, 1]; 0 is air-black, 1 is bone-white.
        contract: what is known about the image.
        meta: allow-listed DICOM tags only, never patient identifiers.

    Raises:
        InputError: pixels are not a non-empty 2-D array of finite values in [0, 1].
    """

    pixels: np.ndarray
    contract: InputContract
    meta: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        pixels = np.array(_one_channel(self.pixels), dtype=np.float32, order="C")
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0.0 and high <= 1.0):
            raise InputError(
                f"pixels must lie in [0, 1], got [{low:.4g}, {high:.4g}]; "
                "divide by the largest possible value, or read the file with wb.load_radiograph"
            )
        pixels.setflags(write=False)
        object.__setattr__(self, "pixels", pixels)

    @classmethod
    def from_array(
        cls,
        array: np.ndarray,
        *,
        bits: int | None = None,
        invert: bool = False,
        fit: str = "crop",
        **facts,
    ) -> Radiograph:
        """Make a radiograph from greyscale pixels that are already in memory.

        Args:
            array: (H, W) unsigned integers, or floats in [0, 1]; singleton axes are dropped.
            bits: significant bits of integer pixels; None takes 8 for uint8, and for wider types
                the smallest of 8, 10, 12, 14, 15, 16 that holds the largest value.
            invert: True where bone is dark in the array.
            fit: "crop" (published preprocessing) or "pad".
            **facts: further fields of `InputContract`: source, modality, view, burned_in,
                pixel_spacing, domain, warnings, file_format, grey_scale.

        Raises:
            InputError: the array has more than one channel, is empty, or its values do not fit.
            OptionError: bits or fit are not allowed.

        >>> wb.Radiograph.from_array(np.eye(300)).size
        (300, 300)
        """
        values, bits, warnings = to_unit_range(array, bits=bits)
        numbers = np.asarray(array)
        facts = {"source": "array", "file_format": "array", **facts}
        contract = InputContract(
            bits=bits,
            stored_range=(float(numbers.min()), float(numbers.max())),
            inverted=invert,
            warnings=(*facts.pop("warnings", ()), *warnings),
            **facts,
        )
        return cls.examined(1 - values if invert else values, contract, fit=fit)

    @classmethod
    def examined(
        cls, pixels: np.ndarray, contract: InputContract, *, fit: str, meta: dict | None = None
    ) -> Radiograph:
        """Make a radiograph and complete its contract with what its pixels and shape tell.

        Size, fit and crop loss are filled in, and the warnings of `pixel_warnings` are added.
        """
        plain = cls(pixels, contract, meta or {})
        frontal_chest = contract.domain == "radiograph" and not _OTHER_LAYOUT & set(contract.codes)
        kept = tuple(w for w in contract.warnings if w.code not in _RECOMPUTED)
        contract = replace(
            contract,
            original_size=plain.size,
            fit=fit,
            crop_loss=fit_geometry(*plain.size, PUBLISHED_SIZE, fit).crop_loss,
            warnings=kept + pixel_warnings(plain.pixels, fit=fit, polarity=frontal_chest),
        )
        return replace(plain, contract=contract)

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns) of the pixels."""
        return self.pixels.shape

    def with_fit(self, fit: str) -> Radiograph:
        """Return the same image with another fit and the warnings that go with it."""
        return Radiograph.examined(self.pixels, self.contract, fit=fit, meta=self.meta)

    def geometry(self, size: int = PUBLISHED_SIZE) -> FitGeometry:
        """Return how the image fits a model's size x size input."""
        return fit_geometry(*self.size, size, self.contract.fit)

    def model_view(self, size: int = PUBLISHED_SIZE) -> np.ndarray:
        """Return what a model with a size x size input sees: (size, size) float32 in [0, 1]."""
        return fit_pixels(self.pixels, size, self.contract.fit)

    def show(self, *, size: int = PUBLISHED_SIZE) -> Figure:
        """Draw the original with the crop, what a model of `size` sees, and the input contract."""
        from workbench.figures.radiograph import plot_input

        return plot_input(
            self.pixels,
            self.model_view(size),
            visible_box=self.geometry(size).crop_box,
            fit=self.contract.fit,
            facts=self.contract.facts(),
            warnings=[(w.code, w.message) for w in self.contract.warnings],
        )

    def __repr__(self) -> str:
        contract = self.contract
        warned = f", warnings: {', '.join(contract.codes)}" if contract.warnings else ""
        rows, columns = self.size
        return (
            f"<Radiograph {contract.source!r} {rows} x {columns}, {contract.modality}, "
            f"view {contract.view}, fit {contract.fit}{warned}>"
        )

    def _repr_html_(self) -> str:
        """Return a light card (about 40 kB): the model's view, the facts and the warnings."""
        pixels = np.rint(self.model_view(_THUMBNAIL) * 255).astype(np.uint8)
        encoded = png_text(lambda to: Image.fromarray(pixels).save(to, "PNG", optimize=True))
        source, *facts = map(escape, self.contract.facts())
        warnings = "".join(
            '<div style="margin-top:4px;padding:3px 8px;border-left:4px solid #b36b00;'
            'background:#fff4dc;color:#5c3a00">'
            f"<b>{escape(w.code)}</b> {escape(w.message)}</div>"
            for w in self.contract.warnings
        )
        return (
            '<div style="display:flex;gap:14px;align-items:flex-start;max-width:860px;'
            'background:#fff;color:#1b1b1b;padding:8px">'
            f'<img width="{_THUMBNAIL}" height="{_THUMBNAIL}" alt="what the model sees" '
            f'src="data:image/png;base64,{encoded}">'
            f"<div><b>{source}</b><br>{' &middot; '.join(facts)}{warnings}</div></div>"
        )


def to_unit_range(
    array: np.ndarray, *, bits: int | None = None
) -> tuple[np.ndarray, int, tuple[InputWarning, ...]]:
    """Scale stored grey levels to [0, 1] by the largest value their depth allows.

    Arguments and errors are those of `Radiograph.from_array`.

    Returns:
        (H, W) float32 in [0, 1], the bits used (32 for floats), and a "bit-depth" warning where
        a wide integer type holds fewer bits. Where at most a thousandth of the pixels needs more
        bits than all others, the others decide and those become white.
    """
    values = _one_channel(array)
    if bits is not None and not 1 <= bits <= 32:
        raise OptionError(f"bits must lie between 1 and 32, got {bits}")
    if values.dtype.kind == "f":
        return values.astype(np.float32), 32, ()
    if values.dtype.kind not in "iu" or values.min() < 0:
        got = f"values from {values.min()} up" if values.dtype.kind == "i" else values.dtype
        raise InputError(
            f"pixels must be unsigned integers or floats in [0, 1], got {got}; shift, scale or "
            "convert them first"
        )
    warnings: tuple[InputWarning, ...] = ()
    if bits is None:
        bits, warnings = _guess_bits(values)
        values = np.minimum(values, 2**bits - 1)
    if (highest := int(values.max())) >= 2**bits:
        raise InputError(
            f"pixels reach {highest}, more than {bits} bits can hold; pass a larger bits="
        )
    return (values / (2**bits - 1)).astype(np.float32), bits, warnings


def _one_channel(array: np.ndarray) -> np.ndarray:
    values = np.asarray(array)
    axes = [i for i, n in enumerate(values.shape) if n == 1][: max(0, values.ndim - 2)]
    values = np.squeeze(values, axis=tuple(axes))
    if values.ndim != 2 or not values.size:
        raise InputError(
            f"a radiograph needs a 2-D greyscale array, got shape {np.shape(array)}; convert it "
            "to one channel first, and check that it is not empty"
        )
    return values


def _guess_bits(values: np.ndarray) -> tuple[int, tuple[InputWarning, ...]]:
    if values.dtype.itemsize == 1:
        return 8, ()
    highest = int(values.max())
    bits, beyond = next((b for b in USUAL_BITS if highest < 2**b), 32), 0
    for fewer in reversed([b for b in USUAL_BITS if b < bits]):
        needing = int(np.count_nonzero(values >= 2**fewer))
        if needing > _OUTLIERS * values.size or needing == np.count_nonzero(values):
            break
        bits, beyond = fewer, needing
    if bits >= 16 and not beyond:
        return bits, ()
    reached = f"{beyond:,} pixels lie above the others" if beyond else f"values reach {highest}"
    message = (
        f"{reached}, so the image was read as {bits}-bit; if it looks too bright, pass an array "
        "with the right bits= to Radiograph.from_array"
    )
    return bits, (InputWarning("bit-depth", message),)
