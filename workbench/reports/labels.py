"""What a report says about each finding, with the characters that say it."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING

from workbench._repr import result
from workbench.findings import (
    ABSENT,
    ALL_FINDINGS,
    DEVICE,
    NO_FINDING,
    NOT_MENTIONED,
    PARENTS,
    PRESENT,
    UNCERTAIN,
    standard_name,
)

if TYPE_CHECKING:
    import pandas as pd

#: Order in which codes of a finding and of its kind are combined.
_WEIGHT = (NOT_MENTIONED, ABSENT, UNCERTAIN, PRESENT)
_COLOURS = {"present": "#f6c28b", "absent": "#bcd9ee", "uncertain": "#e3d7f0"}


@result(eq=True)
class FindingLabel:
    """One finding as a text states it.

    Attributes:
        code: "present", "absent" or "uncertain".
        side: "left", "right", "bilateral", or None where none is stated.
        zone: "upper", "mid", "lower", several in this order joined by ", ", or None.
        severity: "small", "moderate" or "large" (the greatest stated), or None.
        temporality: "resolved", "new", "worse", "improved", "unchanged", "old", or None.
        start, end: the words that name the finding, first character and one past the last.
        rule: what decided the code: "named", "statement", "sign", "negation", "limited denial",
            "uncertainty", "alternative" or "contradicted".
        cue_start, cue_end: the words that negate or weaken it; None where there are none.
        compared: whether it is compared with an earlier study.
        kind: kind of a support device, several joined by ", ", or None.
        lobe: "upper lobe", "middle lobe", "lingula", "lower lobe", several in this order, or None;
            the zone that its words name is in `zone` as well.

    >>> wb.reports.label("Small left pleural effusion.")["pleural effusion"].severity
    'small'
    """

    finding: str
    code: str
    side: str | None
    zone: str | None
    severity: str | None
    temporality: str | None
    start: int
    end: int
    rule: str
    cue_start: int | None = None
    cue_end: int | None = None
    compared: bool = False
    kind: str | None = None
    lobe: str | None = None

    def moved(self, by: int) -> FindingLabel:
        """Return the same label in a text that begins `by` characters earlier."""
        cue = {}
        if self.cue_start is not None and self.cue_end is not None:
            cue = {"cue_start": self.cue_start + by, "cue_end": self.cue_end + by}
        return replace(self, start=self.start + by, end=self.end + by, **cue)


@result(eq=True)
class Labels:
    """The findings of one text.

    Attributes:
        rows: one per finding mentioned, in the order of the text.
        mentions: every single mention that `rows` was merged from, in the order of the text.
    """

    text: str
    rows: tuple[FindingLabel, ...]
    mentions: tuple[FindingLabel, ...]

    def __getitem__(self, finding: str) -> FindingLabel | None:
        """Return the row of a finding, None where the text does not speak of it."""
        name = standard_name(finding)
        return next((row for row in self.rows if row.finding == name), None)

    def code(self, finding: str) -> str:
        """Return the code of a finding; "not mentioned" is not "absent".

        "no finding" is derived where it is not stated: absent where any finding (devices aside) is
        present or uncertain, present where some are denied and none of the others is stated.
        """
        row = self[finding]
        if row is None and standard_name(finding) == NO_FINDING:
            return self._no_finding()
        return NOT_MENTIONED if row is None else row.code

    def codes(self, *, hierarchy: bool = False) -> dict[str, str]:
        """Return the code of every finding, in the order of `ALL_FINDINGS`.

        Args:
            hierarchy: let a finding speak for the wider one that it belongs to (`PARENTS`): where
                pneumonia is present, so are consolidation and lung opacity.
        """
        found = {name: self.code(name) for name in ALL_FINDINGS}
        if hierarchy:
            # Children stand before their parents when sorted by depth, so one pass is enough.
            for name in sorted(PARENTS, key=_depth, reverse=True):
                above = PARENTS[name]
                if found[name] != ABSENT:  # which says nothing about the wider one
                    found[above] = max(found[above], found[name], key=_WEIGHT.index)
        return found

    def _no_finding(self) -> str:
        if any(states_finding(row) for row in self.rows):
            return ABSENT
        return PRESENT if any(row.finding != DEVICE for row in self.rows) else NOT_MENTIONED

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the findings coded present, in the order of the text."""
        return tuple(row.finding for row in self.rows if row.code == PRESENT)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding mentioned; what is not stated is None."""
        import pandas as pd

        names = [column.name for column in fields(FindingLabel)]
        frame = pd.DataFrame([asdict(row) for row in self.rows], columns=names, dtype=object)
        kinds = {"start": "int64", "end": "int64", "cue_start": "Int64", "cue_end": "Int64"}
        return frame.astype(kinds | {"compared": "bool"})

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return {"text": self.text, "rows": [asdict(row) for row in self.rows]}

    def _repr_html_(self) -> str:
        from workbench.figures.words import tinted

        spans, looks = [], []
        for row in sorted(self.mentions, key=lambda item: (item.start, -item.end)):
            title = ", ".join(filter(None, (row.finding, row.code, row.side, row.zone)))
            looks.append((title, f"background:{_COLOURS[row.code]}"))
            spans.append((row.start, row.end))
        shown = tinted(self.text, spans, looks, "mark")
        key = " ".join(f'<mark style="background:{c}">{n}</mark>' for n, c in _COLOURS.items())
        return f"<p style='white-space:pre-wrap'>{shown}</p><p>{key}</p>"


def states_finding(row: FindingLabel) -> bool:
    """Say whether a row keeps a study from being normal: "no large effusion" does not."""
    if row.finding in (DEVICE, NO_FINDING) or row.rule == "limited denial":
        return False
    return row.code != ABSENT


def _depth(finding: str) -> int:
    """Return how many wider findings stand above one."""
    return 1 + _depth(PARENTS[finding]) if finding in PARENTS else 0
