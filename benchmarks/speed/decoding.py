"""Sections about writing texts: one report, many, many questions, and what else was tried.

Each returns plain values for JSON. Ratios say how many times as long the other way takes.

Does not know: other sections, and where its numbers go.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from speed.clock import Times, compare, own_clock, ratio, timed
from speed.machine import Probe
from speed.models import (
    MIDDLE,
    TINY,
    Sizes,
    network,
    prompt_flops,
    state_bytes,
    weight_bytes,
)
from speed.peers import Published
from workbench.generation.engine import Engine, Request
from workbench.generation.options import DecodingSettings
from workbench.generation.sampling import Sampler
from workbench.model.prompt import IMAGE_TOKEN_ID

#: Steps after which weights are packed, and a text goes on as it will.
SETTLED = 10
#: Words in front of and behind the image, as in the published report prompt.
BEFORE, BEHIND = 33, 33


@dataclass(frozen=True)
class Plan:
    """How a section is run.

    Attributes:
        quick: tiny models and one round: to see that it runs, not how fast.
        rounds: repeats of every measurement.
        rows: of the long run.
    """

    quick: bool = False
    rounds: int = 3
    rows: int = 5000

    @property
    def sizes(self) -> Sizes:
        """Sizes of the model that stands for the real one."""
        return TINY if self.quick else MIDDLE


class Bench:
    """A random model with its engine, its peer and prompts."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.model = network(sizes)
        self.engine = Engine(self.model, image_id=IMAGE_TOKEN_ID, end_ids=())
        self.peer = Published(self.model)
        draw = torch.Generator().manual_seed(1)
        self._words = torch.randint(3, sizes.vocabulary, (4096,), generator=draw).tolist()
        self._draw = draw

    def pixels(self) -> torch.Tensor:
        """Return another image: (1, 1, S, S)."""
        side = self.sizes.side
        return torch.randn(1, 1, side, side, generator=self._draw)

    def request(self, pixels: torch.Tensor, *, tokens: int, question: int = 0) -> Request:
        """Return a prompt of the published length; every question is another of its length."""
        words = self._words
        start = BEFORE + question * BEHIND
        ids = (*words[:BEFORE], IMAGE_TOKEN_ID, *words[start : start + BEHIND])
        return Request(pixels, ids, DecodingSettings(max_new_tokens=tokens))

    def write(self, requests: list[Request]) -> list[list[int]]:
        """Answer requests together, nothing kept from before."""
        self.engine.prefixes.clear()
        texts: list[list[int]] = [[] for _ in requests]
        for step in self.engine.decode(requests):
            for row, token in zip(step.rows, step.tokens, strict=True):
                texts[row].append(token)
        return texts

    def publish(self, requests: list[Request]) -> list[list[int]]:
        """Answer requests one after the other in the published way."""
        return [
            self.peer.write(r.pixel_values, r.ids, r.settings.max_new_tokens)[0].tolist()
            for r in requests
        ]


def report(plan: Plan) -> dict:
    """Write one report: parts against the machine's limits, the whole against the peer."""
    bench, sizes = Bench(plan.sizes), plan.sizes
    request = bench.request(bench.pixels(), tokens=sizes.new_tokens)
    probe = Probe(weight_bytes(bench.model))
    parts = {name: Times() for name in ("vision", "prefix", "question", "step")}
    positions = BEFORE + sizes.image_tokens + BEHIND
    for turn in range(plan.rounds + 1):
        found = parts if turn else {name: Times() for name in parts}
        _one_report(bench, request, found, probe)
    texts: dict[str, list] = {}
    whole = compare(
        {
            "ours": lambda: texts.update(ours=bench.write([request])),
            "published": lambda: texts.update(published=bench.publish([request])),
        },
        max(1, plan.rounds - 1),
        warm=False,
    )
    read = weight_bytes(bench.model) + state_bytes(bench.model, positions + sizes.new_tokens // 2)
    flops = prompt_flops(bench.model, sizes.image_tokens, positions - BEHIND)
    cpu, wall = probe.ceilings("cpu"), probe.ceilings("wall")
    step = {clock: statistics.median(getattr(parts["step"], clock)) for clock in ("cpu", "wall")}
    clock = own_clock()
    limits = {"cpu": cpu, "wall": wall}[clock]
    vision, prefix = (parts[name].to_dict()[clock] for name in ("vision", "prefix"))
    return {
        "limits": limits.to_dict(),
        "bytes_per_token": read,
        "flops": flops,
        "parts": {name: times.to_dict() for name, times in parts.items()},
        "tokens_per_second": {clock: 1 / seconds for clock, seconds in step.items()},
        "bandwidth_fraction": {
            "cpu": read / cpu.bandwidth / step["cpu"],
            "wall": read / wall.bandwidth / step["wall"],
        },
        "flops_fraction": {
            "vision": flops["vision"] / limits.flops / vision,
            "prefix": sum(flops.values()) / limits.flops / prefix,
        },
        "latency": {name: times.to_dict() for name, times in whole.items()},
        "published_over_ours": ratio(whole["published"], whole["ours"]),
        "same_tokens": texts["ours"] == texts["published"],
    }


def _one_report(bench: Bench, request: Request, parts: dict[str, Times], probe: Probe) -> None:
    """Write one report part by part, the machine's limits measured between its tokens."""
    engine = bench.engine
    engine.prefixes.clear()
    with torch.inference_mode():
        timed(lambda: bench.model.encode_image(request.pixel_values), parts["vision"])
    timed(lambda: engine.prefix(request.pixel_values, request.ids), parts["prefix"])
    decoding = timed(lambda: engine.prefill([request]), parts["question"])
    steps = engine.run(decoding, {0: Sampler(request.settings)})
    next(steps)
    for number in range(request.settings.max_new_tokens - 1):
        timed(lambda: next(steps), parts["step"])
        if number % 16 == 0:
            probe.once()


def questions(plan: Plan) -> dict:
    """Ask 8 questions about one image: shared prefix, together; against recomputing."""
    bench = Bench(plan.sizes)
    pixels = bench.pixels()
    tokens = max(2, plan.sizes.new_tokens // 4)
    asked = [bench.request(pixels, tokens=tokens, question=n) for n in range(8)]

    def one_by_one() -> list:
        bench.engine.prefixes.clear()
        return [[s.tokens[0] for s in bench.engine.decode([one])] for one in asked]

    def recomputed() -> list:
        return [bench.write([one])[0] for one in asked]

    texts: dict[str, list] = {}

    def kept(name: str, work: Callable[[], list]) -> Callable[[], None]:
        return lambda: texts.update({name: work()})

    found = compare(
        {
            "together": kept("together", lambda: bench.write(asked)),
            "one by one": kept("one by one", one_by_one),
            "recomputed": kept("recomputed", recomputed),
            "published": kept("published", lambda: bench.publish(asked)),
        },
        max(1, plan.rounds - 2),
        warm=plan.quick,
    )
    return {
        "questions": len(asked),
        "new_tokens": tokens,
        "times": {name: times.to_dict() for name, times in found.items()},
        "published_over_together": ratio(found["published"], found["together"]),
        "recomputed_over_together": ratio(found["recomputed"], found["together"]),
        "recomputed_over_one_by_one": ratio(found["recomputed"], found["one by one"]),
        "same_tokens": all(each == texts["recomputed"] for each in texts.values()),
    }


def batch(plan: Plan) -> dict:
    """Write reports of 16 images: together, one after the other, and in the published way.

    The last two are rates of four reports; what they cost does not depend on their number.
    """
    bench = Bench(plan.sizes)
    tokens = plan.sizes.new_tokens
    asked = [bench.request(bench.pixels(), tokens=tokens) for _ in range(16)]
    few = 4
    texts: dict[str, list] = {}

    def kept(name: str, work: Callable[[], list]) -> Callable[[], None]:
        return lambda: texts.update({name: work()})

    ways = {
        "published": kept("published", lambda: bench.publish(asked[:few])),
        "sequential": kept("sequential", lambda: [bench.write([a])[0] for a in asked[:few]]),
        "batched": kept("batched", lambda: bench.write(asked)),
    }
    found = compare(ways, 1, warm=plan.quick)
    share = few / len(asked)
    steps = _steps(bench, asked, plan)
    return {
        "reports": len(asked),
        "new_tokens": tokens,
        "times": {name: times.to_dict() for name, times in found.items()},
        **{
            f"{name}_over_batched": ratio(found[name], found["batched"], share=share)
            for name in ("published", "sequential")
        },
        "seconds_per_token_of_a_row": steps,
        "decoding_rate": steps["1"] / steps["16"],
        "same_tokens": texts["sequential"] == texts["batched"][:few],
        "same_as_published": texts["sequential"] == texts["published"],
    }


def _steps(bench: Bench, asked: list[Request], plan: Plan) -> dict[str, float]:
    """Return seconds of a step, for each row, by batch size; the text is on its way."""
    seconds = {}
    first = asked[0]
    for size in (1, 2, 4, 8, 16):
        decoding = bench.engine.prefill([first] * size)
        samplers = {row: Sampler(first.settings) for row in range(size)}
        steps = bench.engine.run(decoding, samplers)
        for _ in range(1 if plan.quick else SETTLED):
            next(steps)
        times = Times()
        for _ in range(3 if plan.quick else 12):
            timed(lambda steps=steps: next(steps), times)
        seconds[str(size)] = statistics.median(getattr(times, own_clock())) / size
    return seconds


def mini_step(plan: Plan) -> dict:
    """Take decoding steps of `mini`: the engine's, and those of transformers' `generate`."""
    import workbench as wb
    from workbench.model.prompt import report_messages

    model = wb.load_model("mini", device="cpu", dtype="float32")
    tokens = 8 if plan.quick else 48
    settings = DecodingSettings(max_new_tokens=tokens)
    case = wb.phantom(seed=3, findings=["pleural effusion"], size=model.image_size)
    job = model.jobs(case, [("report", report_messages(), settings)])[0]
    engine = Engine(model.network, image_id=IMAGE_TOKEN_ID, end_ids=())
    peer, request = Published(engine.model), job.request
    embeds = peer.embed(request.pixel_values, request.ids)
    engine.prefix(request.pixel_values, request.ids)

    def ours(count: int) -> list[int]:
        short = Request(request.pixel_values, request.ids, DecodingSettings(max_new_tokens=count))
        return [step.tokens[0] for step in engine.decode([short])]

    # What is not a step (the prompt) is taken off: a long text minus a short one.
    ways = {
        "ours long": lambda: ours(tokens),
        "ours short": lambda: ours(2),
        "generate long": lambda: peer.write_from(embeds, tokens),
        "generate short": lambda: peer.write_from(embeds, 2),
    }
    found = compare(ways, plan.rounds + 2)
    step = {
        who: {
            clock: statistics.median(
                (long - short) / (tokens - 2)
                for long, short in zip(
                    getattr(found[f"{who} long"], clock),
                    getattr(found[f"{who} short"], clock),
                    strict=True,
                )
            )
            for clock in ("cpu", "wall")
        }
        for who in ("ours", "generate")
    }
    return {
        "seconds_per_step": step,
        "generate_over_ours": {c: step["generate"][c] / step["ours"][c] for c in ("cpu", "wall")},
        "same_tokens": ours(tokens) == peer.write_from(embeds, tokens)[0].tolist(),
    }


def many(plan: Plan) -> dict:
    """Write reports of unlike length with `mini`: places that are filled again, and batches."""
    import workbench as wb
    from workbench.model.prompt import report_messages

    model = wb.load_model("mini", device="cpu", dtype="float32")
    count = 6 if plan.quick else 48
    jobs = []
    for seed in range(count):
        case = wb.phantom(seed=seed, size=model.image_size)
        settings = DecodingSettings(max_new_tokens=8 + 29 * seed % 48)
        jobs += model.jobs(case, [("report", report_messages(), settings)])
    clear = model.engine.prefixes.clear

    def flowing() -> list:
        clear()
        return [one.token_ids for one in model.answer_many(jobs, batch_size=8)]

    def batches() -> list:
        clear()
        chunks = [jobs[at : at + 8] for at in range(0, count, 8)]
        return [one.token_ids for c in chunks for one in model.answer_batch(c)]

    found = compare({"flowing": flowing, "batches": batches}, plan.rounds)
    return {
        "reports": count,
        "times": {name: times.to_dict() for name, times in found.items()},
        "batches_over_flowing": ratio(found["batches"], found["flowing"]),
        "same_tokens": flowing() == batches(),
    }
