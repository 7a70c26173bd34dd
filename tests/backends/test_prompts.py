"""What a model is asked with: its card's texts where the registry knows it, shown and recorded."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import workbench as wb
from tests.backends.families import FAMILIES
from workbench.backends.families import _registry, find_prompts
from workbench.errors import OptionError, RunError
from workbench.model.prompt import PUBLISHED_PROMPTS, REPORT_PROMPT, Prompts


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return FAMILIES["llava"](tmp_path_factory.mktemp("prompts") / "llava")


@pytest.fixture(scope="module")
def image():
    return wb.load_radiograph(np.random.default_rng(5).integers(0, 256, (64, 50), np.uint8))


def test_every_entry_states_its_source_at_a_commit_and_the_day():
    models = [one for entry in _registry().values() for one in entry["models"]]
    assert len(models) == len(set(models))
    for name, entry in _registry().items():
        found = find_prompts(name)
        assert find_prompts(None, entry["models"][0].upper()) == found
        assert set(entry) - {"models", "source", "read", "note"} <= {
            "system", "report", "differential",
        }  # fmt: skip
        assert (
            any(len(part) == 40 for part in found.source.split("/")) and "read 20" in found.source
        )


def test_messages_are_made_of_the_texts():
    theirs = find_prompts("medgemma").report_messages()
    assert [(one.role, one.content) for one in theirs] == [
        ("system", "You are an expert radiologist."), ("user", "<image>\nDescribe this X-ray"),
    ]  # fmt: skip
    assert [one.role for one in find_prompts("llava-med").question_messages("Why?")] == ["user"]
    ours = PUBLISHED_PROMPTS.differential_messages()
    assert find_prompts("medgemma").differential_messages()[1] == ours[1]


def test_the_version_changes_with_a_text_and_not_with_a_note():
    one = Prompts("mine", "me", report="a")
    assert one.version != Prompts("mine", "me", report="b").version
    assert one.version == Prompts("mine", "you", report="a", note="c").version


def test_the_display_tells_whose_each_text_is():
    frame = find_prompts("llava-med").to_frame().set_index("part")
    assert "LLaVA-Med" in frame.loc["system", "source"]
    assert "CXR-LLAVA" in frame.loc["report", "source"]
    assert frame.loc["report", "text"] == REPORT_PROMPT
    assert "Describe this X-ray" in find_prompts("medgemma")._repr_html_()


@pytest.mark.parametrize("where", ["config", "card", "base of a fine-tune"])
def test_a_directory_is_known_by_what_it_was_made_from(directory, tmp_path, image, where):
    copy = shutil.copytree(directory, tmp_path / "mine")
    if where == "config":
        config = json.loads((copy / "config.json").read_text())
        config["_name_or_path"] = "google/medgemma-4b-it"
        (copy / "config.json").write_text(json.dumps(config))
    else:
        base = (
            "KrauthammerLab/RadVLM" if where == "card" else ["some/merge", "KrauthammerLab/RadVLM"]
        )
        (copy / "README.md").write_text(
            f"---\n{yaml.safe_dump({'base_model': base})}---\n# A model\n"
        )
    model = wb.load_model(copy, device="cpu", dtype="float32")
    expected = find_prompts("medgemma" if where == "config" else "radvlm")
    assert model.prompts == expected
    report = model.report(image, max_new_tokens=2)
    assert expected.report in report.prompt and "helpful radiologist" not in report.prompt
    assert report.model.prompts == expected.version == model.identity.prompts


def test_prompts_are_chosen_by_name_or_given(directory, image, tmp_path):
    own = Prompts("mine", "this test", system=None, report="Say what you see.")
    model = wb.load_model(directory, device="cpu", dtype="float32", prompts=own)
    assert "Say what you see." in model.report(image, max_new_tokens=2).prompt
    chat = model.chat(image)
    assert "system" not in chat.say("Heart?", max_new_tokens=2).prompt
    model.prompts = find_prompts("cxr-llava")
    assert "helpful radiologist" in model.report(image, max_new_tokens=2).prompt
    with pytest.raises(OptionError, match=r"medgemma.*did you mean 'medgemma'"):
        wb.load_model(directory, prompts="medgema")


def test_what_is_asked_is_part_of_a_run(directory, tmp_path, image):
    Image.fromarray(np.rint(image.pixels * 255).astype(np.uint8)).save(tmp_path / "a.png")
    pd.DataFrame([{"image_id": "a", "path": "a.png"}]).to_csv(tmp_path / "m.csv", index=False)
    model = wb.load_model(directory, device="cpu", dtype="float32")
    options = {"out": tmp_path / "run", "max_new_tokens": 2}
    wb.run(tmp_path / "m.csv", model=model, **options)
    fixed = json.loads((tmp_path / "run" / "run.json").read_text())["fixed"]
    assert fixed["model"]["prompts"] == PUBLISHED_PROMPTS.version
    asked = model.report(image, max_new_tokens=2).prompt
    assert fixed["tasks"][0]["prompt"] == asked and "[INST]" not in asked
    model.prompts = find_prompts("medgemma")
    with pytest.raises(RunError, match=r"model\.prompts was .cxr-llava.*medgemma"):
        wb.run(tmp_path / "m.csv", model=model, **options)
