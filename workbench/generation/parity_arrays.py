"""Which tolerance belongs to which recorded array, and how ours is computed.

Arrays are recorded under "name" (float32) and "bf16__name" (the published bfloat16 run); those of a
case under "case__name". Names are those of the vectors' README.

Does not know: files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch

from workbench.generation.engine import Request
from workbench.generation.measures import (
    Difference,
    agreement,
    close,
    failed,
    relative_rms,
    same_sequence,
    top_values,
)
from workbench.generation.responder import Draft, Job, Responder
from workbench.generation.sampling import DecodingSettings, sample_probabilities
from workbench.model.load import LoadedCheckpoint, load_checkpoint
from workbench.model.prompt import Message, render_chat

_BF16 = "bf16__"
_FEATURES = 1e-4
_LOGITS = {"atol": 1e-3, "rtol": 1e-3}
_MARGINS = {"atol": 2e-3, "rtol": 1e-3}
_PROBABILITIES = 1e-3
_SAMPLED = re.compile(r"sample_probs__T(?P<temperature>[\d.]+)_P(?P<top_p>[\d.]+)")

#: Arrays without which a set proves nothing.
_NEEDED = ("vision_tokens", "projected")
_NEEDED_IN_CASE = ("input_ids", "logits_last", "gen_ids")


class Side:
    """A checkpoint in one precision, loaded when it is first needed.

    Args:
        checkpoint: directory in the published layout.
        dtype: "float32" or "bfloat16".
    """

    def __init__(self, checkpoint: Path, dtype: str) -> None:
        self._checkpoint = checkpoint
        self._dtype = dtype

    @cached_property
    def loaded(self) -> LoadedCheckpoint:
        """Model, tokenizer and processor."""
        return load_checkpoint(self._checkpoint, device="cpu", dtype=self._dtype)

    @cached_property
    def responder(self) -> Responder:
        """What writes answers, with its engine and budget."""
        return Responder.for_checkpoint(self.loaded)


class ImageSide:
    """What one side computes for one image; each result at most once.

    Args:
        side: the loaded checkpoint.
        pixels: (1, 1, S, S) recorded pixel values.
        cases: content of cases.json, each turn of a dialogue a case of its own.
    """

    def __init__(self, side: Side, pixels: np.ndarray, cases: dict) -> None:
        self.side = side
        self.pixels = torch.from_numpy(np.ascontiguousarray(pixels, np.float32))
        self.cases = cases
        self.forward = lru_cache(maxsize=None)(self._forward)
        self.greedy = lru_cache(maxsize=None)(self._greedy)

    @cached_property
    @torch.inference_mode()
    def vision(self) -> dict[str, np.ndarray]:
        """The vision tower's arrays by name."""
        output = self.side.loaded.model.vision_tower(self.pixels, output_hidden_states=True)
        found = {
            "vision_ln_pre": output.hidden_states[0][0],
            "vision_tokens": output.tokens[0],
            "pooled": output.pooled[0],
            "projected": self.side.loaded.model.encode_image(self.pixels)[0],
        }
        for index, state in enumerate(output.hidden_states[1:]):
            found[f"vision_block_{index}"] = state[0]
        return {name: _numpy(value) for name, value in found.items()}

    def job(self, case: str) -> Job:
        """Return a case as a job, from its messages and with its limit on new tokens.

        The context budget is left out: the published code has another one, and is compared as is.
        """
        stored = self.cases[case]
        prompt = render_chat([Message(turn["role"], turn["content"]) for turn in stored["chat"]])
        ids = tuple(self.side.loaded.tokenizer.encode_prompt(prompt))
        settings = DecodingSettings(max_new_tokens=self.limit(case))
        return Job(Request(self.pixels, ids, settings), prompt, case, "parity", ())

    def limit(self, case: str) -> int:
        """Return the new tokens of a case; one without a cap has the published code's own limit."""
        stored = self.cases[case]
        own = stored.get("max_new_tokens") or stored.get("reference_own_max_new_tokens")
        return own or self.side.responder.budget.published_limit(len(stored["input_ids"]))

    def prompt_ids(self, case: str) -> list[int]:
        """Return the recorded prompt ids, so that later arrays do not depend on our tokenizer."""
        return list(self.cases[case]["input_ids"])

    @torch.inference_mode()
    def _forward(self, case: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (T, V) logits and (layers + 1, H) hidden states of the last position."""
        ids = torch.tensor([self.prompt_ids(case)])
        output = self.side.loaded.model(
            input_ids=ids, pixel_values=self.pixels, output_hidden_states=True, use_cache=False
        )
        hidden = torch.stack([state[0, -1] for state in output.hidden_states])
        return _numpy(output.logits[0]), _numpy(hidden)

    def _greedy(self, case: str) -> tuple[Draft, np.ndarray]:
        """Return the greedy tokens and the margin of each over the second best."""
        settings = DecodingSettings(max_new_tokens=self.limit(case))
        request = Request(self.pixels, tuple(self.prompt_ids(case)), settings)
        draft, margins = Draft(), []
        for step in self.side.responder.engine.decode([request]):
            draft.add(step)
            best = step.logits[0].topk(2).values
            margins.append(float(best[0] - best[1]))
        return draft, np.array(margins)


def compare_arrays(
    arrays: dict[str, np.ndarray], cases: dict, images: dict[str, ImageSide]
) -> Iterator[tuple[str, str, Callable[[], Difference]]]:
    """Give a case ("" for the image), an array name and a comparison for every recorded array."""
    if "float32" in images:
        needed = [("", name) for name in _NEEDED]
        begun = {key.partition("__")[0] for key in arrays}
        held = [case for case in cases if case in begun or not _has_tokens(cases[case])]
        needed += [(case, name) for case in held for name in _NEEDED_IN_CASE]
        for case, name in needed:
            if (f"{case}__{name}" if case else name) not in arrays:
                yield case, name, lambda: failed("missing in arrays.npz")
    for key, theirs in arrays.items():
        dtype = "bfloat16" if key.startswith(_BF16) else "float32"
        if key == "pixel_values" or dtype not in images:
            continue
        case, _, name = key.removeprefix(_BF16).partition("__")
        if not name:
            case, name = "", case
        shown = f"{_BF16}{name}" if dtype == "bfloat16" else name
        image = images[dtype]
        yield (
            case,
            shown,
            lambda image=image, case=case, name=name, theirs=theirs, dtype=dtype: _compare_one(
                image, case, name, theirs, dtype
            ),
        )


def _has_tokens(case: dict) -> bool:
    """Tell whether cases.json alone holds the tokens of a case, which then needs no arrays."""
    return isinstance(case.get("fp32"), dict) and bool(case["fp32"].get("gen_ids"))


def _compare_one(
    image: ImageSide, case: str, name: str, theirs: np.ndarray, dtype: str
) -> Difference:
    loose = dtype == "bfloat16"
    if not case:
        ours = image.vision.get(name)
        if ours is None:
            return failed(f"nobody knows how to compare {name!r}")
        if loose:
            return relative_rms(ours, theirs, 0.05 if name == "pooled" else 0.03)
        return close(ours, theirs, _FEATURES)
    if case not in image.cases:
        return failed(f"cases.json has no case {case!r}")
    if name == "input_ids":
        return same_sequence(image.job(case).request.ids, theirs.tolist())
    return (_loosely if loose else _strictly)(image, case, name, theirs)


def _strictly(image: ImageSide, case: str, name: str, theirs: np.ndarray) -> Difference:
    """Compare an array of the float32 set."""
    if name in ("gen_ids", "gen_margins"):
        draft, margins = image.greedy(case)
        if name == "gen_ids":
            return same_sequence(draft.tokens, theirs.tolist())
        return close(margins, theirs, **_MARGINS)
    logits, hidden = image.forward(case)
    sampled = _SAMPLED.fullmatch(name)
    if sampled:
        return close(_sampled(logits, sampled), theirs, _PROBABILITIES)
    if name == "logits_last":
        return close(logits[-1], theirs, **_LOGITS)
    if name == "hidden_last":
        return close(hidden, theirs, **_LOGITS)
    if name == "first8_top20_ids":
        return top_values(logits, theirs, **_LOGITS)
    if name == "first8_top20_values":
        ids = np.argsort(-logits[: len(theirs)], axis=-1, kind="stable")[:, : theirs.shape[-1]]
        return close(np.take_along_axis(logits[: len(theirs)], ids, axis=-1), theirs, **_LOGITS)
    if name == "argmax_all":
        if len(theirs) != len(logits):
            return failed(f"{len(logits)} positions, expected {len(theirs)}")
        return top_values(logits, theirs, **_LOGITS)
    return failed(f"nobody knows how to compare {name!r}")


def _loosely(image: ImageSide, case: str, name: str, theirs: np.ndarray) -> Difference:
    """Compare an array of the bfloat16 set, where paths part at near-ties."""
    if name in ("gen_ids", "gen_margins"):
        draft, margins = image.greedy(case)
        if name == "gen_ids":
            return agreement(draft.tokens, theirs.tolist())
        ours = margins[: len(theirs)]
        apart = np.abs(ours - theirs[: len(ours)])
        return Difference(float(apart[0]), None, True, "max abs", "informative: the first step")
    logits, hidden = image.forward(case)
    if name == "logits_last":
        return relative_rms(logits[-1], theirs, 0.30, 0.95)
    if name == "hidden_last":
        return relative_rms(hidden, theirs, 0.30, 0.95)
    if name == "first8_top20_values":
        best = -np.sort(-logits[: len(theirs)], axis=-1)[:, : theirs.shape[-1]]
        return relative_rms(best, theirs, 0.30, 0.95)
    if name in ("first8_top20_ids", "argmax_all"):
        count = theirs.shape[-1] if theirs.ndim == 2 else 1
        ids = np.argsort(-logits[: len(theirs)], axis=-1, kind="stable")[:, :count]
        return agreement(ids.ravel().tolist(), theirs.ravel().tolist())
    sampled = _SAMPLED.fullmatch(name)
    if sampled:
        value = float(np.abs(_sampled(logits, sampled) - theirs).max())
        return Difference(value, None, True, "max abs", "informative")
    return failed(f"nobody knows how to compare {name!r}")


def _sampled(logits: np.ndarray, sampled: re.Match) -> np.ndarray:
    settings = DecodingSettings(
        temperature=float(sampled["temperature"]), top_p=float(sampled["top_p"]), top_k=50
    )
    return _numpy(sample_probabilities(torch.from_numpy(logits[-1:]), settings)[0])


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().numpy()
