"""What must hold before a checkpoint's inside is believed: one row for each property, measured.

The same checks run for every family, also for those that no test knows: `workbench doctor --model`
prints them, and a checkpoint that fails one is refused with its row. They take a noise image and
about thirty forward passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch

from workbench.backends.attending import (
    Call,
    attention_put_back,
    attention_rows,
    watch_attention,
)
from workbench.backends.reader import picture_of
from workbench.backends.transformers_vlm import Inputs, Vlm
from workbench.errors import CheckpointError
from workbench.generation.measures import ParityRow, errors_as_rows, outcome
from workbench.generation.parity import ParityReport
from workbench.model.prompt import IMAGE_MARK, Message

#: Rows and columns of the image that is used: neither square nor a multiple of a patch.
SIZE = (118, 94)

#: Largest difference of logits and of attention that counts as equal, by dtype.
TOLERANCE = {"float32": 2e-5, "float16": 0.05, "bfloat16": 0.3}
_ROWS = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
_TOKENS = 4
_MESSAGES = [Message("user", f"{IMAGE_MARK}\nIs there a pneumothorax?")]


@dataclass(frozen=True, eq=False)
class _Case:
    """An image, a prompt, tokens that the model wrote behind it, and their logits (n, V)."""

    vlm: Vlm
    pixels: torch.Tensor
    ids: tuple[int, ...]
    inputs: Inputs
    tokens: tuple[int, ...]
    written: torch.Tensor

    def first(self) -> torch.Tensor:
        """Return the logits (1, V) that the first token is chosen from."""
        return self.vlm.logits(self.inputs, self.ids, self.tokens[:1])[0]

    def forced(self) -> torch.Tensor:
        """Return the logits (n, V) of the tokens, teacher-forced."""
        return self.vlm.logits(self.inputs, self.ids, self.tokens)[0]


def check(vlm: Vlm) -> ParityReport:
    """Measure every property on a noise image; a check that raises is a row that fails."""
    dtype = str(vlm.network.dtype).removeprefix("torch.")
    kind = str(vlm.network.config.model_type)
    apart, row = TOLERANCE.get(dtype, TOLERANCE["bfloat16"]), _ROWS.get(dtype, _ROWS["bfloat16"])
    wanted: list[tuple[str, float, Callable[[_Case], float], str]] = [
        ("image tokens without a feature of their own", 0, _tokens, "places"),
        ("logits with the processor's own inputs", 0, _own, "max abs"),
        ("logits while attention is watched", 0, _watched, "max abs"),
        ("attention rows against eager", row, _rows, "max abs"),
        ("logits from the last states", apart, _read_out, "max abs"),
        ("teacher forcing against generate", apart, _generate, "max abs"),
        ("two images in a batch against one by one", apart, _batch, "max abs"),
        ("a marker's way back, in token cells", 0.5, _marker, "cells"),
    ]
    rows: list[ParityRow] = []
    with errors_as_rows(rows, kind, "a text about an image"):
        case = _case(vlm)
        with torch.inference_mode():
            rows += [_measured(case, kind, *one) for one in wanted]
        if dtype == "float32":
            name = "gradient against finite differences, relative"
            rows.append(_measured(case, kind, name, 0.02, _gradient, "relative"))
    return ParityReport(tuple(rows), f"{kind} in {dtype}")


def need_all(checks: ParityReport) -> None:
    """Raise `CheckpointError` with the first property that does not hold."""
    failed = next(iter(checks.misses), None)
    if failed is None:
        return
    told = failed.note
    if failed.max_abs_diff is not None:
        told = f"{failed.max_abs_diff:.3g}, at most {failed.tolerance:g} is allowed"
    raise CheckpointError(
        f"a model of type {failed.case!r} cannot be opened for analysis: {failed.array} is "
        f"{told}; see `workbench doctor --model`"
    )


def _measured(
    case: _Case, kind: str, name: str, limit: float, run: Callable[[_Case], float], measure: str
) -> ParityRow:
    rows: list[ParityRow] = []
    with errors_as_rows(rows, kind, name):
        value = float(run(case))
        rows.append(replace(outcome(value, limit, value <= limit, measure), case=kind, array=name))
    return rows[0]


def _noise(seed: int) -> torch.Tensor:
    grey = np.random.default_rng(seed).integers(0, 256, SIZE, np.uint8)
    return torch.from_numpy(grey.astype(np.float32) / 255)[None, None]


@torch.inference_mode()
def _case(vlm: Vlm) -> _Case:
    pixels = _noise(1)
    _, ids = vlm.prepare(pixels, _MESSAGES)
    inputs = vlm.inputs(pixels)
    sequence = vlm.read(inputs, ids)
    logits = []
    for _ in range(_TOKENS):
        logits.append(sequence.logits[0])
        chosen = sequence.logits[0].clone()
        chosen[vlm.image_id] = -torch.inf  # a written image token would ask for an image
        sequence = vlm.advance(sequence, int(chosen.argmax()))
    return _Case(vlm, pixels, ids, inputs, sequence.ids[-_TOKENS:], torch.stack(logits))


def _apart(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first.double() - second.to(first.device).double()).abs().max())


def _tokens(case: _Case) -> float:
    """Count image tokens that another image does not change."""
    others = case.inputs, case.vlm.inputs(1 - case.pixels)
    first, second = (case.vlm.embeddings(one, case.ids) for one in others)
    seeing = ~np.isnan(case.vlm.placement(case.pixels).boxes[:, 0])
    return float((seeing & ~(first != second).any(-1).cpu().numpy()).sum())


def _own(case: _Case) -> float:
    """Compare with the network called on what the processor returns, and nothing else."""
    vlm = case.vlm
    made = vlm.process(picture_of(case.pixels), vlm.prepare(case.pixels, _MESSAGES)[0])
    made = {name: value.to(vlm.device) for name, value in made.items() if name != "labels"}
    made["pixel_values"] = made["pixel_values"].to(vlm.network.dtype)
    own = vlm.network(**made, use_cache=False, **vlm.last(1)).logits[0, -1:]
    return _apart(own.float(), case.first())


def _watched(case: _Case) -> float:
    before = case.forced()
    with watch_attention(case.vlm, lambda call: None):
        return _apart(before, case.forced())


def _read_out(case: _Case) -> float:
    last = case.vlm.last_states(case.pixels, case.ids)[-1:]
    return _apart(case.vlm.read_out(last), case.first())


def _rows(case: _Case) -> float:
    """Compare every row of the language model with the attention that eager returns."""
    network, found = case.vlm.network, {}

    def keep(call: Call) -> None:
        if call.tower == "language":
            found[call.layer] = attention_rows(call)

    inputs = {**case.inputs, **case.vlm.text_inputs(case.ids), "use_cache": False}
    with attention_put_back(network):
        network.set_attn_implementation("eager")
        eager = network(**inputs, output_attentions=True).attentions or ()
        with watch_attention(case.vlm, keep):
            network(**inputs)
    if not eager or len(eager) != len(found):
        raise CheckpointError(f"{len(eager)} layers with eager attention, {len(found)} seen")
    pairs = zip(sorted(found), eager, strict=True)
    return max(_apart(found[layer], rows) for layer, rows in pairs)


def _generate(case: _Case) -> float:
    """Compare teacher forcing, our own steps, and transformers' generate."""
    vlm = case.vlm
    made = cast(Any, vlm.network).generate(
        **case.inputs, **vlm.text_inputs(case.ids), max_new_tokens=_TOKENS,
        min_new_tokens=_TOKENS, do_sample=False, num_beams=1, return_dict_in_generate=True,
        output_logits=True, repetition_penalty=1.0, eos_token_id=None,
        suppress_tokens=[vlm.image_id],
    )  # fmt: skip
    logits = torch.stack(made.logits)[:, 0].float()
    forced = vlm.logits(case.inputs, case.ids, made.sequences[0, -_TOKENS:].tolist())[0]
    return max(_apart(forced, logits), _apart(case.forced(), case.written))


def _batch(case: _Case) -> float:
    images = [case.inputs, case.vlm.inputs(_noise(2))]
    alone = [case.vlm.logits(one, case.ids, case.tokens)[0] for one in images]
    stacked = {name: torch.cat([one[name] for one in images]) for name in case.inputs}
    together = case.vlm.logits(stacked, case.ids, case.tokens, batch=2)
    return _apart(torch.stack(alone), together)


def _marker(case: _Case) -> float:
    """Paint the place of some tokens white: they must change most, and lie there."""
    vlm, places = case.vlm, case.vlm.placement(case.pixels)
    black = torch.zeros_like(case.pixels)

    def features(pixels: torch.Tensor) -> torch.Tensor:
        return vlm.own_rows(vlm.inputs(pixels), case.ids).float()

    dark, worst = features(black), 0.0
    start, cell = places.seen[:2], (places.seen[2:] - places.seen[:2]) / places.grid[::-1]
    seeing = np.flatnonzero(~np.isnan(places.boxes[:, 0]))
    for token in np.random.default_rng(0).choice(seeing, min(4, len(seeing)), replace=False):
        low, high = places.boxes[token, :2], places.boxes[token, 2:]
        (left, top), (right, bottom) = np.rint(low.clip(0)).astype(int), np.rint(high).astype(int)
        painted = black.clone()
        painted[..., top:bottom, left:right] = 1
        change = (features(painted) - dark).norm(dim=-1).cpu().numpy()
        share = change**2 @ (places.shares > 0)
        at = np.array(divmod(int(share.argmax()), places.grid[1]))[::-1]
        middle = start + (at + 0.5) * cell
        # how far the cell's middle lies outside the painted place
        aside = np.maximum(low - middle, middle - high) / cell
        worst = max(worst, *aside)
    return worst


def _gradient(case: _Case) -> float:
    """Compare the gradient of a log-probability along a random direction with a difference."""
    vlm = case.vlm

    def score(pixels: torch.Tensor) -> torch.Tensor:
        inputs = {**case.inputs, "pixel_values": pixels}
        return vlm.logits(inputs, case.ids, case.tokens[:1])[0, 0].log_softmax(-1)[case.tokens[0]]

    start = case.inputs["pixel_values"]
    pixels = start.clone().requires_grad_()
    (found,) = torch.autograd.grad(score(pixels), pixels)
    chosen = torch.rand(found.shape, generator=torch.Generator().manual_seed(0)) < 0.1
    direction = found.sign() * chosen.to(found.device)

    @torch.no_grad()
    def slope(step: float) -> float:
        ends = [float(score(start + sign * step * direction)) for sign in (1, -1)]
        return (ends[0] - ends[1]) / (2 * step)

    # two steps together leave the curvature out (Richardson)
    slopes = (4 * slope(5e-3) - slope(1e-2)) / 3
    expected = float((found * direction).sum())
    return abs(slopes - expected) / abs(expected)
