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

Noun phrases ("a small left pleural effusion") are pure; nothing in them is random. A scene has at
most one lesion of each finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

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

#: Organ-system order of every report: devices, heart, lungs, pleura, bones.
REPORT_ORDER = (
    DEVICE,
    CARDIOMEGALY,
    CONSOLIDATION,
    ATELECTASIS,
    EDEMA,
    NODULE,
    EFFUSION,
    PNEUMOTHORAX,
    FRACTURE,
)

#: Findings whose lung zone is stated. Fluid, free air and edema have a side only.
ZONED = (CONSOLIDATION, ATELECTASIS, NODULE)

#: Findings whose severity is stated in words; a nodule has millimetres instead, a device nothing.
GRADED = (CARDIOMEGALY, CONSOLIDATION, ATELECTASIS, EDEMA, EFFUSION, PNEUMOTHORAX)

#: Findings that take an article.
COUNTABLE = (EFFUSION, PNEUMOTHORAX, NODULE, DEVICE, FRACTURE)

_BY_DEGREE = {"small": "mildly", "moderate": "moderately", "large": "severely"}
_DEGREE = {"small": "mild", "moderate": "moderate", "large": "severe"}


def by_finding(lesions: Iterable[Lesion]) -> dict[str, Lesion]:
    """Return the lesions by finding, in report order."""
    found = {lesion.finding: lesion for lesion in lesions}
    return {finding: found[finding] for finding in REPORT_ORDER if finding in found}


def degree(lesion: Lesion) -> str | None:
    """Return the severity as a radiologist words it: edema and heart size are mild, not small."""
    if lesion.finding in (EDEMA, CARDIOMEGALY):
        return _DEGREE[str(lesion.severity)]
    return lesion.severity if lesion.finding in GRADED else None


def size(lesion: Lesion) -> str | None:
    """Return the diameter of a nodule to 5 mm: "15 mm"."""
    return None if lesion.size_mm is None else f"{round(lesion.size_mm / 5) * 5} mm"


def pattern(lesion: Lesion) -> str | None:
    """Return "linear" or "lobar" of atelectasis."""
    return lesion.kind if lesion.finding == ATELECTASIS else None


def is_plural(lesion: Lesion) -> bool:
    """Say whether the phrase takes "are": effusions on both sides."""
    return lesion.finding == EFFUSION and lesion.side == "bilateral"


def name(lesion: Lesion) -> str:
    """Return the bare name: the device's kind, the plural where both sides are meant."""
    if lesion.finding == DEVICE:
        return str(lesion.kind)
    if lesion.finding == FRACTURE:
        return "rib fracture"
    return f"{lesion.finding}s" if is_plural(lesion) else lesion.finding


def article(phrase: str) -> str:
    """Return "a" or "an"."""
    return "an" if phrase[0] in "aeiou" else "a"


def with_article(lesion: Lesion, phrase: str) -> str:
    """Put "a" or "an" before a phrase that is singular and countable."""
    if lesion.finding not in COUNTABLE or is_plural(lesion):
        return phrase
    return f"{article(phrase)} {phrase}"


def place(lesion: Lesion) -> str:
    """Return where the finding is, after its name: "on the left", "in both lower lung zones"."""
    side, zone = lesion.side, lesion.zone
    if lesion.lobe is not None:
        return f"in the {lesion.lobe}"
    both = side == "bilateral"
    if lesion.finding in (EFFUSION, PNEUMOTHORAX, DEVICE, FRACTURE):
        return "" if side is None else "on both sides" if both else f"on the {side}"
    if zone is None:
        return "in both lungs" if both else f"in the {side} lung"
    return f"in both {zone} lung zones" if both else f"in the {side} {zone} lung zone"


def compact(lesion: Lesion, *, measured: bool = True) -> str:
    """Return the adjectival phrase without article: "small left pleural effusion"."""
    if lesion.lobe is not None:
        return _lobar(lesion, measured=measured)
    zone = None if lesion.zone is None else f"{lesion.zone} lung zone"
    measures = (degree(lesion), size(lesion)) if measured else ()
    parts = (*measures, pattern(lesion), lesion.side, zone, name(lesion))
    return " ".join(part for part in parts if part)


def _lobar(lesion: Lesion, *, measured: bool) -> str:
    """Return "20 mm left upper lobe nodule", "lobar atelectasis of the left lower lobe"."""
    kind = pattern(lesion)
    parts = [degree(lesion), size(lesion)] if measured else []
    if kind is None:
        parts += [lesion.lobe, name(lesion)]
    else:
        parts += [kind, name(lesion), "of the" if kind == "lobar" else "in the", lesion.lobe]
    return " ".join(part for part in parts if part)


def noun_phrase(lesion: Lesion) -> str:
    """Return `compact` with its article: "a small left pleural effusion"."""
    return with_article(lesion, compact(lesion))


def joined(items: Sequence[str], *, word: str = "and") -> str:
    """Join phrases as English does: "a", "a and b", "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {word} {items[-1]}"


def sentence(text: str) -> str:
    """Return the text with a capital first letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


#: Share of reports in the plain voice.
PLAIN_SHARE = {"internal": 0.7, "external": 0.5, "ct": 0.7}

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

#: What the severity measures, where it is not the extent.
_DIMENSION = {EFFUSION: "size", PNEUMOTHORAX: "size", EDEMA: "degree", CARDIOMEGALY: "degree"}

_OPENINGS = ("Portable AP view.", "Single AP view of the chest.", "AP view of the chest.")


def write_report(lesions: Iterable[Lesion], rng: np.random.Generator, domain: str) -> str:
    """Write the reference report of a scene.

    Reports of the domain "external" open with the projection and use the narrative voice more
    often than those of "internal".
    """
    found = by_finding(lesions)
    plain = bool(rng.random() < PLAIN_SHARE[domain])
    opening = [_OPENINGS[rng.integers(len(_OPENINGS))]] if domain == "external" else []
    body = [_spoken(finding, found.get(finding), rng, plain, domain) for finding in REPORT_ORDER]
    sentences = [*opening, *filter(None, body), f"Impression: {_impression(found, rng)}"]
    return " ".join(sentences)


def _spoken(
    finding: str, lesion: Lesion | None, rng: np.random.Generator, plain: bool, domain: str
) -> str:
    if finding == CARDIOMEGALY:
        return _heart(lesion, rng, plain, domain)
    if finding == FRACTURE and lesion is None:
        return ""
    if lesion is None:
        return _absent(finding, rng, plain)
    return (_device if finding == DEVICE else _present)(lesion, rng, plain)


def _heart(lesion: Lesion | None, rng: np.random.Generator, plain: bool, domain: str) -> str:
    start = "Heart size is" if plain else "The heart is"
    pick = rng.random()
    if lesion is None:
        usual, other = ("normal", "within normal limits")
        if not plain:
            usual, other = ("normal in size", "of normal size")
        return f"{start} {usual if pick < 0.7 else other}."
    if domain == "ct" and pick < 0.5:
        return f"{start} {_BY_DEGREE[str(lesion.severity)]} enlarged."
    if pick < 0.6:
        return f"{start} enlarged, with {degree(lesion)} cardiomegaly."
    if pick < 0.8:
        return f"{start} enlarged, {degree(lesion)} in degree."
    return f"{start} enlarged to a {degree(lesion)} degree."


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


def _device(lesion: Lesion, rng: np.random.Generator, plain: bool) -> str:
    where = place(lesion)
    tail = f"{where}, in place" if where else "in place"
    tail = tail if rng.random() < 0.4 else where or "in place"
    thing = with_article(lesion, name(lesion))
    return f"There is {thing} {tail}." if plain else sentence(f"{thing} is seen {tail}")


def _present(lesion: Lesion, rng: np.random.Generator, plain: bool) -> str:
    """Say name, place and measure: "... in the left lower lung zone, linear and small"."""
    measure = _measure(lesion, form=int(rng.integers(3)))
    details = f"{place(lesion)}, {measure}" if measure else place(lesion)
    verb, thing = "are" if is_plural(lesion) else "is", with_article(lesion, name(lesion))
    if plain:
        return f"There {verb} {thing} {details}."
    return sentence(f"{thing} {verb} seen {details}")


def _measure(lesion: Lesion, form: int) -> str:
    if lesion.finding == NODULE:
        return ("{} in size", "measuring {}", "about {} in size")[form].format(size(lesion))
    grade, kind = degree(lesion), pattern(lesion)
    if grade is None:
        return ""
    lead = f"{kind} and " if kind else ""
    dimension = _DIMENSION.get(lesion.finding, "extent")
    return (
        f"{lead}{grade} in {dimension}",
        f"{f'{kind}, ' if kind else ''}of {grade} {dimension}",
        f"which {'are' if is_plural(lesion) else 'is'} {lead}{grade}",
    )[form]


def _impression(found: dict[str, Lesion], rng: np.random.Generator) -> str:
    short = bool(rng.random() < 0.3)
    pick = rng.random()
    items = [_summary(lesion, short) for lesion in found.values()]
    if not set(found) - {DEVICE}:
        normal = "no acute cardiopulmonary disease" if pick < 0.75 else "no acute abnormality"
        items.append(normal)
    return " ".join(sentence(item) for item in items)


def _summary(lesion: Lesion, short: bool) -> str:
    if lesion.finding == DEVICE:
        return f"{name(lesion)} in place"
    if lesion.finding == NODULE and not short:
        return f"{compact(lesion, measured=False)}, {size(lesion)}"
    return compact(lesion, measured=not short)


# ---------------------------------------------------------------- differential diagnosis


def write_differential(lesions: Iterable[Lesion], rng: np.random.Generator) -> str:
    """Write a ranked differential diagnosis, most pressing finding first, at most three lines.

    Without a finding it says "No acute cardiopulmonary disease; ..." and names a device, if any.
    """
    found = by_finding(lesions)
    causes = [finding for finding in _CAUSES if finding in found]
    if not causes:
        device = found.get(DEVICE)
        rest = f"{name(device)} in place" if device else "no further diagnosis is needed"
        return f"No acute cardiopulmonary disease; {rest}."
    lines = []
    failure = [finding for finding in _FAILURE if finding in found]
    if EDEMA in failure and len(failure) > 1:
        causes = [finding for finding in causes if finding not in failure]
        lines.append(f"congestive heart failure, given {joined(failure)}")
    lines += [f"{_ranked(finding, found, rng)}, given {finding}" for finding in causes]
    openings = ("Most likely", "Also consider", "Less likely")
    return " ".join(
        sentence(f"{opening}: {line}") for opening, line in zip(openings, lines, strict=False)
    )


def _ranked(finding: str, found: dict[str, Lesion], rng: np.random.Generator) -> str:
    first, second, third = _CAUSES[finding]
    if finding == PNEUMOTHORAX and DEVICE in found:
        first, second = "a procedure", "spontaneous pneumothorax"
    elif finding == EFFUSION and CONSOLIDATION in found:
        first, second = "infection", "heart failure"
    elif finding == ATELECTASIS and EFFUSION in found:
        first, second = "compression by the effusion", "hypoventilation"
    if rng.random() < 0.3:
        return joined((first, second), word="or")
    return joined((first, second, third), word="or")
