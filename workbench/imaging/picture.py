"""Pictures through Pillow: PNG, JPEG, TIFF, BMP and their relatives, 8 and 16 bit.

Eight-bit pictures become grey exactly as in the published pipeline (`convert("L")`). Sixteen-bit
grey and colour keep their depth, which the published code refuses.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from workbench.errors import InputError
from workbench.imaging.codestream import scan_cut_short
from workbench.imaging.colour import colour_warnings, is_deep, lightness, read_deep
from workbench.imaging.guards import silent_libtiff
from workbench.imaging.header import Turn
from workbench.imaging.sources import Reading, check_pixel_count, shared_name
from workbench.radiograph import InputWarning, Radiograph

#: What may be opened. Formats that start other programs (EPS) or hold no pixels stay out.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")

#: How files of these formats begin.
_MAGIC = re.compile(
    rb"\x89PNG|\xff\xd8\xff|II[*+]\0|MM\0[*+]|BM|GIF8|P[256]|RIFF....WEBP"
    rb"|\0\0\0\x0cjP|\xff\x4f\xff\x51",
    re.DOTALL,
)
#: Text of a PNG file that says that it is a phantom; `workbench phantom` writes it.
PHANTOM_KEY = "workbench-phantom"

#: Deflate packs at most 1,032 bytes into one, and a byte has eight pixels of one bit. Formats that
#: pack better reach this with one grey all over.
_PIXELS_OF_A_BYTE = 8 * 1032
_ORIENTATION_TAG = 0x0112
_TIFF_PHOTOMETRIC_TAG = 262
_WHITE_IS_ZERO = 0
_WIDE_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


def looks_like_picture(data: bytes) -> bool:
    """Say whether the first bytes are those of a picture format that is read here."""
    return _MAGIC.match(data) is not None


def read_picture(data: bytes, how: Reading) -> Radiograph:
    """Decode a picture file; `how.upright` turns it as its EXIF orientation says."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    _check(image, how.max_pixels)
    if image.height * image.width > _PIXELS_OF_A_BYTE * len(data):
        raise InputError(
            f"promises {image.height} x {image.width} pixels in a file of {len(data):,} bytes; it "
            "is blank, damaged or cut short, copy or export it again"
        )
    if image.format == "PNG":
        Image.open(io.BytesIO(data), formats=("PNG",)).verify()
    deep = read_deep(data) if is_deep(image, data) else None
    made = _made(image, deep, how)
    if image.format in ("JPEG", "MPO") and scan_cut_short(data, _last_block(image)):
        raise InputError("is cut short; copy or export it again")
    return made


def read_pillow(image: Image.Image, how: Reading) -> Radiograph:
    """Make a radiograph of an opened PIL image, of which 16 bits a channel are refused."""
    _check(image, how.max_pixels)
    if _was_deep(image):
        raise InputError(
            "Pillow keeps one byte of its 16 bits a channel; pass the path of the file instead"
        )
    return _made(image, None, how)


def _last_block(image: Image.Image) -> np.ndarray:
    width, height = image.size
    return np.asarray(image.crop((max(0, width - 8), max(0, height - 8), width, height)))


def _was_deep(image: Image.Image) -> bool:
    """Look at the file again where an opened image has been loaded: it forgets its depth."""
    tiles, path = getattr(image, "tile", None), getattr(image, "filename", "")
    if tiles is None:
        return False
    try:
        if path and not tiles:
            with Image.open(path, formats=FORMATS) as again:
                return is_deep(again, Path(path).read_bytes())
        return is_deep(image)
    except (OSError, SyntaxError, ValueError):
        return False


def _made(image: Image.Image, deep: np.ndarray | None, how: Reading) -> Radiograph:
    with silent_libtiff(image):
        image.load()
    turn, notes = _orientation(image, ignored=how.fit == "crop" and not how.upright)
    grey, colour_notes = _grey(image, deep)
    grey = turn(grey)
    return Radiograph.from_array(
        grey,
        invert=_is_wide_white_is_zero(image) if how.invert is None else how.invert,
        fit=how.fit,
        source=shared_name(how.name, grey.tobytes()),
        file_format=image.format or "PIL image",
        warnings=notes + colour_notes,
        **_phantom_facts(image),
    )


def _grey(
    image: Image.Image, deep: np.ndarray | None
) -> tuple[np.ndarray, tuple[InputWarning, ...]]:
    """Return (H, W) grey levels and a warning where there was colour."""
    if deep is not None:
        return (deep, ()) if deep.ndim == 2 else lightness(deep)
    if image.mode in _WIDE_MODES:
        values = np.asarray(image)
        if values.dtype.kind == "i" and values.size and values.min() < 0:
            raise InputError(
                "holds negative grey levels, so their scale is unknown; export it as 8- or 16-bit "
                "unsigned, or as DICOM"
            )
        return values, ()
    plain = image.mode in ("1", "L", "LA", "La")
    notes = () if plain else colour_warnings(np.asarray(image.convert("RGB")))
    return np.asarray(image.convert("L")), notes


def _phantom_facts(image: Image.Image) -> dict:
    """Return what the file says of itself if it is a phantom, else nothing."""
    mark = image.info.get(PHANTOM_KEY)
    if not isinstance(mark, str):
        return {}
    view = mark.rpartition("view ")[2]
    known = view if view in ("PA", "AP") else "unknown"
    return {"domain": "phantom", "modality": "phantom", "view": known}


def _orientation(image: Image.Image, ignored: bool) -> tuple[Turn, tuple[InputWarning, ...]]:
    """Return how EXIF asks to turn an image, or a warning where that is ignored."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        orientation = 1
    turn = Turn(
        transpose=orientation in (5, 6, 7, 8),
        mirror=orientation in (2, 3, 6, 7),
        upend=orientation in (3, 4, 7, 8),
    )
    if not (turn and ignored):
        return turn, ()
    message = (
        f"the file asks to be turned (EXIF orientation {orientation}), which the published "
        "preprocessing ignores; if the image lies on its side, load it with upright=True or "
        "fit='pad', or turn the file itself"
    )
    return Turn(), (InputWarning("exif-ignored", message),)


def _is_wide_white_is_zero(image: Image.Image) -> bool:
    """Pillow turns 8-bit WhiteIsZero TIFFs over, and leaves 16-bit ones as they are."""
    tags = getattr(image, "tag_v2", None)
    wide = image.mode in _WIDE_MODES
    return wide and tags is not None and tags.get(_TIFF_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO


def _check(image: Image.Image, max_pixels: int) -> None:
    """Refuse an image that is too large, empty, or several."""
    check_pixel_count(image.height, image.width, max_pixels)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        animated = image.format != "TIFF" and getattr(image, "is_animated", False)
        kind = "is an animation" if animated else "holds several pages"
        raise InputError(f"{kind} ({frames} frames); save the one image as its own file")
