"""Reports judged by a language model behind an endpoint: CRIMSON and RadMatch.

A judge lists the findings of both reports, pairs them and names the errors of pairs, as JSON; the
score is computed here. An answer that is empty, or not exactly of the form that was asked for, is
counted as such and is in no score. Every pair of texts is asked about once.

    CRIMSON    -1 to 1: credit for found findings less false ones, weighted by significance, over
               the weight of the reference; errors of a pair lessen its credit
    RadMatch   errors per report on findings above routine: missed or contradicted, or unsupported

Sources: CRIMSON, Baharoon et al. 2026, arXiv 2603.06183, and its package crimson-score 0.2;
RadMatch, arXiv 2609.01470, and its package radmatch 0.2. Deviations: the prompts are in our own
words and know neither age nor indication; false and missed findings are those without a pair, not
asked for again; RadMatch is asked in one call where its package makes several, and measurements are
left to the judge. So numbers of other judges and of the packages are not comparable with these.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from workbench._progress import progress as bar
from workbench._repr import result
from workbench._store import StoredResults, parse_json, read_yaml
from workbench.backends.endpoint import PARALLEL
from workbench.backends.levels import WRITER, needs
from workbench.errors import InputError, OptionError, check_one_of
from workbench.evaluation.intervals import Estimate, divided, grouped_weights, ratio
from workbench.evaluation.report_set import pair_up, read_reports
from workbench.generation.options import DecodingSettings
from workbench.interface import ChestXrayModel, EndpointModel
from workbench.model.prompt import IMAGE_MARK, Message

logger = logging.getLogger(__name__)

_SETTINGS = DecodingSettings(max_new_tokens=4096)
JUDGED, SILENT, MALFORMED = "judged", "silent", "malformed"

#: Name of a number -> what is summed up over reports, and what it is divided by.
Measured = dict[str, tuple[float, float]]


class Verdict(NamedTuple):
    """What a judge says: id -> finding of each side, pairs of ids, and errors of pairs."""

    reference: dict[str, dict[str, str]]
    predicted: dict[str, dict[str, str]]
    matched: list[tuple[str, str]]
    errors: list[dict[str, str]]


def read_verdict(metric: str, reply: str) -> Verdict:
    """Read the answer of a judge; `ValueError` where it is not exactly of the form asked for.

    Thoughts in front of the JSON and marks of code around it are passed over.
    """
    said = reply.rpartition("</think>")[2]
    found = parse_json(said[max(said.find("{"), 0) : said.rfind("}") + 1])
    forms = _asked_with(metric)["forms"]
    pair = {"reference": None, "predicted": None}
    keys = {"reference": forms["finding"], "predicted": forms["finding"]}
    keys |= {"matched": pair, "errors": pair | forms["error"]}
    if not isinstance(found, dict) or found.keys() != keys.keys():
        raise ValueError("other parts than were asked for")
    own, other, pairs, errors = (_rows(found[name], allowed) for name, allowed in keys.items())
    sides = [{row["id"]: row for row in rows} for rows in (own, other)]
    matched = [(row["reference"], row["predicted"]) for row in pairs]
    if [len(side) for side in sides] != [len(own), len(other)]:
        raise ValueError("an id occurs twice")
    if any(one not in sides[0] or two not in sides[1] for one, two in matched):
        raise ValueError("a pair of unknown findings")
    if any((row["reference"], row["predicted"]) not in matched for row in errors):
        raise ValueError("an error of no pair")
    return Verdict(sides[0], sides[1], matched, errors)


def _rows(rows: object, allowed: Mapping[str, Sequence[str | None] | None]) -> list[dict[str, str]]:
    """Return rows that have exactly the keys, with texts or one of the allowed values."""
    if not isinstance(rows, list):
        raise ValueError("no list")
    for row in rows:
        if not isinstance(row, dict) or row.keys() != allowed.keys():
            raise ValueError("other keys than were asked for")
        for name, values in allowed.items():
            if not (row[name] in values if values else isinstance(row[name], str)):
                raise ValueError(f"{name} is none of those asked for")
    return rows


_WEIGHTS = {"urgent": 1.0, "actionable": 0.5, "not actionable": 0.25, "benign": 0.0}
_ERROR_WEIGHTS = {"significant": 0.5, "negligible": 0.0}


def crimson(verdict: Verdict) -> Measured:
    """Score one pair of reports by CRIMSON."""
    weights = {name: _WEIGHTS[one["significance"]] for name, one in verdict.reference.items()}
    found, claimed = ({pair[at] for pair in verdict.matched} for at in (0, 1))
    unpaired = [one for name, one in verdict.predicted.items() if name not in claimed]
    false, credit = sum(_WEIGHTS[one["significance"]] for one in unpaired), 0.0
    for name in found:
        errors = (one for one in verdict.errors if one["reference"] == name)
        lost, own = sum(_ERROR_WEIGHTS[one["weight"]] for one in errors), weights[name]
        credit += own * own / (own + lost) if own else 0.0
    total, excess = sum(weights.values()), false - credit
    share = -excess / total if total else float(not false)
    return {
        "CRIMSON": (-excess / (1 + excess) if excess > 0 else share, 1),
        "false findings": (len(unpaired), 1),
        "missing findings": (len(weights) - len(found), 1),
        "errors of pairs": (len(verdict.errors), 1),
    }


_ACTIVE = ("worsening", "new")


def radmatch(verdict: Verdict) -> Measured:
    """Score one pair of reports by RadMatch, on findings above routine."""
    credited = [pair for pair in verdict.matched if _credited(verdict, pair)]
    right, real = ({pair[at] for pair in credited} for at in (0, 1))
    paired = {other for _, other in verdict.matched}
    tier, claimed = (
        {name for name, one in side.items() if one["significance"] != "routine"}
        for side in (verdict.reference, verdict.predicted)
    )
    # routine references that only wrong pairs have, one of them with a claim above routine
    contradicted = {own for own, other in verdict.matched if other in claimed} - tier - right
    missed, unsupported = len(tier - right), len(claimed - paired) + len(contradicted)
    return {
        "actionable errors": (missed + unsupported, 1),
        "missed or contradicted": (missed, 1),
        "unsupported": (unsupported, 1),
        "recall": (len(tier & right), len(tier)),
        "precision": (len(claimed & real), len(claimed)),
    }


def _credited(verdict: Verdict, pair: tuple[str, str]) -> bool:
    """Tell whether a pair counts as found: no major error, no doubt about a critical finding."""
    own, other = verdict.reference[pair[0]], verdict.predicted[pair[1]]
    then, now = own["comparison"], other["comparison"]
    # what grows is called stable, or is not compared at all; or the reverse
    crossed = then is not None and (then in _ACTIVE) != (now in _ACTIVE)
    critical = own["significance"] == "critical"
    return not (crossed or own["status"] != other["status"]) and not any(
        one["weight"] == "major" or (critical and one["kind"] == "certainty")
        for one in verdict.errors
        if (one["reference"], one["predicted"]) == pair
    )


METRICS: dict[str, Callable[[Verdict], Measured]] = {"crimson": crimson, "radmatch": radmatch}


@result()
class Judgement:
    """What a judge makes of predictions.

    Attributes:
        numbers: name -> estimate over the judged pairs; patients are resampled.
        rows: one for each pair: id, patient, status, and its numbers.
        statuses: how many pairs were judged, and why others were not.
    """

    metric: str
    judge: str
    numbers: Mapping[str, Estimate]
    rows: pd.DataFrame = field(repr=False)
    statuses: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; undefined numbers are None."""
        numbers = {name: one.flat("value") | {"n": one.n} for name, one in self.numbers.items()}
        said = {"metric": self.metric, "judge": self.judge, "statuses": dict(self.statuses)}
        return said | {"numbers": numbers, "prompt": _asked_with(self.metric)["prompt"]}

    def __str__(self) -> str:
        told = ", ".join(f"{name} {one}" for name, one in self.numbers.items())
        counted = ", ".join(f"{n:,} {status}" for status, n in self.statuses.items())
        return f"{self.metric} by {self.judge}: {told or 'nothing'} (pairs: {counted})"


@needs(WRITER)
def judge(
    predictions: object,
    references: object,
    model: ChestXrayModel,
    *,
    metric: str = "crimson",
    patients: Mapping[Any, Any] | str | None = None,
    kept: str | Path | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> Judgement:
    """Let a language model behind an endpoint judge reports against reference reports.

    The texts of both sides are sent to the endpoint, which `wb.load_model` allowed.

    Args:
        predictions, references, patients: texts as `score` takes them.
        metric: "crimson" or "radmatch".
        kept: a JSON Lines file that stores answers; a stopped judge resumes from it.

    Raises:
        OptionError: an unknown metric, the model is behind no endpoint, or `kept` is of another
            judge or metric.
        InputError: a side has labels instead of texts, or no id is on both.
        RunError: the endpoint does not answer; what was answered is kept.

    >>> judge = wb.load_model("http://127.0.0.1:8000/v1", name="judge")
    >>> wb.evaluation.judge({"a": "No nodule."}, {"a": "Left nodule."}, judge).metric
    'crimson'
    """
    check_one_of("metric", metric, METRICS)
    if not isinstance(model, EndpointModel):
        raise OptionError(
            "a judge is a language model behind an endpoint; load it with "
            "wb.load_model('http://127.0.0.1:8000/v1', name=...)"
        )
    sides = read_reports(predictions), read_reports(references, role="references")
    if any(side.kind != "texts" for side in sides):
        raise InputError("a judge compares texts; give reports on both sides, not labels")
    pairs = pair_up(*sides, (), patients)
    texts = [(str(sides[0].entries[key]), str(sides[1].entries[key])) for key in pairs.ids]
    replies = _asked(model, metric, texts, kept, progress)
    found = [_scored(metric, reply) for reply in replies]
    rows = pd.DataFrame({"id": pairs.ids, "patient": pairs.patients})
    rows["status"] = [status for status, _ in found]
    known = [measured for _, measured in found if measured]
    at = np.flatnonzero(rows["status"] == JUDGED)
    groups = [pairs.patients[one] for one in at]
    weights = grouped_weights(groups, np.random.default_rng([seed, len(at)]), resamples=resamples)
    numbers = {}
    for name in known[0] if known else ():
        above, below = np.array([one[name] for one in known], float).T
        numbers[name] = ratio(above, below, weights)
        rows.loc[at, name] = divided(above, below)
    counts = Counter(rows["status"])
    statuses = {one: counts[one] for one in (JUDGED, SILENT, MALFORMED)}
    return Judgement(metric, model.identity.id, numbers, rows, statuses)


def _asked(
    model: EndpointModel,
    metric: str,
    texts: Sequence[tuple[str, str]],
    kept: str | Path | None,
    show: bool,
) -> list[str]:
    """Return the answer about every pair of texts; equal pairs are asked about once."""
    keys = [_sha256(*pair) for pair in texts]
    asked = _asked_with(metric)
    identity = {"judge": model.identity.id, "sha256": model.identity.sha256}
    done: StoredResults[str, str] = StoredResults(
        kept,
        identity | {"asked": _sha256(asked["system"], asked["prompt"])},
        encode=lambda key, reply: {"pair": key, "reply": reply},
        decode=lambda row: (row["pair"], row["reply"]),
    )
    left = {key: pair for key, pair in zip(keys, texts, strict=True) if key not in done}
    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        replies = pool.map(lambda pair: _reply(model, asked, *pair), left.values())
        shown = bar(replies, label="judged", total=len(left), show=show)
        for key, reply in zip(left, shown, strict=True):
            if reply is not None:  # what was refused is asked again next time
                done[key] = reply
    return [done.get(key, "") for key in keys]


def _sha256(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()


def _reply(
    model: EndpointModel, asked: Mapping[str, Any], predicted: str, expected: str
) -> str | None:
    """Return what a judge answers; None where the endpoint refuses, or answers without a text."""
    text = f"{asked['prompt']}\nReference report:\n{expected}\n\nCandidate report:\n{predicted}"
    user = Message("user", text.replace(IMAGE_MARK, ""))
    job = model.job(
        torch.zeros(1, 1, 1, 1), [Message("system", asked["system"]), user], _SETTINGS,
        task="judge", source="",
    )  # fmt: skip
    try:
        return model.answer_batch([job])[0].text
    except InputError as error:
        logger.warning("no judgement: %s", error)
        return None


def _scored(metric: str, reply: str) -> tuple[str, Measured]:
    """Return the status of an answer, and its numbers where it is of the form."""
    if not reply.strip():
        return SILENT, {}
    try:
        return JUDGED, METRICS[metric](read_verdict(metric, reply))
    except ValueError:
        return MALFORMED, {}


@cache
def _asked_with(metric: str) -> dict[str, Any]:
    """Return "system", "prompt" and "forms" of a metric."""
    known = read_yaml("workbench.evaluation", "judges.yaml")
    return {"system": known["system"], **known[metric]}
