"""A flow of requests through one batch: a new one joins as soon as enough rows have finished.

Answers end at different lengths. Batches one after the other wait for their longest answer with
less and less to do; here free places are filled while the others go on. A request that joins is
prefilled by itself and put beside the rows that are there, ends aligned; what is only gap in front
of all rows is cut off at the same time. Joining copies the keys and values of the whole batch, so a
few free places are waited for.

Paper: Yu et al., Orca, OSDI 2022, section 3.2 (iteration-level scheduling). Deviation: prompts are
not mixed with steps of other rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from workbench.generation.engine import Engine, Request, Step
from workbench.generation.kvcache import Decoding
from workbench.generation.sampling import Sampler
from workbench.generation.token_step import TokenStep

#: New requests are let in when this share of the places is free.
_FREE = 0.25


def flow(engine: Engine, requests: Iterable[Request], *, places: int) -> Iterator[Step]:
    """Answer any number of requests, `places` at a time.

    Args:
        engine: decodes.
        requests: is asked for the next ones when places are free.
        places: rows that are decoded together.

    Yields:
        Steps; their rows are numbers of the requests in the order in which they came.
    """
    waiting = iter(requests)
    enough = max(1, int(places * _FREE))
    samplers: dict[int, Sampler] = {}
    made: dict[int, int] = {}
    decoding: Decoding | None = None
    fast = TokenStep.of(engine.model)
    came = 0
    while True:
        free = places - (len(decoding.rows) if decoding else 0)
        if free >= enough and (new := list(islice(waiting, free))):
            samplers.update((came + n, Sampler(one.settings)) for n, one in enumerate(new))
            made.update((came + n, 0) for n in range(len(new)))
            joined = engine.prefill(new, first=came)
            room = max(one.settings.limit for one in new)
            decoding = joined if decoding is None else Decoding.join([decoding, joined], room)
            came += len(new)
        if decoding is None:
            return
        step = engine.take(decoding, samplers, made)
        yield step
        going = [place for place, stopped in enumerate(step.stopped) if stopped is None]
        for row, stopped in zip(step.rows, step.stopped, strict=True):
            if stopped is not None:
                del samplers[row], made[row]
        if not going:
            decoding = None
            continue
        decoding.keep(going)
        engine.advance(decoding, [step.tokens[place] for place in going], fast)
