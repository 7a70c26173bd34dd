"""Two models on unseen cases, and two runs side by side: what came out better.

The ledger's own scores are of the validation cases, which chose the checkpoint; the phantoms of
`examine` were seen neither by training nor by that choice. Runs are compared on the validation
cases that both have, paired by case.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from workbench._repr import result
from workbench.backends.levels import READER, needs
from workbench.cases import Case, cases_of, phantom_case
from workbench.data.manifest import Manifest
from workbench.errors import InputError, check_whole
from workbench.figures.tables import frame_table, html_table
from workbench.figures.training import plot_changes, plot_pairs
from workbench.findings import ABSENT, ON_REQUEST, PHANTOM_FINDINGS, PRESENT
from workbench.finetune.ledger import Ledger, Run, SkillChange, open_run, skills_frame
from workbench.finetune.measuring import auroc_rows, f1_changes, scored_findings, write_reports
from workbench.interface import ChestXrayModel
from workbench.phantom.case import seen_warning
from workbench.radiograph import Radiograph
from workbench.runs.record import differences
from workbench.settings import FIRST_HELD_OUT_SEED

logger = logging.getLogger(__name__)


@result(eq=True)
class Examination:
    """Findings in reports about `n` unseen phantoms, or other cases, before and after.

    Attributes:
        rows: the taught finding, the mean of the others, then each of the others.
        held_out: whether these seeds are kept for evaluation; None of other cases: it is not known.
        known: cases of which the taught finding is known; the others are not counted for it.
        texts: case -> (before, after).
    """

    finding: str
    rows: tuple[SkillChange, ...]
    n: int
    seed: int
    held_out: bool | None
    texts: dict[str, tuple[str, str]] = field(repr=False)
    known: int

    @property
    def taught(self) -> SkillChange:
        """F1 of the taught finding."""
        return self.rows[0]

    @property
    def others(self) -> SkillChange | None:
        """Macro F1 of the other findings; None where nothing is known of any."""
        return self.rows[1] if len(self.rows) > 1 else None

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding: before, after, change and its interval."""
        return skills_frame(self.rows).rename(columns={"skill": "what"})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw an arrow from before to after for every finding."""
        changes = [(row.skill, row.before, row.after) for row in self.rows]
        return plot_changes(changes, ax, title=self._cases)

    @property
    def _cases(self) -> str:
        if self.held_out is None:
            return f"{self.n} cases, {self.finding} known of {self.known}"
        return f"{self.n} unseen phantoms"

    def _repr_html_(self) -> str:
        seen = "" if self.held_out else ", <b>not kept for evaluation</b>"
        head = f"<p>{self.n} phantoms from seed {self.seed:,}{seen}: {escape(self.finding)}</p>"
        if self.held_out is None:
            head = f"<p>{escape(self._cases)}</p>"
        return head + frame_table(self.to_frame())


@needs(READER)
def examine(
    before: ChestXrayModel,
    after: ChestXrayModel,
    *,
    finding: str,
    cases: Manifest | Iterable[Any] | None = None,
    n: int = 300,
    seed: int = FIRST_HELD_OUT_SEED,
) -> Examination:
    """Let two models report the same `n` unseen phantoms, or the same cases.

    Args:
        finding: what was taught. One that no seed decides is drawn into every second phantom.
        cases: in the place of phantoms, see `workbench.cases.cases_of`; patients are resampled.
        seed: of the first; from 10,000,000 they are kept for evaluation.

    Raises:
        OptionError: n is below 2.
        InputError: the finding is not known to be present in one case and absent in another.

    >>> wb.finetune.examine(model, trained.model(), finding="fracture", n=2).n
    2
    """
    drawn = cases is None
    check_whole(2, n=n)
    if drawn and (warning := seen_warning(seed)) is not None:
        logger.warning(warning)
    cases = unseen_cases(finding, n=n, seed=seed) if cases is None else cases_of(cases)
    if not drawn and not scored_findings(cases, (finding,)):
        raise InputError(
            f"{finding} has to be known to be present in one case and absent in another; give more "
            "cases, or label it"
        )
    texts = (write_reports(before, cases), write_reports(after, cases))
    wanted = PHANTOM_FINDINGS if drawn else ()
    others = tuple(name for name in scored_findings(cases, wanted) if name != finding)
    rows = f1_changes("", *texts, cases, (finding,))[1:]
    if others:
        rows += f1_changes("macro F1 of the other findings", *texts, cases, others)
    both = {case.id: (texts[0][case.id], texts[1][case.id]) for case in cases}
    held = seed >= FIRST_HELD_OUT_SEED if drawn else None
    known = sum(case.code(finding) in (PRESENT, ABSENT) for case in cases)
    return Examination(finding, rows, len(cases), seed, held, both, known)


def unseen_cases(finding: str, *, n: int, seed: int) -> list[Case]:
    """Return phantoms of consecutive seeds, with the taught finding known in all of them."""
    known = finding if finding in ON_REQUEST else None
    return [phantom_case(seed + at, add=known if at % 2 else None, known=known) for at in range(n)]


@result(eq=True)
class RunComparison:
    """Two runs by name, a and b.

    Attributes:
        settings: field of the recipe -> (value in a, value in b), where they differ.
        scores: skills on the validation cases both have; `before` is a, `after` is b.
        rows: of `to_frame`: what each cost, the scores, the change of untrained skills.
        shared: validation cases that both have.
    """

    a: str
    b: str
    settings: Mapping[str, tuple[object, object]]
    scores: tuple[SkillChange, ...]
    rows: tuple[tuple[object, ...], ...] = field(repr=False)
    shared: int

    def to_frame(self) -> pd.DataFrame:
        """Return one row per fact, score and forgotten skill: a, b, b minus a, interval."""
        columns = ["kind", "what", "a", "b", "b - a", "low", "high"]
        # counts stay whole beside seconds and scores
        return pd.DataFrame(list(self.rows), columns=columns, dtype=object)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the scores of both runs."""
        pairs = [(row.skill, row.before, row.after) for row in self.scores]
        return plot_pairs(pairs, (self.a, self.b), ax, title="Two runs")

    def _repr_html_(self) -> str:
        settings = [(name, *pair) for name, pair in self.settings.items()]
        frame = self.to_frame().rename(columns={"a": self.a, "b": self.b})
        return (
            html_table(["recipe", self.a, self.b], settings)
            + f"<p>{self.shared:,} validation cases in both</p>"
            + frame_table(frame)
        )


def compare(a: Run | str | os.PathLike[str], b: Run | str | os.PathLike[str]) -> RunComparison:
    """Compare two finished runs, or what their folders hold.

    Raises:
        InputError: a folder has no run, the stages differ, or the validation cases that they share
            are too few to score a finding.

    >>> wb.finetune.compare(trained, "runs/trained").a
    'stage3_lora'
    """
    first, second = (run if isinstance(run, Run) else open_run(run) for run in (a, b))
    one, two = first.ledger, second.ledger
    if (one.stage == "encoder") != (two.stage == "encoder"):
        raise InputError(
            f"{one.name} is of stage {one.stage} and {two.name} of {two.stage}; their scores are "
            "of different kinds"
        )
    shared = [name for name in first.evidence["cases"] if name in second.evidence["cases"]]
    if not shared:
        raise InputError(
            "the runs share no validation case; give both the same data and the same seed"
        )
    scores = _changes(first, second, shared)
    settings = {name: (was, later) for name, was, later in differences(one.recipe, two.recipe)}
    settings.pop("name", None)
    other = two.name if two.name != one.name else f"{two.name} (2)"
    return RunComparison(one.name, other, settings, scores, _rows(one, two, scores), len(shared))


def _rows(
    one: Ledger, two: Ledger, scores: Sequence[SkillChange]
) -> tuple[tuple[object, ...], ...]:
    """Return rows of `RunComparison.to_frame`."""
    cost, other = (
        {
            "parameters that learned": sum(p["parameters"] for p in ledger.trainable.values()),
            "steps": ledger.cost["steps"],
            "seconds of CPU": ledger.cost["cpu_seconds"],
            "memory, GB": ledger.memory["measured"] / 1e9,
        }
        for ledger in (one, two)
    )
    lost, lost_too = (
        {row.skill: row.change.value for row in ledger.forgetting} for ledger in (one, two)
    )
    return (
        *(("cost", name, cost[name], other[name], other[name] - cost[name], None, None)
          for name in cost),
        *(("score", r.skill, r.before, r.after, r.change.value, r.change.low, r.change.high)
          for r in scores),
        *(("forgetting", name, lost.get(name), lost_too.get(name), None, None, None)
          for name in lost | lost_too),
    )  # fmt: skip


def _changes(first: Run, second: Run, shared: Sequence[str]) -> tuple[SkillChange, ...]:
    """Return the skills of two runs of one stage on the cases both have."""
    known = first.evidence["cases"]
    one, two = (
        {name: run.evidence["cases"][name]["after"] for name in shared} for run in (first, second)
    )
    patients = [known[name]["patient"] for name in shared]
    if first.ledger.stage == "encoder":
        if first.evidence["findings"] != second.evidence["findings"]:
            raise InputError(
                "the runs learned different findings; give both the same data.findings"
            )
        labels = np.array([known[name]["labels"] for name in shared])
        before, after = (np.array(list(scores.values())) for scores in (one, two))
        return auroc_rows(before, after, labels, patients, ())
    cases = [
        Case(name, patient, known[name]["codes"], {}, load=_no_image)
        for name, patient in zip(shared, patients, strict=True)
    ]
    findings = [f for f in first.evidence["findings"] if f in second.evidence["findings"]]
    if not findings or not scored_findings(cases, findings):
        raise InputError(
            "no finding that both runs were scored on is present in one and absent in another of "
            f"the validation cases that they share ({len(cases):,}); train both on the same, more "
            "cases (data.validation, evaluation.cases) and the same data.findings"
        )
    return f1_changes("macro F1", one, two, cases, findings)


def _no_image() -> Radiograph:
    raise InputError("a case read back from a run has no image; gather the recipe's cases again")
