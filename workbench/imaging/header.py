"""What a DICOM header says about the view, the body part and the pixels, identifiers left out.

Only the tags of `vocabulary` are read from a file at all, and only its words come out.

Does not know: pixels.
"""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

from workbench.imaging import vocabulary as words
from workbench.imaging.luts import first_number
from workbench.radiograph import InputWarning

#: How far the sides of a pixel may differ before it is said.
_SQUARE_TOLERANCE = 0.02


def allowed_meta(ds: Dataset) -> dict:
    """Return the allow-listed tags as plain values; what is absent or unexpected is left out."""
    meta = {}
    for keyword in words.META_KEYWORDS:
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
    tokens = re.findall(r"[A-Z]+", f"{_text(ds, 'SeriesDescription')} {_text(ds, 'ProtocolName')}")
    decubitus = any(word.startswith("DECUB") for word in tokens)
    views = {word for word in tokens if word in ("PA", "AP")}
    if not decubitus and any(word in words.LATERAL_WORDS for word in tokens):
        views.add("lateral")
    return views.pop() if len(views) == 1 else "unknown"


def pixel_spacing_of(ds: Dataset) -> tuple[float, float] | None:
    """Return millimetres (row, column): of the patient, else of the detector or the scanner."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        pair = _plain(ds, keyword)
        if pair:
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
    modality, part, ratio = modality_of(ds), _other_body_part(ds), _pixel_ratio(ds)
    plain = modality in ("unknown", *words.RADIOGRAPHIC, *words.SILENT_MODALITIES)
    found = (
        (
            not plain,
            "not-a-chest",
            f"the file's modality is {modality}, not a plain radiograph; pass a CR or DX image of "
            "the chest",
        ),
        (
            plain and part is not None,
            "not-a-chest",
            f"the file says that the body part is {part}; pass a chest radiograph, or ignore this "
            "where the tag is wrong",
        ),
        (
            view_of(ds) == "lateral",
            "lateral-view",
            "this is a lateral view; the models read frontal (PA or AP) films: pass the frontal "
            "image of the study",
        ),
        (
            burned_in_of(ds),
            "burned-in",
            "the file says that text is burned into the pixels; it may name the patient, and "
            "models may read it: mask it before sharing",
        ),
        (
            _text(ds, "PresentationIntentType") == "FOR PROCESSING",
            "for-processing",
            "these are raw detector data (FOR PROCESSING); pass the FOR PRESENTATION image of the "
            "study",
        ),
        (
            ratio is not None and abs(ratio - 1) > _SQUARE_TOLERANCE,
            "non-square-pixels",
            f"a pixel is {ratio or 1:.3g} times as high as wide, so the chest looks distorted; "
            "resample the image to square pixels",
        ),
    )
    return tuple(InputWarning(code, message) for applies, code, message in found if applies)


def _plain(ds: Dataset, keyword: str):
    if keyword in words.NUMBERS:
        return first_number(ds, keyword)
    if keyword in words.INTEGERS:
        number = first_number(ds, keyword)
        return None if number is None else int(number)
    if keyword in words.NUMBER_PAIRS:
        return _pair(ds, keyword)
    text = _text(ds, keyword)
    if keyword == "PatientOrientation":
        parts = text.split("\\")
        return parts if all(re.fullmatch("[ALRPHF]{1,3}", part) for part in parts) else None
    if keyword == "Manufacturer":
        return next((n for n in words.MANUFACTURERS if re.search(rf"\b{n}", text)), None)
    if keyword == "BodyPartExamined":
        return _body_part(text)
    return text if text in words.VOCABULARY[keyword] else None


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
    return (row, column) if min(row, column) > 0 else None


def _pixel_ratio(ds: Dataset) -> float | None:
    pair = pixel_spacing_of(ds) or _plain(ds, "PixelAspectRatio")
    return pair[0] / pair[1] if pair else None


def _body_part(text: str) -> str | None:
    tokens = re.findall(r"[A-Z]+", text)
    chest = next((part for part in words.CHEST for word in tokens if word == part), None)
    return chest or next(
        (part for part in words.OTHER_PARTS for word in tokens if word == part), None
    )


def _other_body_part(ds: Dataset) -> str | None:
    texts = [_text(ds, "BodyPartExamined")]
    texts += [_text(item, "CodeMeaning") for item in ds.get("AnatomicRegionSequence") or ()]
    parts = [part for part in map(_body_part, texts) if part]
    return parts[0] if parts and not any(part in words.CHEST for part in parts) else None


def _view_code(ds: Dataset) -> str | None:
    for item in ds.get("ViewCodeSequence") or ():
        code, meaning = _text(item, "CodeValue"), _text(item, "CodeMeaning").replace("-", "")
        for view, codes, start in (
            ("PA", words.PA_CODES, "POSTEROANTERIOR"),
            ("AP", words.AP_CODES, "ANTEROPOSTERIOR"),
        ):
            if code in codes or meaning.replace(" ", "").startswith(start):
                return view
        if code in words.LATERAL_CODES or re.fullmatch(r"((LEFT|RIGHT) )?LATERAL", meaning):
            return "lateral"
    return None


def _is_lateral_orientation(ds: Dataset) -> bool:
    orientation = _plain(ds, "PatientOrientation")
    return bool(orientation) and orientation[0][:1] in ("A", "P")
