"""What a file is called in everything that is kept and shared: its name, where that names nobody.

Hospitals call files after patients. A name is kept when all its words are single letters or on the
list here, and its numbers have up to five digits, or when it is an identifier of 16 or more
hexadecimal digits, as public data sets give them. Any other becomes "image-" and eight digits of
the SHA-256 of the content, so that the same film has the same name everywhere. Errors name the file
as it was given, since whoever gave it has to find it.

Does not know: what is in the file. A short number can be a patient's, too; no list can tell.
"""

from __future__ import annotations

import hashlib
import os
import re

#: Words that films, phantoms and data sets call files by; none is the name of a person.
WORDS = frozenset(
    re.findall(
        "[a-z]+",
        """
        an and ap array bmp bytes case chest copy cr crop ct cxr data dcm demo dicom dr dx example
        exam external film films frontal gif grad grey image images img input internal jpeg jpg
        lateral left lung lungs mask pa phantom phantoms pil picture png portable radiograph report
        rg right sample scan series study test thorax tif tiff uncr view webp xr xray
        """,
    )
)
#: Digits, zeros in front aside, up to which a number is a count and no date or record number.
LONGEST_NUMBER = 5
_WORD = re.compile(r"[A-Za-z]+|[0-9]+|[^\x00-\x7f]+")
_HEX = re.compile(r"(?=.*[0-9])[0-9a-f]{8,}(?:-[0-9a-f]{4,})*(?:_\w{1,3})?", re.IGNORECASE)
_SHOWN = 8


def shared_name(name: str, content: bytes) -> str:
    """Return the name under which a file may be kept and shown.

    Args:
        name: base name of the file.
        content: what is in it.
    """
    stem, suffix = os.path.splitext(name)
    known = suffix.lower().lstrip(".") in WORDS
    if _names_nobody(stem) and (known or not suffix):
        return name
    digits = hashlib.sha256(content).hexdigest()[:_SHOWN]
    return f"image-{digits}{suffix.lower() if known else ''}"


def _names_nobody(stem: str) -> bool:
    if _HEX.fullmatch(stem) and sum(c.isalnum() for c in stem) >= 16:
        return True
    words = _WORD.findall(stem)
    return all(
        len(word.lstrip("0")) <= LONGEST_NUMBER
        if word.isdigit()
        else (len(word) == 1 and word.isascii()) or word.lower() in WORDS
        for word in words
    )
