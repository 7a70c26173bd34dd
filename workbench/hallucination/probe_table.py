"""What every probe shares: its cases, with what is true of them, and its result.

A finding that the truth of a case does not speak of is unknown, and is neither asked about nor
counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from workbench._repr import short_repr
from workbench.data import FINDING_COLUMNS, Manifest
from workbench.errors import InputError
from workbench.evaluation.intervals import Estimate, bootstrap_weights, ratio, wilson
from workbench.figures.estimates import plot_rates
from workbench.figures.tables import html_table
from workbench.findings import ALL_FINDINGS, CODES, standard_name
from workbench.interface import ChestXrayModel
from workbench.phantom.case import Phantom, phantom


@dataclass(frozen=True, eq=False)
class ProbeCase:
    """One image with its truth, finding -> "present" or "absent"; all else is unknown."""

    name: str
    image: object
    truth: Mapping[str, str]

    def known(self, findings: Sequence[str], *codes: str) -> list[str]:
        """Return the findings that are known to be present, or absent."""
        return [name for code in codes for name in findings if self.truth.get(name) == code]


def probe_cases(cases: Manifest | Iterable[Any]) -> tuple[ProbeCase, ...]:
    """Return the cases of a manifest, whose images are read when they are asked about, or others.

    An iterable holds phantoms, `ProbeCase`, or pairs (image, truth): findings to codes.

    Raises:
        InputError: there is no case, or one is none of these; the message shows it.
        OptionError: a finding is unknown.
    """
    if isinstance(cases, Manifest):
        cases = _rows(cases)
    found = tuple(_case(number, case) for number, case in enumerate(cases))
    if not found:
        raise InputError("there is no case; give phantoms, or pairs of an image and its truth")
    return found


def phantom_cases(
    n: int, *, seed: int, domain: str = "internal", size: int = 512
) -> tuple[Phantom, ...]:
    """Draw `n` phantoms with the seeds seed .. seed + n - 1, as cases."""
    return tuple(phantom(seed + at, domain=domain, size=size) for at in range(n))


def _rows(manifest: Manifest) -> Iterator[ProbeCase]:
    """Yield a case for each row of a manifest; what it does not say stays unknown."""
    names = [name for name in FINDING_COLUMNS if name in ALL_FINDINGS]
    rows = manifest.frame[["image_id", *names]].itertuples(index=False, name=None)
    for row, (image_id, *codes) in enumerate(rows):
        truth = dict(zip(names, map(str, codes), strict=True))
        yield ProbeCase(str(image_id), manifest.path(row), truth)


def _case(number: int, case: Any) -> ProbeCase:
    if isinstance(case, ProbeCase):
        return case
    if isinstance(case, Phantom):
        return ProbeCase(case.image.contract.source, case, case.labels)
    if not (isinstance(case, tuple) and len(case) == 2 and isinstance(case[1], Mapping)):
        raise InputError(
            f"case {number} is {type(case).__name__}; expected a phantom or a pair (image, truth), "
            "with truth such as {'pneumothorax': 'absent'}"
        )
    image, truth = case
    if wrong := [code for code in truth.values() if code not in CODES]:
        raise InputError(
            f"case {number} has code {wrong[0]!r}; expected one of: {', '.join(CODES)}"
        )
    known = {standard_name(name): code for name, code in truth.items()}
    return ProbeCase(f"case {number}", image, known)


@dataclass(frozen=True)
class Asked:
    """One question, or one reading, behind a rate.

    Attributes:
        group: what it counts for: a strategy, a wording, a suggestion.
        truth: "present" or "absent".
        reading: "yes", "no", "unclear", or what else the probe reads.
    """

    case: str
    group: str
    finding: str
    truth: str
    question: str
    answer: str
    reading: str


@dataclass(frozen=True, eq=False)
class ProbeTable:
    """What a probe found.

    Intervals of rates are Wilson's, which take answers for independent; for means and F1 cases are
    resampled.

    Attributes:
        rows: (group, what is measured of it) -> number.
        answers: everything behind them.
        cases: how many there were.
        settings: what the probe was run with, the model's identity among it.
    """

    probe: str
    rows: Mapping[tuple[str, str], Estimate]
    answers: tuple[Asked, ...]
    cases: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = short_repr

    def __getitem__(self, key: tuple[str, str]) -> Estimate:
        """Return the number of a (group, measure); a `KeyError` lists those there are."""
        if key not in self.rows:
            raise KeyError(f"no {key}; there is: {', '.join(map(str, self.rows))}")
        return self.rows[key]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per number: group, measure, value, low, high, n."""
        rows = [(*key, one.value, one.low, one.high, one.n) for key, one in self.rows.items()]
        return pd.DataFrame(rows, columns=["group", "measure", "value", "low", "high", "n"])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw every number with its interval."""
        named = {f"{group}: {measure}": one for (group, measure), one in self.rows.items()}
        ax = plot_rates(list(named.items()), ax, xlabel="value with 95 % interval")
        ax.set_title(f"{self.probe}, {self.cases} cases", loc="left", fontsize="medium")
        return ax

    def _repr_html_(self) -> str:
        rows = [(*key, estimate, estimate.n) for key, estimate in self.rows.items()]
        return html_table([self.probe, "measure", "value [95 %]", "n"], rows)


def tabulate(
    probe: str,
    model: ChestXrayModel,
    rows: Mapping[tuple[str, str], Estimate],
    answers: Sequence[Asked],
    cases: Sequence[ProbeCase],
    **settings: Any,
) -> ProbeTable:
    settings["model"] = asdict(model.identity)
    return ProbeTable(probe, rows, tuple(answers), len(cases), settings)


def rate(hits: Iterable[bool]) -> Estimate:
    """Return the share of hits, with Wilson's interval."""
    counted = list(hits)
    return wilson(sum(counted), len(counted))


def share(answers: Sequence[Asked], reading: str) -> Estimate:
    """Return the share of answers that are read as one thing."""
    return rate(item.reading == reading for item in answers)


def resampled(
    owner: Sequence[str], above: ArrayLike, below: ArrayLike | None = None, *, seed: int
) -> Estimate:
    """Estimate sum(above) / sum(below) over items, resampling the cases that own them.

    Without `below` it is the mean.
    """
    below = np.ones(len(owner)) if below is None else below
    names = list(dict.fromkeys(owner))
    at = np.array([names.index(name) for name in owner], int)
    first, second = (
        np.bincount(at, weights=np.asarray(values, float), minlength=len(names))
        for values in (above, below)
    )
    weights = bootstrap_weights(len(names), np.random.default_rng([seed, len(names)]))
    return ratio(first, second, weights)
