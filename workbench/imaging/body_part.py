"""Which part of the body a DICOM file says it shows, from all tags that describe the image.

Each text is judged alone: with a word for the chest in it, it says chest, also beside other parts
("CHEST AND ABDOMEN"); else it says the first other part that it names. Texts of the whole study
("XR PELVIS") often stand over several images, so they say less than those of the image.

Does not know: pixels. Only words of `vocabulary` come out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from workbench.imaging import vocabulary as words

#: "HEAD OF BED UP", "ARMS DOWN", "C-ARM": how a patient lies or what takes the image.
_POSTURE = re.compile(
    r"\b(HEAD|ARM|HAND|FOOT|FEET|LEG|FACE|NECK)S? ?"
    r"(UP|DOWN|OF|HELD|RAISED|FIRST|END|SIDE|ELEVATED)\b|\b[CU] ?ARM\b"
)


def part_in(text: str) -> str | None:
    """Return the part of the body that a text names, as a word of the vocabulary."""
    plain = unicodedata.normalize("NFKD", text.upper())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    tokens = re.findall(r"[A-Z]+", _POSTURE.sub(" ", re.sub(r"[\s_.^-]+", " ", plain)))
    others = (
        words.OTHER_PARTS.get(t) or words.OTHER_PARTS.get(t.removesuffix("S")) for t in tokens
    )
    other = next(filter(None, others), None)
    if other == "SPINE" and "THORACIC" in tokens:
        return other
    named = next((token for token in tokens if token in words.CHEST), None)
    if named or any(t.startswith(words.CHEST_STARTS) or t.endswith("CHEST") for t in tokens):
        return named or "CHEST"
    return other


def other_part(ds: Dataset) -> tuple[str, str] | None:
    """Find a tag that names a part other than the chest.

    Returns:
        The tag and the part; None where no tag does, and where a text of the study names a
        neighbour of the chest and another tag the chest.
    """
    body, image, study = (
        [(tag, part) for tag in tags for part in map(part_in, _texts(ds, tag)) if part]
        for tags in (words.BODY_TAGS, words.IMAGE_TAGS, words.STUDY_TAGS)
    )
    if _chest((*body, *image, *study)):
        study = [(tag, part) for tag, part in study if part not in words.NEIGHBOURS]
    found = (*(() if _chest(body) else body), *image, *study)
    return next(((tag, part) for tag, part in found if part not in words.CHEST), None)


def _chest(found) -> bool:
    return any(part in words.CHEST for _, part in found)


def _texts(ds: Dataset, tag: str) -> Iterator[str]:
    """Yield what a tag says in words: its text, or the texts and known codes of its items."""
    value = ds.get(tag)
    if isinstance(value, str):
        yield value
    elif isinstance(value, Sequence):
        for item in value:
            if str(item.get("CodeValue", "")).strip() in words.CHEST_CODES:
                yield "CHEST"
            for name in words.ITEM_TEXTS:
                yield from _texts(item, name)
    elif isinstance(value, MultiValue):
        yield " ".join(map(str, value))
