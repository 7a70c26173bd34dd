"""Memory is predicted by arithmetic, part by part, on a model without storage."""

import pytest

from workbench.errors import OptionError
from workbench.finetune.planner import STRATEGIES, need, plan
from workbench.finetune.recipe import TuningRecipe
from workbench.model.card import read_config
from workbench.model.sizes import BYTES


def test_the_full_size_model_is_planned_without_storage():
    made = plan()
    assert len(made.needs) == 2 * len(STRATEGIES)
    totals = {(n.strategy, n.checkpointing): n.total() / 1e9 for n in made.needs}
    assert totals["qlora", True] < 16 < totals["lora", True] < 24 < 80 < totals["full", True]
    for strategy in STRATEGIES:
        assert totals[strategy, True] < totals[strategy, False]
    full = next(n for n in made.needs if n.strategy == "full")
    assert full.optimiser == 8 * full.learning and full.gradients == 4 * full.learning
    assert 6.7e9 < full.learning < full.parameters < 7.1e9


def test_parts_follow_the_formulas(tiny):
    config = read_config(__import__("pathlib").Path(tiny))
    hidden, inner, layers, words = 64, 172, 2, 512
    found = need(config, TuningRecipe(language="lora", projector="frozen", rank=4), text_tokens=100)
    lora = 4 * layers * (4 * 2 * hidden + 3 * (hidden + inner))
    assert found.learning == lora
    assert found.weights == 2 * (found.parameters - lora) + 4 * lora
    layer = 2 * (10 * hidden + 4 * inner) + 8 * hidden
    assert found.activations == (16 + 100) * layers * layer
    assert found.logits == 100 * words * 10
    twice = need(config, TuningRecipe(projector="frozen"), checkpointing=True, text_tokens=100)
    assert twice.activations == (16 + 100) * (layers * 2 * hidden + layer)


def test_holding_to_the_base_takes_what_learns_once_more_and_the_logits_twice(tiny):
    config, how = read_config(__import__("pathlib").Path(tiny)), TuningRecipe(projector="full")
    plain, held = (need(config, how, keep=keep) for keep in (False, True))
    assert held.weights - plain.weights == 4 * plain.learning
    assert held.logits == 2 * plain.logits
    rows = plan(config, strategies=["lora"], tuning=how, keep=True).needs
    assert [row.logits / plain.logits for row in rows] == [2, 2, 1, 1]


def test_four_bit_shrinks_only_frozen_linear_layers(tiny):
    config = read_config(__import__("pathlib").Path(tiny))
    plain, small = (need(config, TuningRecipe(quantize=q)) for q in (None, "4bit"))
    linear = 2 * (4 * 64 * 64 + 3 * 64 * 172)
    assert plain.weights - small.weights == pytest.approx(linear * (2 - BYTES["4bit"]))


def test_the_largest_batch_fits_and_one_more_does_not():
    for found in plan(strategies=["qlora", "lora"]).needs:
        for size in (16, 24, 40, 80):
            most = found.largest_batch(size)
            assert found.total(most + 1) > size * 1e9
            assert most == 0 or found.total(most) <= size * 1e9


def test_tables_and_figures_say_that_it_is_predicted():
    made = plan(strategies=["qlora"], tuning=TuningRecipe())
    assert [n.strategy for n in made.needs] == ["this recipe"] * 2 + ["qlora"] * 2
    assert "predicted" in made._repr_html_() and made.to_dict()["predicted"]
    assert "total, GB (predicted)" in made.to_frame().columns
    assert "predicted" in made.plot().get_xlabel()
    with pytest.raises(OptionError, match=r"strategy must be one of full, .*'magic'"):
        plan(strategies=["magic"])
