"""Text metrics that need a model, through the optional package `radeval`, never by downloading.

Each is tried by itself with the hub switched off, so that missing weights are an answer and not a
download: "not available: needs ...". Whatever goes wrong inside is reported the same way.

GREEN is not run unless asked for: its package executes Python code that comes with the weights
(trust_remote_code), which nothing else in this project does.

Sources: RadEval (Xu et al., EMNLP 2025 demo, radeval 2.2); RadGraph-F1, Jain et al. 2021 and Yu et
al. 2023; CheXbert, Smit et al. 2020; BERTScore, Zhang et al. 2020; GREEN, Ostmeier et al. 2024;
RaTEScore, Zhao et al. 2024. BERTScore is as radeval sets it: distilbert, layer 5, rescaled.
Does not know: metrics without a model (`text_metrics`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple

NEEDS_RADEVAL = "not available: needs `pip install radeval`, and {weights}"
NEEDS_WEIGHTS = "not available: needs {weights} on this machine ({error})"
NEEDS_CONSENT = (
    "not available: needs remote_code=True, because radeval runs Python code that comes with "
    "{weights}"
)


class NeuralMetric(NamedTuple):
    """How radeval names a metric: its switch, the number to show, and the weights it needs."""

    switch: str
    key: str
    weights: str
    remote_code: bool = False


NEURAL_METRICS = {
    "RadGraph-F1": NeuralMetric("radgraph", "radgraph_partial", "the weights radgraph-xl"),
    "CheXbert-F1": NeuralMetric(
        "f1chexbert",
        "f1chexbert_all_micro_f1",
        "the weights StanfordAIMI/RRG_scorers (chexbert.pth) and bert-base-uncased",
    ),
    "BERTScore": NeuralMetric("bertscore", "bertscore", "the weights distilbert-base-uncased"),
    "GREEN": NeuralMetric("green", "green", "the weights StanfordAIMI/GREEN-radllama2-7b", True),
    "RaTEScore": NeuralMetric(
        "ratescore",
        "ratescore",
        "the weights Angelakeke/RaTE-NER-Deberta and FremyCompany/BioLORD-2023-C",
    ),
}


def measure_neural(
    predicted: list[str], expected: list[str], *, remote_code: bool = False
) -> list[dict[str, Any]]:
    """Return the fields of a `TextMetric` for each of `NEURAL_METRICS`.

    Args:
        predicted: texts.
        expected: as many references.
        remote_code: allow metrics that run code that comes with their weights.
    """
    found = []
    for name, metric in NEURAL_METRICS.items():
        row: dict[str, Any] = {"name": name, "value": None}
        if find_spec("radeval") is None:
            row["status"] = NEEDS_RADEVAL.format(weights=metric.weights)
        elif metric.remote_code and not remote_code:
            row["status"] = NEEDS_CONSENT.format(weights=metric.weights)
        elif not predicted:
            row["status"] = "no pair of texts"
        else:
            row |= _run(metric, predicted, expected)
        found.append(row)
    return found


def _run(metric: NeuralMetric, predicted: list[str], expected: list[str]) -> dict[str, Any]:
    try:
        with hub_offline():
            from radeval import RadEval

            evaluator = RadEval(metrics=[metric.switch], show_progress=False)
            scores = evaluator(refs=list(expected), hyps=list(predicted))
            numbers = {key: float(scores[key]) for key in scores}
            value = numbers[metric.key]
    except Exception as error:  # many packages, many ways to fail: each is one unavailable metric
        said = " ".join(str(error).split())[:160] or type(error).__name__
        return {"status": NEEDS_WEIGHTS.format(weights=metric.weights, error=said)}
    return {
        "value": value,
        "settings": f"radeval, {metric.key}",
        "n": len(predicted),
        "details": numbers,
    }


@contextmanager
def hub_offline() -> Iterator[None]:
    """Switch the hub off for the time being: only weights that are here are used."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
