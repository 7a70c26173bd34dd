"""How seconds grow: with tokens, images, batch and model size; exponents of a power law.

An exponent of 1 is twice the time for twice the work; a batch that costs nothing more has 0.

Does not know: why.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import replace

from speed.clock import Times, exponent, own_clock, timed
from speed.decoding import SETTLED, Bench, Plan
from speed.models import weight_bytes


def scaling(plan: Plan) -> dict:
    """Measure four curves on the middle-sized model and smaller ones."""
    base = plan.sizes
    bench = Bench(base)
    pixels = bench.pixels()
    counts = (2, 4, 8) if plan.quick else (16, 32, 64, 128)
    asked = bench.request(pixels, tokens=max(counts))

    def tokens(count: int) -> Callable[[], object]:
        one = bench.request(pixels, tokens=count)
        return lambda: [list(step.tokens) for step in bench.engine.decode([one])]

    def images(count: int) -> Callable[[], object]:
        many = [bench.request(bench.pixels(), tokens=4) for _ in range(count)]
        return lambda: bench.write(many)

    def batch(count: int) -> Callable[[], object]:
        steps = bench.engine.decode([asked] * count)
        for _ in range(1 if plan.quick else SETTLED):
            next(steps)
        return lambda: next(steps)

    bench.engine.prefix(pixels, asked.ids)
    curves = {
        "new tokens, image ready": _curve(counts, tokens, 1 if plan.quick else 2),
        "images, 4 tokens each": _curve((1, 2) if plan.quick else (1, 2, 4), images, 1),
        "rows of a batch, one step": _curve((1, 2, 4) if plan.quick else (1, 2, 4, 8), batch, 4),
    }
    return {"curves": curves | {"bytes of weights, one step": _models(plan)}}


def _curve(sizes: Iterable[int], make: Callable, repeats: int) -> dict:
    """Return sizes, seconds and the exponent of one curve."""
    sizes = list(sizes)
    works = {size: make(size) for size in sizes}
    return _fitted(sizes, works, repeats)


def _fitted(sizes: list, works: dict, repeats: int) -> dict:
    times = {size: Times() for size in sizes}
    for size in sizes:
        works[size]()
    for _ in range(repeats):
        for size in sizes:
            timed(works[size], times[size])
    seconds = [statistics.median(getattr(times[size], own_clock())) for size in sizes]
    return {"sizes": sizes, "seconds": seconds, "exponent": exponent(sizes, seconds)}


def _models(plan: Plan) -> dict:
    """Measure one step of models of several widths, over the bytes of their weights."""
    widths = (64, 128) if plan.quick else (256, 512, 768)
    works = {}
    for width in widths:
        sizes = replace(plan.sizes, width=width, vision_width=64, vision_layers=1)
        bench = Bench(sizes)
        steps = bench.engine.decode([bench.request(bench.pixels(), tokens=32)])
        for _ in range(1 if plan.quick else SETTLED):
            next(steps)
        works[weight_bytes(bench.model)] = lambda steps=steps: next(steps)
    return _fitted(list(works), works, 2 if plan.quick else 8)
