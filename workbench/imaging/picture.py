"""Pictures through Pillow: PNG, JPEG, TIFF, BMP and their relatives, 8 and 16 bit; their colour.

Eight-bit pictures become grey exactly as in the published pipeline (`convert("L")`). Sixteen-bit
grey and colour keep their depth, which the published code refuses.

A tinted radiograph has colour that follows from its lightness; whatever a quadratic in lightness
cannot explain is real colour. The limits were set on 10 radiographs turned sepia, blue, annotated
in red and yellow, overlaid with a heat map (at most 10 % of the pixels off by more than 0.1), and
on colour photographs (34 % and more).

Pillow unpacks pixels with colour or alpha at 16 bits a channel to 8 bits, the upper or the lower
byte as the name of the byte order in the raw mode says. Each such file is therefore unpacked twice,
and the bytes are put together. Where that does not work (planes apart, CMYK, premultiplied alpha,
JPEG 2000, PPM) the image is refused, for half of its bits is not what the file contains.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from workbench.errors import InputError
from workbench.imaging.codestream import read_codestream, scan_cut_short
from workbench.imaging.guards import silent_libtiff
from workbench.imaging.header import turned
from workbench.imaging.sources import Reading, check_pixel_count, shared_name
from workbench.radiograph import InputWarning, Radiograph
from workbench.radiograph.contract import LATERAL_VIEW

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

#: Share of pixels whose colour does not follow from lightness, above which it is a photo.
PHOTO_SHARE = 0.25
#: Mean chroma (largest minus smallest channel, in [0, 1]) above which it is a photo or colour map.
PHOTO_CHROMA = 0.45
#: Mean chroma below which an RGB file counts as grey (JPEG rounding).
GREY_CHROMA = 0.004
_RESIDUAL = 0.1
_LONGEST_EDGE = 512

#: Raw mode of the upper byte -> of the lower byte; libtiff gives the machine's own order (N).
_OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
_READABLE = ("RGB", "RGBX", "RGBA")
_ONE_CHANNEL = ("1", "L", "P", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_PLANES_TAG, _DEPTHS_TAG = 284, 258


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
    orientation, notes = _orientation(image, ignored=how.fit == "crop" and not how.upright)
    grey, colour_notes = _grey(image, deep)
    facts = _phantom_facts(image)
    grey = turned(grey, orientation)
    return Radiograph.from_array(
        grey,
        invert=_is_wide_white_is_zero(image) if how.invert is None else how.invert,
        fit=how.fit,
        source=shared_name(how.name, grey.tobytes()),
        file_format=image.format or "PIL image",
        warnings=notes + colour_notes + (LATERAL_VIEW,) * (facts.get("view") == "lateral"),
        **facts,
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
    known = view if view in ("PA", "AP", "lateral") else "unknown"
    return {"domain": "phantom", "modality": "phantom", "view": known}


def _orientation(image: Image.Image, ignored: bool) -> tuple[int, tuple[InputWarning, ...]]:
    """Return how EXIF asks to turn an image, or a warning where that is ignored."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        orientation = 1
    if orientation not in range(2, 9):
        return 1, ()
    if not ignored:
        return orientation, ()
    message = (
        f"the file asks to be turned (EXIF orientation {orientation}), which the published "
        "preprocessing ignores; if the image lies on its side, load it with upright=True or "
        "fit='pad', or turn the file itself"
    )
    return 1, (InputWarning("exif-ignored", message),)


def _is_wide_white_is_zero(image: Image.Image) -> bool:
    """Pillow turns 8-bit WhiteIsZero TIFFs over, and leaves 16-bit ones as they are."""
    photometric = getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC_TAG)
    return image.mode in _WIDE_MODES and photometric == _WHITE_IS_ZERO


def _check(image: Image.Image, max_pixels: int) -> None:
    """Refuse an image that is too large, empty, or several."""
    check_pixel_count(image.height, image.width, max_pixels)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        animated = image.format != "TIFF" and getattr(image, "is_animated", False)
        kind = "is an animation" if animated else "holds several pages"
        raise InputError(f"{kind} ({frames} frames); save the one image as its own file")


# ---------------------------------------------------------------- colour


def lightness(rgb: np.ndarray) -> tuple[np.ndarray, tuple[InputWarning, ...]]:
    """Return the lightness (ITU-R 601) of (H, W, 3) pixels, uint8 or uint16, and judge the colour.

    Returns:
        (H, W) of the same type, at 8 bits exactly as Pillow computes it; and a warning where there
        is some colour. A colour photo or colour map is refused.
    """
    if rgb.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"a colour array must be uint8 or uint16, got {rgb.dtype}; pass one greyscale channel"
        )
    notes = colour_warnings(rgb)
    if rgb.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).convert("L")), notes
    weighted = rgb.astype(np.uint32) @ np.array((299, 587, 114), np.uint32)
    return ((weighted + 500) // 1000).astype(np.uint16), notes


def colour_warnings(rgb: np.ndarray) -> tuple[InputWarning, ...]:
    """Judge the colour of an image as `lightness` does."""
    step = max(1, -(-max(rgb.shape[:2]) // _LONGEST_EDGE))
    white = 255 if rgb.dtype == np.uint8 else max(255, 2 ** int(rgb.max()).bit_length() - 1)
    pixels = rgb[::step, ::step].reshape(-1, 3).astype(np.float64) / white
    chroma = float((pixels.max(axis=1) - pixels.min(axis=1)).mean())
    if chroma < GREY_CHROMA:
        return ()
    light = pixels @ (0.299, 0.587, 0.114)
    terms = np.stack([np.ones_like(light), light, light**2], axis=1)
    residual = pixels - terms @ np.linalg.lstsq(terms, pixels, rcond=None)[0]
    share = float((np.abs(residual).max(axis=1) > _RESIDUAL).mean())
    if share > PHOTO_SHARE or chroma > PHOTO_CHROMA:
        raise InputError(
            "is a colour picture, not a radiograph; export the radiograph itself as greyscale PNG "
            "or DICOM, without colour map or overlay"
        )
    message = (
        "the file is coloured or tinted; its lightness was read as grey. Check that no coloured "
        "text or drawing lies over the image"
    )
    return (InputWarning("colour", message),)


def is_deep(image: Image.Image, data: bytes | None = None) -> bool:
    """Say whether an opened image, not yet loaded, holds several channels of more than 8 bits.

    `data` is the content of the file, where it is at hand.
    """
    if image.mode in _ONE_CHANNEL:
        return False
    if image.format == "JPEG2000":
        found = read_codestream(data) if data else None
        return found is not None and found.bits > 8
    tiles = getattr(image, "tile", [])
    if image.format == "PPM":  # of each tile, the raw mode and the largest value
        return any(isinstance(tile.args, tuple) and tile.args[1] > 255 for tile in tiles)
    depths = getattr(image, "tag_v2", {}).get(_DEPTHS_TAG, (8,))
    return max(depths) > 8 or any(
        _raw_mode(tile.args).endswith(tuple(_OTHER_BYTE)) for tile in tiles
    )


def read_deep(data: bytes) -> np.ndarray:
    """Return (H, W) or (H, W, 3) uint16 of a picture for which `is_deep` holds, without alpha."""
    image = Image.open(io.BytesIO(data))
    raw_modes = {_raw_mode(tile.args) for tile in image.tile}
    raw = raw_modes.pop() if len(raw_modes) == 1 else ""
    kind, _, order = raw.partition(";")
    if raw == "LA;16B":
        four = _unpacked(data, "RGBA").astype(np.uint16)  # upper and lower byte, twice
        return four[..., 0] << 8 | four[..., 1]
    planes = getattr(image, "tag_v2", {}).get(_PLANES_TAG, 1)
    if kind not in _READABLE or order not in _OTHER_BYTE or planes != 1:
        raise InputError(
            "holds 16 bits a channel in a way that is not read here; export it as 16-bit greyscale "
            "PNG, or as DICOM"
        )
    upper, lower = _unpacked(data, raw), _unpacked(data, f"{kind};{_OTHER_BYTE[order]}")
    return (upper.astype(np.uint16) << 8 | lower)[..., :3]


def _unpacked(data: bytes, raw: str) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    image.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
        for tile in image.tile
    ]
    with silent_libtiff(image):
        image.load()
    return np.asarray(image)


def _raw_mode(args: object) -> str:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""
