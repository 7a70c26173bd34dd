"""Packed weights give the products of the weights that they were made of, and of no others."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from workbench.generation import token_step
from workbench.generation.token_step import TokenStep
from workbench.model import packed
from workbench.model.packed import (
    PackedProduct,
    RowProduct,
    can_pack,
    worth_blocks,
    worth_packing,
)

pytestmark = pytest.mark.skipif(
    not packed._same_numbers(), reason="this build of torch has no oneDNN products"
)


@pytest.fixture
def packs(monkeypatch):
    """Small models are packed as middle-sized ones are."""
    monkeypatch.setattr(packed, "SMALL", 0)
    monkeypatch.setattr(token_step, "SMALL", 0)


@pytest.fixture
def capability(monkeypatch):
    """Be on another processor: `capability("AVX2")`."""
    return lambda name: monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: name)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16])
@pytest.mark.parametrize("biased", [False, True])
def test_product_is_that_of_the_weights_side_by_side(count, biased):
    torch.manual_seed(count)
    layers = [nn.Linear(40, width, bias=biased) for width in (24, 56, 8)]
    rows = torch.randn(count, 40)
    with torch.inference_mode():
        product = PackedProduct([x.weight for x in layers], [x.bias for x in layers])
        wanted = torch.cat([layer(rows) for layer in layers], -1)
        torch.testing.assert_close(product(rows), wanted, atol=1e-5, rtol=1e-5)


def test_what_is_packed_is_a_copy():
    weight = torch.randn(8, 16)
    rows = torch.randn(5, 16)
    with torch.inference_mode():
        wanted = F.linear(rows, weight)
        product = PackedProduct([weight], [None])
        weight.zero_()
        torch.testing.assert_close(product(rows), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("outputs", [32, 30, 31])
@pytest.mark.parametrize("biased", [False, True])
def test_one_row_in_blocks_is_the_same_product(outputs, biased):
    torch.manual_seed(outputs)
    layer = nn.Linear(40, outputs, bias=biased)
    with torch.inference_mode():
        product = RowProduct(layer.weight, layer.bias)
        for rows in (torch.randn(1, 40), torch.randn(3, 40)[1:2], torch.randn(40, 3)[:, 2:].t()):
            torch.testing.assert_close(product(rows), layer(rows), atol=1e-5, rtol=1e-5)
        rows = torch.randn(3, 40)
        assert torch.equal(product(rows), layer(rows))
        layer.weight.neg_()  # nothing was copied
        torch.testing.assert_close(product(rows[:1]), layer(rows[:1]), atol=1e-5, rtol=1e-5)


def test_only_plain_float32_matrices_on_the_cpu_are_packed():
    good = torch.randn(4, 4)
    assert can_pack(good)
    bad = (
        good.double(),
        good.to("meta"),
        torch.randn(4),
        nn.Parameter(good),  # somebody may ask for its gradient
        good.to_sparse(),
    )
    assert not any(can_pack(one) for one in bad)
    assert not can_pack(good, bad[0])
    with torch.no_grad():
        assert can_pack(nn.Parameter(good))


def test_size_alone_decides(lab, packs, monkeypatch):
    model = lab.random_model()
    with torch.inference_mode():
        assert worth_packing(model)
        assert not worth_packing(lab.random_model().to(torch.bfloat16))
        monkeypatch.setattr(packed, "MOST", 100)
        assert not worth_packing(model)
        monkeypatch.undo()
        assert not worth_packing(model)


def test_blocks_are_for_processors_where_they_were_faster(lab, capability, monkeypatch):
    model = lab.random_model()
    with torch.inference_mode():
        for name, worth in (("AVX2", True), ("AVX512", False), ("DEFAULT", False)):
            capability(name)
            assert worth_blocks(model) is worth
        capability("AVX2")
        assert not worth_blocks(lab.random_model().to(torch.bfloat16))
        monkeypatch.setattr(packed, "MOST", 100)
        assert not worth_blocks(model)


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_steps_stay_those_of_the_forward_pass_when_weights_are_packed(lab, packs, capability, rows):
    capability("AVX512")
    engine = lab.engine()
    requests = [lab.request(0, 1 + at % 3, 2, at) for at in range(rows)]
    slow, fast = engine.prefill(requests), engine.prefill(requests)
    steps = TokenStep.of(engine.model)
    assert steps._wait is not None
    for number in range(12):
        tokens = [(3 * number + row) % 20 + 3 for row in range(rows)]
        engine.advance(slow, tokens)
        engine.advance(fast, tokens, steps)
        torch.testing.assert_close(fast.logits, slow.logits, atol=2e-5, rtol=1e-5)
    assert steps._packing
    assert isinstance(steps._packed[1], PackedProduct)


def test_steps_of_a_lone_row_pack_nothing_where_blocks_are_faster(lab, packs, capability):
    """Alone, in company and alone again: the steps stay those of the forward pass."""
    capability("AVX2")
    engine = lab.engine()
    slow, fast = (engine.prefill([lab.request(0, 1, 2, 0)]) for _ in range(2))
    steps = TokenStep.of(engine.model)
    assert isinstance(steps._plain[1], RowProduct)

    def go(slow, fast, count: int) -> None:
        for number in range(count):
            tokens = [(3 * number + row) % 20 + 3 for row in range(len(slow.rows))]
            engine.advance(slow, tokens)
            engine.advance(fast, tokens, steps)
            torch.testing.assert_close(fast.logits, slow.logits, atol=2e-5, rtol=1e-5)

    go(slow, fast, 20)
    assert not steps._packing
    company = [lab.request(0, 1, 2, 0), lab.request(0, 2, 2, 1)]
    slow, fast = (engine.prefill(company) for _ in range(2))
    go(slow, fast, 8)
    assert isinstance(steps._packed[1], PackedProduct)
    for decoding in (slow, fast):
        decoding.keep([1])
    go(slow, fast, 3)


@pytest.mark.parametrize("processor", ["AVX2", "AVX512"])
def test_a_text_has_the_weights_of_its_own_time(lab, packs, capability, processor):
    """Also where they were changed in ways that leave no trace on the tensor."""
    capability(processor)
    engine = lab.engine(end_ids=(), model=lab.random_model())
    request = lab.request(0, 2, 3, 0, max_new_tokens=30)

    def text() -> list[int]:
        engine.prefixes.clear()
        return [step.tokens[0] for step in engine.decode([request])]

    def slow() -> list[int]:
        engine.prefixes.clear()
        decoding, found = engine.prefill([request]), []
        for _ in range(30):
            found.append(int(decoding.logits.argmax()))
            engine.advance(decoding, found[-1:])
        return found

    before = text()
    assert before == slow()
    for weight in (engine.model.lm_head.weight, engine.model.llama.layers[0].mlp.up_proj.weight):
        weight.data.neg_()
        assert text() == slow() != before
        before = text()


@pytest.mark.parametrize("processor", ["AVX2", "AVX512"])
def test_a_replaced_layer_is_called_as_it_is(lab, packs, capability, processor):
    capability(processor)

    class Doubled(nn.Linear):
        def forward(self, rows):
            return 2 * super().forward(rows)

    engine = lab.engine(model=lab.random_model())
    old = engine.model.llama.layers[1].self_attn.o_proj
    new = Doubled(old.in_features, old.out_features, bias=False)
    new.weight = old.weight
    engine.model.llama.layers[1].self_attn.o_proj = new
    slow, fast = (engine.prefill([lab.request(0, 1, 2, 0)]) for _ in range(2))
    steps = TokenStep.of(engine.model)
    for token in range(3, 15):
        engine.advance(slow, [token])
        engine.advance(fast, [token], steps)
    assert steps._packing is (processor == "AVX512")
    torch.testing.assert_close(fast.logits, slow.logits, atol=2e-5, rtol=1e-5)
