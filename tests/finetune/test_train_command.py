"""`workbench train RECIPE`: plan, preview, fields, and a run from the shell."""

import argparse
import json

import pytest

from tests.backends.families import FAMILIES
from tests.finetune.conftest import tiny_recipe
from workbench.cli import main
from workbench.commands.train import nested, setting
from workbench.errors import OptionError


@pytest.fixture
def recipe(tiny, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(tiny_recipe(tiny).to_yaml())
    return path


def test_the_plan_loads_nothing_and_says_that_it_predicts(capsys):
    assert main(["train", "stage3_qlora", "--plan"]) == 0
    said = capsys.readouterr().out
    assert "predicted, not measured" in said and "16 GB" in said
    assert main(["train", "--plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predicted"] is True


def test_another_model_is_planned_from_its_own_sizes(tmp_path, capsys):
    base = FAMILIES["qwen2_5_vl"](tmp_path / "qwen")
    command = ["train", "any_projector", "--plan", "--json", "--set", f"base={base}"]
    assert main(command) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["model"] == str(base) and said["needs"][0]["strategy"] == "this recipe"
    merger = 128 * 128 + 128 + 128 * 48 + 48 + 32
    assert said["needs"][0]["learning"] == merger


def test_a_run_from_the_shell(recipe, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", str(recipe), "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["frozen"]["equal"] is True and (out / "adapter" / "adapter.json").is_file()
    assert main(["train", str(recipe), "--out", str(out)]) == 1
    assert "--resume" in capsys.readouterr().err


def test_the_preview_goes_to_the_terminal_or_to_a_page(recipe, tmp_path, capsys):
    assert main(["train", str(recipe), "--preview"]) == 0
    assert "[" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assert main(["train", str(recipe), "--preview", str(page)]) == 0
    assert "carries loss" in page.read_text()


def test_every_field_is_explained(capsys):
    assert main(["train", "--fields"]) == 0
    assert "training.learning_rate" in capsys.readouterr().out


def test_nothing_to_train_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train"])
    assert stopped.value.code == 2
    assert "name a RECIPE" in capsys.readouterr().err


def test_fields_are_changed_at_any_depth():
    changes = dict(map(setting, ["training.epochs=3", "data.phantoms.count=20", "name=x"]))
    assert nested(changes) == {
        "training": {"epochs": 3}, "data": {"phantoms": {"count": 20}}, "name": "x"
    }  # fmt: skip
    with pytest.raises(argparse.ArgumentTypeError, match="FIELD=VALUE"):
        setting("epochs")
    with pytest.raises(OptionError, match="cannot have fields"):
        nested({"data": 1, "data.x": 2})


def test_a_wrong_field_is_an_error_with_its_repair(recipe, capsys):
    assert main(["train", str(recipe), "--set", "training.epoch=3"]) == 1
    assert "did you mean 'epochs'" in capsys.readouterr().err
