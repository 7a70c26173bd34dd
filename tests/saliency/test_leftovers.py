"""No method leaves a hook, a registered function, a frozen weight or a moved seed behind."""

from __future__ import annotations

import threading

import pytest
import torch

from workbench.errors import OptionError
from workbench.saliency import METHODS, explain, randomisation
from workbench.saliency.gradients import relevancy
from workbench.saliency.randomisation import randomised
from workbench.saliency.scorer import Scorer, Target

LIVE = [name for name, method in METHODS.items() if not method.recorded]
CHEAP = {"smoothgrad": {"samples": 3}, "kernel_shap": {"samples": 16, "regions": (2, 2)}}
CHEAP |= {name: {"most": 32} for name in ("integrated_gradients", "integrated_gradients_patches")}
WRONG = {
    "relevancy": {"colour": "red"},
    "input_x_gradient": {"samples": 2},
    "smoothgrad": {"samples": 0},
    "integrated_gradients": {"baseline": "white"},
    "integrated_gradients_patches": {"baseline": "white"},
    "grad_cam": {"layer": 2},
    "token_activation": {"window": 2},
    "occlusion": {"stride": 7},
    "adaptive_occlusion": {"budget": 1},
    "kernel_shap": {"regions": (5, 5)},
}


@pytest.fixture
def network(golden):
    return golden.model.network


def is_free(engine) -> bool:
    """Whether another thread gets the engine's lock."""
    got = []

    def take() -> None:
        got.append(engine._lock.acquire(blocking=False))
        if got[0]:
            engine._lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return got[0]


def blow_up(*args, **kwargs):
    raise RuntimeError("boom")


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_after_success(method, golden, network, toys):
    before = toys.leftovers(network)
    assert not before["hooks"]
    explain(golden, token=3, method=method, **CHEAP.get(method, {}))
    assert toys.leftovers(network) == before
    assert is_free(golden.model.engine)


@pytest.mark.parametrize("method", LIVE)
def test_nothing_is_left_after_a_wrong_option(method, golden, network, toys):
    before = toys.leftovers(network)
    with pytest.raises(OptionError):
        explain(golden, token=3, method=method, **WRONG[method])
    assert toys.leftovers(network) == before
    assert is_free(golden.model.engine)


@pytest.mark.parametrize("method", LIVE)
@pytest.mark.parametrize("part", ["lm_head", "mm_projector"])
def test_nothing_is_left_after_a_crash_inside(method, part, golden, network, toys, monkeypatch):
    before = toys.leftovers(network)
    monkeypatch.setattr(getattr(network, part), "forward", blow_up)
    with pytest.raises(RuntimeError, match="boom"):
        explain(golden, token=3, method=method, **CHEAP.get(method, {}))
    assert toys.leftovers(network) == before
    assert is_free(golden.model.engine)


def test_nothing_is_left_after_a_crash_on_the_way_back(golden, network, toys, monkeypatch):
    """The backward pass fails while the attention is still watched."""
    before = toys.leftovers(network)
    monkeypatch.setattr(torch.autograd, "grad", blow_up)
    with pytest.raises(RuntimeError, match="boom"):
        explain(golden, token=3, method="relevancy")
    assert toys.leftovers(network) == before


def test_nothing_is_left_after_a_token_that_does_not_exist(golden, network, toys):
    before = toys.leftovers(network)
    selection = golden.select(token=3)
    target = Target(selection, golden.generation.token_ids[:3], (10**6,))
    with pytest.raises((IndexError, RuntimeError)):
        relevancy(Scorer(golden, target), golden.layout.grid)
    assert toys.leftovers(network) == before


def test_the_watch_is_on_while_relevancy_runs(tiny_trace, toys, monkeypatch):
    """Otherwise the tests above prove nothing."""
    network = tiny_trace.model.network
    before, seen = toys.leftovers(network), []
    original = Scorer.forward

    def look(self, pixels):
        seen.append(toys.leftovers(network))
        return original(self, pixels)

    monkeypatch.setattr(Scorer, "forward", look)
    explain(tiny_trace, token=3, method="relevancy")
    (inside,) = seen
    assert len(inside["attention"] - before["attention"]) == 1
    assert inside["implementations"] != before["implementations"]


def test_nothing_is_left_after_randomisation(tiny_trace, toys, monkeypatch):
    network = tiny_trace.model.network
    before = toys.leftovers(network)
    randomisation(tiny_trace, "left", method="grad_cam")
    assert toys.leftovers(network) == before
    monkeypatch.setattr(network.lm_head, "forward", blow_up)
    with pytest.raises(RuntimeError, match="boom"), randomised(tiny_trace.model):
        explain(tiny_trace, token=3, method="grad_cam")
    assert toys.leftovers(network) == before
    assert is_free(tiny_trace.model.engine)
