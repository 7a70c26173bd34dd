"""Other readers of reports: a small CheXbert that really runs, stand-ins for libraries."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest

from workbench.errors import InputError, OptionError
from workbench.reports import Labels, label, reader
from workbench.reports.readers import CHEXBERT_CODES, CHEXBERT_FINDINGS

TEXT = "Small left effusion. No pneumothorax. Possible nodule."
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "small", "left", "effusion", "no", "."]


def codes(labels: Labels) -> dict[str, str]:
    assert labels.text == TEXT
    assert list(labels.to_frame()["finding"]) == [row.finding for row in labels.rows]
    return {row.finding: row.code for row in labels.rows}


def test_rules_are_the_default():
    assert reader() is label


def test_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(InputError, match="radgraph is not available: needs `pip install radgraph`"):
        reader("radgraph")


def test_unknown_backend():
    with pytest.raises(OptionError, match="unknown backend 'gpt'; expected one of: rules, radgr"):
        reader("gpt")


# ---------------------------------------------------------------- CheXbert


@pytest.fixture
def chexbert(tmp_path):
    """Write a small CheXbert whose heads answer by their bias alone; return its folder."""
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    size = {"vocab_size": len(WORDS), "hidden_size": 12, "num_hidden_layers": 1}
    config = BertConfig(**size, num_attention_heads=3, intermediate_size=7)
    bert = BertModel(config)
    state = {f"module.bert.{name}": value for name, value in bert.state_dict().items()}
    said = {"pleural effusion": 1, "pneumothorax": 2, "nodule": 3, "lung lesion": 3, "edema": 0}
    for number, finding in enumerate(CHEXBERT_FINDINGS):
        classes = 2 if finding == "no finding" else 4
        bias = torch.zeros(classes)
        bias[said.get(finding, 0)] = 1
        state[f"module.linear_heads.{number}.weight"] = torch.zeros(classes, 12)
        state[f"module.linear_heads.{number}.bias"] = bias
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps(size | {"num_attention_heads": 3, "intermediate_size": 7})
    )
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    return tmp_path


def test_chexbert_is_read_from_its_layout(chexbert):
    read = reader("chexbert", weights=chexbert)
    labels = read(TEXT)
    assert codes(labels) == {
        "lung lesion": "uncertain", "pneumothorax": "absent", "pleural effusion": "present",
    }  # fmt: skip
    assert {(row.start, row.end, row.rule) for row in labels.rows} == {(0, len(TEXT), "chexbert")}
    assert read("").rows == ()


def test_every_class_of_chexbert_has_its_code():
    assert CHEXBERT_CODES == (None, "present", "absent", "uncertain")
    assert len(set(CHEXBERT_FINDINGS)) == 14


def test_chexbert_says_what_it_needs(chexbert, tmp_path):
    with pytest.raises(InputError, match=r"needs weights=FOLDER with model.safetensors, config"):
        reader("chexbert")
    (chexbert / "vocab.txt").unlink()
    with pytest.raises(InputError, match=r"needs weights=FOLDER with vocab.txt \(chexbert.pth"):
        reader("chexbert", weights=chexbert)


def test_other_weights_are_refused(chexbert):
    from safetensors.torch import load_file, save_file

    state = load_file(chexbert / "model.safetensors")
    state.pop("module.linear_heads.3.bias")
    save_file(state, chexbert / "model.safetensors")
    with pytest.raises(InputError, match="are not CheXbert's"):
        reader("chexbert", weights=chexbert)


# ---------------------------------------------------------------- stand-ins


def test_radgraph_observations_become_findings(monkeypatch):
    def entity(tokens, kind, start):
        return {"tokens": tokens, "label": kind, "start_ix": start, "end_ix": start}

    found = {
        "1": entity("Small", "Observation::definitely present", 0),
        "2": entity("left", "Anatomy::definitely present", 1),
        "3": entity("effusion", "Observation::definitely present", 2),
        "4": entity("pneumothorax", "Observation::definitely absent", 5),
        "5": entity("nodule", "Observation::uncertain", 8),
        "6": entity("invented", "Observation::uncertain", 9),
    }
    module = ModuleType("radgraph")
    module.RadGraph = lambda model_type: lambda texts: {"0": {"entities": found}}
    monkeypatch.setitem(sys.modules, "radgraph", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda package: object())
    labels = reader("radgraph")(TEXT)
    assert codes(labels) == {
        "pleural effusion": "present", "pneumothorax": "absent", "nodule": "uncertain",
    }  # fmt: skip
    assert [TEXT[row.start : row.end] for row in labels.rows] == [
        "effusion", "pneumothorax", "nodule",
    ]  # fmt: skip


def test_radgraph_without_weights(monkeypatch):
    def fails(model_type):
        raise ConnectionError("offline")

    module = ModuleType("radgraph")
    module.RadGraph = fails
    monkeypatch.setitem(sys.modules, "radgraph", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda package: object())
    missing = r"needs the weights of radgraph-xl on this .*\(Connection"
    with pytest.raises(InputError, match=missing):
        reader("radgraph")
