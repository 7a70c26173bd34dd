"""What a DICOM header says about the view, the body part and the pixels, identifiers left out.

Only the tags of `vocabulary` are read from a file at all, and only its words come out.

Body part: each text is judged alone. With a word for the chest in it, it says chest, also beside
other parts ("CHEST AND ABDOMEN"); else it says the first other part that it names. Texts of the
whole study ("XR PELVIS") often stand over several images, so they say less than those of the image.

Orientation (PS3.3 C.7.6.1.1.1): the first value of PatientOrientation names the direction of the
rows, the second that of the columns. A frontal image is upright as L\\F, which puts the patient's
right on the left; a lateral one as A\\F or P\\F. FieldOfViewHorizontalFlip is not asked: it says
what was done to the image, and PatientOrientation what came of it. Whether the tag is correct only
a side marker in the image can tell.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from workbench.imaging.vocabulary import (
    LISTS,
    META_KEYWORDS,
    OTHER_PARTS,
    POSITIONS,
    VOCABULARY,
    first_number,
    read_numbers,
    written_parts,
)
from workbench.radiograph import InputWarning
from workbench.radiograph.contract import LATERAL_VIEW

#: How far the sides of a pixel may differ before it is said.
_SQUARE_TOLERANCE = 0.02
_MARKER = "compare the side marker in the image"
#: How an image of an EXIF orientation lies.
_LIES = {
    2: "is mirrored, left and right are exchanged",
    3: "is upside down",
    4: "is mirrored, head and foot are exchanged",
}
#: "HEAD OF BED UP", "ARMS DOWN", "C-ARM": how a patient lies or what takes the image.
_POSTURE = re.compile(
    r"\b(HEAD|ARM|HAND|FOOT|FEET|LEG|FACE|NECK)S? ?"
    r"(UP|DOWN|OF|HELD|RAISED|FIRST|END|SIDE|ELEVATED)\b|\b[CU] ?ARM\b"
)


def allowed_meta(ds: Dataset) -> dict[str, object]:
    """Return the allow-listed tags as plain values; what is absent or unexpected is left out."""
    meta = ((keyword, _plain(ds, keyword)) for keyword in META_KEYWORDS)
    return {keyword: value for keyword, value in meta if value is not None}


def view_of(ds: Dataset) -> str:
    """Return "PA", "AP", "lateral" or "unknown".

    Asked in this order: ViewPosition, ViewCodeSequence, PatientOrientation (which knows lateral
    from frontal only), words of SeriesDescription and ProtocolName.
    """
    known = POSITIONS.get(_text(ds, "ViewPosition")) or _view_code(ds)
    if known:
        return known
    if any(part[0] in "AP" for part in _directions(ds)):
        return "lateral"
    tokens = re.findall(r"[A-Z]+", f"{_text(ds, 'SeriesDescription')} {_text(ds, 'ProtocolName')}")
    decubitus = any(word.startswith("DECUB") for word in tokens)
    views = {word for word in tokens if word in ("PA", "AP")}
    if not decubitus and any(word in LISTS["lateral_words"] for word in tokens):
        views.add("lateral")
    return views.pop() if len(views) == 1 else "unknown"


def pixel_spacing_of(ds: Dataset) -> tuple[float, float] | None:
    """Return millimetres (row, column): of the patient, else of the detector or the scanner."""
    keywords = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    return next(filter(None, (_pair(ds, keyword) for keyword in keywords)), None)


def burned_in_of(ds: Dataset) -> bool | None:
    """Return whether text is part of the pixels, None where the file does not say."""
    return {"YES": True, "NO": False}.get(_text(ds, "BurnedInAnnotation"))


def modality_of(ds: Dataset) -> str:
    """Return the modality where it is one of the standard's, else "unknown"."""
    return _term(ds, "Modality") or "unknown"


def header_warnings(ds: Dataset) -> tuple[InputWarning, ...]:
    """Find what a person should know from the header alone."""
    found = (*_about_subject(ds), *_about_pixels(ds), *_about_numbers(ds))
    return tuple(InputWarning(code, message) for code, message in found)


def _about_pixels(ds: Dataset) -> Iterator[tuple[str, str]]:
    if burned_in_of(ds):
        yield (
            "burned-in",
            "the file says that text is burned into the pixels; it may name the patient, and "
            "models may read it: mask it before sharing",
        )
    if _text(ds, "PresentationIntentType") == "FOR PROCESSING":
        yield (
            "for-processing",
            "these are raw detector data (FOR PROCESSING); pass the FOR PRESENTATION image of the "
            "study",
        )
    pair = pixel_spacing_of(ds) or _pair(ds, "PixelAspectRatio") or (1.0, 1.0)
    ratio = pair[0] / pair[1]
    if abs(ratio - 1) > _SQUARE_TOLERANCE:
        yield (
            "non-square-pixels",
            f"a pixel is {ratio:.3g} times as high as wide, so the chest looks distorted; resample "
            "the image to square pixels",
        )


def _about_subject(ds: Dataset) -> Iterator[tuple[str, str]]:
    """Yield code and message where the image is no frontal radiograph of the chest."""
    modality, other = modality_of(ds), other_part(ds)
    if modality not in ("unknown", *LISTS["radiographic"], *LISTS["silent_modalities"]):
        yield (
            "not-a-chest",
            f"the file's modality is {modality}, not a plain radiograph; pass a CR or DX image of "
            "the chest",
        )
    elif other:
        tag, part = other
        yield (
            "not-a-chest",
            f"the file says that the body part is {part} ({tag}); pass a chest radiograph, or "
            "ignore this where the tag is wrong",
        )
    if view_of(ds) == "lateral":
        yield LATERAL_VIEW.code, LATERAL_VIEW.message


def raise_frame_tags(ds: Dataset) -> None:
    """Give a dataset the tags that its functional groups hold of the first frame, PS3.3 C.7.6.16.

    What stands in the dataset itself stays.
    """
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        first: Dataset = next(iter(ds.get(groups) or ()), Dataset())
        items = [item for macro in first if macro.VR == "SQ" for item in macro.value]
        for item in items:
            for keyword in LISTS["frame"]:
                if keyword in item and not ds.get(keyword):
                    ds[keyword] = item[keyword]


def turn_upright(ds: Dataset, upright: bool) -> tuple[int, tuple[InputWarning, ...]]:
    """Return the EXIF orientation to turn the pixels by, and what PatientOrientation says of them.

    Where there is a turn and it is asked for, the dataset describes the turned image afterwards.
    """
    if not _text(ds, "PatientOrientation").strip("\\ "):
        return 1, ()
    parts = _directions(ds)
    found = orientation_of(parts, view_of(ds) == "lateral") if len(parts) == 2 else None
    said = " says ".join(["PatientOrientation", *(["\\".join(parts)] if parts else [])])
    if found == 1:
        return 1, ()
    if found is None:
        message = f"{said}, which is no direction of rows and columns of this view; {_MARKER}"
    elif upright:
        message = f"{said}, so the image was turned upright; {_MARKER}"
        _describe_turned(ds, found, parts)
    else:
        message = (
            f"{said}: the image {_LIES.get(found, 'lies on its side')}; {_MARKER}, and where the "
            "tag is right load it with upright=True"
        )
    return found if found and upright else 1, (InputWarning("orientation", message),)


def _describe_turned(ds: Dataset, orientation: int, parts: list[str]) -> None:
    row = parts[1] if orientation >= 5 else parts[0]
    ds.PatientOrientation = ["L" if orientation in (2, 3, 6, 7) else row, "F"]
    if orientation >= 5:
        ds.Rows, ds.Columns = ds.Columns, ds.Rows
        for keyword in LISTS["number_pairs"]:
            pair = _pair(ds, keyword)
            if pair:
                setattr(ds, keyword, [f"{number:.9g}" for number in pair[::-1]])


def _about_numbers(ds: Dataset) -> Iterator[tuple[str, str]]:
    """Name the tags whose numbers break the standard's rules; values are not quoted."""
    commas, unreadable = [], []
    for keyword in LISTS["numbers"] + LISTS["number_pairs"]:
        numbers = read_numbers(ds, keyword)
        missing = keyword in LISTS["number_pairs"] and len(numbers.values) not in (0, 2)
        if None in numbers.values or missing:
            unreadable.append(keyword)
        elif numbers.commas:
            commas.append(keyword)
    if commas:
        yield (
            "header",
            f"{', '.join(commas)}: a decimal comma was read as a point; check brightness, "
            "contrast and sizes",
        )
    if unreadable:
        yield (
            "header",
            f"{', '.join(unreadable)}: not the numbers that belong there, left out; brightness, "
            "contrast or sizes may be wrong: export the file again",
        )


def _plain(ds: Dataset, keyword: str) -> object:
    if keyword in LISTS["numbers"]:
        return first_number(ds, keyword)
    if keyword in LISTS["integers"]:
        number = first_number(ds, keyword)
        return None if number is None else int(number)
    if keyword in LISTS["number_pairs"]:
        return _pair(ds, keyword)
    return _directions(ds) or None if keyword == "PatientOrientation" else _term(ds, keyword)


def _term(ds: Dataset, keyword: str) -> str | None:
    """Return the term of the vocabulary that a text matches."""
    text = _text(ds, keyword)
    if keyword == "Manufacturer":
        return next((n for n in LISTS["manufacturers"] if re.search(rf"\b{n}", text)), None)
    if keyword == "BodyPartExamined":
        return part_in(text)
    return text if text in VOCABULARY[keyword] else None


def _directions(ds: Dataset) -> list[str]:
    """Return the values of PatientOrientation; none where one of them is no direction."""
    parts = [part.strip() for part in _text(ds, "PatientOrientation").split("\\")]
    return parts if all(re.fullmatch("[ALRPHF]{1,3}", part) for part in parts) else []


def _text(ds: Dataset, keyword: str) -> str:
    return "\\".join(map(str, written_parts(ds, keyword))).strip().upper()


def _pair(ds: Dataset, keyword: str) -> tuple[float, float] | None:
    values = read_numbers(ds, keyword).values
    known = [value for value in values if value and value > 0]
    return (known[0], known[1]) if len(known) == len(values) == 2 else None


def _view_code(ds: Dataset) -> str | None:
    for item in ds.get("ViewCodeSequence") or ():
        code, meaning = _text(item, "CodeValue"), _text(item, "CodeMeaning").replace("-", "")
        begun = meaning.replace(" ", "")
        if code in LISTS["pa_codes"] or begun.startswith("POSTEROANTERIOR"):
            return "PA"
        if code in LISTS["ap_codes"] or begun.startswith("ANTEROPOSTERIOR"):
            return "AP"
        if code in LISTS["lateral_codes"] or re.fullmatch(r"((LEFT|RIGHT) )?LATERAL", meaning):
            return "lateral"
    return None


# ---------------------------------------------------------------- orientation


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an (H, W) array upright: transposed, then mirrored, then upside down."""
    array = array.T if orientation >= 5 else array
    array = array[:, ::-1] if orientation in (2, 3, 6, 7) else array
    return array[::-1] if orientation in (3, 4, 7, 8) else array


def orientation_of(parts: list[str], lateral: bool) -> int | None:
    """Return the EXIF orientation; None where the directions make no image of this view.

    `parts` is PatientOrientation: one string for rows and one for columns.
    """
    row, column = (part[0] for part in parts)
    if (row, column) == ("L", "F"):  # what many devices write for every view
        return 1
    across = "AP" if lateral else "LR"
    first = 5 if row in "HF" and column in across else 1
    if first == 5:
        row, column = column, row
    if row not in across or column not in "HF":
        return None
    flips = ((False, False), (True, False), (True, True), (False, True))
    return first + flips.index((row == "R", column == "H"))


# ---------------------------------------------------------------- body part


def part_in(text: str) -> str | None:
    """Return the part of the body that a text names, as a word of the vocabulary."""
    plain = unicodedata.normalize("NFKD", text.upper())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    tokens = re.findall(r"[A-Z]+", _POSTURE.sub(" ", re.sub(r"[\s_.^-]+", " ", plain)))
    others = (OTHER_PARTS.get(t) or OTHER_PARTS.get(t.removesuffix("S")) for t in tokens)
    other = next(filter(None, others), None)
    if other == "SPINE" and "THORACIC" in tokens:
        return other
    named = next((token for token in tokens if token in LISTS["chest"]), None)
    if named or any(t.startswith(LISTS["chest_starts"]) or t.endswith("CHEST") for t in tokens):
        return named or "CHEST"
    return other


def other_part(ds: Dataset) -> tuple[str, str] | None:
    """Find a tag that names a part other than the chest, and the part.

    A text of the study may name a neighbour of the chest where another tag names the chest.
    """
    body, image, study = (
        [(tag, part) for tag in tags for part in map(part_in, _said(ds, tag)) if part]
        for tags in (LISTS["body_tags"], LISTS["image_tags"], LISTS["study_tags"])
    )
    if _chest((*body, *image, *study)):
        study = [(tag, part) for tag, part in study if part not in LISTS["neighbours"]]
    found = (*(() if _chest(body) else body), *image, *study)
    return next(((tag, part) for tag, part in found if part not in LISTS["chest"]), None)


def _chest(found: Iterable[tuple[str, str]]) -> bool:
    return any(part in LISTS["chest"] for _, part in found)


def _said(ds: Dataset, tag: str) -> Iterator[str]:
    """Yield what a tag says in words: its text, or the texts and known codes of its items."""
    value = ds.get(tag)
    if isinstance(value, str):
        yield value
    elif isinstance(value, Sequence):
        for item in value:
            if str(item.get("CodeValue", "")).strip() in LISTS["chest_codes"]:
                yield "CHEST"
            for name in LISTS["item_texts"]:
                yield from _said(item, name)
    elif isinstance(value, MultiValue):
        yield " ".join(map(str, value))
