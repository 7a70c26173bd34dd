"""Small sound files of every kind that is read, from which damaged ones are made.

Does not know: damage (`mutation`), or what reads them (`readers`).
"""

from __future__ import annotations

import io
import random

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

SIDE = 24
_TEXTS = (
    "Heart size is normal. No pleural effusion or pneumothorax. Lungs are clear.",
    "FINDINGS: There is a small left pleural effusion, unchanged from prior. IMPRESSION: 1. Small "
    "left effusion. 2. No pneumothorax.",
    "Possible right lower lobe pneumonia versus atelectasis; cannot exclude a 1.2 cm nodule.",
    "No large effusion, no consolidation, no edema, no new nodule. Compared to 01/02/2020, stable.",
    "Indication: evaluate for pneumonia. ET tube tip 3 cm above the carina. Cardiomegaly is mild.",
)


def film(bits: int) -> np.ndarray:
    """A smooth film of `SIDE` pixels, uint8 or uint16."""
    y, x = np.mgrid[0 : 1 : SIDE * 1j, 0 : 1 : SIDE * 1j]
    values = (0.6 * y + 0.3 * x + 0.1 * np.sin(9 * x)) / 1.1
    return np.rint(values * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def dicom_files() -> list[bytes]:
    """Films in each family of transfer syntaxes that is decoded in this process."""
    wide, narrow = film(12), film(8)
    plain = [
        _dicom(wide.astype("<u2").tobytes(), 12, ExplicitVRLittleEndian),
        _dicom(wide.astype("<u2").tobytes(), 12, ImplicitVRLittleEndian),
        _dicom(wide.astype(">u2").tobytes(), 12, ExplicitVRBigEndian),
        _dicom(wide.astype("<u2").tobytes(), 12, DeflatedExplicitVRLittleEndian),
        _dicom(
            narrow.tobytes(), 8, ExplicitVRLittleEndian, PhotometricInterpretation="MONOCHROME1"
        ),
    ]
    packed = [
        _dicom(encapsulate([_picture(narrow, "JPEG")]), 8, JPEGBaseline8Bit),
        _dicom(encapsulate([_picture(narrow, "JPEG2000", no_jp2=True)]), 8, JPEG2000Lossless),
        _run_length(wide),
    ]
    return plain + packed


def picture_files(kind: str) -> list[bytes]:
    """Pictures of a format of Pillow, 8 and where it can 16 bit, grey and colour."""
    narrow, wide = film(8), film(16)
    colour = np.repeat(narrow[..., None], 3, axis=2)
    if kind == "PNG":
        return [_picture(image, kind) for image in (narrow, wide, colour)]
    if kind == "TIFF":
        packings = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")
        return [_picture(wide, kind, compression=name) for name in packings] + [
            _picture(narrow, kind, compression="jpeg")
        ]
    if kind == "JPEG":
        return [
            _picture(narrow, kind),
            _picture(colour, kind),
            _picture(narrow, kind, progressive=True),
        ]
    others = ("BMP", "GIF", "WEBP", "JPEG2000", "PPM")
    return [_picture(narrow, name) for name in others]


def report_texts() -> list[bytes]:
    """Texts of reports, and a long one of all of them in turn."""
    rng = random.Random(3)
    long = " ".join(rng.choice(_TEXTS) for _ in range(20))
    return [text.encode() for text in (*_TEXTS, long)]


def _picture(image: np.ndarray, kind: str, **options) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, kind, **options)
    return sink.getvalue()


def _dicom(pixels: bytes, bits: int, syntax, **tags) -> bytes:
    ds = _dataset(bits, syntax)
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
    ds["PixelData"].VR = "OB" if bits <= 8 or syntax.is_encapsulated else "OW"
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    sink = io.BytesIO()
    ds.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def _run_length(wide: np.ndarray) -> bytes:
    ds = _dataset(12, ExplicitVRLittleEndian)
    ds.PixelData = wide.tobytes()
    ds["PixelData"].VR = "OW"
    ds.compress(RLELossless, generate_instance_uid=False)
    sink = io.BytesIO()
    ds.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def _dataset(bits: int, syntax) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3.4"
    ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.Modality, ds.PatientName, ds.ViewPosition = "CR", "Doe^Jane", "PA"
    ds.PatientOrientation, ds.PixelSpacing = ["L", "F"], [0.2, 0.2]
    ds.SeriesDescription, ds.BodyPartExamined = "CHEST PA", "CHEST"
    ds.WindowCenter, ds.WindowWidth = [2048, 1024], [4096, 2048]
    ds.RescaleSlope, ds.RescaleIntercept, ds.PixelPaddingValue = "1", "0", 0
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "R-10214", "postero-anterior"
    ds.ViewCodeSequence = [item]
    ds.Rows = ds.Columns = SIDE
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = 8 if bits <= 8 else 16
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, 0
    return ds
