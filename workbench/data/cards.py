"""Data cards: what is known of each source before anybody downloads it.

There is one YAML file for each source in `workbench/data/cards/`; `data_manifests/` shows copies
that a test compares.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import field
from functools import cache, cached_property
from importlib.resources import files

from pydantic import TypeAdapter

from workbench._repr import result
from workbench._store import read_yaml
from workbench.data.columns import VOCABULARY
from workbench.errors import OptionError, unknown_name

#: Source keys in the order in which they are shown.
SOURCES = tuple(VOCABULARY["sources"].split())


@result()
class DataCard:
    """What is known of a source."""

    key: str
    title: str
    about: str
    url: str
    licence: str
    terms: str
    agreement: str  # what has to be signed before a download; "none" where nothing is
    citation: str
    provenance: str  # who labelled, one of `columns.PROVENANCES`
    aliases: tuple[str, ...] = ()
    fetch: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)  # name or pattern -> what it is for
    #: Name of a set of labels -> what it is; the first is the default.
    variants: Mapping[str, str] = field(default_factory=dict)
    #: Variant or split -> counts of all of it ("rows", "patients", "boxes", ...).
    expected: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    #: Label as published -> findings it states present; none for labels that speak of no finding.
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    separator: str = ""  # between a label and its qualifiers, as in Opacity/lung/base
    #: Label in another language, in lower case -> label as published.
    translations: Mapping[str, str] = field(default_factory=dict)
    #: Place as published -> {"side": ..., "zone": ...}.
    locations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    #: Place in another language -> place as published.
    location_translations: Mapping[str, str] = field(default_factory=dict)
    closed: bool = False  # whether every label was looked for, so that unticked means absent
    faults: tuple[str, ...] = ()

    def findings_of(self, label: str) -> tuple[str, ...] | None:
        """Return what a label states present; None where the card does not know the label."""
        published = self.published(label)
        return None if published is None else self.labels[published]

    def published(self, label: str) -> str | None:
        """Return a label as it is published, None for one that the card does not know.

        Upper and lower case, accents, _ and blanks make no difference, and qualifiers are cut.
        """
        head = label.partition(self.separator)[0] if self.separator else label
        for word in (head.strip(), plain(head)):
            name = self.translations.get(word.casefold(), word)
            found = name if name in self.labels else self._folded.get(folded(name))
            if found is not None:
                return found
        return None

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {folded(label): label for label in self.labels}

    def to_dict(self) -> dict:
        """Return the card as plain values, as its YAML file holds it."""
        return dict(_raw(self.key))


def folded(name: str) -> str:
    """Return how names of labels and columns are compared: lower case, single blanks for _."""
    return " ".join(name.replace("_", " ").casefold().split())


def plain(word: str) -> str:
    """Return a word without accents, in lower case, with single blanks."""
    decomposed = unicodedata.normalize("NFKD", word)
    kept = "".join(c for c in decomposed if not unicodedata.combining(c) or c == "\u0303")
    return " ".join(unicodedata.normalize("NFC", kept).casefold().split())


def source_key(name: str) -> str:
    """Return the key of a source, as people type it.

    Raises:
        OptionError: there is no such source.
    """
    key = "-".join(str(name).lower().replace("_", " ").split())
    if key in SOURCES:
        return key
    found = [source for source in SOURCES if key in _card(source).aliases]
    if not found:
        raise OptionError(unknown_name("source", name, SOURCES))
    return found[0]


def card(name: str) -> DataCard:
    """Return the data card of a source; errors as in `source_key`.

    >>> wb.data.card("openi").provenance
    'report-read'
    """
    return _card(source_key(name))


def card_text(name: str) -> str:
    """Return the YAML file of a card as it ships."""
    return (files("workbench.data") / "cards" / f"{source_key(name)}.yaml").read_text("utf-8")


@cache
def _raw(key: str) -> dict:
    return read_yaml("workbench.data", f"cards/{source_key(key)}.yaml")


@cache
def _card(key: str) -> DataCard:
    return TypeAdapter(DataCard).validate_python(_raw(key))
