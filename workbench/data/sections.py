"""Sections of a free-text report: indication, comparison, technique, findings, impression.

Headings are words in capitals before a colon, as reports of MIMIC-CXR have them; the list follows
the section file that its authors published (Johnson et al., github.com/MIT-LCP/mimic-cxr, txt/).
Sentences before the first heading, and texts without any, count as findings.

Does not know: what the sentences say (`workbench.reports`).
"""

from __future__ import annotations

import re

from workbench.data.columns import REPORT_SECTIONS

_HEADINGS = {
    "indication": "indication indications history clinical reason|for|exam reason|for|examination "
    "clinical|history clinical|information clinical|indication patient|history",
    "comparison": "comparison comparisons compared",
    "technique": "technique procedure examination exam views",
    "findings": "findings finding report chest|findings",
    "impression": "impression impressions conclusion conclusions summary opinion",
}
_SECTION = {
    word.replace("|", " "): section
    for section, words in _HEADINGS.items()
    for word in words.split()
}
#: At the start of a line, or behind the end of a sentence.
_HEADING = re.compile(r"(?:^[ \t]*|(?<=[.!?]\s))([A-Z][A-Za-z /()&,]{2,48}?)[ \t]*:", re.MULTILINE)
#: "FRONTAL VIEWS OF THE CHEST:" heads the findings in many reports.
_VIEWS = re.compile(r"\bchest\b|\bviews?\b|\bradiographs?\b")
#: A sentence, and not just the name of an examination.
_SAYS_SOMETHING = re.compile(r"\w+ \w+ \w+[^.]*\.(?:\s|$)")
_TITLE = re.compile(r"^\s*(?:FINAL REPORT|WET READ[^\n]*|\(Revised\))\s*$", re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """Split a report.

    Returns:
        Section -> text with single blanks, for the sections that are there. A heading that is not
        known begins a stretch that belongs to none.
    """
    text = _TITLE.sub("", text)
    found: dict[str, list[str]] = {}
    name, start = None, 0
    for match in _HEADING.finditer(text):
        heading = match[1].strip().lower()
        known = _SECTION.get(heading) or ("findings" if _VIEWS.search(heading) else None)
        within = text[: match.start(1)].rpartition("\n")[2].strip() != ""
        if known is None and (within or not match[1].isupper()):
            continue
        found.setdefault(name or "", []).append(text[start : match.start()])
        name, start = known or "other", match.end()
    found.setdefault(name or "", []).append(text[start:])
    clean = {key: " ".join(" ".join(parts).split()) for key, parts in found.items()}
    result = {key: clean[key] for key in REPORT_SECTIONS if clean.get(key)}
    lead = clean.get("", "")
    if "findings" not in result and (_SAYS_SOMETHING.search(lead) or (lead and not result)):
        result["findings"] = lead
    return result
