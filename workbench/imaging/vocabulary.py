"""The closed lists of the DICOM reader: which tags are read, and which words may come out of them.

Texts of a file are never passed on: each is matched against a list here and replaced by the
matching term, because people type names into any field. Dates, UIDs, names, ages, comments and
private tags have no way through. Codes of views: SNOMED CT and SRT, DICOM PS3.16 CID 4010.

Numbers are read one by one, because pydicom refuses a whole element where one of its numbers is
none: a decimal comma is read as a point, and what is no number is known to be there and unreadable.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pydicom.dataset import Dataset


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: Keywords that reach `Radiograph.meta`, in this order.
META_KEYWORDS = _words(
    """
    Modality BodyPartExamined ViewPosition PatientOrientation Manufacturer PresentationIntentType
    Rows Columns PhotometricInterpretation PresentationLUTShape BitsAllocated BitsStored HighBit
    PixelRepresentation PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing PixelAspectRatio
    WindowCenter WindowWidth VOILUTFunction RescaleSlope RescaleIntercept PixelPaddingValue
    BurnedInAnnotation LossyImageCompression
    """
)

#: Keywords that are read to decode and judge, and stay inside the reader.
READ_KEYWORDS = META_KEYWORDS + _words(
    """
    SOPClassUID SamplesPerPixel PlanarConfiguration NumberOfFrames PixelPaddingRangeLimit
    ModalityLUTSequence VOILUTSequence ViewCodeSequence AnatomicRegionSequence SeriesDescription
    ProtocolName PrimaryAnatomicStructureSequence AcquisitionDeviceProcessingDescription
    PerformedProtocolCodeSequence StudyDescription RequestedProcedureDescription
    PerformedProcedureStepDescription RequestAttributesSequence ProcedureCodeSequence
    RequestedProcedureCodeSequence RedPaletteColorLookupTableDescriptor
    GreenPaletteColorLookupTableDescriptor
    BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData
    GreenPaletteColorLookupTableData BluePaletteColorLookupTableData
    SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
    SegmentedBluePaletteColorLookupTableData ExtendedOffsetTable ExtendedOffsetTableLengths
    PerFrameFunctionalGroupsSequence SharedFunctionalGroupsSequence
    FloatPixelData DoubleFloatPixelData PixelData
    """
)
#: Keywords that may stand in the functional groups of a frame instead.
FRAME_KEYWORDS = _words(
    """
    WindowCenter WindowWidth VOILUTFunction VOILUTSequence RescaleSlope RescaleIntercept
    PixelSpacing PatientOrientation AnatomicRegionSequence
    """
)

INTEGERS = _words(
    "Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation PixelPaddingValue"
)
NUMBERS = _words("WindowCenter WindowWidth RescaleSlope RescaleIntercept")
NUMBER_PAIRS = _words("PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing PixelAspectRatio")

CHEST = _words(
    "CHEST THORAX TORAX LUNG LUNGS RIB RIBS STERNUM HEART CLAVICLE THORACIC PULMON CXR MEDIASTINUM"
)
#: How words for the chest begin in several languages.
CHEST_STARTS = tuple(
    _words("CHEST THORA TORAX TORAC PULM POUMON POLMON LUNG BRUSTKORB COSTAL COSTILL RIPPE CXR")
)
#: Thorax, chest, lung, thoracic cavity, rib: SNOMED CT and SRT.
CHEST_CODES = _words(
    "51185008 816094009 39607008 43799004 113197003 T-D3000 T-28000 T-D3050 T-11300"
)
#: Parts other than the chest, each with its words in other languages, accents left out.
OTHER_PARTS = {
    word: line.split()[0]
    for line in """
    ABDOMEN ABDOMINAL ABD KUB BAUCH ADDOME ABDOME BUIK
    PELVIS PELVIC BECKEN BASSIN BACINO BACIA BEKKEN
    HIP HUFTE HUEFTE HUFTGELENK HUEFTGELENK HANCHE CADERA ANCA QUADRIL HEUP
    HEAD KOPF TETE CABEZA TESTA CABECA
    SKULL SCHADEL SCHAEDEL CRANE CRANEO CRANIO SCHEDEL
    FACE
    SINUS
    ORBIT
    JAW
    MANDIBLE
    NECK HALS CUELLO COLLO
    CSPINE CERVICAL HWS
    TSPINE BWS
    LSPINE LUMBAR LUMBOSACRAL LUMBAL LOMBAIRE LOMBARE LWS
    SPINE SCOLIOSIS WIRBELSAULE WIRBELSAEULE RACHIS COLUMNA COLUNA COLONNA RACHIDE WERVELKOLOM
    SACRUM SACROILIAC
    COCCYX
    SHOULDER SCHULTER SCHULTERGELENK EPAULE HOMBRO SPALLA OMBRO SCHOUDER
    HUMERUS OBERARM
    ARM
    ELBOW ELLENBOGEN COUDE CODO GOMITO COTOVELO ELLEBOOG
    FOREARM UNTERARM ANTEBRAZO AVAMBRACCIO
    WRIST SCAPHOID HANDGELENK POIGNET MUNECA POLSO PUNHO POLS
    HAND HANDE MANO
    FINGER DOIGT DEDO DITO
    THUMB DAUMEN POUCE PULGAR
    EXTREMITY
    FEMUR OBERSCHENKEL
    LEG BEIN UNTERSCHENKEL JAMBE PIERNA GAMBA PERNA
    KNEE KNIE KNIEGELENK GENOU GENOUX RODILLA GINOCCHIO JOELHO
    PATELLA
    TIBIA TIB
    FIBULA FIB
    ANKLE SPRUNGGELENK CHEVILLE TOBILLO CAVIGLIA TORNOZELO ENKEL
    FOOT FEET FUSS FUSSE FUESSE PIED PIEDE VOET
    HEEL
    CALCANEUS
    TOE ZEH ZEHE ZEHEN ORTEIL
    BREAST MAMMOGRAPHY
    BRAIN
    LIVER
    KIDNEY
    BLADDER
    UTERUS
    PROSTATE
    PANCREAS
    COLON
    TOOTH DENTAL PANORAMIC OPG
    TEETH
    """.strip().splitlines()
    for word in line.split()
}
#: Parts that chest images of the same study often stand beside.
NEIGHBOURS = _words("ABDOMEN PELVIS NECK SHOULDER SPINE CSPINE TSPINE LSPINE")
#: Where the part is a code or term, where the image is described, where the whole study is.
BODY_TAGS = _words("BodyPartExamined AnatomicRegionSequence PrimaryAnatomicStructureSequence")
IMAGE_TAGS = _words(
    """
    SeriesDescription ProtocolName AcquisitionDeviceProcessingDescription ViewCodeSequence
    PerformedProtocolCodeSequence
    """
)
STUDY_TAGS = _words(
    """
    StudyDescription RequestedProcedureDescription PerformedProcedureStepDescription
    RequestAttributesSequence ProcedureCodeSequence RequestedProcedureCodeSequence
    """
)
#: What the items of those sequences say in words.
ITEM_TEXTS = _words("CodeMeaning RequestedProcedureDescription ScheduledProcedureStepDescription")

#: Plain radiography.
RADIOGRAPHIC = _words("CR DX DR RG")
#: Modalities that say nothing about what a picture shows (secondary captures).
SILENT_MODALITIES = _words("OT SC")

VOCABULARY = {
    "Modality": RADIOGRAPHIC
    + SILENT_MODALITIES
    + _words(
        "CT MR US MG RF XA PX IO NM PT XC ES GM SM OP BMD SR SEG PR KO DOC RTIMAGE RTDOSE "
        "RTSTRUCT RTPLAN ECG HC REG IVUS OCT BI DG ST TG"
    ),
    "ViewPosition": _words("PA AP LL RL LAT LATERAL LLD RLD RLO LLO LAO RAO LPO RPO"),
    "PhotometricInterpretation": (
        "PALETTE COLOR",
        *_words("MONOCHROME1 MONOCHROME2 RGB YBR_FULL YBR_FULL_422 YBR_ICT YBR_RCT"),
    ),
    "PresentationLUTShape": _words("IDENTITY INVERSE"),
    "PresentationIntentType": ("FOR PRESENTATION", "FOR PROCESSING"),
    "VOILUTFunction": _words("LINEAR LINEAR_EXACT SIGMOID"),
    "BurnedInAnnotation": _words("YES NO"),
    "LossyImageCompression": _words("00 01"),
}

MANUFACTURERS = (
    "GENERAL ELECTRIC",
    "IMAGING DYNAMICS",
    "DEL MEDICAL",
    *_words(
        """
        AGFA CANON CARESTREAM DRTECH FUJI GE HOLOGIC KODAK KONICA LODOX PHILIPS RAYENCE SAMSUNG
        SEDECAL SHIMADZU SIEMENS SWISSRAY TOSHIBA VAREX VARIAN VIEWORKS
        """
    ),
)

PA_CODES = _words("272479007 R-10214 R-40888")
AP_CODES = _words("399348003 R-10206")
LATERAL_CODES = _words("399067008 399173006 399198007 R-102CD R-10232 R-10236")
LATERAL_WORDS = _words("LAT LATERAL LATERALE SEITLICH PROFIL LLAT RLAT")


# ---------------------------------------------------------------- numbers

_DECIMAL = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]+)?")
#: What surrounds a number, padding of every kind included.
_BLANKS = " \0\t\r\n"


@dataclass(frozen=True)
class Numbers:
    """The numbers of one element.

    Attributes:
        values: one for each that is written, None where it cannot be read; empty where the element
            is absent or empty.
        commas: whether one of them was written with a decimal comma.
    """

    values: tuple[float | None, ...] = ()
    commas: bool = False


def read_numbers(ds: Dataset, keyword: str) -> Numbers:
    """Read every number of an element, each on its own."""
    parts = [str(part).strip(_BLANKS) for part in _parts(ds, keyword)]
    if not any(parts):
        return Numbers()
    values = tuple(map(_number, parts))
    read = zip(parts, values, strict=True)
    return Numbers(values, any("," in part for part, value in read if value is not None))


def first_number(ds: Dataset, keyword: str) -> float | None:
    """Return the first number of an element, None where absent, empty or unreadable."""
    values = read_numbers(ds, keyword).values
    return values[0] if values else None


def _parts(ds: Dataset, keyword: str) -> list:
    try:
        value = ds.get(keyword)
    except (ValueError, TypeError, OverflowError):
        value = ds.get_item(keyword).value  # as it stands in the file
    if value is None:
        return []
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        return value.split("\\")
    return list(value) if hasattr(value, "__iter__") else [value]


def _number(text: str) -> float | None:
    if not _DECIMAL.fullmatch(text):
        return None
    number = float(text.replace(",", "."))
    return number if math.isfinite(number) else None
