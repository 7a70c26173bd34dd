"""Sections about explaining texts: attention, grounding, saliency.

Peers: transformers' `output_attentions=True` for attention; one forward pass of everything for each
image for grounding; captum's stock classes around such a pass for saliency.

Does not know: what maps are worth (`workbench benchmark saliency`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from speed.clock import Times, compare, ratio, timed
from speed.decoding import Plan
from speed.models import Sizes, loaded, radiographs
from speed.peers import Published


class Case:
    """A whole random model with one radiograph and its report."""

    def __init__(self, sizes: Sizes) -> None:
        self.model = loaded(sizes)
        self.engine = self.model.engine
        self.network = self.engine.model
        self.peer = Published(self.network)
        self.radiograph = radiographs(1, sizes.side)[0]
        self.report = self.model.report(self.radiograph, max_new_tokens=sizes.new_tokens)
        self.pixels = self.model.pixels(self.radiograph)


def capture(plan: Plan) -> dict:
    """Record attention: added time over generation alone, of ours and of eager attention."""
    sizes = replace(plan.sizes, new_tokens=max(4, plan.sizes.new_tokens // 2))
    case = Case(sizes)
    count, ids = len(case.report.token_ids), case.report.prompt_ids

    def alone():
        case.engine.prefixes.clear()
        return case.model.report(case.radiograph, max_new_tokens=count)

    def recorded():
        return case.model.trace(case.radiograph, alone(), heads="mean", vision="none")

    def eager():
        config = case.network.llama.config
        before, config._attn_implementation = config._attn_implementation, "eager"
        try:
            return case.peer.write(
                case.pixels, ids, count, output_attentions=True, return_dict_in_generate=True
            )
        finally:
            config._attn_implementation = before

    found = compare(
        {
            "generation": alone,
            "generation and record": recorded,
            "generate": lambda: case.peer.write(case.pixels, ids, count),
            "generate, output_attentions": eager,
        },
        plan.rounds,
        warm=plan.quick,
    )
    ours = ratio(found["generation and record"], found["generation"], less=1)
    theirs = ratio(found["generate, output_attentions"], found["generate"], less=1)
    return {
        "times": {name: times.to_dict() for name, times in found.items()},
        "added_by_record": ours,
        "added_by_output_attentions": theirs,
        "peer_over_ours": ratio(
            found["generate, output_attentions"], found["generation and record"]
        ),
    }


def grounding(plan: Plan) -> dict:
    """Ground a report with 6 ablated images, against six passes of everything.

    "first" is the first radiograph of a session, "next" every other one: ablations that do not
    depend on the radiograph (black, grey, another patient) are in the prefix cache by then.
    """
    import workbench as wb
    from workbench.hallucination.ablations import ablated_images

    case = Case(plan.sizes)
    trace = case.model.trace(case.radiograph, case.report, heads="mean", vision="none")
    ids, text = case.report.prompt_ids, case.report.token_ids
    images = ablated_images(case.model, trace.pixel_values)
    own = case.pixels

    def following():
        case.engine.prefixes.clear()
        for name in ("blank", "mean image", "other patient"):
            case.engine.prefix(images[name], ids)
        case.engine.prefix(own, ids)
        times = Times()
        found = timed(lambda: wb.hallucination.ground(trace), times)
        return found, times

    def separate():
        return torch.stack([case.peer.forced(image, ids, text) for image in images.values()])

    ours, later, theirs = Times(), Times(), Times()
    for _ in range(plan.rounds):
        case.engine.prefixes.clear()
        case.engine.prefix(own, ids)
        mine = timed(lambda: wb.hallucination.ground(trace), ours)
        logits = timed(separate, theirs)
        _, taken = following()
        later.wall += taken.wall
        later.cpu += taken.cpu
    chosen = torch.tensor(text)[None, :, None].expand(len(images), -1, 1)
    wanted = logits.gather(-1, chosen)[..., 0].numpy()
    return {
        "images": len(images),
        "times": {
            "first": ours.to_dict(),
            "next": later.to_dict(),
            "separate passes": theirs.to_dict(),
        },
        "separate_over_first": ratio(theirs, ours),
        "separate_over_next": ratio(theirs, later),
        "largest_difference": float(np.abs(mine.ablated - wanted).max()),
    }


def saliency(plan: Plan) -> dict:
    """Make one map by every method, on `mini`; occlusion and gradients against captum's stock."""
    import workbench as wb
    from workbench.saliency import METHODS

    model = wb.load_model("mini", device="cpu", dtype="float32")
    case = wb.phantom(seed=3, findings=["pleural effusion"], size=model.image_size)
    trace = model.trace(case, model.report(case, max_new_tokens=16 if plan.quick else None))
    quick = ("attention", "rollout", "relevancy", "grad_cam")
    seconds = {}
    for name in quick if plan.quick else METHODS:
        times = Times()
        timed(lambda name=name: wb.saliency.explain(trace, method=name), times)
        seconds[name] = times.to_dict()
    return {"methods": seconds} | _captum(trace, plan)


def _captum(trace, plan: Plan) -> dict:
    """Take the same windows and the same number of gradients through captum's own classes."""
    from captum.attr import IntegratedGradients, Occlusion

    import workbench as wb

    network = trace.need_model().network
    ids = torch.tensor([[*trace.generation.prompt_ids, *trace.generation.token_ids]])
    text = torch.tensor(trace.generation.token_ids)
    pixels = torch.from_numpy(trace.pixel_values)[None]
    side = pixels.shape[-1]

    def score(images):
        output = network(
            input_ids=ids.expand(len(images), -1), pixel_values=images, use_cache=False
        )
        logits = output.logits[:, -len(text) - 1 : -1].log_softmax(-1)
        return logits.gather(-1, text.expand(len(images), -1)[..., None]).sum((1, 2))

    window, stride = side // 4, side // (4 if plan.quick else 8)
    ways = {
        "captum occlusion": lambda: Occlusion(score).attribute(
            pixels, (1, window, window), strides=(1, stride, stride), baselines=0.0
        ),
        "occlusion": lambda: wb.saliency.explain(
            trace, method="occlusion", window=window, stride=stride
        ),
        "captum integrated gradients": lambda: IntegratedGradients(score).attribute(
            pixels, n_steps=4 if plan.quick else 32, internal_batch_size=8
        ),
    }
    found = compare(ways, 1, warm=False)
    return {
        "captum": {name: times.to_dict() for name, times in found.items()},
        "captum_occlusion_over_ours": ratio(found["captum occlusion"], found["occlusion"]),
    }
