"""Other readers of reports behind the same result: medspaCy, RadGraph and CheXbert.

They are for comparison; the project's own rules (`label`) need nothing. Each is used only where its
library is installed and its weights are on this machine; nothing is fetched. CheXbert is read from
safetensors; RadGraph's own library unpickles its weights, which is why it is never the default.

- medspaCy (Eyre et al., AMIA 2021): its ConText over the terms of this project's lexicon;
- RadGraph (Jain et al., NeurIPS 2021, arXiv 2106.14463): its observations, named by the lexicon;
- CheXbert (Smit et al., EMNLP 2020, arXiv 2004.09167): codes without evidence, so every row spans
  the whole text.

Does not know: which of them is right.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from workbench.errors import InputError, OptionError, unknown_name
from workbench.findings import ABSENT, PRESENT, UNCERTAIN
from workbench.reports.labeler import label, merged
from workbench.reports.labels import FindingLabel, Labels
from workbench.reports.lexicon import lexicon
from workbench.reports.neural_metrics import hub_offline

Reader = Callable[[str], Labels]

#: Order of CheXbert's heads, and of the classes of each.
CHEXBERT_FINDINGS = (
    "enlarged cardiomediastinum", "cardiomegaly", "lung opacity", "lung lesion", "pulmonary edema",
    "consolidation", "pneumonia", "atelectasis", "pneumothorax", "pleural effusion",
    "pleural other", "fracture", "support device", "no finding",
)  # fmt: skip
CHEXBERT_CODES = (None, PRESENT, ABSENT, UNCERTAIN)

_RADGRAPH = {
    "Observation::definitely present": PRESENT,
    "Observation::definitely absent": ABSENT,
    "Observation::uncertain": UNCERTAIN,
}


def reader(backend: str = "rules", *, weights: str | Path | None = None) -> Reader:
    """Return a function from a text to its `Labels`.

    Args:
        backend: "rules", "medspacy", "radgraph" or "chexbert".
        weights: folder of CheXbert's weights.

    Raises:
        OptionError: the backend is unknown.
        InputError: it is not available here; the message says what it needs.
    """
    makers = {
        "rules": lambda: label,
        "medspacy": _medspacy,
        "radgraph": _radgraph,
        "chexbert": lambda: _chexbert(weights),
    }
    if backend not in makers:
        raise OptionError(unknown_name("backend", backend, makers))
    return makers[backend]()


def _need(package: str, backend: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{backend} is not available: needs `pip install {package}`")


def _folder(weights: str | Path | None, names: tuple[str, ...]) -> Path:
    folder = Path(weights) if weights else None
    missing = [name for name in names if folder is None or not (folder / name).is_file()]
    if missing:
        raise InputError(
            "chexbert is not available: needs weights=FOLDER with "
            f"{', '.join(missing)} (chexbert.pth converted to safetensors, and the configuration "
            "and vocabulary of bert-base-uncased)"
        )
    return folder


def _labels(text: str, rows: list[FindingLabel]) -> Labels:
    rows = sorted(rows, key=lambda row: (row.start, row.end))
    return Labels(text, merged(rows), tuple(rows))


def _row(finding: str, code: str, start: int, end: int, rule: str) -> FindingLabel:
    return FindingLabel(finding, code, None, None, None, None, start, end, rule)


def _terms() -> Iterator[tuple[str, Any]]:
    for words in lexicon().findings:
        for rule, _, pattern in words.patterns:
            if rule == "named":
                yield words.finding, pattern


# ---------------------------------------------------------------- medspaCy


def _medspacy() -> Reader:
    _need("medspacy", "medspacy")
    import medspacy
    from medspacy.ner import TargetRule

    pipe = medspacy.load(
        medspacy_enable=["medspacy_pyrush", "medspacy_target_matcher", "medspacy_context"]
    )
    rules = [TargetRule(name, name, pattern=f"(?i){p.pattern}") for name, p in _terms()]
    pipe.get_pipe("medspacy_target_matcher").add(rules)
    return partial(_medspacy_labels, pipe)


def _medspacy_labels(pipe: Any, text: str) -> Labels:
    rows = []
    for found in pipe(text).ents:
        marks = found._
        if marks.is_historical or marks.is_hypothetical:
            continue
        code = ABSENT if marks.is_negated else UNCERTAIN if marks.is_uncertain else PRESENT
        rows.append(_row(found.label_, code, found.start_char, found.end_char, "medspacy"))
    return _labels(text, rows)


# ---------------------------------------------------------------- RadGraph


def _radgraph() -> Reader:
    _need("radgraph", "radgraph")
    from radgraph import RadGraph

    with hub_offline():
        try:
            model = RadGraph(model_type="radgraph-xl")
        except Exception as error:  # the library raises whatever its downloader does
            raise InputError(
                "radgraph is not available: needs the weights of radgraph-xl on this machine "
                f"({type(error).__name__})"
            ) from None
    return partial(_radgraph_labels, model)


def _radgraph_labels(model: Any, text: str) -> Labels:
    entities = model([text])["0"]["entities"].values()
    rows, at = [], 0
    for entity in sorted(entities, key=lambda item: item["start_ix"]):
        span, at = _placed(text, entity["tokens"], at)
        code = _RADGRAPH.get(entity["label"])
        if code is None or span is None:
            continue
        words = text[slice(*span)]
        names = [name for name, pattern in _terms() if pattern.search(words)]
        rows += [_row(name, code, *span, "radgraph") for name in dict.fromkeys(names)]
    return _labels(text, rows)


def _placed(text: str, tokens: str, start: int) -> tuple[tuple[int, int] | None, int]:
    """Return where words stand in a text that was cut into tokens, and where to look next."""
    low, end = text.lower(), start
    first = None
    for token in tokens.lower().split():
        found = low.find(token, end)
        if found < 0:
            return None, start
        first = found if first is None else first
        end = found + len(token)
    return (None, start) if first is None else ((first, end), end)


# ---------------------------------------------------------------- CheXbert


def _chexbert(weights: str | Path | None) -> Reader:
    folder = _folder(weights, ("model.safetensors", "config.json", "vocab.txt"))
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel, BertTokenizerFast

    config = BertConfig(**json.loads((folder / "config.json").read_text()))
    bert = BertModel(config, add_pooling_layer=False)
    heads = torch.nn.ModuleList(
        torch.nn.Linear(config.hidden_size, 4 if name != "no finding" else 2)
        for name in CHEXBERT_FINDINGS
    )
    state = {
        name.removeprefix("module."): value
        for name, value in load_file(folder / "model.safetensors").items()
        if ".pooler." not in name and not name.endswith("position_ids")
    }
    network = torch.nn.ModuleDict({"bert": bert, "linear_heads": heads}).eval()
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"the weights in {folder.name} are not CheXbert's: {error}") from None
    tokenizer = BertTokenizerFast(vocab_file=str(folder / "vocab.txt"))
    return partial(_chexbert_labels, network, tokenizer)


def _chexbert_labels(network: Any, tokenizer: Any, text: str) -> Labels:
    import torch

    if not text.strip():
        return Labels(text, (), ())
    tokens = tokenizer(" ".join(text.split()), truncation=True, max_length=512, return_tensors="pt")
    with torch.inference_mode():
        hidden = network["bert"](**tokens).last_hidden_state[:, 0]
        classes = [int(head(hidden).argmax()) for head in network["linear_heads"]]
    found = [
        (name, PRESENT if number else None) if name == "no finding" else
        (name, CHEXBERT_CODES[number])
        for name, number in zip(CHEXBERT_FINDINGS, classes, strict=True)
    ]  # fmt: skip
    rows = [_row(name, code, 0, len(text), "chexbert") for name, code in found if code]
    return _labels(text, rows)
