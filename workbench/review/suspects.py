"""What the model said beside what is known, and what a person should look at, and why.

A finding is as its label says; where the label says nothing, as the reference report says, read by
the same reader as the model's. Where both commit themselves and differ, the finding is *disputed*:
one of the two is wrong, and nothing the model said about it is called an error before a person has
looked. A finding that neither mentions is unknown, and unknown is never absent.

    confident false finding  stated, known to be absent; token confidence above that of most reports
    false finding            stated, known to be absent
    laterality flip          right finding, left for right or right for left
    missed finding           known to be present; denied, or not mentioned
    label against report     label and reference report contradict each other (disputed)
    not grounded             stated, and the image did not speak for it (where grounding is given)
    out of domain            the model was not trained on such images
    unusual length           far more or fewer tokens than the other reports
    unusual log-prob         token confidence far below that of the other reports
    nothing suspect          none of these (where the whole run is asked for)

A finding that is not known, or only said to be possible, is never a false or a missed one. The
confidence of a report is the share of reports with a smaller mean log-probability. Unusual is a
modified z-score beyond 3.5, for log-probabilities on the low side only.

Source: Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench._repr import result
from workbench.errors import InputError, OptionError, unknown_name
from workbench.findings import ABSENT, NOT_MENTIONED, PRESENT
from workbench.review.readings import CODE, CODE_NAMES, FINDINGS, SIDE, SIDE_NAMES, read_texts
from workbench.review.sources import FACTS, References, RunRows

SILENT, YES, NO = CODE[NOT_MENTIONED], CODE[PRESENT], CODE[ABSENT]
UNKNOWN = "unknown"
#: Upper ends of the age groups, in years.
AGES = {"0-17": 17, "18-39": 39, "40-59": 59, "60-79": 79, "80+": 200}

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
    "nothing suspect",
)
FLIP, DISPUTE, WITHOUT = KINDS[2], KINDS[4], KINDS[-1]
OUTLIER = 3.5
_SIDES = np.array(SIDE_NAMES, dtype=object)
_ONE = (SIDE["left"], SIDE["right"])
COLUMNS = ("case", "kind", "finding", "said", "reference", "said side", "reference side")
COLUMNS += ("confidence", "evidence")


@result()
class Joined:
    """Cases with what was said and what is known, in tables (cases, findings).

    Attributes:
        cases: one row for each report: id, source, facts, texts, measures, "age group".
        said, said_sides: int8, the model's codes, index of `CODES`, and sides, of `SIDE_NAMES`.
        labels: int8, codes of the manifest.
        reported: int8, codes read out of the reference report.
        true, true_sides: int8, labels before reports.
        disputed: bool.
        extra: columns of `cases` that a manifest does not know.
        unmatched: cases that no reference was found for.
        read: texts that had to be read now.
    """

    cases: pd.DataFrame
    said: np.ndarray
    said_sides: np.ndarray
    labels: np.ndarray
    reported: np.ndarray
    true: np.ndarray
    true_sides: np.ndarray
    disputed: np.ndarray
    extra: tuple[str, ...]
    unmatched: int
    read: int

    @property
    def known(self) -> np.ndarray:
        """(cases, findings) bool: present or absent for certain, and not disputed."""
        return np.isin(self.true, (YES, NO)) & ~self.disputed


def join(rows: RunRows, known: References, *, show: bool = False) -> Joined:
    """Join the rows of a run with its references; `show` lets a bar appear while texts are read."""
    frame = rows.frame
    at = match_rows(frame, known.frame)
    if len(known.frame) and len(frame) and (at < 0).all():
        raise InputError(
            f"references for 0 of {len(frame):,} reports: no id of the run is in the manifest; "
            "expected the manifest that the run was made of, or one with its ids"
        )
    facts = known.frame.reindex(at)[[*FACTS, "report", *known.extra]].reset_index(drop=True)
    facts = facts.where(facts.notna(), None).astype({"age": float})
    reports = facts.pop("report")
    texts = pd.concat([frame["text"], reports], ignore_index=True)
    codes, sides, read = read_texts(texts, folder=rows.folder, show=show)
    said, reported = np.split(codes, [len(frame)])
    said_sides, reported_sides = np.split(sides, [len(frame)])
    labels, places = _taken(known.codes, at, SILENT), _taken(known.sides, at, 0)
    definite = np.isin(labels, (YES, NO)) & np.isin(reported, (YES, NO))
    known_facts = {str(name): column for name, column in facts.items()}
    cases = frame.drop(columns=["view", "status"]).assign(reference=reports, **known_facts)
    # where the manifest does not say the view, the file may
    says = facts["view"].notna() & (facts["view"] != UNKNOWN)
    cases["view"] = facts["view"].where(says, frame["view"]).fillna(UNKNOWN).astype(object)
    ages = pd.cut(facts["age"], [-1, *AGES.values()], labels=list(AGES)).astype(object)
    cases["age group"] = ages.where(ages.notna(), UNKNOWN)
    return Joined(
        cases, said, said_sides, labels, reported,
        np.where(labels == SILENT, reported, labels), np.where(places == 0, reported_sides, places),
        definite & (labels != reported), known.extra, int((at < 0).sum()), read,
    )  # fmt: skip


def match_rows(rows: pd.DataFrame, known: pd.DataFrame) -> np.ndarray:
    """Return (rows,) the place of each row in the references, -1 where there is none.

    Rows are matched by source and id; by id alone where either side names no source, and then ids
    that stand twice match nothing.
    """
    names = ["source", "id"]
    if not rows["source"].astype(bool).any() or not known["source"].astype(bool).any():
        names = ["id"]
        known = known[~known["id"].duplicated(keep=False)]
    left = pd.MultiIndex.from_frame(rows[names])
    right = pd.MultiIndex.from_frame(known[names])
    return np.append(known.index.to_numpy(int), -1)[right.get_indexer(left)]


def _taken(table: np.ndarray, at: np.ndarray, fill: int) -> np.ndarray:
    """Return the rows of a table; `fill` where `at` is -1."""
    return np.append(table, np.full((1, len(FINDINGS)), fill, dtype=np.int8), axis=0)[at]


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise `OptionError` where one is not in `KINDS`."""
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
    one_sided = [np.isin(sides, _ONE) for sides in (joined.said_sides, joined.true_sides)]
    return {
        "false": known & (joined.true == NO) & (joined.said == YES),
        "missed": known & (joined.true == YES) & np.isin(joined.said, (NO, SILENT)),
        "flipped": both & one_sided[0] & one_sided[1] & (joined.said_sides != joined.true_sides),
    }


def find_suspects(
    joined: Joined, *, confident: float, grounding: pd.DataFrame | None, whole: bool = False
) -> pd.DataFrame:
    """Return everything worth a look, the most suspect kind first and the surest case first.

    Columns `COLUMNS`; "case" is the row of `joined.cases`, "finding" empty where the whole report
    is meant. For `confident`, `grounding` and `whole` see `queue`.
    """
    sure = confidence(joined.cases["mean_logprob"])
    masks = error_masks(joined)
    high = np.nan_to_num(sure, nan=-1.0)[:, None] >= confident
    by_finding = (masks["false"] & high, masks["false"] & ~high, masks["flipped"], masks["missed"],
                  joined.disputed)  # fmt: skip
    parts = [_by_finding(kind, mask, joined) for kind, mask in zip(KINDS, by_finding, strict=False)]
    if grounding is not None:
        parts.append(_by_grounding(joined, grounding))
    warnings = joined.cases["warnings"].fillna("").astype(str)
    tokens, logprobs = joined.cases["tokens"], joined.cases["mean_logprob"]
    outside = warnings.str.contains("out-of-domain", regex=False).to_numpy(bool)
    parts.append(_by_case(KINDS[6], outside))
    parts.append(_by_case(KINDS[7], np.abs(modified_z(tokens)) > OUTLIER, tokens))
    parts.append(_by_case(KINDS[8], modified_z(logprobs) < -OUTLIER, logprobs))
    if whole:
        suspect = pd.concat([part["case"] for part in parts])
        parts.append(_by_case(WITHOUT, ~joined.cases.index.isin(suspect)))
    found = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    found = found.reindex(columns=[*COLUMNS]).astype(object).fillna("").astype({"case": int})
    found["confidence"] = sure[found["case"]]
    found["kind"] = pd.Categorical(found["kind"], categories=list(KINDS), ordered=True)
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


def _by_finding(kind: str, mask: np.ndarray, joined: Joined) -> pd.DataFrame:
    case, finding = np.nonzero(mask)
    frame = pd.DataFrame({
        "case": case, "kind": kind, "finding": np.array(FINDINGS, dtype=object)[finding],
        "said": CODE_NAMES[joined.said[mask]], "reference": CODE_NAMES[joined.true[mask]],
        "said side": _SIDES[joined.said_sides[mask]],
        "reference side": _SIDES[joined.true_sides[mask]],
    })  # fmt: skip
    if kind == DISPUTE:
        labels, reported = CODE_NAMES[joined.labels[mask]], CODE_NAMES[joined.reported[mask]]
        frame["evidence"] = "label " + labels + ", report read as " + reported
    return frame


def _by_case(kind: str, mask: np.ndarray, values: pd.Series | None = None) -> pd.DataFrame:
    case = np.flatnonzero(mask)
    shown = "" if values is None else [f"{value:.4g}" for value in values.to_numpy()[case]]
    return pd.DataFrame({"case": case, "kind": kind, "evidence": shown})


def _by_grounding(joined: Joined, table: pd.DataFrame) -> pd.DataFrame:
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
    case = pd.Index(joined.cases["id"]).get_indexer_for(pd.Index(best["id"].astype(str)))
    best, case = best[case >= 0], case[case >= 0]
    finding = np.array([FINDINGS.index(name) for name in best["finding"]], dtype=int)
    return pd.DataFrame({
        "case": case, "kind": KINDS[5], "finding": best["finding"].to_numpy(object),
        "said": PRESENT, "reference": CODE_NAMES[joined.true[case, finding]],
        "evidence": [f"{value:+.2f} nats" for value in best["contribution"]],
    })  # fmt: skip
