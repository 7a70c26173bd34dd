"""`explain`: one call for a map of any phrase by any method.

    wb.saliency.explain(trace, finding="pleural effusion", method="relevancy").plot()

Does not know: how each method works; `METHODS` names where that stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import workbench.attention as attention
from workbench.errors import OptionError
from workbench.saliency.adaptive import adaptive_occlusion
from workbench.saliency.cautions import caution_of
from workbench.saliency.gradients import (
    Attribution,
    grad_cam,
    input_x_gradient,
    integrated_gradients,
    smoothgrad,
)
from workbench.saliency.perturbation import kernel_shap, occlusion
from workbench.saliency.relevancy import relevancy
from workbench.saliency.scorer import Scorer
from workbench.saliency.target import Target, finding_target, make_target
from workbench.trace import ImageMap, Selection, Trace


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
    options: Mapping[str, Any] = ()


_LOGPROB = "change of log-probability"

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


def explain(
    trace: Trace,
    phrase: str | None = None,
    *,
    method: str = "relevancy",
    finding: str | None = None,
    contrast: str | None = None,
    token: int | None = None,
    word: str | int | None = None,
    sentence: int | None = None,
    occurrence: int = 0,
    **options: Any,
) -> ImageMap:
    """Return a map of where in the image a part of the text comes from.

    Args:
        trace: a run; all methods but "attention" and "rollout" need its model.
        phrase: words of the text; or name a finding, token, word or sentence. The whole text when
            nothing is named.
        method: one of `METHODS`.
        finding: explains the sentence that states the finding against its opposite; see
            `finding_target`.
        contrast: words in the place of the phrase to weigh it against.
        token, word, sentence, occurrence: see `Trace.select`.
        **options: of the method.

    Returns:
        ImageMap over the radiograph; a caution where the method failed a check with this model.

    Raises:
        InputError: the phrase is empty or not in the text, or there is no model.
        OptionError: an unknown method or option, or two parts of the text at once.
    """
    chosen = _method(method)
    choice = {"finding": finding, "token": token, "word": word, "sentence": sentence}
    selection = trace.select(phrase, occurrence=occurrence, **choice)
    if finding is not None and contrast is None:
        target = finding_target(trace, finding, occurrence=occurrence) if trace.model else None
    else:
        target = make_target(trace, selection, contrast)
    if target is None and not chosen.recorded:
        trace.need_model()
    if target is None:
        return _from_trace(chosen, trace, selection, options)
    return explain_target(trace, target, method=method, **options)


def explain_target(
    trace: Trace, target: Target, *, method: str = "relevancy", **options: Any
) -> ImageMap:
    """Return the map of a target that was made before; see `explain`.

    Raises:
        InputError: the trace has no model.
        OptionError: an unknown method or option, or one that reads attention only.
    """
    chosen = _method(method)
    if chosen.recorded:
        return _from_trace(chosen, trace, target.selection, options)
    began = time.perf_counter()
    scorer = Scorer(trace, target)
    settings = dict(chosen.options) | options
    found = _run(chosen, scorer, trace.layout.grid, settings)
    return ImageMap(
        values=found.values.numpy(),
        geometry=trace.layout.geometry,
        image=trace.image,
        method=chosen.name.replace("_", " "),
        target=target.name,
        unit=chosen.unit,
        signed=chosen.signed,
        layer=chosen.layer,
        head=chosen.head,
        caution=caution_of(chosen.name, trace.generation.model.sha256),
        settings=settings | _provenance(trace, chosen),
        scores=dict(found.scores),
        seconds=time.perf_counter() - began,
    )


def _method(name: str) -> Method:
    if name not in METHODS:
        raise OptionError(f"unknown method {name!r}; expected one of: {', '.join(METHODS)}")
    return METHODS[name]


def _run(method: Method, scorer: Scorer, grid: tuple[int, int], options: dict) -> Attribution:
    try:
        return method.run(scorer, grid, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise OptionError(f"{method.name} does not take this option: {error}") from error


def _from_trace(method: Method, trace: Trace, selection: Selection, options: dict) -> ImageMap:
    """Return a map that reads attention only, of just the characters of a selection."""
    began = time.perf_counter()
    occurrence = 0
    while trace.select(selection.text, occurrence=occurrence).start < selection.start:
        occurrence += 1
    found = method.run(trace, selection.text, occurrence=occurrence, **options)
    return replace(
        found,
        caution=caution_of(method.name, trace.generation.model.sha256),
        settings={**found.settings, **_provenance(trace, method)},
        seconds=time.perf_counter() - began,
    )


def _provenance(trace: Trace, method: Method) -> dict:
    generation = trace.generation
    return {
        "model": generation.model.id,
        "sha256": generation.model.sha256,
        "prompt": generation.prompt,
        "paper": method.paper,
        "versions": dict(generation.versions),
    }
