"""What is kept of a DICOM header, and what it says about the view, the body part and the pixels.

Only what is listed here is read from a file at all. Texts are never passed on: each is matched
against a closed vocabulary and replaced by the matching term, because people type names into any
field. Dates, UIDs, names, ages, comments and private tags have no way through.

Does not know: pixels. View codes: SNOMED CT and SRT codes of DICOM PS3.16 CID 4010.
"""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

from workbench.imaging.luts import first_number
from workbench.radiograph import InputWarning

#: Keywords that reach `Radiograph.meta`, in this order.
META_KEYWORDS = (
    "Modality",
    "BodyPartExamined",
    "ViewPosition",
    "PatientOrientation",
    "Manufacturer",
    "PresentationIntentType",
    "Rows",
    "Columns",
    "PhotometricInterpretation",
    "PresentationLUTShape",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "PixelAspectRatio",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelPaddingValue",
    "BurnedInAnnotation",
    "LossyImageCompression",
)

#: Keywords that are read to decode and judge, and stay inside the reader.
READ_KEYWORDS = (
    *META_KEYWORDS,
    "SOPClassUID",
    "SamplesPerPixel",
    "PlanarConfiguration",
    "NumberOfFrames",
    "PixelPaddingRangeLimit",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "ViewCodeSequence",
    "AnatomicRegionSequence",
    "SeriesDescription",
    "ProtocolName",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
)

_INTEGERS = {
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
}
_NUMBERS = {"WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"}
_NUMBER_PAIRS = {
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "PixelAspectRatio",
}
_CHEST = (
    "CHEST",
    "THORAX",
    "TORAX",
    "LUNG",
    "LUNGS",
    "RIB",
    "RIBS",
    "STERNUM",
    "HEART",
    "CLAVICLE",
    "THORACIC",
    "PULMON",
)
_OTHER_PARTS = (
    "ABDOMEN",
    "PELVIS",
    "HIP",
    "HEAD",
    "SKULL",
    "FACE",
    "SINUS",
    "JAW",
    "MANDIBLE",
    "NECK",
    "CSPINE",
    "LSPINE",
    "SPINE",
    "SACRUM",
    "COCCYX",
    "SHOULDER",
    "HUMERUS",
    "ARM",
    "ELBOW",
    "FOREARM",
    "WRIST",
    "HAND",
    "FINGER",
    "THUMB",
    "EXTREMITY",
    "FEMUR",
    "LEG",
    "KNEE",
    "PATELLA",
    "TIBIA",
    "FIBULA",
    "ANKLE",
    "FOOT",
    "HEEL",
    "CALCANEUS",
    "TOE",
    "BREAST",
    "BRAIN",
    "LIVER",
    "KIDNEY",
    "BLADDER",
    "UTERUS",
    "PROSTATE",
    "PANCREAS",
    "COLON",
    "TOOTH",
    "TEETH",
)
_RADIOGRAPHIC = ("CR", "DX", "DR", "RG")
#: Modalities that say nothing about what the picture shows (secondary captures).
_SILENT_MODALITIES = ("OT", "SC")
_VOCABULARY = {
    "Modality": (
        *_RADIOGRAPHIC,
        *_SILENT_MODALITIES,
        "CT",
        "MR",
        "US",
        "MG",
        "RF",
        "XA",
        "PX",
        "IO",
        "NM",
        "PT",
        "XC",
        "ES",
        "GM",
        "SM",
        "OP",
        "BMD",
        "SR",
        "SEG",
        "PR",
        "KO",
        "DOC",
        "RTIMAGE",
        "RTDOSE",
        "RTSTRUCT",
        "RTPLAN",
        "ECG",
        "HC",
        "REG",
        "IVUS",
        "OCT",
        "BI",
        "DG",
        "ST",
        "TG",
    ),
    "BodyPartExamined": (*_CHEST, *_OTHER_PARTS),
    "ViewPosition": (
        "PA",
        "AP",
        "LL",
        "RL",
        "LAT",
        "LATERAL",
        "LLD",
        "RLD",
        "RLO",
        "LLO",
        "LAO",
        "RAO",
        "LPO",
        "RPO",
    ),
    "PhotometricInterpretation": (
        "MONOCHROME1",
        "MONOCHROME2",
        "RGB",
        "PALETTE COLOR",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_ICT",
        "YBR_RCT",
        "YBR_PARTIAL_420",
    ),
    "PresentationLUTShape": ("IDENTITY", "INVERSE"),
    "PresentationIntentType": ("FOR PRESENTATION", "FOR PROCESSING"),
    "VOILUTFunction": ("LINEAR", "LINEAR_EXACT", "SIGMOID"),
    "BurnedInAnnotation": ("YES", "NO"),
    "LossyImageCompression": ("00", "01"),
}
_MANUFACTURERS = (
    "AGFA",
    "CANON",
    "CARESTREAM",
    "DEL MEDICAL",
    "DRTECH",
    "FUJI",
    "GE ",
    "GENERAL ELECTRIC",
    "HOLOGIC",
    "IMAGING DYNAMICS",
    "KODAK",
    "KONICA",
    "LODOX",
    "PHILIPS",
    "RAYENCE",
    "SAMSUNG",
    "SEDECAL",
    "SHIMADZU",
    "SIEMENS",
    "SWISSRAY",
    "TOSHIBA",
    "VAREX",
    "VARIAN",
    "VIEWORKS",
)
_PA_CODES = {"272479007", "R-10214"}
_AP_CODES = {"399348003", "R-10206"}
_LATERAL_CODES = {"399067008", "399173006", "399198007", "R-10228", "R-10232", "R-10236"}
_LATERAL_WORDS = {"LAT", "LATERAL", "LATERALE", "SEITLICH", "PROFIL", "LLAT", "RLAT"}


def allowed_meta(ds: Dataset) -> dict:
    """Return the allow-listed tags as plain values; what is absent or unexpected is left out."""
    meta = {}
    for keyword in META_KEYWORDS:
        value = _plain(ds, keyword)
        if value is not None:
            meta[keyword] = value
    return meta


def view_of(ds: Dataset) -> str:
    """Return "PA", "AP", "lateral" or "unknown".

    Asked in this order: ViewPosition, ViewCodeSequence, PatientOrientation (which knows lateral
    from frontal only), words of SeriesDescription and ProtocolName.
    """
    position = _text(ds, "ViewPosition")
    if position in ("PA", "AP"):
        return position
    if position in ("LL", "RL", "LAT", "LATERAL"):
        return "lateral"
    if position in ("LLD", "RLD"):
        return "AP"
    coded = _view_code(ds)
    if coded:
        return coded
    if _is_lateral_orientation(ds):
        return "lateral"
    words = re.findall(r"[A-Z]+", f"{_text(ds, 'SeriesDescription')} {_text(ds, 'ProtocolName')}")
    decubitus = any(word.startswith("DECUB") for word in words)
    views = {word for word in words if word in ("PA", "AP")}
    if not decubitus and any(word in _LATERAL_WORDS for word in words):
        views.add("lateral")
    return views.pop() if len(views) == 1 else "unknown"


def pixel_spacing_of(ds: Dataset) -> tuple[float, float] | None:
    """Return millimetres (row, column): of the patient, else of the detector or the scanner."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        pair = _plain(ds, keyword)
        if pair and min(pair) > 0:
            return pair
    return None


def burned_in_of(ds: Dataset) -> bool | None:
    """Return whether text is part of the pixels, None where the file does not say."""
    return {"YES": True, "NO": False}.get(_text(ds, "BurnedInAnnotation"))


def modality_of(ds: Dataset) -> str:
    """Return the modality where it is one of the standard's, else "unknown"."""
    return _plain(ds, "Modality") or "unknown"


def header_warnings(ds: Dataset) -> tuple[InputWarning, ...]:
    """Find what a person should know from the header alone."""
    found = []
    modality = modality_of(ds)
    part = _other_body_part(ds)
    if modality not in ("unknown", *_RADIOGRAPHIC, *_SILENT_MODALITIES):
        found.append(
            (
                "not-a-chest",
                f"the file's modality is {modality}, not a plain radiograph; "
                "pass a CR or DX image of the chest",
            )
        )
    elif part:
        found.append(
            (
                "not-a-chest",
                f"the file says that the body part is {part}; pass a chest "
                "radiograph, or ignore this where the tag is wrong",
            )
        )
    if view_of(ds) == "lateral":
        found.append(
            (
                "lateral-view",
                "this is a lateral view; the models read frontal (PA or AP) "
                "films: pass the frontal image of the study",
            )
        )
    if burned_in_of(ds):
        found.append(
            (
                "burned-in",
                "the file says that text is burned into the pixels; it may name "
                "the patient, and models may read it: mask it before sharing",
            )
        )
    if _text(ds, "PresentationIntentType") == "FOR PROCESSING":
        found.append(
            (
                "for-processing",
                "these are raw detector data (FOR PROCESSING); pass the "
                "FOR PRESENTATION image of the study",
            )
        )
    ratio = _pixel_ratio(ds)
    if ratio and abs(ratio - 1) > 0.02:
        found.append(
            (
                "non-square-pixels",
                f"a pixel is {ratio:.3g} times as high as wide, so the "
                "chest looks distorted; resample the image to square pixels",
            )
        )
    return tuple(InputWarning(code, message) for code, message in found)


def _plain(ds: Dataset, keyword: str):
    if keyword in _NUMBERS:
        return first_number(ds, keyword)
    if keyword in _INTEGERS:
        number = first_number(ds, keyword)
        return None if number is None else int(number)
    if keyword in _NUMBER_PAIRS:
        return _pair(ds, keyword)
    text = _text(ds, keyword)
    if keyword == "PatientOrientation":
        parts = text.split("\\")
        return parts if all(re.fullmatch("[ALRPHF]{1,3}", part) for part in parts) else None
    if keyword == "Manufacturer":
        return next((name.strip() for name in _MANUFACTURERS if name in f"{text} "), None)
    if keyword == "BodyPartExamined":
        return _body_part(text)
    return text if text in _VOCABULARY[keyword] else None


def _text(ds: Dataset, keyword: str) -> str:
    try:
        value = ds.get(keyword)
        if value is None or isinstance(value, bytes):
            return ""
        parts = [value] if isinstance(value, str) else list(value)
        return "\\".join(str(part) for part in parts).strip().upper()
    except (TypeError, ValueError, AttributeError):
        return ""


def _pair(ds: Dataset, keyword: str) -> tuple[float, float] | None:
    try:
        row, column = (float(number) for number in ds.get(keyword) or ())
    except (TypeError, ValueError):
        return None
    return row, column


def _pixel_ratio(ds: Dataset) -> float | None:
    pair = pixel_spacing_of(ds) or _plain(ds, "PixelAspectRatio")
    return pair[0] / pair[1] if pair and min(pair) > 0 else None


def _body_part(text: str) -> str | None:
    words = re.findall(r"[A-Z]+", text)
    chest = next((part for part in _CHEST for word in words if word == part), None)
    return chest or next((part for part in _OTHER_PARTS for word in words if word == part), None)


def _other_body_part(ds: Dataset) -> str | None:
    texts = [_text(ds, "BodyPartExamined")]
    texts += [_text(item, "CodeMeaning") for item in ds.get("AnatomicRegionSequence") or ()]
    parts = [part for part in map(_body_part, texts) if part]
    return parts[0] if parts and not any(part in _CHEST for part in parts) else None


def _view_code(ds: Dataset) -> str | None:
    for item in ds.get("ViewCodeSequence") or ():
        code, meaning = _text(item, "CodeValue"), _text(item, "CodeMeaning").replace("-", "")
        for view, codes, start in (
            ("PA", _PA_CODES, "POSTEROANTERIOR"),
            ("AP", _AP_CODES, "ANTEROPOSTERIOR"),
        ):
            if code in codes or meaning.replace(" ", "").startswith(start):
                return view
        if code in _LATERAL_CODES or re.fullmatch(r"((LEFT|RIGHT) )?LATERAL", meaning):
            return "lateral"
    return None


def _is_lateral_orientation(ds: Dataset) -> bool:
    orientation = _plain(ds, "PatientOrientation")
    return bool(orientation) and orientation[0][:1] in ("A", "P")
