"""Sections about what may make decoding faster: int8 weights, guessed tokens, compiled steps.

Guessing ahead (Leviathan et al., Fast Inference from Transformers via Speculative Decoding, ICML
2023, arXiv 2211.17192): a cheap source proposes k tokens, the model reads them in one pass and
keeps those it would have chosen. It pays where reading k + 1 tokens costs little more than reading
one, and guesses are good. Both are measured: the cost on the middle-sized model, the guesses on
reports of `mini`, from the longest ending of the text that earlier reports, and the text itself,
also have.

Does not know: GPUs, where reading several tokens costs less.
"""

from __future__ import annotations

import statistics

import torch

from speed.clock import Times, compare, ratio, timed
from speed.decoding import Bench, Plan
from speed.models import weight_bytes

#: Longest ending that a guess is looked up by.
_CONTEXT = 4


def int8(plan: Plan) -> dict:
    """Shrink the language model to int8: steps, and how far log-probabilities move."""
    import workbench as wb
    from workbench.model.int8 import load_as_int8

    whole, small = Bench(plan.sizes), Bench(plan.sizes)
    before = weight_bytes(whole.model)
    tensors = small.model.state_dict()
    small.engine.model = load_as_int8(small.model.config, tensors).eval().requires_grad_(False)
    tokens = max(8, plan.sizes.new_tokens // 2)
    pixels = whole.pixels()
    found = {}
    for size in (1, 4):
        asked = [whole.request(pixels, tokens=tokens)] * size
        steps = {"float32": _stepper(whole, asked), "int8": _stepper(small, asked)}
        found[size] = compare(steps, tokens - 4)
    plain = wb.load_model("mini", device="cpu", dtype="float32")
    shrunk = wb.load_model("mini", device="cpu", quantize="int8")
    return {
        "float32_weight_bytes": before,
        "steps": {
            str(size): {name: times.to_dict() for name, times in each.items()}
            for size, each in found.items()
        },
        "float32_over_int8": {
            str(size): ratio(each["float32"], each["int8"]) for size, each in found.items()
        },
        "mini": _apart(plain, shrunk, 2 if plan.quick else 12),
    }


def _stepper(bench: Bench, asked: list):
    steps = bench.engine.decode(asked)
    next(steps)
    return lambda: next(steps)


def _apart(plain, shrunk, count: int) -> dict:
    """Compare reports of a model and of its int8 form; the first one's tokens are read by both."""
    import workbench as wb

    same, moved = 0, []
    for seed in range(count):
        case = wb.phantom(seed=seed, size=plain.image_size)
        one, other = plain.report(case), shrunk.report(case)
        same += one.text == other.text
        moved.append(abs(_reads(plain, case, one) - _reads(shrunk, case, one)).mean())
    return {
        "reports": count,
        "same_text": same / count,
        "logprob_moved": float(statistics.mean(moved)),
    }


def _reads(model, case, written):
    from workbench.imaging.load import as_radiograph

    pixels = model.pixels(as_radiograph(case))
    logits = model.engine.force(pixels, written.prompt_ids, written.token_ids)
    chosen = torch.tensor(written.token_ids)[:, None]
    return logits.log_softmax(-1).gather(-1, chosen)[:, 0].numpy()


def guessing(plan: Plan) -> dict:
    """Weigh what guessing tokens ahead could save: cost of reading k, share of right guesses."""
    bench = Bench(plan.sizes)
    decoding = bench.engine.prefill([bench.request(bench.pixels(), tokens=8)])
    length = decoding.buffer.length

    def read(count: int) -> None:
        decoding.buffer.rewind(length)
        bench.engine.extend(decoding.buffer, [list(range(3, 3 + count))])

    lengths = (1, 3, 5, 9)
    found = {count: Times() for count in lengths}
    for turn in range(plan.rounds * 2 + 1):
        for count in lengths:
            timed(lambda count=count: read(count), found[count] if turn else Times())
    single = statistics.median(found[1].cpu)
    cost = {count - 1: statistics.median(found[count].cpu) / single for count in lengths[1:]}
    taken = _taken(6 if plan.quick else 60, tuple(cost))
    return {
        "cost_of_reading_guesses": {str(k): value for k, value in cost.items()},
        "tokens_per_pass": {str(k): value for k, value in taken.items()},
        "faster": {str(k): taken[k] / cost[k] for k in cost},
    }


def _taken(reports: int, guesses: tuple[int, ...]) -> dict[int, float]:
    """Return tokens that one pass yields on average, by number of guesses."""
    import workbench as wb

    model = wb.load_model("mini", device="cpu", dtype="float32")
    cases = [wb.phantom(seed=seed, size=model.image_size) for seed in range(reports)]
    texts = [list(one.token_ids) for one in model.report_many(cases)]
    half = len(texts) // 2
    memory = [*texts[:half]]
    found = {}
    for count in guesses:
        passes = sum(_passes(memory, text, count) for text in texts[half:])
        found[count] = sum(map(len, texts[half:])) / passes
    return found


def _passes(memory: list[list[int]], text: list[int], count: int) -> int:
    """Return the passes that a text takes when each guess of `count` tokens is checked."""
    at = passes = 0
    while at < len(text):
        guess = _guess([*memory, text[:at]], text[:at], count)
        right = 0
        while right < len(guess) and at + right < len(text) and guess[right] == text[at + right]:
            right += 1
        at, passes = at + right + 1, passes + 1
    return passes


def _guess(texts: list[list[int]], written: list[int], count: int) -> list[int]:
    """Return what followed the longest ending of `written` the last time that it was seen."""
    for size in range(min(_CONTEXT, len(written)), 0, -1):
        ending = written[-size:]
        for text in reversed(texts):
            for start in range(len(text) - size - 1, -1, -1):
                if text[start : start + size] == ending:
                    return text[start + size : start + size + count]
    return []


def compiled(plan: Plan) -> dict:
    """Compile the decoding step with torch.compile: seconds to compile, and per step."""
    from workbench.generation.token_step import TokenStep

    bench = Bench(plan.sizes)
    request = bench.request(bench.pixels(), tokens=8)
    plain, step = TokenStep.of(bench.model), TokenStep.of(bench.model)
    ready = Times()
    with torch.inference_mode():
        buffers = [bench.engine.prefill([request]).buffer for _ in range(2)]
        fast = torch.compile(step, dynamic=True)
        try:
            for _ in range(3):
                timed(lambda: fast(buffers[1], [5]), ready)
        except Exception as error:  # no compiler, or one that cannot
            return {"works": False, "why": type(error).__name__}
        buffers[0].rewind(buffers[1].length)
        for _ in range(3):
            plain(buffers[0], [5])
        apart = float((plain(buffers[0], [5]) - fast(buffers[1], [5])).abs().max())
        ways = {"plain": lambda: plain(buffers[0], [5]), "compiled": lambda: fast(buffers[1], [5])}
        found = compare(ways, 2 if plan.quick else 12)
    return {
        "works": True,
        "seconds_to_compile": sum(ready.wall),
        "plain_over_compiled": ratio(found["plain"], found["compiled"]),
        "largest_difference": apart,
        "times": {name: times.to_dict() for name, times in found.items()},
    }
