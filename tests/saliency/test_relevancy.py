"""Relevancy: the rule by hand, every layer seen, no relevance without a gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers import PlainRows
from workbench.backends.attending import watch_attention
from workbench.saliency import explain, gradients
from workbench.saliency import scorer as scoring
from workbench.saliency.gradients import relevancy
from workbench.saliency.scorer import Scorer


def differentiable(scorer) -> tuple[torch.Tensor, PlainRows]:
    """The score and the rows that it was computed from."""
    watcher = PlainRows()
    with torch.enable_grad(), watch_attention(scorer.network, watcher):
        pixels = scorer.base.clone().requires_grad_()
        return scorer(pixels).sum(), watcher


def carry(layers: list[torch.Tensor]) -> torch.Tensor:
    """R after all layers."""
    return gradients.carry(torch.eye(len(layers[0])), layers)


# ---------------------------------------------------------------- the rule


def test_no_attention_leaves_everyone_to_himself():
    torch.testing.assert_close(carry([torch.zeros(3, 3)] * 2), torch.eye(3))


def test_two_positions_by_hand():
    first, second = torch.tensor([[0.0, 0], [2, 0]]), torch.tensor([[0.0, 0], [3, 5]])
    # R1 = [[1, 0], [2, 1]]; R2 = R1 + second @ R1 = [[1, 0], [2 + 3 + 10, 1 + 5]]
    torch.testing.assert_close(carry([first, second]), torch.tensor([[1.0, 0], [15, 6]]))


def test_a_chain_needs_the_first_layer_first():
    first, second = torch.zeros(3, 3), torch.zeros(3, 3)
    first[1, 0], second[2, 1] = 0.5, 0.25
    onward = torch.tensor([[1.0, 0, 0], [0.5, 1, 0], [0.125, 0.25, 1]])
    torch.testing.assert_close(carry([first, second]), onward)
    assert carry([second, first])[2, 0] == 0


def test_relevancy_is_the_product_of_identity_plus_attention():
    layers = list(torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0)))
    expected = torch.eye(5)
    for layer in layers:
        expected = (torch.eye(5) + layer) @ expected
    torch.testing.assert_close(carry(layers), expected)
    assert (carry(layers) >= torch.eye(5)).all()


# ---------------------------------------------------------------- what is watched


def test_every_layer_of_both_transformers_is_seen(toys, golden):
    scorer = toys.of(golden, token=3)
    _, watcher = differentiable(scorer)
    config = scorer.network.config
    expected = {("language", n) for n in range(config.llama.num_hidden_layers)}
    expected |= {("vision", n) for n in range(config.vision.layers)}
    assert set(watcher.rows) == expected
    length = golden.layout.query_of(3) + 1
    for (tower, _), rows in watcher.rows.items():
        heads = config.vision.heads if tower == "vision" else config.llama.num_attention_heads
        size = golden.layout.image_tokens + 1 if tower == "vision" else length
        assert rows.shape == (1, heads, size, size)
        torch.testing.assert_close(rows.sum(-1), torch.ones(1, heads, size), atol=1e-5, rtol=0)


@pytest.mark.parametrize("contrast", [None, "no effusion"])
def test_watching_does_not_change_the_score(contrast, toys, golden):
    scorer = toys.of(golden, token=3, contrast=contrast)
    score, watcher = differentiable(scorer)
    torch.testing.assert_close(score, scorer.scores(scorer.base)[0], atol=1e-4, rtol=1e-4)
    found = torch.autograd.grad(score, list(watcher.rows.values()))
    assert all(gradient.abs().sum() > 0 for gradient in found)


def test_a_contrast_is_not_read_by_the_phrase(toys, golden):
    """Rows of the contrast skip the phrase, rows of the phrase end before the contrast."""
    scorer = toys.of(golden, golden.text.split()[-1], contrast="no effusion")
    target = scorer.target
    _, watcher = differentiable(scorer)
    phrase, extra = len(target.tokens) - 1, len(target.contrast)
    for (tower, _), rows in watcher.rows.items():
        if tower == "language":
            end = rows.shape[-1]
            assert not rows[:, :, -extra:, end - extra - phrase : end - extra].any()
            assert not rows[:, :, :-extra, -extra:].any()


# ---------------------------------------------------------------- maps


def test_map_is_the_carried_rows_of_the_phrase(toys, golden):
    """The definition, with plain loops and numpy."""
    scorer = toys.of(golden, golden.text.split()[-1])
    score, watcher = differentiable(scorer)
    keys = list(watcher.rows)
    moved = torch.autograd.grad(score, [watcher.rows[key] for key in keys])
    found = {}
    for tower in ("language", "vision"):
        total = None
        for key, gradient in sorted(zip(keys, moved, strict=True), key=lambda pair: pair[0]):
            if key[0] == tower:
                weighted = np.maximum((gradient * watcher.rows[key].detach()).numpy()[0], 0)
                step = np.eye(weighted.shape[-1]) + weighted.mean(0)
                total = step if total is None else step @ total
        found[tower] = total
    image = golden.layout.span("image").slice
    tokens = sum(found["language"][query, image] for query in scorer.queries)
    seen = tokens @ found["vision"][1:, 1:]
    through = relevancy(scorer, golden.layout.grid).values.ravel()
    np.testing.assert_allclose(through, seen, rtol=1e-4, atol=1e-7)
    assert through.sum() > tokens.sum() > 0


METHODS = ("relevancy", "grad_cam", "input_x_gradient")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("contrast", [None, "no effusion"])
def test_checkpointed_layers_give_the_same_map(method, contrast, golden, monkeypatch):
    plain = explain(golden, token=3, contrast=contrast, method=method)
    monkeypatch.setattr(scoring, "SMALL", 0)
    again = explain(golden, token=3, contrast=contrast, method=method)
    np.testing.assert_array_equal(plain.values, again.values)


def test_of_checkpointed_layers_nothing_inside_is_kept(toys, golden, monkeypatch):
    def kept() -> set[int]:
        widths = set()
        scorer = toys.of(golden, token=3)
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda one: widths.add(one.shape[-1] if one.dim() else 0) or one, lambda one: one
        )
        with torch.enable_grad(), scorer.frozen(), hooks:
            scorer(scorer.base.clone().requires_grad_())
        return widths

    config = golden.model.network.config
    inner = {config.llama.intermediate_size, config.vision.mlp_width}
    assert inner <= kept()
    monkeypatch.setattr(scoring, "SMALL", 0)
    assert not inner & kept()


def test_no_gradient_no_relevance(toys, golden, monkeypatch):
    scorer = toys.of(golden, token=3)
    original = Scorer.forward
    monkeypatch.setattr(Scorer, "forward", lambda self, pixels: 0 * original(self, pixels))
    assert not relevancy(scorer, golden.layout.grid).values.any()


def test_relevancy_is_not_negative(golden):
    for token in range(4):
        values = explain(golden, token=token, method="relevancy").values
        assert values.min() >= 0
        assert np.ptp(values) > 0


def test_relevancy_of_a_plain_finding_lies_on_it(mini):
    found = explain(mini.trace, finding="pleural effusion", method="relevancy")
    inside = found.cells_of(mini.case.masks["pleural effusion"])
    lift = (found.values * inside).sum() / found.values.sum() / inside.mean()
    assert lift > 1.5
