"""Other readers of reports behind the same result, for comparison: RadGraph and CheXbert.

Each is used only where its library is installed and its weights are on this machine; nothing is
downloaded. CheXbert is read from safetensors; RadGraph's own library unpickles its weights, which
is why it is never the default.

- RadGraph (Jain et al., NeurIPS 2021, arXiv 2106.14463): its observations, named by the lexicon;
- CheXbert (Smit et al., EMNLP 2020, arXiv 2004.09167): codes without evidence, so every row spans
  the whole text.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import InputError, OptionError, unknown_name
from workbench.findings import ABSENT, NO_FINDING, PRESENT, UNCERTAIN
from workbench.reports.labeler import label, merged
from workbench.reports.labels import FindingLabel, Labels
from workbench.reports.lexicon import lexicon
from workbench.reports.text_metrics import hub_offline

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

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
        backend: "rules" (`label`), "radgraph" or "chexbert".
        weights: folder of CheXbert's weights.

    Raises:
        OptionError: the backend is unknown.
        InputError: it is not available here; the message says what it needs.

    >>> wb.reports.reader("rules")("Left nodule.").present
    ('nodule',)
    """
    known = {"rules": lambda: label, "radgraph": _radgraph, "chexbert": lambda: _chexbert(weights)}
    if backend not in known:
        raise OptionError(unknown_name("backend", backend, known))
    return known[backend]()


def _labels(text: str, rows: list[FindingLabel]) -> Labels:
    rows = sorted(rows, key=lambda row: (row.start, row.end))
    return Labels(text, merged(rows), tuple(rows))


def _row(finding: str, code: str, start: int, end: int, rule: str) -> FindingLabel:
    return FindingLabel(finding, code, None, None, None, None, start, end, rule)


def _radgraph() -> Reader:
    if importlib.util.find_spec("radgraph") is None:
        raise InputError("radgraph is not available: needs `pip install radgraph`")
    from radgraph import RadGraph  # pyright: ignore[reportMissingImports]

    with hub_offline():
        try:
            model = RadGraph(model_type="radgraph-xl")
        except Exception as error:  # the library raises whatever its downloader does
            raise InputError(
                "radgraph is not available: needs the weights of radgraph-xl on this machine "
                f"({type(error).__name__})"
            ) from None
    return partial(_radgraph_labels, model)


def _radgraph_labels(model: Callable[[list[str]], dict], text: str) -> Labels:
    entities = model([text])["0"]["entities"].values()
    rows, at = [], 0
    for entity in sorted(entities, key=lambda item: item["start_ix"]):
        span, at = _placed(text, entity["tokens"], at)
        code = _RADGRAPH.get(entity["label"])
        if code is None or span is None:
            continue
        for known in lexicon().findings:
            named = (term for rule, _, term in known.patterns if rule == "named")
            if any(term.search(text[slice(*span)]) for term in named):
                rows.append(_row(known.finding, code, *span, "radgraph"))
    return _labels(text, rows)


def _placed(text: str, tokens: str, start: int) -> tuple[tuple[int, int] | None, int]:
    """Return where words stand in a text that was cut into tokens, and where to look next."""
    pattern = ".*?".join(map(re.escape, tokens.lower().split()))
    found = re.compile(pattern, re.DOTALL).search(text.lower(), start)
    return (found.span(), found.end()) if found and pattern else (None, start)


def _chexbert(weights: str | Path | None) -> Reader:
    folder = Path(weights) if weights else None
    names = ("model.safetensors", "config.json", "vocab.txt")
    missing = [name for name in names if folder is None or not (folder / name).is_file()]
    if folder is None or missing:
        raise InputError(
            "chexbert is not available: needs weights=FOLDER with "
            f"{', '.join(missing)} (chexbert.pth converted to safetensors, and the configuration "
            "and vocabulary of bert-base-uncased)"
        )
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel, BertTokenizer

    config = BertConfig(**json.loads((folder / "config.json").read_text()))
    bert = BertModel(config, add_pooling_layer=False)
    heads = torch.nn.ModuleList(
        torch.nn.Linear(config.hidden_size, 4 if name != NO_FINDING else 2)
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
    tokenizer = BertTokenizer(vocab_file=str(folder / "vocab.txt"))
    return partial(_chexbert_labels, network, tokenizer)


def _chexbert_labels(
    network: nn.ModuleDict, tokenizer: PreTrainedTokenizerBase, text: str
) -> Labels:
    import torch

    if not text.strip():
        return Labels(text, (), ())
    tokens = tokenizer(" ".join(text.split()), truncation=True, max_length=512, return_tensors="pt")
    with torch.inference_mode():
        hidden = network["bert"](**tokens).last_hidden_state[:, 0]
        classes = [int(head(hidden).argmax()) for head in network["linear_heads"].children()]
    found = zip(CHEXBERT_FINDINGS, (CHEXBERT_CODES[number] for number in classes), strict=True)
    rows = [_row(name, code, 0, len(text), "chexbert") for name, code in found if code]
    return _labels(text, rows)
