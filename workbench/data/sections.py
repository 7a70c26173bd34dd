"""Sections of a free-text report: indication, comparison, technique, findings, impression.

The headings are those of `workbench.reports`, which also reads the labels; "FINDINGS AND
IMPRESSION" counts as findings. What no heading claims counts as findings where these have none, and
so do an addendum or a first reading where there is no impression either.

Does not know: what the sentences say (`workbench.reports`).
"""

from __future__ import annotations

import re

from workbench.data.columns import REPORT_SECTIONS
from workbench.reports import divide

#: A sentence, and not just the name of an examination.
_SAYS_SOMETHING = re.compile(r"\w+ \w+ \w+[^.]*\.(?:\s|$)")
_RULE = re.compile(r"_{10,}")


def sections(text: str) -> dict[str, str]:
    """Split a report.

    Returns:
        Section -> text with single blanks, for the sections that are there.
    """
    found: dict[str, str] = {}
    for section in divide(text):
        name = section.name or ("body" if section.start else "lead")
        said = _RULE.sub(" ", text[section.body : section.end])
        if name in ("lead", "body", "other") and section.skipped:
            continue
        found[name] = " ".join(f"{found.get(name, '')} {said}".split())
    result = {key: found[key] for key in REPORT_SECTIONS if found.get(key)}
    lead, body = found.get("lead", ""), found.get("body", "")
    if "findings" not in result and (_SAYS_SOMETHING.search(lead) or not (result or body)):
        body = f"{lead} {body}".strip()
    if not body and not result.keys() & {"findings", "impression"}:
        body = found.get("other", "")
    if "findings" not in result and body:
        result["findings"] = body
    return {key: result[key] for key in REPORT_SECTIONS if key in result}
