"""Licences and notices of the models, and each notice logged once in a process."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)

PHANTOM = "phantom"
RADIOGRAPH = "radiograph"

PHANTOM_NOTICE = "Trained on phantoms, not for real radiographs. Not for clinical use."
RESEARCH_NOTICE = "Research only, not for clinical use."
#: What every notice contains.
NOT_CLINICAL = "not for clinical use"

_said: set[str] = set()


@dataclass(frozen=True)
class Terms:
    """Under which terms a model may be used: licence of the weights, one line that every surface
    shows, and what the model was trained on, "phantom" or "radiograph".
    """

    licence: str
    notice: str
    domain: str


MINI_TERMS = Terms("Apache-2.0", PHANTOM_NOTICE, PHANTOM)
PUBLISHED_TERMS = Terms(
    "CC BY-NC 4.0 for the weights and the LLaMA 2 Community License for the language model they "
    "derive from; using them means accepting both",
    RESEARCH_NOTICE,
    RADIOGRAPH,
)
UNKNOWN_TERMS = Terms(
    "not stated in the directory; ask the author of the checkpoint", RESEARCH_NOTICE, RADIOGRAPH
)


def terms_of(kind: str, facts: Mapping[str, Any]) -> Terms:
    """Return the terms of a checkpoint of kind "mini", "hub" or "directory".

    `facts` is its model_card.json ("licence", "notice", "domain" are read), empty without one.
    """
    default = {"mini": MINI_TERMS, "hub": PUBLISHED_TERMS}.get(kind, UNKNOWN_TERMS)
    domain = str(facts.get("domain", default.domain))
    notice = str(facts.get("notice", PHANTOM_NOTICE if domain == PHANTOM else default.notice))
    if NOT_CLINICAL not in notice.lower():
        notice = f"{notice.strip().rstrip('.')}. {NOT_CLINICAL.capitalize()}."
    return Terms(str(facts.get("licence", default.licence)), notice, domain)


def notice_by_name(name: str) -> str:
    """Return the notice of a model that is not loaded yet: `mini`'s own, else the strict one."""
    return MINI_TERMS.notice if name == "mini" else RESEARCH_NOTICE


def say_once(name: str, notice: str, licence: str) -> None:
    """Log the notice of a model, the first time in this process only."""
    if name not in _said:
        _said.add(name)
        logger.warning("%s: %s. Licence: %s.", name, notice.rstrip("."), licence)
