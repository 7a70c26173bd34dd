"""Load one radiograph from whatever holds it.

With `fit="crop"`, the published preprocessing of CXR-LLaVA v2 (arXiv 2310.18341), 8-bit pictures
are read exactly as that pipeline reads them: converted to lightness (ITU-R 601), alpha dropped,
EXIF orientation ignored. An orientation that was ignored is said in the contract. With any other
fit, and with `upright=True`, the EXIF orientation is honoured. DICOM has no published reading; its
grey-scale transforms are applied as the DICOM standard says (PS3.3 C.11).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from PIL import Image

from workbench.errors import InputError, OptionError, WorkbenchError, check_one_of, check_whole
from workbench.findings import ALL_FINDINGS
from workbench.imaging.dicom import looks_like_dicom, read_dicom
from workbench.imaging.guards import guarded_decoders
from workbench.imaging.picture import lightness, looks_like_picture, read_picture, read_pillow
from workbench.imaging.sources import Reading, check_pixel_count, describe_content, read_source
from workbench.radiograph import Radiograph
from workbench.radiograph.fit import FITS
from workbench.settings import Settings

logger = logging.getLogger(__name__)

Source = str | os.PathLike | bytes | BinaryIO | Image.Image | np.ndarray | Radiograph


def load_radiograph(
    path: Source,
    *,
    fit: str = "crop",
    invert: bool | None = None,
    upright: bool = False,
    max_pixels: int | None = None,
) -> Radiograph:
    """Read one radiograph and everything a person should know about it.

    Args:
        path: a PNG, JPEG, TIFF, BMP or DICOM file; also bytes, an open binary file, a PIL image,
            a (H, W) array of unsigned integers or of floats in [0, 1], a (H, W, 3) or (H, W, 4)
            array of uint8 or uint16, or a Radiograph.
        fit: "crop", the published preprocessing, or "pad", which keeps the whole image visible.
        invert: None believes the file about which end of the scale is white; True turns the stored
            values over, False leaves them, whatever the file says.
        upright: True turns or mirrors the image as its file says (PatientOrientation of DICOM,
            EXIF orientation of pictures); False leaves it and says so in the contract.
        max_pixels: largest image that is decoded; None takes `Settings.max_pixels`
            (100 megapixels, or the environment variable WORKBENCH_MAX_PIXELS).

    Returns:
        Radiograph: pixels (H, W) float32 in [0, 1] at full size, bone bright; `.contract` with the
        facts and warnings, the file's name among them where it names nobody (see
        `workbench.imaging.sources`); `.meta` with allow-listed tags.

    Raises:
        InputError: the file cannot be read, is truncated, empty, a colour photo, animated, holds
            several frames, is too large, or is no image; the message says which and what to do.
        OptionError: fit, invert, upright or max_pixels have a value that is not allowed.

    >>> wb.load_radiograph("images/phantom_internal_0.png").size
    (256, 256)
    """
    limit = _checked_options(fit, invert, upright, max_pixels)
    if isinstance(path, Radiograph):
        return _refitted(path, fit, invert, upright)
    if isinstance(path, Image.Image):
        name = os.path.basename(str(getattr(path, "filename", "") or "")) or "PIL image"
        return _guarded(read_pillow, path, Reading(name, fit, invert, upright, limit))
    if isinstance(path, np.ndarray):
        return _read_array(path, Reading("array", fit, invert, upright, limit))
    data, name = read_source(path)
    how = Reading(name, fit, invert, upright, limit)
    if data[128:132] != b"DICM" and looks_like_picture(data):
        return _guarded(read_picture, data, how)
    if looks_like_dicom(data):
        damage = "the DICOM data are damaged, cut short or contradict themselves"
        return _guarded(read_dicom, data, how, damage)
    raise InputError(f"{name}: is {describe_content(data)}")


def as_radiograph(image: object) -> Radiograph:
    """Return the Radiograph of whatever a model accepts as an image."""
    if isinstance(image, Radiograph):
        return image
    inner = getattr(image, "image", None)
    return inner if isinstance(inner, Radiograph) else load_radiograph(cast(Source, image))


def _guarded(
    read: Callable, source: object, how: Reading, damage: str = "is damaged or cut short"
) -> Radiograph:
    """Read, and turn whatever goes wrong into an error that quotes nothing of the file."""
    try:
        with guarded_decoders():
            return read(source, how)
    except InputError as error:
        problem = str(error)
    except MemoryError:
        problem = "needs more memory than there is"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the Rust decoder of RLE is no Exception
        early = isinstance(error, EOFError) or "trunc" in str(error).lower()
        reason = "it ends too early" if early else "not decodable"
        problem = f"{damage} ({reason}); copy or export it again"
    raise InputError(f"{how.name}: {problem}")


def _checked_options(fit: str, invert: bool | None, upright: bool, max_pixels: int | None) -> int:
    check_one_of("fit", fit, FITS)
    if invert not in (None, True, False):
        raise OptionError(f"invert must be None, True or False, got {invert!r}")
    if upright not in (True, False):
        raise OptionError(f"upright must be True or False, got {upright!r}")
    if max_pixels is None:
        return Settings.from_env().max_pixels
    check_whole(1, max_pixels=max_pixels)
    return max_pixels


def _refitted(image: Radiograph, fit: str, invert: bool | None, upright: bool) -> Radiograph:
    if invert is not None and invert != image.contract.inverted:
        raise OptionError("invert= works on files and arrays; load the original again with it")
    if upright and {"orientation", "exif-ignored"} & set(image.contract.codes):
        raise OptionError("upright= works on files; load the original again with it")
    return image if image.contract.fit == fit else image.with_fit(fit)


def _read_array(array: np.ndarray, how: Reading) -> Radiograph:
    notes = ()
    colour = array.ndim == 3 and array.shape[-1] in (3, 4) and array.size > 0
    try:
        if colour:
            check_pixel_count(array.shape[0], array.shape[1], how.max_pixels)
            array, notes = lightness(array[..., :3])
        elif array.ndim and array.size:
            check_pixel_count(array.size // array.shape[-1], array.shape[-1], how.max_pixels)
        return Radiograph.from_array(array, fit=how.fit, invert=bool(how.invert), warnings=notes)
    except InputError as error:
        raise InputError(f"{how.name}: {error}") from None


def mask_name(image: str, finding: str) -> str:
    """Return the name of the file with the mask of a finding, beside that of its image."""
    return f"{Path(image).stem}_mask_{finding.replace(' ', '_')}.png"


def masks_beside(path: str | os.PathLike, image: Radiograph) -> dict[str, np.ndarray]:
    """Return finding -> boolean (H, W) of the masks beside the file that a phantom was read from.

    A mask that cannot be read or has another size than the image is left out, and logged.
    """
    if image.contract.domain != "phantom":
        return {}
    found = {}
    for finding in ALL_FINDINGS:
        beside = Path(path).with_name(mask_name(os.fspath(path), finding))
        if not beside.is_file():
            continue
        try:
            mask = load_radiograph(beside)
            if mask.size != image.size:
                sizes = ["x".join(map(str, one.size)) for one in (mask, image)]
                raise InputError(f"it has {sizes[0]} pixels and the image {sizes[1]}")
            found[finding] = mask.pixels > 0.5
        except WorkbenchError as error:
            logger.warning("%s: a mask of the phantom is left out: %s", beside.name, error)
    return found
