"""What somebody has typed and not yet handed in: kept, so that a closed tab loses no sentence.

    drafts = Drafts(folder / "annotations.drafts.jsonl")
    drafts.keep("AB", ("made", "radiograph-3"), {"comment": "look agai"})
    drafts.of("AB")["made", "radiograph-3"]

The file only grows, beside the verdicts, and nothing that scores reads it. The last draft of a
person about a thing counts; an empty one says that nothing is left to keep.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from workbench._store import JsonLines
from workbench.review.study_session import check_text
from workbench.runs.record import now


class Drafts:
    """Drafts in one file, which is made at the first one, private (0600)."""

    def __init__(self, path: str | os.PathLike) -> None:
        self._lines = JsonLines(path)
        self.path = self._lines.path

    def keep(self, who: str, about: tuple[str, ...], texts: Mapping[str, str]) -> None:
        """Keep what a person typed about a thing, field by field; the same again writes nothing.

        Raises:
            InputError: a text is longer than 20,000 characters.
            RunError: the file cannot be written.
        """
        for name, text in texts.items():
            check_text(name, text)
        kept = {name: text for name, text in texts.items() if text}
        if kept != self.of(who).get(about, {}):
            record = {"what": "draft", "who": who, "about": about, "texts": kept}
            self._lines.add(record | {"time": now()})

    def of(self, who: str) -> dict[tuple, dict[str, str]]:
        """Return what a person has typed, by thing; things without a draft are left out."""
        found: dict[tuple, dict[str, str]] = {}
        for record in self._lines.read()[0]:
            about, texts = record.get("about"), record.get("texts")
            own = record.get("what") == "draft" and record.get("who") == who
            if own and isinstance(about, list) and isinstance(texts, dict):
                found[tuple(about)] = {str(k): str(v) for k, v in texts.items()}
        return {about: texts for about, texts in found.items() if texts}
