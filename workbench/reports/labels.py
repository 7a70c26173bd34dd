"""What a report says about each finding, with the characters that say it.

Does not know: how the text was read (`labeler`) or what is true of the image.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING

from workbench.findings import NOT_MENTIONED, PRESENT, standard_name

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "finding",
    "code",
    "side",
    "zone",
    "severity",
    "temporality",
    "start",
    "end",
    "rule",
)
_COLOURS = {"present": "#f6c28b", "absent": "#bcd9ee", "uncertain": "#e3d7f0"}


@dataclass(frozen=True)
class FindingLabel:
    """One finding as a text states it.

    Attributes:
        finding: standard name.
        code: "present", "absent" or "uncertain".
        side: "left", "right", "bilateral", or None where none is stated.
        zone: "upper", "mid", "lower", several in this order joined by ", ", or None.
        severity: "small", "moderate" or "large" (the greatest stated), or None.
        temporality: "new", "worse", "improved", "unchanged", "old", or None.
        start: first character of the words that name the finding.
        end: one past the last.
        rule: what decided the code: "named", "statement", "negation", "uncertainty",
            "alternative" or "contradicted".
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


@dataclass(frozen=True)
class Labels:
    """The findings of one text.

    Attributes:
        text: what was read.
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
        """Return the code of a finding; "not mentioned" is not "absent"."""
        row = self[finding]
        return NOT_MENTIONED if row is None else row.code

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the findings coded present, in the order of the text."""
        return tuple(row.finding for row in self.rows if row.code == PRESENT)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding mentioned; what is not stated is None."""
        import pandas as pd

        columns = {name: [getattr(row, name) for row in self.rows] for name in COLUMNS}
        frame = pd.DataFrame({name: pd.Series(values) for name, values in columns.items()})
        texts = [name for name in COLUMNS if name not in ("start", "end")]
        frame[texts] = frame[texts].astype(object).where(frame[texts].notna(), None)
        return frame.astype({"start": "int64", "end": "int64"})

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return {"text": self.text, "rows": [asdict(row) for row in self.rows]}

    def _repr_html_(self) -> str:
        pieces, at = [], 0
        for row in sorted(self.mentions, key=lambda item: (item.start, -item.end)):
            if row.start < at:
                continue
            title = ", ".join(
                str(part) for part in (row.finding, row.code, row.side, row.zone) if part
            )
            pieces.append(escape(self.text[at : row.start]))
            pieces.append(
                f'<mark style="background:{_COLOURS[row.code]}" title="{escape(title)}">'
                f"{escape(self.text[row.start : row.end])}</mark>"
            )
            at = row.end
        pieces.append(escape(self.text[at:]))
        key = " ".join(f'<mark style="background:{c}">{n}</mark>' for n, c in _COLOURS.items())
        return f"<p style='white-space:pre-wrap'>{''.join(pieces)}</p><p>{key}</p>"
