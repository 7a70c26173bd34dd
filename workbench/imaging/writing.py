"""DICOM objects that are made of a radiograph: whose study they belong to, and secondary captures.

An object about a DICOM file belongs to its study and repeats its identifiers of study and image.
Who the patient is stays out, as everywhere, unless it is asked for: then a document can be filed
under the patient. Identifiers of all else are derived from what they stand for, so that the same
export gives the same files.

Source: DICOM PS3.3 A.8.1 (Secondary Capture Image), C.7.1.1 (Patient), C.7.2.1 (Study).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from workbench._store import whole_file
from workbench._version import __version__
from workbench.errors import InputError

#: What an object needs of the image that it is about.
_IMAGE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_ABOUT = ("Modality", "Rows", "Columns", "NumberOfFrames")
#: Attributes that name the patient or the visit; empty unless asked for.
_PERSON = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
MAKER = "CXR-LLaVA Workbench"


def uid(*parts: object) -> str:
    """Return a DICOM identifier that is the same for the same parts."""
    return generate_uid(entropy_srcs=["\x00".join(map(str, (MAKER, *parts)))])


def image_header(
    path: Path | None, *, key: tuple[str, ...], patient: str = "", identified: bool = False
) -> Dataset:
    """Return what an object has to say of the study and the image that it is about.

    Args:
        path: the file of the image; of one that is no DICOM, and of None, identifiers are made up.
        key: what the made-up identifiers stand for, e.g. source and id of a case.
        patient: pseudonym.
        identified: keep who the patient is, of a DICOM file.
    """
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _PERSON:
        setattr(header, keyword, "")
    found = _header_of(path, identified)
    if found is None:
        for keyword, part in zip(_IMAGE[:3], ("study", "series", "image"), strict=True):
            setattr(header, keyword, uid(part, *key))
        header.SOPClassUID = SecondaryCaptureImageStorage
    else:
        header.update(found)
    if not header.PatientID:
        header.PatientID = patient
    return header


def is_dicom(path: Path) -> bool:
    """Say whether a file is a DICOM image that another object can refer to."""
    return _header_of(path, identified=False) is not None


def _header_of(path: Path | None, identified: bool) -> Dataset | None:
    wanted = [*_IMAGE, *_ABOUT, *(_PERSON if identified else ())]
    try:
        found = dcmread(path, stop_before_pixels=True, specific_tags=[*wanted]) if path else None
    except InvalidDicomError:
        return None
    if found is None or not all(found.get(keyword) for keyword in _IMAGE):
        return None
    found.decode()
    return Dataset({one.tag: one for one in found if one.keyword in wanted})


def secondary_capture(
    pixels: np.ndarray, header: Dataset, *, description: str, burned_in: bool | None = False
) -> Dataset:
    """Return an image as a secondary capture in the study of `header`.

    Args:
        pixels: (H, W) grey or (H, W, 3) RGB, uint8 or uint16.
        header: see `image_header`; a capture of its own series where it is about another file.
        description: of the series.
        burned_in: whether the pixels name the patient; None where that is not known.
    """
    made, rgb = Dataset(), pixels.ndim == 3
    for keyword in ("SpecificCharacterSet", *_PERSON, *_IMAGE):
        setattr(made, keyword, header.get(keyword))
    made.SOPClassUID = SecondaryCaptureImageStorage
    made.Modality, made.ConversionType, made.BodyPartExamined = "OT", "WSD", "CHEST"
    made.Manufacturer, made.SoftwareVersions = MAKER, __version__
    made.SeriesDescription = description[:64]
    made.SeriesNumber = made.InstanceNumber = "1"
    made.PatientOrientation = made.ContentDate = made.ContentTime = ""
    if burned_in is not None:
        made.BurnedInAnnotation = "YES" if burned_in else "NO"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 3 if rgb else 1
    made.PhotometricInterpretation = "RGB" if rgb else "MONOCHROME2"
    if rgb:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, 0
    data = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<")).tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OB" if made.BitsAllocated == 8 else "OW"
    return made


def save_dicom(made: Dataset, path: Path) -> Path:
    """Write an object as a DICOM file, whole or not at all, and return the path.

    Raises:
        InputError: the name does not end in .dcm.
    """
    if path.suffix.lower() != ".dcm":
        raise InputError(f"{path.name}: a DICOM file is written as .dcm")
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        made.save_as(unfinished, enforce_file_format=True)
    return path
