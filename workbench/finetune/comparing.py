"""Two runs side by side: what was asked for differently, and which came out better.

Scores are compared on the validation cases that both runs have, paired by case.

Does not know: how either was trained.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench._repr import short_repr
from workbench.errors import InputError
from workbench.evaluation.intervals import estimate
from workbench.finetune.classifier import mean_auroc, resampled_means
from workbench.finetune.measuring import ProbeRow, card_difference, report_card
from workbench.finetune.run_result import Run, evidence_cases, open_run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class RunComparison:
    """Two runs.

    Attributes:
        a, b: names.
        settings: field of the recipe -> (value in a, value in b), where they differ.
        facts: what each took and moved: parameters that learned, steps, seconds, memory.
        scores: skills on the validation cases both have; `before` is a, `after` is b.
        forgetting: change of untrained skills: skill -> (a, b), after minus before.
        shared: validation cases that both have.
    """

    a: str
    b: str
    settings: Mapping[str, tuple[Any, Any]]
    facts: Mapping[str, tuple[float, float]]
    scores: tuple[ProbeRow, ...]
    forgetting: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    shared: int = 0

    __repr__ = short_repr

    def to_frame(self) -> pd.DataFrame:
        """Return one row per fact, score and forgotten skill: a, b, b minus a, interval."""
        import pandas as pd

        rows = [
            {"kind": "cost", "what": name, "a": one, "b": two, "b - a": two - one}
            for name, (one, two) in self.facts.items()
        ]
        rows += [
            {"kind": "score", "what": row.skill, "a": row.before, "b": row.after,
             "b - a": row.change.value, "low": row.change.low, "high": row.change.high}
            for row in self.scores
        ]  # fmt: skip
        rows += [
            {"kind": "forgetting", "what": name, "a": one, "b": two}
            for name, (one, two) in self.forgetting.items()
        ]
        columns = ["kind", "what", "a", "b", "b - a", "low", "high"]
        # counts stay whole beside seconds and scores
        return pd.DataFrame(rows, columns=columns, dtype=object)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the scores of both runs."""
        from workbench.finetune.figures import plot_run_comparison

        return plot_run_comparison(self, ax)

    def _repr_html_(self) -> str:
        from workbench.figures.tables import frame_table, html_table

        settings = [(name, *pair) for name, pair in self.settings.items()]
        frame = self.to_frame().rename(columns={"a": self.a, "b": self.b})
        return (
            html_table(["recipe", self.a, self.b], settings)
            + f"<p>{self.shared:,} validation cases in both</p>"
            + frame_table(frame)
        )


def compare(a: Run | str | os.PathLike, b: Run | str | os.PathLike) -> RunComparison:
    """Compare two finished runs.

    Args:
        a, b: runs or their folders.

    Raises:
        InputError: a folder holds no run, the stages differ, or they share no validation case.
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
    rows = _auroc_rows if one.stage == "encoder" else _report_rows
    names = (one.name, two.name if two.name != one.name else f"{two.name} (2)")
    return RunComparison(
        *names,
        settings=_differing(one.recipe, two.recipe),
        facts=_facts(first, second),
        scores=rows(first, second, shared),
        forgetting=_forgetting(first, second),
        shared=len(shared),
    )


def _differing(one: Mapping, two: Mapping, path: str = "") -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for name in {**one, **two}:
        left, right = one.get(name), two.get(name)
        where = f"{path}{name}"
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found |= _differing(left, right, f"{where}.")
        elif _plain(left) != _plain(right) and where != "name":
            found[where] = (left, right)
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _facts(first: Run, second: Run) -> dict[str, tuple[float, float]]:
    def of(run: Run) -> dict[str, int | float]:
        ledger = run.ledger
        return {
            "parameters that learned": sum(p["parameters"] for p in ledger.trainable.values()),
            "steps": ledger.cost["steps"],
            "seconds of CPU": ledger.cost["cpu_seconds"],
            "memory, GB": ledger.memory["measured"] / 1e9,
        }

    one, two = of(first), of(second)
    return {name: (one[name], two[name]) for name in one}


def _report_rows(first: Run, second: Run, shared: list[str]) -> tuple[ProbeRow, ...]:
    cases = [case for case in evidence_cases(first.evidence) if case.id in set(shared)]
    texts = [{name: run.evidence["cases"][name]["after"] for name in shared}
             for run in (first, second)]  # fmt: skip
    findings = [f for f in first.evidence["findings"] if f in second.evidence["findings"]]
    cards = [report_card(text, cases, findings, name=name)
             for name, text in zip("ab", texts, strict=True)]  # fmt: skip
    found = card_difference(*cards)
    items = {"macro F1": found.averages["macro"], **found.per_finding}
    return tuple(
        ProbeRow(name if name == "macro F1" else f"F1 of {name}", len(cases), item.f1_b, item.f1_a,
                 item.difference)
        for name, item in items.items()
    )  # fmt: skip


def _auroc_rows(first: Run, second: Run, shared: list[str]) -> tuple[ProbeRow, ...]:
    findings = first.evidence["findings"]
    if findings != second.evidence["findings"]:
        raise InputError("the runs learned different findings; give both the same data.findings")
    rows = [first.evidence["cases"][name] for name in shared]
    labels = np.array([row["labels"] for row in rows])
    patients = [row["patient"] for row in rows]
    scores = [
        np.array([run.evidence["cases"][name]["after"] for name in shared])
        for run in (first, second)
    ]
    values = [mean_auroc(one, labels, patients) for one in scores]
    drawn = [resampled_means(one, labels, patients) for one in scores]
    difference = (values[1].value or 0.0) - (values[0].value or 0.0)
    change = estimate(difference, drawn[1] - drawn[0], len(shared))
    return (ProbeRow("mean AUROC", len(shared), values[0].value, values[1].value, change),)


def _forgetting(first: Run, second: Run) -> dict[str, tuple[float | None, float | None]]:
    one = {row.skill: row.change.value for row in first.ledger.forgetting}
    two = {row.skill: row.change.value for row in second.ledger.forgetting}
    return {skill: (one.get(skill), two.get(skill)) for skill in {**one, **two}}
