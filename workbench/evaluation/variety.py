"""Does a model write different reports for different images? Collapse, in numbers.

A model that writes one text for every image can score well where most images are alike. So reports
are counted: how many are distinct, how many equally frequent texts would be as varied (the
exponential of the entropy), how alike their words are, and how often two patients whose references
differ got the very same text. That share is 1 for a constant report and 0 for one that always
differs where the truth does; from `COLLAPSED` up it is said before any score.

Source of the effective number: Hill, Ecology 1973 (order 1). The limit is this project's own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import CountVectorizer

from workbench.evaluation.counts import Pairs
from workbench.evaluation.report_set import ReportSet
from workbench.findings import CODES, PRESENT

#: Share of differing patients with the same text that counts as collapse.
COLLAPSED = 0.1
#: Patients from which this is judged, and reports whose words are compared.
FEWEST, _COMPARED = 10, 500


@dataclass(frozen=True)
class Variety:
    """How different the reports about different patients are.

    Attributes:
        reports: read, the first of each patient.
        distinct: different texts among them.
        effective: equally frequent texts that would be as varied, 1 to `reports`.
        similarity: mean cosine of the word counts of two reports, [0, 1].
        same_though_different: of pairs of patients whose references differ in what is present, the
            share with one text, [0, 1]; None where no references differ.
        most: the most frequent text, and how often it occurs.
        spread: finding -> variance over the reports of whether it is stated, and over references.
    """

    reports: int
    distinct: int
    effective: float
    similarity: float | None
    same_though_different: float | None
    most: tuple[str, int]
    spread: dict[str, tuple[float, float]]

    @property
    def collapsed(self) -> bool:
        """Different images get the same report; not judged below `FEWEST` patients."""
        share = self.same_though_different
        return self.reports >= FEWEST and share is not None and share >= COLLAPSED

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        spread = {
            name: {"reports": own, "references": true} for name, (own, true) in self.spread.items()
        }
        return asdict(self) | {"spread": spread, "collapsed": self.collapsed}

    @property
    def said(self) -> str:
        """The numbers in one sentence."""
        alike = "" if self.similarity is None else f", word counts alike by {self.similarity:.2f}"
        share = self.same_though_different
        same = "" if share is None else (
            f"; {share:.0%} of pairs of patients whose references differ got the same text"
        )  # fmt: skip
        return (
            f"{self.distinct:,} distinct reports of {self.reports:,} patients "
            f"({self.distinct / self.reports:.0%}), as varied as "
            f"{self.effective:.1f} equally frequent ones{alike}{same}."
        )


def variety(predicted: ReportSet, pairs: Pairs) -> Variety | None:
    """Return how different the paired predictions are; None where they are labels."""
    if predicted.kind != "texts" or not pairs.ids:
        return None
    first = {who: at for at, who in reversed(list(enumerate(pairs.patients)))}
    rows = sorted(first.values())
    texts = [" ".join(str(predicted.entries[pairs.ids[at]]).split()) for at in rows]
    present = CODES.index(PRESENT)
    truth = [tuple(np.flatnonzero(pairs.reference[at] == present).tolist()) for at in rows]
    counts = Counter(texts)
    shares = np.array(list(counts.values())) / len(texts)
    every, agreeing = len(texts) ** 2, _alike(zip(texts, truth, strict=True))
    differing, together = every - _alike(truth), _alike(texts) - agreeing
    sides = [side[rows] == present for side in (pairs.prediction, pairs.reference)]
    spread = [side.mean(0) * (1 - side.mean(0)) for side in sides]
    return Variety(
        reports=len(texts),
        distinct=len(counts),
        effective=float(np.exp(-(shares * np.log(shares)).sum())),
        similarity=_similarity(texts[:_COMPARED]),
        same_though_different=together / differing if differing else None,
        most=counts.most_common(1)[0],
        spread={
            name: (float(own), float(true))
            for name, own, true in zip(pairs.findings, *spread, strict=True)
            if own or true
        },
    )


def _alike(things: Iterable[Hashable]) -> int:
    """Return how many ordered pairs are alike, each thing with itself counted."""
    return sum(count**2 for count in Counter(things).values())


def _similarity(texts: Sequence[str]) -> float | None:
    """Return the mean cosine of the word counts over all pairs; None without two with words."""
    spoken = [text for text in texts if re.search(r"\w", text)]
    if len(spoken) < 2:
        return None
    words = cast(csr_array, CountVectorizer(token_pattern=r"\w+").fit_transform(spoken))
    norms = np.sqrt(np.asarray(words.multiply(words).sum(1))).ravel()
    total = np.asarray(words.T @ (1 / norms)).ravel()
    count = len(spoken)
    return float((total @ total - count) / (count * (count - 1)))
