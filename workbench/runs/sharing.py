"""A run as others read it: a model card of the Hugging Face hub, and pairs of texts for RadEval.

    Path("README.md").write_text(wb.runs.model_card("runs/first", wb.evaluation.score(...)))
    wb.runs.report_pairs("runs/first", "manifest.parquet").to_csv("pairs.csv", index=False)

The card says what was run on what, how, with which scores, and what the model may be used for. It
contains no text of a report and no path. Pairs do contain texts: share them as the licence of the
data allows.

Sources: Mitchell et al., Model Cards for Model Reporting, FAT* 2019, arXiv 1810.03993; RadEval,
docs/file_formats.md (columns reference and hypothesis).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from workbench.data.frames import read_table, report_texts
from workbench.data.manifest import Manifest
from workbench.errors import InputError
from workbench.evaluation.report_set import read_reports
from workbench.evaluation.scorecard import ScoreCard
from workbench.figures.numbers import fixed, percent
from workbench.figures.tables import markdown_table
from workbench.runs.result import RunResult, load

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

PAIRS = ("id", "reference", "hypothesis")
#: Licences that the hub has a name of its own for.
_KNOWN = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc0-1.0")
_TAGS = ["chest-radiograph", "radiology", "report-generation", "not-for-clinical-use"]


def report_pairs(predictions: object, references: object) -> pd.DataFrame:
    """Return both texts of every id that has both, in the order of the predictions.

    Args:
        predictions: a run or its folder, or reports by id as `evaluation.read_reports` takes them.
        references: reports by id, or a manifest: findings and impression of its reports.

    Returns:
        Columns `PAIRS`: id, reference, hypothesis.

    Raises:
        InputError: a side cannot be read or contains labels only, or no id has both texts.

    >>> wb.runs.report_pairs(run, manifest).columns.tolist()
    ['id', 'reference', 'hypothesis']
    """
    predicted = read_reports(predictions)
    expected = read_reports(_with_texts(references), role="references")
    for side in (predicted, expected):
        if side.kind != "texts":
            raise InputError(
                f"the {side.role} contain labels and no texts; pairs need reports on both sides"
            )
    texts = expected.entries
    rows = [(key, texts[key], said) for key, said in predicted.entries.items()
            if said is not None and texts.get(key) is not None]  # fmt: skip
    if not rows:
        raise InputError(
            f"none of {len(predicted.entries):,} predictions and {len(texts):,} references have "
            "an id in common and a text on both sides; check that both use the same identifiers"
        )
    return pd.DataFrame(rows, columns=list(PAIRS))


def _with_texts(references: object) -> object:
    """Return the reports of a manifest as a table of texts; anything else as it came."""
    if isinstance(references, Manifest):
        frame = references.frame
    elif isinstance(references, (str, os.PathLike)) and os.path.isfile(references):
        frame = read_table(Path(references))
    else:
        return references
    texts = report_texts(frame)
    if frame["image_id"].isna().any() or texts.isna().all():
        return references
    return pd.DataFrame({"id": frame["image_id"].astype(str), "text": texts})


def model_card(run: RunResult | str | os.PathLike[str], scores: ScoreCard | None = None) -> str:
    """Return the card of a run as Markdown with the front matter that the hub reads.

    Args:
        run: its result or folder.
        scores: of its reports against references; without them the card has no results.

    Raises:
        InputError: there is no run, or it has not said what it is (no run.json).

    >>> wb.runs.model_card(run).splitlines()[0]
    '---'
    """
    result = run if isinstance(run, RunResult) else load(os.fspath(run))
    record = result.record
    if "fixed" not in record:
        raise InputError(
            f"{result.folder.name} has no run.json, which says what was run; restore the file, or "
            "run the manifest again"
        )
    fixed_facts, session = record["fixed"], (record.get("sessions") or [{}])[-1]
    model, data = fixed_facts["model"], session.get("manifest") or "manifest"
    parts = [
        f"---\n{_front_matter(model, data, scores)}\n---",
        f"# {model['id']} on {data}",
        f"> {model.get('notice', '')}",
        "Reports that a model wrote about chest radiographs, as one run of `workbench run`. The "
        "card is about this run, not about how the model was trained.",
        "## Model",
        markdown_table(("", ""), _chosen(model, "id revision sha256 dtype prompts licence")),
        "## Data and outcome", markdown_table(("", ""), _outcome(result, fixed_facts, data)),
        "## How it was asked", *_asked(fixed_facts),
        *(["## Results", *_results(scores)] if scores is not None else []),
        "## Software", markdown_table(("package", "version"), session.get("versions", {}).items()),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _front_matter(model: Mapping[str, str], data: str, scores: ScoreCard | None) -> str:
    from huggingface_hub import ModelCardData

    licence = str(model.get("licence", "not stated"))
    known = licence.lower() in _KNOWN
    results = list(_eval_results(scores, data)) if scores is not None else []
    return ModelCardData(
        language="en",
        pipeline_tag="image-text-to-text",
        tags=_TAGS,
        model_name=model["id"],
        eval_results=results or None,
        license=licence.lower() if known else "other",
        license_name=None if known else licence,
        base_model=model["id"] if "/" in model["id"] else None,
    ).to_yaml()


def _eval_results(scores: ScoreCard, data: str) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    for name, average in scores.averages.items():
        if average.f1.value is not None:
            yield EvalResult(
                task_type="image-text-to-text",
                dataset_type="chest-radiographs",
                dataset_name=data,
                metric_type="f1",
                metric_name=f"{name} F1 of finding labels, {scores.policy.name}",
                metric_value=round(average.f1.value, 4),
            )


def _outcome(result: RunResult, facts: Mapping, data: str) -> list[tuple[str, object]]:
    known = facts.get("manifest", {})
    rows: list[tuple[str, object]] = [("manifest", data)]
    rows += [(name, known[name]) for name in ("sha256", "digest") if name in known]
    counts = result.summary()
    names = "rows done failed without_words unreadable_images"
    return rows + [(name.replace("_", " "), value) for name, value in _chosen(counts, names)]


def _asked(facts: Mapping) -> Iterator[str]:
    for task in facts.get("tasks", []):
        yield f"Task `{task['name']}`:\n\n```text\n{task.get('prompt', '').strip()}\n```"
    yield f"Decoding: `{json.dumps(facts.get('decoding', {}))}`"


def _results(scores: ScoreCard) -> Iterator[str]:
    head = ("finding", "pairs scored", "coverage", "precision", "recall", "F1 [95 %]")
    yield markdown_table(head, [
        (row.finding, row.n, percent(row.coverage), fixed(row.precision.value),
         fixed(row.recall.value), row.f1.text())
        for row in scores.per_finding.values() if row.mentioned
    ])  # fmt: skip
    yield markdown_table(
        ("average", "F1 [95 %]"), [(n, a.f1.text()) for n, a in scores.averages.items()]
    )
    yield "How it was scored:"
    yield markdown_table(("", ""), scores.protocol.items())
    yield "\n".join(f"- {note}" for note in scores.warnings)


def _chosen(facts: Mapping, names: str) -> list[tuple[str, object]]:
    return [(name, facts[name]) for name in names.split() if facts.get(name) is not None]
