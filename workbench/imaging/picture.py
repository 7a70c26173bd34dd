"""Pictures through Pillow: PNG, JPEG, TIFF, BMP and their relatives, 8 and 16 bit.

Eight-bit pictures become grey exactly as in the published pipeline (`convert("L")`). Sixteen-bit
grey and colour keep their depth, which the published code refuses.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from workbench.errors import InputError
from workbench.imaging.codestream import scan_cut_short
from workbench.imaging.colour import colour_warning, is_deep, lightness, read_deep
from workbench.imaging.guards import silent_decoders, silent_libtiff, strict_pillow
from workbench.imaging.header import Turn
from workbench.imaging.sources import READABLE, check_pixel_count, shared_name
from workbench.radiograph import InputWarning, Radiograph
from workbench.settings import Settings

#: What may be opened. Formats that start other programs (EPS) or hold no pixels stay out.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")

_MAGIC = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"BM",
    b"GIF8",
    b"\0\0\0\x0cjP",
    b"\xff\x4f\xff\x51",
    b"P2",
    b"P5",
    b"P6",
)
#: Text of a PNG file that says that it is a phantom; `workbench phantom` writes it.
PHANTOM_KEY = "workbench-phantom"

#: Deflate packs at most 1,032 bytes into one, and a byte has eight pixels of one bit. Formats that
#: pack better reach this with one grey all over.
_PIXELS_OF_A_BYTE = 8 * 1032
_ORIENTATION_TAG = 0x0112
#: EXIF orientation -> what makes the image upright.
_TURNS = {
    2: Turn(mirror=True),
    3: Turn(mirror=True, upend=True),
    4: Turn(upend=True),
    5: Turn(transpose=True),
    6: Turn(transpose=True, mirror=True),
    7: Turn(transpose=True, mirror=True, upend=True),
    8: Turn(transpose=True, upend=True),
}
_TIFF_PHOTOMETRIC_TAG = 262
_WHITE_IS_ZERO = 0
_WIDE_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


def looks_like_picture(data: bytes) -> bool:
    """Say whether the first bytes are those of a picture format that is read here."""
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return webp or data.startswith(_MAGIC)


def read_picture(
    data: bytes, name: str, *, fit: str, invert: bool | None, upright: bool, max_pixels: int
) -> Radiograph:
    """Decode a picture file; `upright` turns it as its EXIF orientation says.

    Raises:
        InputError: damaged, truncated, animated, a colour photo or too large.
    """
    try:
        with strict_pillow(), silent_decoders():
            image, deep = _decoded(data, name, max_pixels)
        return _made(image, deep, name, fit=fit, invert=invert, upright=upright)
    except InputError:
        raise
    except MemoryError:
        problem = "needs more memory than there is; make the image smaller"
    except Image.DecompressionBombError:
        problem = "is far larger than any radiograph; check where it comes from"
    except Exception as error:
        problem = (
            f"is damaged or cut short ({_reason(error)}); copy or export it again as {READABLE}"
        )
    raise InputError(f"{name}: {problem}")


def _decoded(data: bytes, name: str, max_pixels: int) -> tuple[Image.Image, np.ndarray | None]:
    """Return a loaded image, and its pixels where Pillow keeps half of their bits."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    check_pixel_count(image.height, image.width, name, max_pixels)
    _check_frames(image, name)
    _check_packing(image, name, len(data))
    if image.format == "PNG":
        Image.open(io.BytesIO(data), formats=("PNG",)).verify()
    deep = read_deep(data, name) if is_deep(image, data) else None
    with silent_libtiff(image):
        image.load()
    if image.format in ("JPEG", "MPO") and scan_cut_short(data, _last_block(image)):
        raise InputError(f"{name}: is cut short; copy or export it again")
    return image, deep


@contextmanager
def opened_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture that no radiograph is made of; what is decoded is decoded inside.

    Raises:
        InputError: it is empty or too large.
    """
    with strict_pillow(), silent_decoders(), Image.open(path, formats=FORMATS) as image:
        check_pixel_count(image.height, image.width, path.name, Settings.from_env().max_pixels)
        yield image


def read_pillow(
    image: Image.Image, name: str, *, fit: str, invert: bool | None, upright: bool, max_pixels: int
) -> Radiograph:
    """Make a radiograph of an opened PIL image.

    Raises:
        InputError: not greyscale, animated, too large, empty or undecodable; or 16 bits a channel,
            which are read from files and arrays only.
    """
    check_pixel_count(image.height, image.width, name, max_pixels)
    _check_frames(image, name)
    if _was_deep(image):
        raise InputError(
            f"{name}: Pillow keeps one byte of its 16 bits a channel; pass the path of the file "
            "instead"
        )
    return _made(image, None, name, fit=fit, invert=invert, upright=upright)


def _last_block(image: Image.Image) -> np.ndarray:
    width, height = image.size
    return np.asarray(image.crop((max(0, width - 8), max(0, height - 8), width, height)))


def _was_deep(image: Image.Image) -> bool:
    """Look at the file again where an opened image has been loaded: it forgets its depth."""
    tiles, path = getattr(image, "tile", None), getattr(image, "filename", "")
    if tiles is None:
        return False
    try:
        with strict_pillow(), silent_decoders():
            if path and not tiles:
                with Image.open(path, formats=FORMATS) as again:
                    return is_deep(again, Path(path).read_bytes())
            return is_deep(image)
    except (OSError, SyntaxError, ValueError):
        return False


def _made(
    image: Image.Image,
    deep: np.ndarray | None,
    name: str,
    *,
    fit: str,
    invert: bool | None,
    upright: bool,
) -> Radiograph:
    try:
        with strict_pillow(), silent_decoders():
            with silent_libtiff(image):
                image.load()
            white_is_zero = _is_wide_white_is_zero(image)
            turn, notes = _orientation(image, fit == "crop" and not upright)
            grey, colour_notes = _grey(image, deep, name)
            grey = turn(grey)
        return Radiograph.from_array(
            grey,
            invert=white_is_zero if invert is None else invert,
            fit=fit,
            source=shared_name(name, grey.tobytes()),
            file_format=image.format or "PIL image",
            warnings=notes + colour_notes,
            **_phantom_facts(image),
        )
    except InputError as error:
        text = str(error)
        problem = text if text.startswith(f"{name}: ") else f"{name}: {text}"
    except Exception as error:
        problem = f"{name}: cannot be decoded ({_reason(error)}); copy or export it again"
    raise InputError(problem)


def _grey(
    image: Image.Image, deep: np.ndarray | None, name: str
) -> tuple[np.ndarray, tuple[InputWarning, ...]]:
    """Return (H, W) grey levels and a warning where there was colour."""
    if deep is not None:
        grey, warning = (deep, None) if deep.ndim == 2 else lightness(deep, name)
        return grey, (warning,) if warning else ()
    if image.mode in _WIDE_MODES:
        values = np.asarray(image)
        if values.dtype.kind == "i" and values.size and values.min() < 0:
            raise InputError(
                f"{name}: holds negative grey levels, so their scale is unknown; export it as "
                "8- or 16-bit unsigned, or as DICOM"
            )
        return values, ()
    if image.mode not in ("1", "L", "LA", "La"):
        warning = colour_warning(np.asarray(image.convert("RGB")), name)
        return np.asarray(image.convert("L")), (warning,) if warning else ()
    return np.asarray(image.convert("L")), ()


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
    turn = _TURNS.get(orientation, Turn())
    if not (turn and ignored):
        return turn, ()
    return Turn(), (
        InputWarning(
            "exif-ignored",
            f"the file asks to be turned (EXIF orientation {orientation}), which the published "
            "preprocessing ignores; if the image lies on its side, load it with upright=True or "
            "fit='pad', or turn the file itself",
        ),
    )


def _is_wide_white_is_zero(image: Image.Image) -> bool:
    """Pillow turns 8-bit WhiteIsZero TIFFs over, and leaves 16-bit ones as they are."""
    tags = getattr(image, "tag_v2", None)
    wide = image.mode in _WIDE_MODES
    return wide and tags is not None and tags.get(_TIFF_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO


def _check_frames(image: Image.Image, name: str) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        kind = "is an animation" if getattr(image, "is_animated", False) else "holds several pages"
        if image.format == "TIFF":
            kind = "holds several pages"
        raise InputError(f"{name}: {kind} ({frames} frames); save the one image as its own file")


def _check_packing(image: Image.Image, name: str, size: int) -> None:
    """Refuse a picture that promises more pixels than its bytes can hold, before room is made."""
    if image.height * image.width > _PIXELS_OF_A_BYTE * size:
        raise InputError(
            f"{name}: promises {image.height} x {image.width} pixels in a file of {size:,} bytes; "
            "it is blank, damaged or cut short, copy or export it again"
        )


def _reason(error: Exception) -> str:
    """Say why a file cannot be decoded without a decoder's own words, which may quote it."""
    early = isinstance(error, EOFError) or "trunc" in str(error).lower()
    return "it ends too early" if early else "not decodable"
