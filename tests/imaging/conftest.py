"""Films to write and read back: a smooth chest-like gradient, and DICOM datasets made of it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid


def smooth_film(rows: int, columns: int, bits: int) -> np.ndarray:
    """Return (rows, columns) uint16 with every row and column different, using all of `bits`."""
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    film = 0.6 * y + 0.25 * x + 0.15 * np.sin(9 * x) ** 2
    film = (film - film.min()) / (film.max() - film.min())
    return np.rint(film * (2**bits - 1)).astype(np.uint16)


def build(pixels: np.ndarray, *, bits: int, syntax=ExplicitVRLittleEndian, **tags) -> Dataset:
    """Return a CR dataset around unsigned or signed pixels; keywords override or (None) delete."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID
    ds.Modality = "CR"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    ds.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = 8 if bits <= 8 else 16
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    order = "<" if syntax.is_little_endian else ">"
    stored = pixels.astype(f"{order}{pixels.dtype.kind}{ds.BitsAllocated // 8}")
    data = stored.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if bits <= 8 else "OW"
    for keyword, value in tags.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def to_bytes(ds: Dataset, **options) -> bytes:
    """Write a dataset as a DICOM file in memory."""
    buffer = io.BytesIO()
    ds.save_as(buffer, **{"enforce_file_format": True, **options})
    return buffer.getvalue()


@pytest.fixture
def film():
    """(rows, columns, bits) -> uint16 array."""
    return smooth_film


@pytest.fixture
def dicom():
    """(pixels, bits=..., syntax=..., **tags) -> Dataset."""
    return build


@pytest.fixture
def dicom_bytes():
    """(pixels, bits=..., syntax=..., **tags) -> bytes of a DICOM file; or (dataset) -> bytes."""

    def make(pixels, **options) -> bytes:
        return to_bytes(pixels if isinstance(pixels, Dataset) else build(pixels, **options))

    return make
