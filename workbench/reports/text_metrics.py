"""Measure how alike two texts are: BLEU-1..4, ROUGE-L, METEOR, and metrics with a model.

Every metric of the list is in the result: measured, or "not available: needs ..." with what would
make it so. None of them knows what is true of an image; a wrong side costs one word.

    BLEU-n    n-gram precision up to n with a brevity penalty, over the whole corpus; lower case,
              tokens "13a", exponential smoothing
    ROUGE-L   F-measure of the longest common subsequence, mean over pairs; lower case, tokens are
              runs of letters and digits, no stemming
    METEOR    mean over pairs, lower case, same tokens as ROUGE-L; needs WordNet (a download)

Deviation: BLEU is given from 0 to 1 here, where sacrebleu counts to 100.

Metrics with a model run through the optional package `radeval`, each by itself with the hub
switched off, so that missing weights are an answer and not a download. GREEN is not run unless
asked for: its package executes Python code that comes with the weights (trust_remote_code), which
nothing else in this project does. BERTScore is as radeval sets it: distilbert, layer 5, rescaled.

Sources: Papineni et al., ACL 2002; Post, WMT 2018 (sacrebleu); Lin, ACL Workshop 2004
(rouge-score); Banerjee and Lavie, ACL Workshop 2005 (nltk). RadEval (Xu et al., EMNLP 2025 demo,
radeval 2.2); RadGraph-F1, Jain et al. 2021 and Yu et al. 2023; CheXbert, Smit et al. 2020;
BERTScore, Zhang et al. 2020; GREEN, Ostmeier et al. 2024; RaTEScore, Zhao et al. 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from workbench._repr import result
from workbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_NEEDS_EXTRA = "not available: needs `pip install cxr-llava-workbench[metrics]`"
_NEEDS_WORDNET = "not available: needs WordNet; run: python -m nltk.downloader wordnet omw-1.4"
_NO_PAIR = "no pair of texts"

#: ROUGE-L and METEOR take time with the product of both lengths: pairs beyond this are left out.
LONGEST_PRODUCT = 4_000_000


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


@dataclass(frozen=True)
class TextMetric:
    """One metric.

    Attributes:
        value: over all pairs, 0 to 1, greater is closer; None where not available.
        status: "measured", or "not available: needs ...".
        settings: tokens, case, smoothing, versions: what one has to state beside the number.
    """

    name: str
    value: float | None
    status: str = "measured"
    settings: str = ""
    n: int = 0
    details: Mapping[str, float] = field(default_factory=dict, repr=False)


@result(eq=True)
class TextMetrics:
    """Every metric over the same pairs of texts.

    Attributes:
        left_out: ids with an empty text on a side; they are in no metric.
    """

    metrics: tuple[TextMetric, ...]
    left_out: tuple[str, ...] = field(default=(), repr=False)

    def __getitem__(self, name: str) -> TextMetric:
        """Return a metric by name."""
        named = {metric.name: metric for metric in self.metrics}
        if name not in named:
            raise KeyError(f"no metric {name!r}; there are: {', '.join(named)}")
        return named[name]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per metric: value (NaN where not available), n, status, settings."""
        import pandas as pd

        rows = [(m.name, m.value, m.n, m.status, m.settings) for m in self.metrics]
        frame = pd.DataFrame(rows, columns=["metric", "value", "n", "status", "settings"])
        return frame.set_index("metric").astype({"value": float})

    def to_dict(self) -> dict:
        """Return plain values for JSON; a metric that is not available is null with a status."""
        names = ("value", "status", "settings", "n", "details")
        return {m.name: {name: getattr(m, name) for name in names} for m in self.metrics}

    def _repr_html_(self) -> str:
        from workbench.figures.numbers import fixed
        from workbench.figures.tables import html_table

        rows = [
            (m.name, fixed(m.value, 3, missing="\u2013"), f"{m.n:,}" if m.n else "",
             m.status if m.value is None else m.settings)
            for m in self.metrics
        ]  # fmt: skip
        return html_table(("metric", "value", "pairs", "how, or what it needs"), rows)


#: id -> text.
Texts = Mapping[str, str | None]


def measure_texts(
    predictions: Texts, references: Texts, *, neural: bool = True, remote_code: bool = False
) -> TextMetrics:
    """Measure predictions against references of the same ids, one reference each.

    Args:
        neural: also run metrics with a model, where their package and weights are on this machine;
            nothing is ever downloaded.
        remote_code: allow metrics whose package runs code from the repository of the weights
            (GREEN).

    Raises:
        InputError: the two sides do not have the same ids, or contain something else than text.

    >>> same = {"a": "No nodule."}
    >>> wb.reports.measure_texts(same, same, neural=False).to_frame().columns.tolist()
    ['value', 'n', 'status', 'settings']
    """
    pairs = _paired(predictions, references)
    left_out = tuple(str(key) for key, pair in pairs.items() if not all(pair))
    known = [pair for pair in pairs.values() if all(pair)]
    found = [*_bleu(known), _rouge(known), _meteor(known)]
    for name, metric in NEURAL_METRICS.items():
        measured = _neural(name, metric, known, remote_code) if neural else None
        found.append(measured or TextMetric(name, None, "not asked for"))
    return TextMetrics(tuple(found), left_out)


def _paired(predictions: Texts, references: Texts) -> dict[str, tuple[str, str]]:
    """Return both texts of every id; a text of white space, or None, is ""."""
    if not (isinstance(predictions, Mapping) and isinstance(references, Mapping)):
        raise InputError("expected two mappings id -> text")
    lost = set(predictions) ^ set(references)
    if lost:
        some = ", ".join(repr(key) for key in sorted(map(str, lost))[:3])
        raise InputError(
            f"{len(lost)} ids have no text on the other side ({some}); give both sides the same ids"
        )
    return {
        key: (_clean(key, predictions[key]), _clean(key, references[key])) for key in predictions
    }


def _clean(key: str, text: object) -> str:
    if text is not None and not isinstance(text, str):
        raise InputError(f"id {key!r}: expected a text, got {type(text).__name__}")
    return text if text and text.strip() else ""


def _bleu(pairs: list[tuple[str, str]]) -> list[TextMetric]:
    names = {f"BLEU-{order}": order for order in (1, 2, 3, 4)}
    if find_spec("sacrebleu") is None or not pairs:
        status = _NO_PAIR if find_spec("sacrebleu") else _NEEDS_EXTRA
        return [TextMetric(name, None, status) for name in names]
    from sacrebleu.metrics.bleu import BLEU

    found = []
    predicted, expected = map(list, zip(*pairs, strict=True))
    for name, order in names.items():
        corpus = BLEU(max_ngram_order=order, lowercase=True)
        value = corpus.corpus_score(predicted, [expected]).score / 100
        settings = f"corpus, sacrebleu {corpus.get_signature()}"
        found.append(TextMetric(name, value, settings=settings, n=len(pairs)))
    return found


def _rouge(pairs: list[tuple[str, str]]) -> TextMetric:
    if find_spec("rouge_score") is None:
        return TextMetric("ROUGE-L", None, _NEEDS_EXTRA)
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    settings = "F-measure, mean of pairs, lower case, no stemming (rouge-score)"
    return _mean("ROUGE-L", pairs, lambda a, b: scorer.score(b, a)["rougeL"].fmeasure, settings)


def _meteor(pairs: list[tuple[str, str]]) -> TextMetric:
    if find_spec("nltk") is None or find_spec("rouge_score") is None:
        return TextMetric("METEOR", None, _NEEDS_EXTRA)
    import nltk
    from nltk.translate.meteor_score import single_meteor_score
    from rouge_score.tokenize import tokenize

    for place in ("corpora/wordnet.zip", "corpora/wordnet"):
        try:
            nltk.data.find(place)
            break
        except LookupError:
            continue
    else:
        return TextMetric("METEOR", None, _NEEDS_WORDNET)

    def score(text: str, truth: str) -> float:
        return single_meteor_score(tokenize(truth, None), tokenize(text, None))

    return _mean("METEOR", pairs, score, f"mean of pairs, lower case (nltk {nltk.__version__})")


def _mean(
    name: str, pairs: list[tuple[str, str]], score: Callable[[str, str], float], settings: str
) -> TextMetric:
    """Measure the pairs that are not too long."""
    known = [
        float(score(text, truth))
        for text, truth in pairs
        if len(text.split()) * len(truth.split()) <= LONGEST_PRODUCT
    ]
    if len(known) < len(pairs):
        settings += f"; {len(pairs) - len(known)} pairs are too long and left out"
    if not known:
        return TextMetric(name, None, _NO_PAIR, settings)
    return TextMetric(name, sum(known) / len(known), settings=settings, n=len(known))


def _neural(
    name: str, metric: NeuralMetric, pairs: list[tuple[str, str]], remote_code: bool
) -> TextMetric:
    needs = None if pairs else _NO_PAIR
    if metric.remote_code and not remote_code:
        needs = "not available: needs remote_code=True, because radeval runs Python code that "
        needs += f"comes with {metric.weights}"
    if find_spec("radeval") is None:
        needs = f"not available: needs `pip install radeval`, and {metric.weights}"
    if needs:
        return TextMetric(name, None, needs)
    try:
        with hub_offline():
            from radeval import RadEval  # pyright: ignore[reportMissingImports]

            evaluator = RadEval(metrics=[metric.switch], show_progress=False)
            predicted, expected = map(list, zip(*pairs, strict=True))
            scores = evaluator(refs=expected, hyps=predicted)
            numbers = {key: float(scores[key]) for key in scores}
            value = numbers[metric.key]
    except Exception as error:  # many packages, many ways to fail: each is one unavailable metric
        said = " ".join(str(error).split())[:160] or type(error).__name__
        needs = f"not available: needs {metric.weights} on this machine ({said})"
        return TextMetric(name, None, needs)
    settings = f"radeval, {metric.key}"
    return TextMetric(name, value, settings=settings, n=len(pairs), details=numbers)


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
