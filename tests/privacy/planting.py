"""Films with a marked name wherever a name can stand, and the search for it in what was made.

Does not know: the workbench.
"""

from __future__ import annotations

import io
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow.parquet
from PIL import Image, ImageDraw, PngImagePlugin
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

NAME = "ZZPLANTEDNAME"
_TEXTS = {"PN", "LO", "SH", "LT", "ST", "UT", "UC", "CS", "AE"}
_KEPT = {"PhotometricInterpretation", "SpecificCharacterSet", "BurnedInAnnotation"}
_SIDE = 120


def planted_dicom(path: Path) -> Path:
    """Write a film with the name in every text tag, private tags, an overlay and its pixels."""
    ds = _film(_pixels())
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if vr in _TEXTS and keyword and keyword not in _KEPT and tag >> 16 not in (0, 2):
            ds.add_new(tag, vr, NAME)
    ds.PatientName, ds.BurnedInAnnotation = f"{NAME}^Jane", "YES"
    item = Dataset()
    item.CodeValue, item.CodeMeaning, item.PatientName = NAME, NAME, NAME
    for keyword in ("ViewCodeSequence", "AnatomicRegionSequence", "RequestAttributesSequence"):
        setattr(ds, keyword, [item])
    block = ds.private_block(0x0011, NAME, create=True)
    block.add_new(1, "LO", NAME)
    block.add_new(2, "UN", NAME.encode())
    _add_overlay(ds)
    ds.save_as(path, enforce_file_format=True)
    data = path.read_bytes()
    path.write_bytes(NAME.encode().ljust(128, b"\0") + data[128:])  # the preamble, too
    return path


def plain_dicom(path: Path) -> Path:
    """Write the same pixels with nobody's name."""
    ds = _film(_pixels())
    ds.save_as(path, enforce_file_format=True)
    return path


def planted_picture(path: Path) -> Path:
    """Write a picture with the name in its comments; the ending decides the format."""
    image = Image.fromarray((_pixels() >> 4).astype(np.uint8))
    exif = Image.Exif()
    exif[0x010E], exif[0x013B], exif[0x9C9B] = NAME, NAME, NAME.encode("utf-16-le")
    if path.suffix == ".png":
        notes = PngImagePlugin.PngInfo()
        notes.add_text("Comment", NAME)
        notes.add_itxt("Patient", NAME, zip=True)
        image.save(path, pnginfo=notes, exif=exif)
    elif path.suffix == ".jpg":
        image.save(path, exif=exif, comment=NAME.encode())
    else:
        image.save(path, tiffinfo={270: NAME, 315: NAME, 33432: NAME})
    return path


def places(folder: Path) -> list[str]:
    """Return where below a folder the name stands: names of files, content, packed content."""
    found = []
    for path in sorted(folder.rglob("*")):
        where = path.relative_to(folder).as_posix()
        if _holds(where.encode()):
            found.append(f"name of {where}")
        if path.is_file() and any(_holds(part) for part in _contents(path)):
            found.append(where)
    return found


def said(text: str) -> bool:
    """Say whether the name stands in a text."""
    return _holds(text.encode("utf-8", "surrogatepass"))


def _contents(path: Path):
    data = path.read_bytes()
    yield data
    if path.suffix == ".parquet":
        yield str(pyarrow.parquet.read_table(path).to_pydict()).encode()
        yield str(pyarrow.parquet.read_schema(path).metadata).encode()
    elif path.suffix == ".sqlite":
        yield "\n".join(sqlite3.connect(path).iterdump()).encode()
    elif path.suffix in (".png", ".jpg"):
        with Image.open(io.BytesIO(data)) as image:
            yield str(image.info).encode()


def _holds(data: bytes) -> bool:
    lowered, name = data.lower(), NAME.lower()
    spelled = (
        name.encode(),
        name.encode("utf-16-le"),
        name.encode("utf-16-be"),
        name.encode().hex(),
    )
    return any((word if isinstance(word, bytes) else word.encode()) in lowered for word in spelled)


def _pixels() -> np.ndarray:
    """A film (120, 120) uint16 of 12 bits with the name burned into a corner."""
    y, x = np.mgrid[0 : 1 : _SIDE * 1j, 0 : 1 : _SIDE * 1j]
    film = Image.fromarray(np.rint(2000 * (0.7 * y + 0.3 * x)).astype(np.int32))
    ImageDraw.Draw(film).text((4, 4), NAME, fill=4095)
    return np.asarray(film).astype(np.uint16)


def _film(pixels: np.ndarray) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3"
    ds.SOPClassUID, ds.Modality = ComputedRadiographyImageStorage, "CR"
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = pixels.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def _add_overlay(ds: Dataset) -> None:
    """Add a plane that draws the name, and says it."""
    plane = Image.new("1", (_SIDE, _SIDE))
    ImageDraw.Draw(plane).text((4, 60), NAME, fill=1)
    bits = np.packbits(np.asarray(plane).ravel(), bitorder="little").tobytes()
    for element, vr, value in (
        (0x0010, "US", _SIDE), (0x0011, "US", _SIDE), (0x0022, "LO", NAME), (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]), (0x0100, "US", 1), (0x0102, "US", 0), (0x1500, "LO", NAME),
        (0x3000, "OW", bits),
    ):  # fmt: skip
        ds.add_new(0x60000000 | element, vr, value)
