"""The reference report of a phantom, and its differential diagnosis.

The report is a FINDINGS-style body, then "Impression: ...".

Worded for a small model that decodes greedily. The order of organ systems is fixed. A report is
written in one of two voices, drawn once, so that within a report nothing but the finding itself
decides a sentence's first word:

    voice        present                                absent
    "plain"      There is consolidation in ...          No consolidation ...
    "narrative"  Consolidation is seen in ...           There is no consolidation ...

The heart is always spoken of: "Heart size is normal / enlarged". Name and presence come first;
side, zone and severity follow. The plain voice (70 %) states every pertinent negative, the
narrative one leaves out some of those for atelectasis, edema and nodule. A missing device or
fracture is never stated. Every finding that was drawn is described, visible to a reader or not.

The differential is teaching material, not medicine: each pattern names textbook causes in a usual
order. Findings that one disease explains together (heart failure) are explained once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from workbench.errors import OptionError
from workbench.findings import (
    ATELECTASIS,
    CARDIOMEGALY,
    CONSOLIDATION,
    DEVICE,
    EDEMA,
    EFFUSION,
    FRACTURE,
    NODULE,
    PNEUMOTHORAX,
)
from workbench.phantom.scene import Lesion
from workbench.phantom.wording.statements import (
    REPORT_ORDER,
    Statement,
    compact,
    is_plural,
    joined,
    name,
    number,
    place,
    plural,
    sentence,
    statements,
    with_article,
)

#: Share of reports in the plain voice.
PLAIN_SHARE = {"internal": 0.7, "external": 0.5}

#: How often the narrative voice leaves out a pertinent negative.
_LEFT_OUT = {ATELECTASIS: 0.25, EDEMA: 0.25, NODULE: 0.4}

_CAUSES = {
    PNEUMOTHORAX: ("spontaneous pneumothorax", "trauma", "emphysema"),
    EDEMA: ("congestive heart failure", "fluid overload", "lung injury"),
    CONSOLIDATION: ("pneumonia", "aspiration", "pulmonary hemorrhage"),
    NODULE: ("granuloma", "primary lung malignancy", "metastasis"),
    EFFUSION: ("heart failure", "infection", "malignancy"),
    ATELECTASIS: ("hypoventilation", "mucus plugging", "an airway lesion"),
    CARDIOMEGALY: ("cardiomyopathy", "valve disease", "hypertension"),
}
_FAILURE = (CARDIOMEGALY, EDEMA, EFFUSION)

_OPENINGS = ("Portable AP view.", "Single AP view of the chest.", "AP view of the chest.")


def write_report(lesions: Iterable[Lesion], rng: np.random.Generator, domain: str) -> str:
    """Write the reference report of a scene.

    Args:
        lesions: what is drawn; may be empty.
        rng: source of the variation.
        domain: "internal" or "external"; external reports open with the projection and use the
            narrative voice more often.

    Raises:
        OptionError: unknown domain, or a lesion with an unknown name.
    """
    if domain not in PLAIN_SHARE:
        raise OptionError(f"unknown domain {domain!r}; expected one of: {', '.join(PLAIN_SHARE)}")
    groups = statements(lesions)
    plain = bool(rng.random() < PLAIN_SHARE[domain])
    opening = [_OPENINGS[rng.integers(len(_OPENINGS))]] if domain == "external" else []
    body = [_spoken(finding, groups.get(finding, ()), rng, plain) for finding in REPORT_ORDER]
    sentences = [*opening, *filter(None, body), f"Impression: {_impression(groups, rng)}"]
    return " ".join(sentences)


def _spoken(finding: str, group: Sequence[Statement], rng: np.random.Generator, plain: bool) -> str:
    if finding == FRACTURE and not group:
        return ""
    if finding == CARDIOMEGALY:
        return _heart(group, rng, plain)
    if not group:
        return _absent(finding, rng, plain)
    if finding == DEVICE:
        return " ".join(_device(item, rng, plain) for item in group)
    return _present(group, rng, plain)


def _heart(group: Sequence[Statement], rng: np.random.Generator, plain: bool) -> str:
    start = "Heart size is" if plain else "The heart is"
    pick = rng.random()
    if not group:
        if plain:
            return f"{start} {'normal' if pick < 0.7 else 'within normal limits'}."
        return f"{start} {'normal in size' if pick < 0.7 else 'of normal size'}."
    degree = group[0].degree
    if degree is None:
        return f"{start} enlarged."
    if pick < 0.6:
        return f"{start} enlarged, with {degree} cardiomegaly."
    if pick < 0.8:
        return f"{start} enlarged, {degree} in degree."
    return f"{start} enlarged to a {degree} degree."


def _absent(finding: str, rng: np.random.Generator, plain: bool) -> str:
    pick, left_out = rng.random(), rng.random()
    if finding == DEVICE or (not plain and left_out < _LEFT_OUT.get(finding, 0.0)):
        return ""
    where = "on either side" if finding in (EFFUSION, PNEUMOTHORAX) else "in either lung"
    if plain:
        tail = "" if pick < 0.5 else " is seen" if pick < 0.75 else f" {where}"
        return f"No {finding}{tail}."
    tail = "" if pick < 0.6 else f" {where}" if pick < 0.8 else " at present"
    return f"There is no {finding}{tail}."


def _device(said: Statement, rng: np.random.Generator, plain: bool) -> str:
    where = place(said)
    tail = f"{where}, in place" if where else "in place"
    tail = tail if rng.random() < 0.4 else where or "in place"
    thing = with_article(said, name(said))
    return f"There is {thing} {tail}." if plain else sentence(f"{thing} is seen {tail}")


def _present(group: Sequence[Statement], rng: np.random.Generator, plain: bool) -> str:
    first, form = group[0], int(rng.integers(3))
    if first.finding == NODULE and len(group) > 1:
        parts = [f"one {_detail(item, form)}" for item in group]
        count = f"{number(len(group))} {plural(NODULE)}"
        text = _listed(parts)
        return f"There are {count}, {text}." if plain else sentence(f"{count} are seen, {text}")
    details = _listed([_detail(item, form) for item in group])
    gap = "" if details[:1] in ("", ",") else " "
    verb, thing = "are" if is_plural(first) else "is", with_article(first, name(first))
    if plain:
        return f"There {verb} {thing}{gap}{details}."
    return sentence(f"{thing} {verb} seen{gap}{details}")


def _listed(parts: Sequence[str]) -> str:
    """Join parts that hold commas themselves: "a, and b", "a, b, and c"."""
    parts = [part for part in parts if part]
    return ", and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def _detail(said: Statement, form: int) -> str:
    """Return place and measure: "in the left lower lung zone, linear and small in extent"."""
    measure = _measure(said, form)
    return f"{place(said)}, {measure}" if measure else place(said)


def _measure(said: Statement, form: int) -> str:
    if said.millimetres is not None:
        size = f"{said.millimetres} mm"
        return (f"{size} in size", f"measuring {size}", f"about {size} in size")[form]
    kind = said.kind
    if said.degree is None:
        return f"{kind} in type" if kind else ""
    grade, dimension = said.degree, said.dimension
    lead = f"{kind} and " if kind else ""
    return (
        f"{lead}{grade} in {dimension}",
        f"{f'{kind}, ' if kind else ''}of {grade} {dimension}",
        f"which {'are' if is_plural(said) else 'is'} {lead}{grade}",
    )[form]


def _impression(groups: dict[str, tuple[Statement, ...]], rng: np.random.Generator) -> str:
    short = bool(rng.random() < 0.3)
    pick = rng.random()
    items = [_summary(item, short) for group in groups.values() for item in group]
    if not set(groups) - {DEVICE}:
        normal = "no acute cardiopulmonary disease" if pick < 0.75 else "no acute abnormality"
        items.append(normal)
    return " ".join(sentence(item) for item in items)


def _summary(said: Statement, short: bool) -> str:
    if said.finding == DEVICE:
        return f"{name(said)} in place"
    if said.millimetres is not None:
        phrase = compact(replace(said, millimetres=None))
        return phrase if short else f"{phrase}, {said.millimetres} mm"
    return compact(said, severity=not short)


# ---------------------------------------------------------------- differential diagnosis


def write_differential(lesions: Iterable[Lesion], rng: np.random.Generator) -> str:
    """Write a ranked differential diagnosis, most pressing finding first, at most three lines.

    Without a finding it says "No acute cardiopulmonary disease; ..." and names devices, if any.
    """
    groups = statements(lesions)
    found = [finding for finding in _CAUSES if finding in groups]
    if not found:
        devices = [name(item) for item in groups.get(DEVICE, ())]
        rest = f"{joined(devices)} in place" if devices else "no further diagnosis is needed"
        return f"No acute cardiopulmonary disease; {rest}."
    lines = []
    failure = [finding for finding in _FAILURE if finding in groups]
    if EDEMA in failure and len(failure) > 1:
        found = [finding for finding in found if finding not in failure]
        lines.append(f"congestive heart failure, given {joined(failure)}")
    lines += [f"{_ranked(finding, groups, rng)}, given {finding}" for finding in found]
    openings = ("Most likely", "Also consider", "Less likely")
    return " ".join(
        sentence(f"{opening}: {line}") for opening, line in zip(openings, lines, strict=False)
    )


def _ranked(finding: str, groups: dict, rng: np.random.Generator) -> str:
    first, second, third = _CAUSES[finding]
    if finding == PNEUMOTHORAX and DEVICE in groups:
        first, second = "a procedure", "spontaneous pneumothorax"
    elif finding == EFFUSION and CONSOLIDATION in groups:
        first, second = "infection", "heart failure"
    elif finding == ATELECTASIS and EFFUSION in groups:
        first, second = "compression by the effusion", "hypoventilation"
    if rng.random() < 0.3:
        return joined((first, second), word="or")
    return joined((first, second, third), word="or")
