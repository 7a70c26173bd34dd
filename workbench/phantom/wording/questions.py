"""Questions about a phantom with known answers, for visual question answering.

The first word of an answer commits to it: "Yes, there is ...", "No, there is no ...", "There is no
..." against "The pleural effusion ...". Yes and no are drawn in equal shares. A question about
something that is not there is a false-premise turn; its correct answer denies the premise. A
question is asked of what was drawn, visible to a reader or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from workbench.errors import OptionError
from workbench.findings import CARDIOMEGALY, DEVICE, EDEMA, NODULE, PHANTOM_FINDINGS
from workbench.phantom.scene import Lesion
from workbench.phantom.wording.statements import (
    COUNTABLE,
    GRADED,
    ZONED,
    Statement,
    article,
    is_plural,
    joined,
    merged_side,
    noun_phrase,
    number,
    place,
    plural,
    statements,
)

QUESTION_KINDS = (
    "existence",
    "normal",
    "heart size",
    "side",
    "zone",
    "severity",
    "count",
    "device type",
    "describe",
    "false premise",
)

_SIDE = ("Which side is the {} on?", "On which side is the {}?", "Is the {} left or right?")
_ZONE = ("Which lung zone is the {} in?", "Where in the lung is the {}?")
_SEVERITY = ("How severe is the {}?", "What is the severity of the {}?")
_SIZE = ("How large is the {}?", "What is the size of the {}?", "How severe is the {}?")
_DESCRIBE = ("Describe the {}.", "What does the {} look like?", "Tell me about the {}.")
_DEVICES = ("What support device is present?", "Which devices are seen?", "Name the device.")
_NORMAL = ("Is the radiograph normal?", "Is this a normal chest?", "Is this radiograph normal?")
_HEART = ("Is the heart size normal?", "Is the heart of normal size?")
_HEART_OPEN = ("What is the heart size?", "How large is the heart?", "Describe the heart size.")


@dataclass(frozen=True)
class Question:
    """One question with its correct answer.

    Attributes:
        text: what is asked.
        answer: the correct answer, one sentence.
        kind: one of `QUESTION_KINDS`.
        finding: standard name of what is asked about; None for "Is the radiograph normal?".
        premise: True when the question takes for granted something that is there, False when it
            takes for granted something that is not, None when it takes nothing for granted.
    """

    text: str
    answer: str
    kind: str
    finding: str | None
    premise: bool | None = None


def questions(
    lesions: Iterable[Lesion],
    rng: np.random.Generator,
    *,
    n: int = 4,
    false_premise: bool = True,
    yes_no_share: float = 0.5,
) -> tuple[Question, ...]:
    """Draw questions without repeating one; fewer than `n` when the scene has no more.

    Args:
        lesions: what is drawn; may be empty.
        rng: source of the choice and of the wording.
        n: how many questions.
        false_premise: whether turns with a false premise may be drawn.
        yes_no_share: share of yes/no questions in [0, 1]; half of them are answered yes.

    Raises:
        OptionError: `n` is negative or `yes_no_share` lies outside [0, 1].
    """
    if n < 0 or not 0.0 <= yes_no_share <= 1.0:
        raise OptionError(f"expected n >= 0 and yes_no_share in [0, 1], got {n}, {yes_no_share}")
    groups = statements(lesions)
    pools = {
        "yes": _yes(groups),
        "no": _no(groups),
        "open": _open(groups),
        "false": _false(groups) if false_premise else [],
    }
    drawn: list[Question] = []
    while len(drawn) < n and any(pools.values()):
        pool = pools[_pool(pools, rng, yes_no_share)]
        make = pool.pop(int(rng.integers(len(pool))))
        drawn.append(make(rng))
    return tuple(drawn)


_Maker = Callable[[np.random.Generator], Question]
_Groups = dict[str, tuple[Statement, ...]]


def _pool(pools: dict[str, list[_Maker]], rng: np.random.Generator, yes_no_share: float) -> str:
    """Choose yes or no, each with half the share, or an open or (one in three) a false premise."""
    pick, half = rng.random(), rng.random()
    if pick < yes_no_share:
        wanted = ("yes", "no", "open", "false") if half < 0.5 else ("no", "yes", "open", "false")
    else:
        wanted = ("false", "open") if half < 1 / 3 else ("open", "false")
        wanted = (*wanted, *(("yes", "no") if pick < (1 + yes_no_share) / 2 else ("no", "yes")))
    return next(key for key in wanted if pools[key])


def _yes(groups: _Groups) -> list[_Maker]:
    pool = [_existence(finding, groups) for finding in groups]
    if not groups:
        pool.append(_normal(groups))
    if CARDIOMEGALY not in groups:
        pool.append(_heart(groups))
    return pool


def _no(groups: _Groups) -> list[_Maker]:
    pool = [_existence(name, groups) for name in PHANTOM_FINDINGS if name not in groups]
    if groups:
        pool.append(_normal(groups))
    if CARDIOMEGALY in groups:
        pool.append(_heart(groups))
    return pool


def _open(groups: _Groups) -> list[_Maker]:
    pool = [_heart_open(groups)]
    for finding, group in groups.items():
        if finding not in (CARDIOMEGALY, DEVICE):
            pool += [_side(finding, group)] if any(item.side for item in group) else []
            pool.append(_describe(finding, group))
        if finding in ZONED and any(item.zone for item in group):
            pool.append(_zone(finding, group))
        if finding in GRADED and any(item.severity for item in group):
            pool.append(_severity(finding, group))
    if DEVICE in groups:
        pool.append(_device_type(groups[DEVICE]))
        pool.append(_count(DEVICE, groups[DEVICE]))
    pool.append(_count(NODULE, groups.get(NODULE, ())))
    return pool


def _false(groups: _Groups) -> list[_Maker]:
    pool: list[_Maker] = []
    for finding in (name for name in PHANTOM_FINDINGS if name not in groups):
        if finding == DEVICE:
            pool.append(_maker(_DEVICES, _denial(DEVICE), "false premise", DEVICE, False))
            continue
        forms = _DESCRIBE if finding == CARDIOMEGALY else (*_DESCRIBE, *_SIDE)
        forms += _severity_forms(finding) if finding in GRADED else ()
        forms += _ZONE if finding in ZONED else ()
        forms = tuple(form.format(finding) for form in forms)
        pool.append(_maker(forms, _denial(finding), "false premise", finding, False))
    return pool


def _maker(
    forms: tuple[str, ...], answer: str, kind: str, finding: str | None, premise: bool | None
) -> _Maker:
    def make(rng: np.random.Generator) -> Question:
        return Question(forms[int(rng.integers(len(forms)))], answer, kind, finding, premise)

    return make


def _named(finding: str) -> str:
    """Return the finding as a question names it: "a pleural effusion", "consolidation"."""
    return f"{article(finding)} {finding}" if finding in COUNTABLE else finding


def _denial(finding: str) -> str:
    return f"There is no {finding}."


def _there(group: tuple[Statement, ...]) -> str:
    verb = "are" if is_plural(group[0]) else "is"
    return f"there {verb} {joined([noun_phrase(item) for item in group])}"


def _existence(finding: str, groups: _Groups) -> _Maker:
    named = _named(finding)
    forms = (f"Is there {named}?", f"Is {named} present?", f"Do you see {named}?")
    forms += (f"Does this patient have {named}?",) if finding != DEVICE else ()
    if finding == CARDIOMEGALY:
        forms += ("Is the heart enlarged?",)
    found = groups.get(finding)
    answer = f"Yes, {_there(found)}." if found else f"No, there is no {finding}."
    return _maker(forms, answer, "existence", finding, None)


def _normal(groups: _Groups) -> _Maker:
    every = tuple(item for group in groups.values() for item in group)
    answer = f"No, {_there(every)}." if every else "Yes, the radiograph is normal."
    return _maker(_NORMAL, answer, "normal", None, None)


def _heart(groups: _Groups) -> _Maker:
    found = groups.get(CARDIOMEGALY)
    answer = f"No, {_there(found)}." if found else "Yes, heart size is normal."
    return _maker(_HEART, answer, "heart size", CARDIOMEGALY, None)


def _heart_open(groups: _Groups) -> _Maker:
    found = groups.get(CARDIOMEGALY)
    with_ = f", with {noun_phrase(found[0])}" if found else ""
    answer = f"Heart size is enlarged{with_}." if found else "Heart size is normal."
    return _maker(_HEART_OPEN, answer, "heart size", CARDIOMEGALY, None)


def _asked(
    forms: tuple[str, ...], answer: str, kind: str, finding: str, group: tuple[Statement, ...]
) -> _Maker:
    many = len(group) > 1 and finding == NODULE
    forms = tuple(form.format(finding) for form in forms)
    if many:
        forms = tuple(
            form.replace(" is ", " are ").replace("does", "do").replace(NODULE, plural(NODULE))
            for form in forms
        )
        forms = tuple(form.replace("Is the", "Are the") for form in forms)
    return _maker(forms, answer, kind, finding, True)


def _subject(finding: str, group: tuple[Statement, ...]) -> str:
    """Return the start of an answer: "The pleural effusion is", "The nodules are"."""
    several = finding == NODULE and len(group) > 1
    many = several or any(is_plural(item) for item in group[:1])
    return f"The {plural(finding) if many else finding} {'are' if many else 'is'}"


def _side(finding: str, group: tuple[Statement, ...]) -> _Maker:
    side = merged_side(item.side for item in group)
    where = "on both sides" if side == "bilateral" else f"on the {side}"
    return _asked(_SIDE, f"{_subject(finding, group)} {where}.", "side", finding, group)


def _zone(finding: str, group: tuple[Statement, ...]) -> _Maker:
    where = joined(list(dict.fromkeys(place(item) for item in group)))
    return _asked(_ZONE, f"{_subject(finding, group)} {where}.", "zone", finding, group)


def _severity_forms(finding: str) -> tuple[str, ...]:
    return _SEVERITY if finding in (CARDIOMEGALY, EDEMA) else _SIZE


def _severity(finding: str, group: tuple[Statement, ...]) -> _Maker:
    if len({item.degree for item in group}) == 1:
        grade = group[0].degree
    else:
        grade = joined([f"{item.degree} {place(item)}" for item in group])
    forms = _severity_forms(finding)
    return _asked(forms, f"{_subject(finding, group)} {grade}.", "severity", finding, group)


def _describe(finding: str, group: tuple[Statement, ...]) -> _Maker:
    parts = []
    for item in group:
        size = None if item.millimetres is None else f"{item.millimetres} mm in size"
        words = joined([word for word in (item.kind, item.degree, size) if word])
        parts.append(f"{place(item)}{', ' if place(item) and words else ''}{words}")
    detail = ", and ".join(part for part in parts if part) or "present"
    return _asked(_DESCRIBE, f"{_subject(finding, group)} {detail}.", "describe", finding, group)


def _device_type(group: tuple[Statement, ...]) -> _Maker:
    phrases = joined([noun_phrase(item) for item in group])
    verb = "are" if len(group) > 1 else "is"
    answer = f"{phrases[0].upper()}{phrases[1:]} {verb} present."
    return _maker(_DEVICES, answer, "device type", DEVICE, True)


def _count(finding: str, group: tuple[Statement, ...]) -> _Maker:
    names = plural(finding)
    forms = (f"How many {names} are there?", f"How many {names} are seen?")
    if len(group) == 1:
        answer = f"There is one {finding}."
    else:
        answer = f"There are {number(len(group))} {names}."
    return _maker(forms, answer, "count", finding, None)
