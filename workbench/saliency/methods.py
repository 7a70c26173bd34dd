"""The table `METHODS` of ways to make a map, which a model has, and what speaks against one.

Verdicts of the randomisation check on `mini` ship beside its weights (`workbench benchmark saliency
--record` writes them) and hold for the weights of their hash only. Of other models nothing is known
until `randomisation` has been run; a failure then counts for the rest of the session.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import workbench.attention as attention
from workbench.backends.levels import READER, WRITER, needs
from workbench.backends.reader import Reader
from workbench.errors import OptionError, unknown_name
from workbench.saliency import activation, gradients, perturbation

_LOGPROB = "change of log-probability"


@dataclass(frozen=True)
class Method:
    """One way to make a map.

    Attributes:
        run: takes (scorer, grid, **options), or (trace, selection, **options) where `recorded`.
        unit: what a value is; where `signed`, values below 0 speak against the target.
        recorded: reads attention from the trace and needs no model.
        patchwise: defined where the vision tower is one stack over the patches of the whole image.
        contrasted: weighs a target against its contrast; others take its words alone.
        layer, head: which ones, in words.
        fixed: options that a caller may not set, and their values.
        level: of the model that it needs; "writer" where it only changes the image.

    >>> wb.saliency.METHODS["occlusion"].options
    {'stride': None, 'window': None, 'fill': 'mean', 'batch_size': 16}
    """

    name: str
    run: Callable[..., Any]
    unit: str
    signed: bool = False
    paper: str = ""
    recorded: bool = False
    patchwise: bool = False
    contrasted: bool = True
    layer: str = "whole model"
    head: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    level: str = READER

    @property
    def options(self) -> dict[str, Any]:
        """Every option that a caller may set, with its default; `explain` says what each does."""
        return {
            name: parameter.default
            for name, parameter in inspect.signature(self.run).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and name not in self.fixed
        }


_TABLE = (
    Method(
        "attention", attention.to_image, "share of attention", recorded=True,
        paper="Vaswani et al. 2017; no explanation by itself (Jain & Wallace 2019)",
    ),
    Method(
        "attention_without_sinks", attention.without_sinks, "share of attention", recorded=True,
        paper="Kang et al. 2025, arXiv 2503.03321; sinks by the recorded rows",
    ),
    Method(
        "rollout", attention.rollout, "share of attention", recorded=True, patchwise=True,
        paper="Abnar & Zuidema 2020, arXiv 2005.00928",
    ),
    Method(
        "relevancy", gradients.relevancy, "relevancy",
        layer="all layers of both transformers", head="mean of heads, gradient-weighted",
        paper="Chefer et al. 2021, arXiv 2103.15679, adapted to a decoder",
    ),
    Method(
        "input_x_gradient", gradients.input_x_gradient, _LOGPROB + " (first order)", signed=True,
        paper="Shrikumar et al. 2016, arXiv 1605.01713",
    ),
    Method(
        "smoothgrad", gradients.smoothgrad, _LOGPROB + " (first order)", signed=True,
        paper="Smilkov et al. 2017, arXiv 1706.03825",
    ),
    Method(
        "integrated_gradients", gradients.integrated_gradients, _LOGPROB, signed=True,
        paper="Sundararajan et al. 2017, arXiv 1703.01365",
    ),
    Method(
        "integrated_gradients_patches", gradients.integrated_gradients, _LOGPROB, signed=True,
        layer="patch embedding", fixed={"over": "patches"}, patchwise=True,
        paper="Sundararajan et al. 2017, over patch embeddings",
    ),
    Method(
        "grad_cam", gradients.grad_cam, "weighted activation", layer="last vision block",
        paper="Selvaraju et al. 2017, arXiv 1610.02391",
    ),
    Method(
        "token_activation", activation.token_activation, "activation above that of earlier words",
        contrasted=False, layer="last layer of the language model",
        paper="Li et al. 2025 (TAM), arXiv 2506.23270",
    ),
    Method(
        "occlusion", perturbation.occlusion, _LOGPROB, signed=True, level=WRITER,
        paper="Zeiler & Fergus 2014, arXiv 1311.2901",
    ),
    Method(
        "adaptive_occlusion", perturbation.adaptive_occlusion, _LOGPROB, signed=True,
        level=WRITER,
        paper="Zeiler & Fergus 2014, windows chosen coarse to fine",
    ),
    Method(
        "kernel_shap", perturbation.kernel_shap, _LOGPROB, signed=True, level=WRITER,
        paper="Lundberg & Lee 2017, arXiv 1705.07874",
    ),
)  # fmt: skip

#: Name -> method, in the order of tables.
METHODS = {method.name: method for method in _TABLE}

#: Methods that take a fraction of a second each on a laptop with `mini`.
FAST = ("attention", "rollout", "relevancy", "grad_cam", "input_x_gradient")


def method_of(name: object) -> Method:
    """Return a method by name; OptionError where there is none."""
    if not isinstance(name, str) or name not in METHODS:
        raise OptionError(unknown_name("method", name, METHODS))
    return METHODS[name]


@needs(READER)
def methods_for(model: Reader) -> tuple[str, ...]:
    """Return the names of the methods that are defined for a model, in the order of `METHODS`.

    >>> "attention" in wb.saliency.methods_for(model)
    True
    """
    return tuple(name for name, one in METHODS.items() if model.patchwise or not one.patchwise)


_session: dict[tuple[str, str], str | None] = {}

#: Beside the weights of `mini`.
FILE = "saliency_checks.json"


@cache
def _shipped() -> dict:
    path = files("workbench") / "assets" / "mini" / FILE
    return json.loads(path.read_text()) if path.is_file() else {"sha256": None, "methods": {}}


def caution_of(method: str, sha256: str) -> str | None:
    """Return what to write beside a map of a method by the weights of a hash; None for nothing."""
    shipped = _shipped()
    if shipped["sha256"] == sha256 and method in shipped["methods"]:
        found = shipped["methods"][method]
        # One more case that passes does not outweigh a failure over several.
        if not found["ok"]:
            return caution_text(found["similarity"], found["cases"])
    return _session.get((method, sha256))


def caution_text(similarity: float, cases: int) -> str:
    """Return the caution of a method that failed the randomisation check."""
    return (
        "fails the randomisation check: with random weights the map stays much the same "
        f"(rank correlation {similarity:.2f}, {cases} case{'s' if cases != 1 else ''})"
    )


def remember(method: str, sha256: str, caution: str | None) -> None:
    """Let a verdict count for the rest of the session."""
    _session[method, sha256] = caution
