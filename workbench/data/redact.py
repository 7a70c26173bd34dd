"""What of a faulty value may be shown: enough to find the fault, never the text of a report.

A cell can hold anything, a report in the wrong column included. A value of one word is shown when
it is short; several words only where they are nearly one of the words that the column allows, or in
the columns of labels and paths, and never when they read like a sentence. Of everything else only
the length is said.

Does not know: which rule was broken.
"""

from __future__ import annotations

import difflib
import re

from workbench.data.columns import BY_NAME

LONGEST_WORD = 80
LONGEST_PATH = 200
#: Words that a label may have; "central venous catheter via jugular vein" has six.
LABEL_WORDS = 6
_SENTENCE = re.compile(r"[.!?;:,]\s|[.!?;:,]$|[\n\r\t]|\s\s")


def shown(column: str | None, value: object) -> str | None:
    """Return a value as it may be printed.

    Args:
        column: the column it stands in; None for the name of a column.
        value: what stands there.

    Returns:
        The value, or "(12 characters, not shown)"; None for a missing value.
    """
    text = "" if value is None else str(value)
    if text in ("", "<NA>", "nan", "None"):
        return None
    return text if _may_be_shown(column, text) else f"({len(text)} characters, not shown)"


def _may_be_shown(column: str | None, text: str) -> bool:
    known = BY_NAME.get(column)
    if known is not None and known.kind in ("report", "json"):
        return False
    if column == "path":
        return len(text) <= LONGEST_PATH and not re.search(r"[.!?;,]\s|[\n\r]", text)
    words = text.split()
    if len(text) > LONGEST_WORD or _SENTENCE.search(text):
        return False
    if len(words) == 1:
        return True
    if column == "source_labels":
        return len(words) <= LABEL_WORDS
    allowed = known.values if known is not None else tuple(BY_NAME)
    return bool(difflib.get_close_matches(text.lower(), [w.lower() for w in allowed], 1, 0.75))
