"""What a DICOM header says about the view, the body part and the pixels, identifiers left out.

Only the tags of `vocabulary` are read from a file at all, and only its words come out.

Does not know: pixels.
"""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

from workbench.imaging import vocabulary as words
from workbench.imaging.body_part import other_part, part_in
from workbench.imaging.numeric import first_number, read_numbers
from workbench.imaging.orientation import Turn, turn_of
from workbench.radiograph import InputWarning

#: How far the sides of a pixel may differ before it is said.
_SQUARE_TOLERANCE = 0.02
_MARKER = "compare the side marker in the image"


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
    modality, (tag, part), ratio = modality_of(ds), other_part(ds) or ("", ""), _pixel_ratio(ds)
    plain = modality in ("unknown", *words.RADIOGRAPHIC, *words.SILENT_MODALITIES)
    found = (
        (
            not plain,
            "not-a-chest",
            f"the file's modality is {modality}, not a plain radiograph; pass a CR or DX image of "
            "the chest",
        ),
        (
            plain and bool(part),
            "not-a-chest",
            f"the file says that the body part is {part} ({tag}); pass a chest radiograph, or "
            "ignore this where the tag is wrong",
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
    warnings = tuple(InputWarning(code, message) for applies, code, message in found if applies)
    return warnings + _number_warnings(ds)


def raise_frame_tags(ds: Dataset) -> None:
    """Give a dataset the tags that its functional groups hold of the first frame, PS3.3 C.7.6.16.

    What stands in the dataset itself stays.
    """
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in list(ds.get(groups) or ())[:1]:
            for macro in group:
                for item in macro.value if macro.VR == "SQ" else ():
                    for keyword in words.FRAME_KEYWORDS:
                        if keyword in item and not ds.get(keyword):
                            ds[keyword] = item[keyword]


def turn_upright(ds: Dataset, upright: bool) -> tuple[Turn, tuple[InputWarning, ...]]:
    """Return the turn to apply to the pixels, and what PatientOrientation says about them.

    Args:
        ds: the dataset; where there is a turn, its tags describe the turned image afterwards.
        upright: whether the caller asks for the turn.
    """
    text, parts = _text(ds, "PatientOrientation"), _plain(ds, "PatientOrientation")
    if not text.strip("\\ "):
        return Turn(), ()
    turn = turn_of(parts, view_of(ds) == "lateral") if parts and len(parts) == 2 else None
    said = " says ".join(["PatientOrientation", *(["\\".join(parts)] if parts else [])])
    if turn is None:
        message = f"{said}, which is no direction of rows and columns of this view; {_MARKER}"
    elif not turn:
        return turn, ()
    elif upright:
        message = f"{said}, so the image was turned upright; {_MARKER}"
        _describe_turned(ds, turn, parts)
    else:
        message = (
            f"{said}: the image {turn.words()}; {_MARKER}, and where the tag is right load it "
            "with upright=True"
        )
    return (turn or Turn()) if upright else Turn(), (InputWarning("orientation", message),)


def _describe_turned(ds: Dataset, turn: Turn, parts: list[str]) -> None:
    row = parts[1] if turn.transpose else parts[0]
    ds.PatientOrientation = ["L" if turn.mirror else row, "F"]
    if turn.transpose:
        ds.Rows, ds.Columns = ds.Columns, ds.Rows
        for keyword in words.NUMBER_PAIRS:
            pair = _pair(ds, keyword)
            if pair:
                setattr(ds, keyword, [f"{number:.9g}" for number in pair[::-1]])


def _number_warnings(ds: Dataset) -> tuple[InputWarning, ...]:
    """Name the tags whose numbers break the standard's rules; values are not quoted."""
    commas, unreadable = [], []
    for keyword in words.NUMBERS + words.NUMBER_PAIRS:
        numbers = read_numbers(ds, keyword)
        missing = keyword in words.NUMBER_PAIRS and len(numbers.values) not in (0, 2)
        if None in numbers.values or missing:
            unreadable.append(keyword)
        elif numbers.commas:
            commas.append(keyword)
    found = []
    if commas:
        message = "a decimal comma was read as a point; check brightness, contrast and sizes"
        found.append(InputWarning("header", f"{', '.join(commas)}: {message}"))
    if unreadable:
        message = (
            "not the numbers that belong there, left out; brightness, contrast or sizes may be "
            "wrong: export the file again"
        )
        found.append(InputWarning("header", f"{', '.join(unreadable)}: {message}"))
    return tuple(found)


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
        parts = [part.strip() for part in text.split("\\")]
        return parts if all(re.fullmatch("[ALRPHF]{1,3}", part) for part in parts) else None
    if keyword == "Manufacturer":
        return next((n for n in words.MANUFACTURERS if re.search(rf"\b{n}", text)), None)
    if keyword == "BodyPartExamined":
        return part_in(text)
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
    values = read_numbers(ds, keyword).values
    usable = len(values) == 2 and all(value and value > 0 for value in values)
    return values if usable else None


def _pixel_ratio(ds: Dataset) -> float | None:
    pair = pixel_spacing_of(ds) or _plain(ds, "PixelAspectRatio")
    return pair[0] / pair[1] if pair else None


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
    return any(part[:1] in ("A", "P") for part in _plain(ds, "PatientOrientation") or ())
