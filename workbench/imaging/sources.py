"""Read the bytes of an image from wherever they are, and give it a name that can be shared.

Hospitals call files after patients. In everything that is kept and shared a name is kept when all
its words are single letters or on the list here, and its numbers have up to five digits, or when it
is an identifier of 16 or more hexadecimal digits, as public data sets give them. Any other becomes
"image-" and eight digits of the SHA-256 of the content, so that the same image has the same name
everywhere. Errors name the file as it was given, since the person who gave it has to find it, but
without its folder. A short number can be a patient's, too; no list can tell.
"""

from __future__ import annotations

import hashlib
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, NamedTuple

from workbench.errors import InputError, MissingDependencyError
from workbench.imaging.vocabulary import LISTS, OTHER_FILES

READABLE = "PNG, JPEG, TIFF, BMP or DICOM"

#: A radiograph of 100 megapixels at 16 bit is 200 MB; larger files are not radiographs.
MAX_FILE_BYTES = 1_000_000_000
_TOO_LARGE = (
    f"larger than {MAX_FILE_BYTES // 10**9} GB, no radiograph is; check that it is a single "
    f"{READABLE} image"
)

#: Digits, zeros in front aside, up to which a number is a count and no date or record number.
_LONGEST_NUMBER = 5
_WORD = re.compile(r"[A-Za-z]+|[0-9]+|[^\x00-\x7f]+")
_HEX = re.compile(r"(?=.*[0-9])[0-9a-f]{8,}(?:-[0-9a-f]{4,})*(?:_\w{1,3})?", re.IGNORECASE)
#: The package with a real chest DICOM, and its file.
_SAMPLE_PACKAGE, _SAMPLE = "data_store", "RG1_UNCR.dcm"


class Reading(NamedTuple):
    """How one image is to be read; options as in `workbench.imaging.load_radiograph`."""

    name: str  # base name of the file
    fit: str
    invert: bool | None
    upright: bool
    max_pixels: int


def read_source(source: str | os.PathLike | bytes | BinaryIO) -> tuple[bytes, str]:
    """Return the content of a path, bytes or an open binary file, and a name for it.

    That is the base name of the file, "bytes" where there is none.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, name = bytes(source), "bytes"
    elif isinstance(source, (str, os.PathLike)):
        path = check_path(source)
        name = path.name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(_unreadable(name, error)) from error
    else:
        data, name = _read_stream(source)
    if not data:
        raise InputError(f"{name}: the file is empty (0 bytes); copy or export it again")
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{name}: {_TOO_LARGE}")
    return data, name


def describe_content(data: bytes) -> str:
    """Say what unreadable content seems to be and what to do about it."""
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, advice in OTHER_FILES.items():
        if head.startswith(magic.encode("latin-1")):
            return advice
    if data[4:8] == b"ftyp":
        return "a HEIC/AVIF photo or a video; export the radiograph itself as PNG or DICOM"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in data[:512]):
        return f"a text file; pass a {READABLE} file"
    return f"no image that can be recognised; pass a {READABLE} file; it may also be damaged"


def check_pixel_count(rows: int, columns: int, max_pixels: int) -> None:
    """Refuse an empty image, and one that is too large to be decoded."""
    if rows < 1 or columns < 1:
        raise InputError(f"has no pixels ({rows} x {columns}); export it again")
    if rows * columns > max_pixels:
        raise InputError(
            f"{rows} x {columns} pixels are more than the limit of {max_pixels / 1e6:.4g} "
            "megapixels; if it really is a radiograph, pass a larger max_pixels or set "
            "WORKBENCH_MAX_PIXELS"
        )


def check_path(raw: str | os.PathLike) -> Path:
    """Return the path of a file that can be read, without reading it.

    Raises:
        InputError: an address, a folder, no file, or one that is too large.
    """
    text = os.fsdecode(raw)
    if not text:
        raise InputError("expected the path of an image, got an empty one; name the file")
    if "://" in text:
        raise InputError(
            f"expected a local file, got an address ({text.partition('://')[0]}://...); download "
            "the image first, nothing here opens the network"
        )
    path = Path(text).expanduser()
    name = path.name or text
    try:
        if path.is_dir():
            problem = f"{name}: is a folder; pass one image file of it"
        elif not path.exists():
            start = "" if path.is_absolute() else ", relative paths start at the current folder"
            problem = f"{name}: no such file; check the path{start}"
        elif not path.is_file():
            problem = f"{name}: is not a regular file; pass a {READABLE} file"
        elif path.stat().st_size > MAX_FILE_BYTES:
            problem = f"{name}: {_TOO_LARGE}"
        else:
            return path
    except (OSError, ValueError) as error:
        problem = _unreadable(name, error)
    raise InputError(problem)


def _unreadable(name: str, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or "not a valid path"
    return f"{name}: cannot be read ({reason}); check path and permissions"


def _read_stream(stream: BinaryIO) -> tuple[bytes, str]:
    read = getattr(stream, "read", None)
    if read is None:
        raise InputError(
            f"expected a path, bytes, an open file, a PIL image or an array, got "
            f"{type(stream).__name__}; pass one of those"
        )
    label = getattr(stream, "name", None)
    name = os.path.basename(os.fsdecode(label)) if isinstance(label, (str, bytes)) else "bytes"
    data = read(MAX_FILE_BYTES + 1)
    if not isinstance(data, (bytes, bytearray)):
        raise InputError(f"{name}: the file is open in text mode; open it with mode 'rb'")
    return bytes(data), name


def shared_name(name: str, content: bytes) -> str:
    """Return the name under which a file with this base name and content may be kept and shown."""
    stem, suffix = os.path.splitext(name)
    known = suffix.lower().lstrip(".") in LISTS["file_words"]
    if _names_nobody(stem) and (known or not suffix):
        return name
    digits = hashlib.sha256(content).hexdigest()[:8]
    return f"image-{digits}{suffix.lower() if known else ''}"


def _names_nobody(stem: str) -> bool:
    if _HEX.fullmatch(stem) and sum(c.isalnum() for c in stem) >= 16:
        return True
    return all(
        len(word.lstrip("0")) <= _LONGEST_NUMBER
        if word.isdigit()
        else (len(word) == 1 and word.isascii()) or word.lower() in LISTS["file_words"]
        for word in _WORD.findall(stem)
    )


def sample_dicom() -> Path:
    """Find the real chest DICOM inside the installed package `pydicom-data`.

    A computed radiograph (CR, PA, MONOCHROME1, 15 of 16 bits, 1955 x 1841) from the compression
    test set of the DICOM working group 4, de-identified by its publisher.

    Raises:
        MissingDependencyError: the package is not installed; the message names the command.

    >>> wb.imaging.sample_dicom().suffix
    '.dcm'
    """
    spec = find_spec(_SAMPLE_PACKAGE)
    folders = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / "data" / _SAMPLE
        if path.is_file():
            return path
    raise MissingDependencyError(
        f"the sample chest DICOM ({_SAMPLE}) comes with the package pydicom-data, which is not "
        "installed here; run: pip install pydicom-data"
    )
