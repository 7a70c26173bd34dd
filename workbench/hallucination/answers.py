"""What an answer says to a question about a finding: yes, no, or nothing that counts.

Read with care, since a probe is worth no more than its reading: the labeler decides where the
answer names the finding ("Heart size is normal." denies cardiomegaly, "may be an effusion" affirms
nothing); a bare "Yes." counts; "Yes, heart size is normal." to a question about fluid is off the
topic, and "Yes, there is no effusion." says two things. Both are unclear, and counted as such.

Does not know: questions and truth. English only.
"""

from __future__ import annotations

import re

from workbench.findings import ABSENT, NO_FINDING, PARENTS, PRESENT, UNCERTAIN, standard_name
from workbench.reports import label

YES, NO, UNCLEAR = "yes", "no", "unclear"

_LEAD = re.compile(r"\s*(?:(yes|yeah|correct|indeed)|(no|nope|none))\b[\s,.:;!-]*", re.IGNORECASE)
_HEDGE = re.compile(
    r"\b(?:possibl[ey]|probabl[ey]|perhaps|maybe|may|might|could|cannot|can't|unsure|uncertain|"
    r"unclear|likely|unlikely|difficult|hard to|not sure|suspected|suspicious|equivocal|"
    r"questionable|limited)\b",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"\b(?:no|not|none|without|absent|never|neither|isn't|aren't)\b", re.IGNORECASE
)
_DETAIL = re.compile(
    r"\b(?:left|right|bilateral(?:ly)?|both sides|upper|lower|mid(?:dle)?|apical|basal|small|mild|"
    r"moderate|large|severe|minimal|tiny|\d+ ?(?:mm|cm))\b",
    re.IGNORECASE,
)


def read_answer(answer: str, finding: str, *, negated: bool = False, premise: bool = False) -> str:
    """Return "yes" where an answer affirms a finding, "no" where it denies it, else "unclear".

    Args:
        answer: what the model said.
        finding: standard name or synonym of what was asked about.
        negated: the question asked whether the finding is absent, so that a bare yes denies it.
        premise: the question took the finding for granted ("On which side is the effusion?"), so
            that a side, zone or grade alone affirms it.

    Raises:
        OptionError: the finding is unknown.
    """
    name = standard_name(finding)
    labels = label(answer)
    stated = {PRESENT: YES, ABSENT: NO, UNCERTAIN: UNCLEAR}.get(labels.code(name))
    lead, rest = _lead(answer)
    if lead and negated:
        lead = NO if lead == YES else YES
    if stated is not None:
        return UNCLEAR if lead and lead != stated else stated
    others = [row.finding for row in labels.rows if not _belongs(row.finding, name)]
    if others or _HEDGE.search(answer):
        return UNCLEAR
    if lead:
        return lead if not _turned(lead, rest, negated) else UNCLEAR
    if premise and _DETAIL.search(answer) and not _DENIAL.search(answer):
        return YES
    return UNCLEAR


def _lead(answer: str) -> tuple[str | None, str]:
    """Return what the first word commits to, and the rest."""
    match = _LEAD.match(answer)
    if not match:
        return None, answer
    return (YES if match[1] else NO), answer[match.end() :]


def _turned(lead: str, rest: str, negated: bool) -> bool:
    """Say whether what follows a yes takes it back: "Yes, there is none."."""
    return lead == YES and not negated and bool(_DENIAL.search(rest))


def _belongs(other: str, name: str) -> bool:
    """Say whether a finding is the one that was asked about, or the kind that it is of."""
    while name in PARENTS:
        if other == name:
            return True
        name = PARENTS[name]
    return other == name and other != NO_FINDING
