"""The randomisation check: a map that survives random weights says nothing about the model.

Paper: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, arXiv 1810.03292, section 3
(cascading randomisation from the output to the input).
Deviations: whole parts at a time (language model, projector, vision tower) instead of layers; noise
has each matrix's own mean and spread, so that activations keep their scale; signed maps are
compared by magnitude; the verdict is that of the stage that changes the map least.

A map that passes need not be true; it can still point at the wrong place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import nn

from workbench._repr import short_repr
from workbench.backends import Reader
from workbench.backends.levels import READER, needs
from workbench.errors import InputError, check_one_of
from workbench.figures.numbers import method_name
from workbench.figures.saliency import draw_cascade
from workbench.saliency.checks import similarity
from workbench.saliency.explain import explain_target
from workbench.saliency.methods import METHODS, caution_text, remember
from workbench.saliency.scorer import Target, make_target
from workbench.trace import ImageMap, Selection, Trace, record_trace
from workbench.trace.layout import split_options

#: A map passes the randomisation check while the size of its rank correlation stays below this.
RANDOMISED_LIMIT = 0.5

#: Parts whose weights can be replaced by noise, from the output back to the input.
PARTS = ("language", "projector", "vision")


@dataclass(frozen=True, eq=False)
class RandomisationCheck:
    """How much of a map is left when the model's weights are noise.

    Attributes:
        stages: parts that were random, cascading from the output.
        similarity: per stage, rank correlation with the map of the trained model, in [-1, 1]; None
            where one of the two is constant, which neither passes nor fails.
        maps: the trained map first, then one for each stage.
    """

    method: str
    target: str
    stages: tuple[str, ...]
    similarity: tuple[float | None, ...]
    maps: tuple[ImageMap, ...]

    __repr__ = short_repr

    @property
    def worst(self) -> float | None:
        """The similarity of the stage that changed the map least; None where none is known."""
        return max((s for s in self.similarity if s is not None), key=abs, default=None)

    @property
    def ok(self) -> bool | None:
        """True where every stage with a known similarity changes the map, None where none has one.

        A map that stays as it was while the language model is random does not depend on what the
        words mean, however much it changes with the vision tower.
        """
        return None if self.worst is None else abs(self.worst) < RANDOMISED_LIMIT

    def to_frame(self) -> pd.DataFrame:
        """Return one row per stage: method, random, similarity."""
        return pd.DataFrame(
            {"method": self.method, "random": self.stages, "similarity": self.similarity}
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the similarity at each stage beside the limit."""
        verdict = {True: "passes", False: "fails", None: "has no verdict in"}[self.ok]
        return draw_cascade(
            self.stages,
            self.similarity,
            limit=RANDOMISED_LIMIT,
            title=f"{method_name(self.method)} {verdict} the randomisation check",
            ax=ax,
        )


@needs(READER)
def randomisation(
    trace: Trace,
    phrase: str | Selection | None = None,
    *,
    method: str = "relevancy",
    contrast: str | None = None,
    seed: int = 0,
    **options: object,
) -> RandomisationCheck:
    """Compare a map with the maps of the same model with random weights.

    What is explained, and how, is said as to `explain`; `seed` is of the noise. The verdict is
    written on further maps of this method and model.

    >>> wb.saliency.randomisation(trace, finding="pleural effusion", method="grad_cam").method
    'grad_cam'
    """
    trace.need_model()
    named, own = split_options(options)
    target = make_target(trace, phrase, contrast, **named)
    check = check_target(trace, target, method=method, seed=seed, **own)
    if check.worst is not None:
        caution = None if check.ok else caution_text(check.worst, 1)
        remember(method, trace.generation.model.sha256, caution)
    return check


@needs(READER)
def check_target(
    trace: Trace,
    target: Target,
    *,
    method: str,
    seed: int = 0,
    original: ImageMap | None = None,
    **options: object,
) -> RandomisationCheck:
    """Do the check for a target that was made before; see `randomisation`.

    `original` is the map of the trained model, where it is there already.

    >>> target = wb.saliency.finding_target(trace, "pleural effusion")
    >>> wb.saliency.check_target(trace, target, method="attention").method
    'attention'
    """
    first = original or explain_target(trace, target, method=method, **options)
    stages = [PARTS[: n + 1] for n in range(len(PARTS))]
    maps = [first]
    for stage in stages:
        with randomised(trace.need_model(), stage, seed=seed):
            here = _again(trace) if METHODS[method].recorded else trace
            maps.append(explain_target(here, target, method=method, **options))
    likeness = tuple(similarity(_magnitude(first), _magnitude(other)) for other in maps[1:])
    names = tuple(" + ".join(stage) for stage in stages)
    return RandomisationCheck(method, target.name, names, likeness, tuple(maps))


@contextmanager
def randomised(model: Reader, parts: tuple[str, ...] = PARTS, *, seed: int = 0) -> Iterator[None]:
    """Replace a model's weight matrices by noise of the same mean and spread, then put them back.

    Nothing else may use the model meanwhile. The head belongs to the part "language". Quantised
    weights raise `InputError`.
    """
    for part in parts:
        check_one_of("part", part, PARTS)
    if getattr(model.network, "is_quantized", False):
        raise InputError("quantised weights cannot be randomised; load the model without quantize")
    if any(parameter.is_meta for parameter in model.network.parameters()):
        raise InputError(
            "weights that are fetched from memory or disk when they are used cannot be randomised; "
            "load the model where all of it fits"
        )
    decoder, head = model.decoder, model.head
    modules = {
        "language": [decoder, head],
        "projector": [model.projector],
        "vision": [model.vision],
    }
    found = [nn.ModuleList(modules[part]).parameters() for part in parts]
    chosen = [parameter for parameter in chain(*found) if parameter.ndim > 1]
    with model.exclusive(), model.other_weights():
        kept = [parameter.detach().clone() for parameter in chosen]
        try:
            with torch.no_grad():
                for number, parameter in enumerate(chosen):
                    generator = torch.Generator().manual_seed(seed * 100_003 + number)
                    noise = torch.randn(parameter.shape, generator=generator)
                    value = parameter.float()
                    noise = noise * value.std().cpu() + value.mean().cpu()
                    parameter.copy_(noise.to(parameter))
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(chosen, kept, strict=True):
                    parameter.copy_(value)


def _again(trace: Trace) -> Trace:
    """Record the same text with the weights as they are now."""
    return record_trace(
        trace.need_model(),
        trace.image,
        torch.from_numpy(trace.pixel_values)[None],
        trace.generation,
        heads="mean" if trace.language.mean_heads else "each",
        layers=trace.language.layers,
        vision="none" if trace.vision is None else "mean",
        verify=False,
    )


def _magnitude(image_map: ImageMap) -> ImageMap:
    return replace(image_map, values=np.abs(image_map.values)) if image_map.signed else image_map
