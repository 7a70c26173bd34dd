"""The table of methods: how each is run, what its values are, and where it was proposed.

Does not know: how each works; the module of its function says that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import workbench.attention as attention
from workbench.saliency.adaptive import adaptive_occlusion
from workbench.saliency.gradients import (
    grad_cam,
    input_x_gradient,
    integrated_gradients,
    smoothgrad,
)
from workbench.saliency.perturbation import kernel_shap, occlusion
from workbench.saliency.relevancy import relevancy

_LOGPROB = "change of log-probability"

#: How a part of the text is named, which is not for a method to decide.
_CHOICE = ("token", "word", "sentence", "finding", "occurrence")


@dataclass(frozen=True)
class Method:
    """One way to make a map.

    Attributes:
        name: what `explain` and tables call it.
        run: takes (scorer, grid, **options), or (trace, **choice) where `recorded`.
        unit: what a value is.
        signed: whether values below 0 speak against the target.
        recorded: reads attention from the trace and needs no model.
        layer: which layers, in words.
        head: which heads, in words.
        paper: where it was proposed.
        options: fixed options of this name.
    """

    name: str
    run: Callable[..., Any]
    unit: str
    signed: bool
    paper: str
    recorded: bool = False
    layer: str = "whole model"
    head: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, Any]:
        """Every option that a caller may set, with its default."""
        taken = {*self.options, *_CHOICE}
        return {
            name: parameter.default
            for name, parameter in inspect.signature(self.run).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and name not in taken
        }


#: Name -> method, in the order of tables.
METHODS = {
    method.name: method
    for method in (
        Method(
            "attention",
            attention.to_image,
            "share of attention",
            False,
            "Vaswani et al. 2017; no explanation by itself (Jain & Wallace 2019)",
            recorded=True,
        ),
        Method(
            "rollout",
            attention.rollout,
            "share of attention",
            False,
            "Abnar & Zuidema 2020, arXiv 2005.00928",
            recorded=True,
        ),
        Method(
            "relevancy",
            relevancy,
            "relevancy",
            False,
            "Chefer et al. 2021, arXiv 2103.15679, adapted to a decoder",
            layer="all layers of both transformers",
            head="mean of heads, gradient-weighted",
        ),
        Method(
            "input_x_gradient",
            input_x_gradient,
            _LOGPROB + " (first order)",
            True,
            "Shrikumar et al. 2016, arXiv 1605.01713",
        ),
        Method(
            "smoothgrad",
            smoothgrad,
            _LOGPROB + " (first order)",
            True,
            "Smilkov et al. 2017, arXiv 1706.03825",
        ),
        Method(
            "integrated_gradients",
            integrated_gradients,
            _LOGPROB,
            True,
            "Sundararajan et al. 2017, arXiv 1703.01365",
        ),
        Method(
            "integrated_gradients_patches",
            integrated_gradients,
            _LOGPROB,
            True,
            "Sundararajan et al. 2017, over patch embeddings",
            layer="patch embedding",
            options={"over": "patches"},
        ),
        Method(
            "grad_cam",
            grad_cam,
            "weighted activation",
            False,
            "Selvaraju et al. 2017, arXiv 1610.02391",
            layer="last vision block",
        ),
        Method("occlusion", occlusion, _LOGPROB, True, "Zeiler & Fergus 2014, arXiv 1311.2901"),
        Method(
            "adaptive_occlusion",
            adaptive_occlusion,
            _LOGPROB,
            True,
            "Zeiler & Fergus 2014, windows chosen coarse to fine",
        ),
        Method("kernel_shap", kernel_shap, _LOGPROB, True, "Lundberg & Lee 2017, arXiv 1705.07874"),
    )
}
