"""Before and after on phantoms that neither training nor the choice of a checkpoint has seen.

    wb.finetune.examine(base, tuned, finding="fracture", n=300)

The ledger's own scores are of the validation cases, which chose the checkpoint; these are not.

Does not know: how the model was trained.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from workbench._repr import short_repr
from workbench.errors import OptionError
from workbench.evaluation import FIRST_HELD_OUT_SEED
from workbench.evaluation.phantom_exam import warn_of_seen
from workbench.findings import ON_REQUEST, PHANTOM_FINDINGS, PRESENT
from workbench.finetune.cases import Case, phantom_case
from workbench.finetune.measuring import (
    ProbeRow,
    card_difference,
    report_card,
    scored_findings,
    write_reports,
)
from workbench.interface import ChestXrayModel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examination:
    """Findings in reports about unseen phantoms, before and after.

    Attributes:
        finding: what was taught.
        rows: the taught finding, the mean of the others, then each of the others.
        n: phantoms.
        seed: of the first.
        held_out: whether these seeds are kept for evaluation.
        texts: case -> (before, after).
    """

    finding: str
    rows: tuple[ProbeRow, ...]
    n: int
    seed: int
    held_out: bool
    texts: dict[str, tuple[str, str]] = field(repr=False)

    __repr__ = short_repr

    @property
    def taught(self) -> ProbeRow:
        """F1 of the taught finding."""
        return self.rows[0]

    @property
    def others(self) -> ProbeRow:
        """Macro F1 of the other findings."""
        return self.rows[1]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding: before, after, change and its interval."""
        import pandas as pd

        return pd.DataFrame(
            [
                {"what": row.skill, "n": row.n, "before": row.before, "after": row.after,
                 "change": row.change.value, "low": row.change.low, "high": row.change.high}
                for row in self.rows
            ]
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw an arrow from before to after for every finding."""
        from workbench.finetune.figures import plot_changes

        return plot_changes(self.rows, ax, title=f"{self.n} unseen phantoms")

    def _repr_html_(self) -> str:
        from workbench.figures.tables import frame_table

        seen = "" if self.held_out else ", <b>not kept for evaluation</b>"
        head = f"<p>{self.n} phantoms from seed {self.seed:,}{seen}: {escape(self.finding)}</p>"
        return head + frame_table(self.to_frame())


def examine(
    before: ChestXrayModel,
    after: ChestXrayModel,
    *,
    finding: str,
    n: int = 300,
    seed: int = FIRST_HELD_OUT_SEED,
    domain: str = "internal",
) -> Examination:
    """Let two models report the same unseen phantoms.

    Args:
        before, after: the two models.
        finding: what was taught. One that no seed decides is drawn into every second phantom.
        n: phantoms.
        seed: of the first; from 10,000,000 they are kept for evaluation.
        domain: phantom domain.

    Raises:
        OptionError: n is below 2.
    """
    if n < 2:
        raise OptionError(f"n must be at least 2, got {n}")
    warn_of_seen(seed, logger)
    cases = unseen_cases(finding, n=n, seed=seed, domain=domain)
    texts = [write_reports(model, cases) for model in (before, after)]
    others = tuple(name for name in scored_findings(cases, PHANTOM_FINDINGS) if name != finding)
    rows = _rows((finding,), texts, cases)[1:] + _rows(others, texts, cases)
    both = {case.id: (texts[0][case.id], texts[1][case.id]) for case in cases}
    return Examination(finding, rows, n, seed, seed >= FIRST_HELD_OUT_SEED, both)


def unseen_cases(finding: str, *, n: int, seed: int, domain: str = "internal") -> list[Case]:
    """Return phantoms of consecutive seeds, with the taught finding known in all of them."""
    added = finding in ON_REQUEST
    return [
        phantom_case(
            seed + at,
            domain=domain,
            add=finding if added and at % 2 else None,
            known=finding if added else None,
        )
        for at in range(n)
    ]


def positives(cases: Sequence[Case], finding: str) -> int:
    """Return how many cases show a finding."""
    return sum(case.code(finding) == PRESENT for case in cases)


def _rows(
    findings: tuple[str, ...], texts: list[dict[str, str]], cases: Sequence[Case]
) -> tuple[ProbeRow, ...]:
    """Return the macro F1 of findings, then the F1 of each."""
    cards = [report_card(t, cases, findings, name=w)
             for t, w in zip(texts, ("before", "after"), strict=True)]  # fmt: skip
    found = card_difference(*cards)
    items = {"macro F1 of the other findings": found.averages["macro"]}
    items |= {f"F1 of {name}": item for name, item in found.per_finding.items()}
    return tuple(
        ProbeRow(title, len(cases), item.f1_b, item.f1_a, item.difference)
        for title, item in items.items()
    )
