"""Questions about a phantom with known answers, for visual question answering.

The first word of an answer commits to it: "Yes, there is ...", "No, there is no ...", "There is no
..." against "The pleural effusion ...". Yes and no are drawn in equal shares. A question about
something that is not there is a false-premise turn; its correct answer denies the premise. A
question is asked of what was drawn, visible to a reader or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from workbench.findings import CARDIOMEGALY, DEVICE, EDEMA, NODULE, PHANTOM_FINDINGS
from workbench.phantom.scene import Lesion
from workbench.phantom.wording.report import (
    COUNTABLE,
    GRADED,
    ZONED,
    article,
    by_finding,
    degree,
    is_plural,
    joined,
    noun_phrase,
    pattern,
    place,
    sentence,
    size,
)

_SIDE = ("Which side is the {} on?", "On which side is the {}?", "Is the {} left or right?")
_ZONE = ("Which lung zone is the {} in?", "Where in the lung is the {}?")
_LOBE = ("Which lobe is the {} in?", *_ZONE[1:])
_SEVERITY = ("How severe is the {}?", "What is the severity of the {}?")
_SIZE = ("How large is the {}?", "What is the size of the {}?", "How severe is the {}?")
_DESCRIBE = ("Describe the {}.", "What does the {} look like?", "Tell me about the {}.")
_COUNT = ("How many {}s are there?", "How many {}s are seen?")
_DEVICES = ("What support device is present?", "Which devices are seen?", "Name the device.")
_NORMAL = ("Is the radiograph normal?", "Is this a normal chest?", "Is this radiograph normal?")
_HEART = ("Is the heart size normal?", "Is the heart of normal size?")
_HEART_OPEN = ("What is the heart size?", "How large is the heart?", "Describe the heart size.")


@dataclass(frozen=True)
class Question:
    """One question with its correct answer.

    Attributes:
        kind: "existence", "normal", "heart size", "side", "zone", "severity", "count",
            "device type", "describe" or "false premise".
        finding: standard name of what is asked about; None for "Is the radiograph normal?".
        premise: True when the question takes for granted something that is there, False when it
            takes for granted something that is not, None when it takes nothing for granted.
    """

    text: str
    answer: str
    kind: str
    finding: str | None
    premise: bool | None = None


class _Draft(NamedTuple):
    """A question of which one of several forms will be asked; "{}" is the finding."""

    forms: tuple[str, ...]
    answer: str
    kind: str
    finding: str | None
    premise: bool | None = None

    def worded(self, rng: np.random.Generator) -> Question:
        form = self.forms[int(rng.integers(len(self.forms)))]
        return Question(form.format(self.finding), *self[1:])


_Found = Mapping[str, Lesion]


def questions(
    lesions: Iterable[Lesion], rng: np.random.Generator, *, n: int = 4, false_premise: bool = True
) -> tuple[Question, ...]:
    """Draw questions without repeating one; fewer than `n` when the scene has no more.

    Half of them ask for yes or no, and half of those are answered yes. `false_premise` says whether
    turns with a false premise may be drawn.
    """
    found = by_finding(lesions)
    whether = [_existence(finding, found) for finding in dict.fromkeys((*found, *PHANTOM_FINDINGS))]
    whether += [_normal(found), _heart(found)]
    pools = {
        "yes": [draft for draft in whether if draft.answer.startswith("Yes")],
        "no": [draft for draft in whether if draft.answer.startswith("No")],
        "open": _open(found),
        "false": _false(found) if false_premise else [],
    }
    drawn: list[Question] = []
    while len(drawn) < n and any(pools.values()):
        pool = pools[_pool(pools, rng)]
        drawn.append(pool.pop(int(rng.integers(len(pool)))).worded(rng))
    return tuple(drawn)


def _pool(pools: dict[str, list[_Draft]], rng: np.random.Generator) -> str:
    """Choose yes or no, each with half the share, or an open or (one in three) a false premise."""
    pick, half = rng.random(), rng.random()
    if pick < 0.5:
        wanted = ("yes", "no", "open", "false") if half < 0.5 else ("no", "yes", "open", "false")
    else:
        wanted = ("false", "open") if half < 1 / 3 else ("open", "false")
        wanted = (*wanted, *(("yes", "no") if pick < 0.75 else ("no", "yes")))
    return next(key for key in wanted if pools[key])


def _there_is(*lesions: Lesion) -> str:
    verb = "are" if is_plural(lesions[0]) else "is"
    return f"there {verb} {joined([noun_phrase(lesion) for lesion in lesions])}"


def _existence(finding: str, found: _Found) -> _Draft:
    named = f"{article(finding)} {finding}" if finding in COUNTABLE else finding
    forms = (f"Is there {named}?", f"Is {named} present?", f"Do you see {named}?")
    forms += (f"Does this patient have {named}?",) if finding != DEVICE else ()
    forms += ("Is the heart enlarged?",) if finding == CARDIOMEGALY else ()
    there = finding in found
    answer = f"Yes, {_there_is(found[finding])}." if there else f"No, there is no {finding}."
    return _Draft(forms, answer, "existence", finding)


def _normal(found: _Found) -> _Draft:
    answer = f"No, {_there_is(*found.values())}." if found else "Yes, the radiograph is normal."
    return _Draft(_NORMAL, answer, "normal", None)


def _heart(found: _Found) -> _Draft:
    large = CARDIOMEGALY in found
    answer = f"No, {_there_is(found[CARDIOMEGALY])}." if large else "Yes, heart size is normal."
    return _Draft(_HEART, answer, "heart size", CARDIOMEGALY)


def _open(found: _Found) -> list[_Draft]:
    answer = "Heart size is normal."
    if CARDIOMEGALY in found:
        answer = f"Heart size is enlarged, with {noun_phrase(found[CARDIOMEGALY])}."
    pool = [_Draft(_HEART_OPEN, answer, "heart size", CARDIOMEGALY)]
    for finding, lesion in found.items():
        pool += _properties(finding, lesion)
    if DEVICE in found:
        answer = sentence(f"{noun_phrase(found[DEVICE])} is present")
        pool.append(_Draft(_DEVICES, answer, "device type", DEVICE, True))
        pool.append(_count(DEVICE, found))
    pool.append(_count(NODULE, found))
    return pool


def _properties(finding: str, lesion: Lesion) -> list[_Draft]:
    """Return the questions for what is known of a finding: side, appearance, zone, severity."""
    grade, where = degree(lesion), place(lesion)
    said = []
    if finding not in (CARDIOMEGALY, DEVICE):
        side = "on both sides" if lesion.side == "bilateral" else f"on the {lesion.side}"
        diameter = f"{size(lesion)} in size" if finding == NODULE else None
        words = joined([word for word in (pattern(lesion), grade, diameter) if word])
        detail = f"{where}, {words}" if words else where
        said += [(_SIDE, side, "side"), (_DESCRIBE, detail, "describe")]
    if finding in ZONED:
        said.append((_LOBE if lesion.lobe else _ZONE, where, "zone"))
    if grade is not None:
        said.append((_severity_forms(finding), grade, "severity"))
    subject = f"The {finding}s are" if is_plural(lesion) else f"The {finding} is"
    return [_Draft(forms, f"{subject} {text}.", kind, finding, True) for forms, text, kind in said]


def _severity_forms(finding: str) -> tuple[str, ...]:
    return _SEVERITY if finding in (CARDIOMEGALY, EDEMA) else _SIZE


def _count(finding: str, found: _Found) -> _Draft:
    answer = f"There is one {finding}." if finding in found else f"There are no {finding}s."
    return _Draft(_COUNT, answer, "count", finding)


def _false(found: _Found) -> list[_Draft]:
    pool = []
    where = _LOBE if any(lesion.lobe for lesion in found.values()) else _ZONE
    for finding in (name for name in PHANTOM_FINDINGS if name not in found):
        forms = _DESCRIBE if finding == CARDIOMEGALY else (*_DESCRIBE, *_SIDE)
        forms += _severity_forms(finding) if finding in GRADED else ()
        forms += where if finding in ZONED else ()
        forms = _DEVICES if finding == DEVICE else forms
        pool.append(_Draft(forms, f"There is no {finding}.", "false premise", finding, False))
    return pool
