"""What a person should look at, and why: suspected errors, found without looking.

    confident false finding  stated, known to be absent; the report as sure as most, or surer
    false finding            stated, known to be absent
    laterality flip          right finding, left for right or right for left
    missed finding           known to be present; denied, or not spoken of
    label against report     the label says one thing and the reader of the reference report the
                             other: one of them is wrong, so the model is not called wrong yet
    not grounded             stated, and the image did not speak for it (where grounding is given)
    out of domain            the model was not trained on such images
    unusual length           far more or fewer tokens than the other reports
    unusual log-prob         far less sure of its words than in the other reports

A finding that is not known, or only said to be possible, is never a false or a missed one.
Confidence is that of the whole report: the share of reports with a smaller mean log-probability.
Unusual is a modified z-score beyond 3.5 (Iglewicz and Hoaglin, How to Detect and Handle Outliers,
1993), for log-probabilities on the low side only.

Does not know: whether the model is wrong; that is for a person to say (`verdicts`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench.errors import InputError, OptionError, unknown_name
from workbench.findings import CODES, PRESENT
from workbench.review.bulk import FINDINGS, SIDE
from workbench.review.joined import NO, SILENT, YES, Joined
from workbench.review.readings import SIDE_NAMES

KINDS = (
    "confident false finding",
    "false finding",
    "laterality flip",
    "missed finding",
    "label against report",
    "not grounded",
    "out of domain",
    "unusual length",
    "unusual log-prob",
)
#: Kinds that, if a person agrees, are errors of the model about a finding.
ERRORS = KINDS[:4]
OUTLIER = 3.5
_LEFT, _RIGHT = SIDE["left"], SIDE["right"]
COLUMNS = ("case", "kind", "finding", "said", "reference", "said side", "reference side")
COLUMNS += ("confidence", "evidence")


def check_kinds(kinds: Sequence[str]) -> None:
    """Refuse what is no kind.

    Raises:
        OptionError: one is not in `KINDS`.
    """
    if wrong := [name for name in kinds if name not in KINDS]:
        raise OptionError(unknown_name("kind", wrong[0], KINDS))


def confidence(logprobs: pd.Series) -> np.ndarray:
    """Return (cases,) the share of other cases with a smaller mean log-probability, NaN unknown."""
    known = int(logprobs.notna().sum())
    ranks = logprobs.rank(method="average").to_numpy(float)
    return (ranks - 1) / (known - 1) if known > 1 else np.where(np.isnan(ranks), np.nan, 0.5)


def error_masks(joined: Joined) -> dict[str, np.ndarray]:
    """Return (cases, findings) bool for each way to be wrong: false, missed, flipped."""
    known = joined.known
    both = known & (joined.true == YES) & (joined.said == YES)
    said, true = joined.said_sides, joined.true_sides
    return {
        "false": known & (joined.true == NO) & (joined.said == YES),
        "missed": known & (joined.true == YES) & np.isin(joined.said, (NO, SILENT)),
        "flipped": both
        & (((said == _LEFT) & (true == _RIGHT)) | ((said == _RIGHT) & (true == _LEFT))),
    }


def find_suspects(
    joined: Joined, *, confident: float = 0.5, grounding: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return everything worth a look, the most suspect kind first and the surest case first.

    Args:
        joined: cases.
        confident: confidence from which a false finding counts as a confident one.
        grounding: columns id, finding, code and contribution (nats), as `GroundingTable` has them.

    Returns:
        Columns `COLUMNS`; "case" is the row of `joined.cases`, "finding" empty where the whole
        report is meant, "evidence" a number in words.
    """
    sure = confidence(joined.cases["mean_logprob"])
    masks = error_masks(joined)
    high = np.nan_to_num(sure, nan=-1.0)[:, None] >= confident
    parts = [
        _by_finding(KINDS[0], masks["false"] & high, joined, sure),
        _by_finding(KINDS[1], masks["false"] & ~high, joined, sure),
        _by_finding(KINDS[2], masks["flipped"], joined, sure),
        _by_finding(KINDS[3], masks["missed"], joined, sure),
        _by_finding(KINDS[4], joined.disputed, joined, sure),
    ]
    if grounding is not None:
        parts.append(_by_grounding(joined, sure, grounding))
    warned = joined.cases["warnings"].fillna("").astype(str)
    parts.append(_by_case(KINDS[6], warned.str.contains("out-of-domain", regex=False), sure))
    length = modified_z(joined.cases["tokens"])
    parts.append(_by_case(KINDS[7], np.abs(length) > OUTLIER, sure, joined.cases["tokens"]))
    low = modified_z(joined.cases["mean_logprob"])
    parts.append(_by_case(KINDS[8], low < -OUTLIER, sure, joined.cases["mean_logprob"]))
    found = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    found["kind"] = pd.Categorical(found["kind"], categories=KINDS, ordered=True)
    return found.sort_values(
        ["kind", "confidence"], ascending=[True, False], kind="stable", ignore_index=True
    )


def modified_z(values: pd.Series) -> np.ndarray:
    """Return (n,) modified z-scores; NaN where the value is missing, 0 where all are equal.

    Source: Iglewicz and Hoaglin 1993; where more than half of the values are equal, the mean
    absolute deviation takes the place of the median one, as they advise.
    """
    numbers = values.to_numpy(float)
    if not np.isfinite(numbers).any():
        return np.full(len(numbers), np.nan)
    away = numbers - np.nanmedian(numbers)
    spread = np.nanmedian(np.abs(away)) / 0.6745
    spread = spread or np.nanmean(np.abs(away)) * 1.253314
    return away / spread if spread else np.where(np.isnan(numbers), np.nan, 0.0)


def _by_finding(kind: str, mask: np.ndarray, joined: Joined, sure: np.ndarray) -> pd.DataFrame:
    case, finding = np.nonzero(mask)
    reference = joined.true[case, finding]
    if kind == KINDS[4]:
        pairs = zip(joined.labels[case, finding], joined.reported[case, finding], strict=True)
        evidence = [f"label {CODES[one]}, report read as {CODES[two]}" for one, two in pairs]
    else:
        evidence = [""] * len(case)
    return _table(
        kind, case, np.array(FINDINGS, dtype=object)[finding], sure,
        said=_names(CODES, joined.said[case, finding]),
        reference=_names(CODES, reference),
        said_side=_names(SIDE_NAMES, joined.said_sides[case, finding]),
        reference_side=_names(SIDE_NAMES, joined.true_sides[case, finding]),
        evidence=evidence,
    )  # fmt: skip


def _by_case(kind: str, mask, sure: np.ndarray, values: pd.Series | None = None) -> pd.DataFrame:
    case = np.flatnonzero(np.asarray(mask, dtype=bool))
    shown = [""] * len(case) if values is None else [f"{v:.4g}" for v in values.to_numpy()[case]]
    return _table(kind, case, np.full(len(case), "", dtype=object), sure, evidence=shown)


def _by_grounding(joined: Joined, sure: np.ndarray, table: pd.DataFrame) -> pd.DataFrame:
    """Return stated findings to which the image contributed nothing, or less."""
    missing = {"id", "finding", "code", "contribution"} - set(table.columns)
    if missing:
        raise InputError(
            f"the table of grounding has no column {min(missing)!r}; expected what "
            "`wb.hallucination.ground_table(...).to_frame()` returns"
        )
    if len(table) and not table["id"].astype(str).isin(set(joined.cases["id"])).any():
        raise InputError(
            f"grounding for 0 of {len(joined.cases):,} reports: no id of the table of grounding is "
            "in the run; expected the grounding of these texts"
        )
    stated = table[(table["code"] == PRESENT) & table["finding"].isin(FINDINGS)]
    best = stated.groupby(["id", "finding"], sort=False)["contribution"].max().reset_index()
    best = best[best["contribution"] <= 0]
    places = pd.Index(joined.cases["id"]).get_indexer_for(best["id"].astype(str))
    best, places = best[places >= 0], places[places >= 0]
    column = np.array([FINDINGS.index(name) for name in best["finding"]], dtype=int)
    return _table(
        KINDS[5], places, best["finding"].to_numpy(object), sure,
        said=np.full(len(best), PRESENT, dtype=object),
        reference=_names(CODES, joined.true[places, column]),
        evidence=[f"{value:+.2f} nats" for value in best["contribution"]],
    )  # fmt: skip


def _names(names: tuple[str, ...], numbers: np.ndarray) -> np.ndarray:
    return np.array(names, dtype=object)[numbers]


def _table(kind: str, case: np.ndarray, finding: np.ndarray, sure: np.ndarray, **columns):
    blank = np.full(len(case), "", dtype=object)
    values = {name.replace("_", " "): column for name, column in columns.items()}
    frame = {"case": case, "kind": kind, "finding": finding}
    frame |= {name: values.get(name, blank) for name in COLUMNS[3:7]}
    frame |= {"confidence": sure[case], "evidence": values.get("evidence", blank)}
    return pd.DataFrame(frame, columns=list(COLUMNS))
