"""Recipes: one sentence for each field, and errors that repair."""

import pytest

from workbench.errors import OptionError
from workbench.finetune.recipe import Recipe, explain_recipe, read_recipe, shipped_recipes

PHANTOMS = {"data": {"phantoms": {}}}


def test_every_field_has_exactly_one_sentence():
    for field, says, _ in explain_recipe():
        assert says[0].isupper() or says[0].isdigit(), field
        assert says.endswith(".") and says.count(". ") == 0, field


def test_a_field_says_what_is_allowed():
    said = {field: says for field, says, _ in explain_recipe()}
    assert said["tuning.language"].endswith("(frozen, lora, full).")
    assert said["tuning.quantize"].endswith("(4bit).")
    assert said["training.epochs"].endswith("(at least 0.01).")
    assert said["data.phantoms.share"].endswith("(0 to 1).")
    assert "(report, findings, impression" in said["data.tasks"]


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_valid_and_survive_writing(name, tmp_path):
    recipe = read_recipe(name)
    path = tmp_path / "r.yaml"
    path.write_text(recipe.to_yaml())
    assert read_recipe(path) == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training": {"learing_rate": 1}}, r"training\.learing_rate: unknown field; did you mean"),
        ({"stage": "instuct"}, r"stage must be one of encoder, projector, instruct.*'instruct'"),
        ({"training": {"epochs": "many"}}, r"training\.epochs must be a number, got 'many'"),
        ({"training": {"epochs": -1}}, r"training\.epochs must be at least 0.01"),
        ({"training": {"batch_size": 4.5}}, r"batch_size must be a whole number"),
        ({"training": {"augment": 1}}, r"augment must be true or false"),
        ({"data": {"tasks": 3}}, r"tasks must be one of report.*got 3"),
        ({"data": []}, r"data must be a section"),
        ({"data": {"manifest": "x"}, "tuning": {"quantize": "3bit"}}, r"quantize must be one of"),
        ({}, r"exactly one of phantoms and manifest"),
        ({"data": {"phantoms": {"first_seed": 9_999_990}}}, r"reserved for evaluation"),
        ({"data": {"phantoms": {"finding": "hernia"}}}, r"finding must be one of"),
        (PHANTOMS | {"training": {"batch_size": 5, "micro_batch": 2}}, r"multiple of micro_batch"),
        (PHANTOMS | {"training": {"feature_cache": True}}, r"cannot change"),
        (PHANTOMS | {"stage": "projector"}, r"projector alone"),
        (PHANTOMS | {"stage": "encoder"}, r"set tuning\.vision to full"),
        (PHANTOMS | {"stage": "encoder", "tuning": {"vision": "full"}}, r"sees no text"),
        (PHANTOMS | {"tuning": {"language": "frozen", "projector": "frozen"}}, r"let one learn"),
        (PHANTOMS | {"tuning": {"language": "full", "quantize": "4bit"}}, r"cannot be trained"),
        (PHANTOMS | {"training": {"keep": 0.5}}, r"name the finding"),
        (PHANTOMS | {"training": {"epochs": float("nan")}}, r"epochs must be a finite number"),
        (PHANTOMS | {"training": {7: 1}}, r"training\.7: unknown field; expected one of epochs"),
        (PHANTOMS | {"tuning": {"words": "full"}}, r"tuning\.words: .* write tuning\.embeddings"),
        (PHANTOMS | {"training": {"words_rate": 1}}, r"write training\.embeddings_rate"),
        (
            PHANTOMS | {"data": {"phantoms": {}, "findings": ["heartburn"]}},
            r"findings must be one of",
        ),
    ],
)
def test_a_mistake_is_named_with_its_repair(values, message):
    with pytest.raises(OptionError, match=message):
        Recipe(**values)


def test_several_mistakes_are_named_together():
    wrong = {"data": {"phantoms": {"count": 1}}, "training": {"epoch": 3, "clip": -1}}
    with pytest.raises(OptionError, match="count must be at least 2") as raised:
        Recipe(**wrong)
    said = str(raised.value)
    assert "did you mean 'epochs'" in said and "training.clip must be at least 0, got -1" in said
    with pytest.raises(OptionError, match=r"multiple of micro_batch.*feature_cache needs"):
        Recipe(**PHANTOMS, training={"batch_size": 5, "micro_batch": 2, "feature_cache": True})


def test_a_file_that_is_no_recipe_is_named(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("- one\n- two\n")
    with pytest.raises(OptionError, match="a recipe must be a section of named fields"):
        read_recipe(path)


def test_numbers_that_yaml_reads_as_texts_are_numbers():
    made = Recipe(**PHANTOMS, training={"learning_rate": "1e-3"})
    assert made.training.learning_rate == 0.001


def test_a_changed_recipe_keeps_the_rest_at_any_depth():
    recipe = read_recipe("stage3_lora")
    changed = recipe.replace(data={"phantoms": {"count": 40}})
    assert changed.data.phantoms.count == 40
    assert changed.data.phantoms.finding == recipe.data.phantoms.finding
    assert changed.training == recipe.training


def test_a_recipe_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(OptionError, match="stage3_lora"):
        read_recipe("stage4")
