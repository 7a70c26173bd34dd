"""The reference report of a phantom: FINDINGS-style body, then "Impression: ...".

Worded for a small model that decodes greedily. The order of organ systems is fixed. A report is
written in one of two voices, drawn once, so that within a report nothing but the finding itself
decides a sentence's first word:

    voice        present                                absent
    "plain"      There is consolidation in ...          No consolidation ...
    "narrative"  Consolidation is seen in ...           There is no consolidation ...

The heart is always spoken of: "Heart size is normal / enlarged". Name and presence come first;
side, zone and severity follow. The plain voice (70 %) states every pertinent negative, the
narrative one leaves out some of those for atelectasis, edema and nodule. A missing device or
fracture is never stated.

Does not know: pixels, visibility, or prior studies. A finding that was drawn is described.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from workbench.errors import OptionError
from workbench.findings import (
    ATELECTASIS,
    CARDIOMEGALY,
    DEVICE,
    EDEMA,
    EFFUSION,
    FRACTURE,
    NODULE,
    PNEUMOTHORAX,
)
from workbench.phantom.scene import Lesion
from workbench.phantom.wording.mentions import REPORT_ORDER, Mention, mentions
from workbench.phantom.wording.phrases import (
    compact,
    is_plural,
    name,
    number,
    place,
    plural,
    sentence,
    with_article,
)

#: Share of reports in the plain voice.
PLAIN_SHARE = {"internal": 0.7, "external": 0.5}

#: How often the narrative voice leaves out a pertinent negative.
_LEFT_OUT = {ATELECTASIS: 0.25, EDEMA: 0.25, NODULE: 0.4}

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
    groups = mentions(lesions)
    plain = bool(rng.random() < PLAIN_SHARE[domain])
    opening = [_OPENINGS[rng.integers(len(_OPENINGS))]] if domain == "external" else []
    body = [_statement(finding, groups.get(finding, ()), rng, plain) for finding in REPORT_ORDER]
    sentences = [*opening, *filter(None, body), f"Impression: {_impression(groups, rng)}"]
    return " ".join(sentences)


def _statement(
    finding: str, group: Sequence[Mention], rng: np.random.Generator, plain: bool
) -> str:
    if finding == FRACTURE and not group:
        return ""
    if finding == CARDIOMEGALY:
        return _heart(group, rng, plain)
    if not group:
        return _absent(finding, rng, plain)
    if finding == DEVICE:
        return " ".join(_device(item, rng, plain) for item in group)
    return _present(group, rng, plain)


def _heart(group: Sequence[Mention], rng: np.random.Generator, plain: bool) -> str:
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


def _device(mention: Mention, rng: np.random.Generator, plain: bool) -> str:
    where = place(mention)
    tail = f"{where}, in place" if where else "in place"
    tail = tail if rng.random() < 0.4 else where or "in place"
    thing = with_article(mention, name(mention))
    return f"There is {thing} {tail}." if plain else sentence(f"{thing} is seen {tail}")


def _present(group: Sequence[Mention], rng: np.random.Generator, plain: bool) -> str:
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


def _detail(mention: Mention, form: int) -> str:
    """Return place and measure: "in the left lower lung zone, linear and small in extent"."""
    measure = _measure(mention, form)
    return f"{place(mention)}, {measure}" if measure else place(mention)


def _measure(mention: Mention, form: int) -> str:
    if mention.millimetres is not None:
        size = f"{mention.millimetres} mm"
        return (f"{size} in size", f"measuring {size}", f"about {size} in size")[form]
    kind = mention.kind
    if mention.degree is None:
        return f"{kind} in type" if kind else ""
    grade, dimension = mention.degree, mention.dimension
    lead = f"{kind} and " if kind else ""
    return (
        f"{lead}{grade} in {dimension}",
        f"{f'{kind}, ' if kind else ''}of {grade} {dimension}",
        f"which {'are' if is_plural(mention) else 'is'} {lead}{grade}",
    )[form]


def _impression(groups: dict[str, tuple[Mention, ...]], rng: np.random.Generator) -> str:
    short = bool(rng.random() < 0.3)
    pick = rng.random()
    items = [_summary(item, short) for group in groups.values() for item in group]
    if not set(groups) - {DEVICE}:
        normal = "no acute cardiopulmonary disease" if pick < 0.75 else "no acute abnormality"
        items.append(normal)
    return " ".join(sentence(item) for item in items)


def _summary(mention: Mention, short: bool) -> str:
    if mention.finding == DEVICE:
        return f"{name(mention)} in place"
    if mention.millimetres is not None:
        phrase = compact(replace(mention, millimetres=None))
        return phrase if short else f"{phrase}, {mention.millimetres} mm"
    return compact(mention, severity=not short)
