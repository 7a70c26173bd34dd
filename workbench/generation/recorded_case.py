"""How one recorded array or field is compared with what this implementation computes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch

from workbench.errors import InputError
from workbench.generation.engine import Request
from workbench.generation.measures import (
    ParityRow,
    agreement,
    close,
    failed,
    informative,
    relative_rms,
    same,
    same_sequence,
    top_values,
)
from workbench.generation.options import DecodingSettings
from workbench.generation.responder import Draft, Job, Responder
from workbench.generation.sampling import sample_probabilities
from workbench.model.prompt import (
    IMAGE_MARK,
    IMAGE_TOKEN_ID,
    Message,
    question_messages,
    render_chat,
    report_messages,
)

#: What the reference calls a text that reached the limit.
_STOPS = {"length": "limit", "max_length": "limit", "max_new_tokens": "limit"}

_SAMPLED = re.compile(r"sample_probs__T(?P<temperature>[\d.]+)_P(?P<top_p>[\d.]+)")
_LOGITS = {"atol": 1e-3, "rtol": 1e-3}
_MARGINS = {"atol": 2e-3, "rtol": 1e-3}


class ImageOutputs:
    """What we compute for one recorded image, each result at most once, beside what was recorded.

    `pixels` are the recorded pixel values, `cases` the content of cases.json, each turn of a
    dialogue a case of its own. In bfloat16 paths part at near-ties, so little is demanded.
    """

    def __init__(self, responder: Responder, pixels: np.ndarray, cases: Mapping[str, dict]) -> None:
        self._model = responder.engine.model
        self._responder = responder
        self._loose = responder.identity.dtype == "bfloat16"
        self._pixels = torch.from_numpy(np.ascontiguousarray(pixels, np.float32))
        self.cases = cases
        self._forward = cache(self._compute_forward)
        self._greedy = cache(self._compute_greedy)

    @cached_property
    @torch.inference_mode()
    def _vision(self) -> dict[str, np.ndarray]:
        """The vision tower's arrays by name."""
        output = self._model.vision_tower(self._pixels, output_hidden_states=True)
        found = {
            "vision_ln_pre": output.hidden_states[0][0],
            "vision_tokens": output.tokens[0],
            "pooled": output.pooled[0],
            "projected": self._model.encode_image(self._pixels)[0],
        }
        for index, state in enumerate(output.hidden_states[1:]):
            found[f"vision_block_{index}"] = state[0]
        return {name: _numpy(value) for name, value in found.items()}

    def job(self, case: str) -> Job:
        """Return a case as a job; the published code has another context budget than ours."""
        prompt = render_chat(_messages(self.cases[case]["chat"]))
        ids = tuple(self._responder.tokenizer.encode_prompt(prompt))
        return Job(self._request(case, ids), prompt, case, "parity", ())

    def _request(self, case: str, ids: tuple[int, ...]) -> Request:
        """Return a request; a case without a cap has the published code's own limit."""
        stored = self.cases[case]
        limit = stored.get("max_new_tokens") or stored.get("reference_own_max_new_tokens")
        limit = limit or self._responder.budget.published_limit(len(stored["input_ids"]))
        return Request(self._pixels, ids, DecodingSettings(max_new_tokens=limit))

    @torch.inference_mode()
    def _compute_forward(self, case: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (T, V) logits and (layers + 1, H) hidden states of the last position.

        From the recorded prompt ids, so that these arrays do not depend on our tokenizer.
        """
        ids = torch.tensor([self.cases[case]["input_ids"]])
        output = self._model(
            input_ids=ids, pixel_values=self._pixels, output_hidden_states=True, use_cache=False
        )
        hidden = torch.stack([state[0, -1] for state in output.hidden_states])
        return _numpy(output.logits[0]), _numpy(hidden)

    def _compute_greedy(self, case: str) -> tuple[Draft, np.ndarray]:
        """Return the greedy tokens and the margin of each over the second best."""
        request = self._request(case, tuple(self.cases[case]["input_ids"]))
        draft, margins = Draft(), []
        for step in self._responder.engine.decode([request]):
            draft.add(step)
            best = step.logits[0].topk(2).values
            margins.append(float(best[0] - best[1]))
        return draft, np.array(margins)

    def compare_array(self, case: str, name: str, theirs: np.ndarray) -> ParityRow | None:
        """Compare one recorded array; `case` is "" for an array of the image itself."""
        if not case:
            limits = 0.05 if name == "pooled" else 0.03, None
            return self._near(self._vision.get(name), theirs, {"atol": 1e-4}, limits)
        if case not in self.cases:
            return failed(f"cases.json has no case {case!r}")
        if name == "input_ids":
            return same_sequence(self.job(case).request.ids, theirs.tolist())
        if name == "gen_ids":
            return self.compare_run(case, name, theirs.tolist())
        if name == "gen_margins":
            ours = self._greedy(case)[1]
            if self._loose:
                return informative(float(abs(ours[0] - theirs[0])), ": the first step")
            return close(ours, theirs, **_MARGINS)
        logits, hidden = self._forward(case)
        if name in ("first8_top20_ids", "argmax_all"):
            return self._compare_top(logits, theirs, whole=name == "argmax_all")
        if sampled := _SAMPLED.fullmatch(name):
            numbers: dict[str, Any] = {k: float(value) for k, value in sampled.groupdict().items()}
            last = torch.from_numpy(logits[-1:])
            ours = _numpy(sample_probabilities(last, DecodingSettings(**numbers, top_k=50))[0])
            if self._loose:
                return informative(float(np.abs(ours - theirs).max()))
            return close(ours, theirs, 1e-3)
        top = -np.sort(-logits[: len(theirs)], axis=-1)[:, : theirs.shape[-1]]
        known = {"logits_last": logits[-1], "hidden_last": hidden, "first8_top20_values": top}
        return self._near(known.get(name), theirs, _LOGITS, (0.30, 0.95))

    def _near(
        self,
        ours: np.ndarray | None,
        theirs: np.ndarray,
        strict: dict[str, float],
        loose: tuple[float, float | None],
    ) -> ParityRow | None:
        """Compare an array within the limits of the precision; None where we have none."""
        if ours is None:
            return None
        return relative_rms(ours, theirs, *loose) if self._loose else close(ours, theirs, **strict)

    def _compare_top(self, logits: np.ndarray, theirs: np.ndarray, *, whole: bool) -> ParityRow:
        if self._loose:
            count = theirs.shape[-1] if theirs.ndim == 2 else 1
            ids = np.argsort(-logits[: len(theirs)], axis=-1, kind="stable")[:, :count]
            return agreement(ids.ravel().tolist(), theirs.ravel().tolist())
        if whole and len(theirs) != len(logits):
            return failed(f"{len(logits)} positions, expected {len(theirs)}")
        return top_values(logits, theirs, **_LOGITS)

    def compare_field(self, name: str, field: str) -> ParityRow | None:
        """Compare one recorded field of a case: its messages, prompt, ids or counts."""
        case = self.cases[name]
        theirs, budget = case[field], self._responder.budget
        if field == "chat":
            return _compare_messages(name, _messages(theirs))
        if field == "prompt":
            return same(render_chat(_messages(case["chat"])), theirs)
        if field == "input_ids":
            return same_sequence(self._responder.tokenizer.encode_prompt(case["prompt"]), theirs)
        if field == "n_image_tokens":
            return same(len(self._vision["projected"]), theirs)
        ids = self.job(name).request.ids
        if field == "image_token_pos":
            return same_sequence([i for i, t in enumerate(ids) if t == IMAGE_TOKEN_ID], theirs)
        if field == "expanded_len":
            return same(budget.positions(len(ids)), theirs)
        if field == "reference_own_max_new_tokens":
            return same(budget.published_limit(len(ids)), theirs)
        return None

    def compare_run(self, name: str, field: str, theirs: Any) -> ParityRow | None:
        """Compare one recorded field of the run of a case; of bfloat16 nothing is demanded."""
        draft, margins = self._greedy(name)
        ours = self._responder
        if field == "gen_ids":
            return (agreement if self._loose else same_sequence)(draft.tokens, theirs)
        if field == "stopped_by":
            found = same(draft.stopped_by, _STOPS.get(theirs, theirs))
            note = f": {draft.stopped_by}"
            return informative(found.max_abs_diff, note, "exact") if self._loose else found
        if field == "min_margin":
            found = close([margins.min()], [theirs], **_MARGINS)
            return informative(None) if self._loose else found
        if field not in ("text", "text_streamed"):
            return None
        if self._loose:
            return agreement(ours.tokenizer.decode(draft.tokens), theirs)
        if field == "text":
            return same(ours.finish(self.job(name), draft).text, theirs)
        return same("".join(ours.stream(self.job(name))), theirs)


def _compare_messages(name: str, theirs: list[Message]) -> ParityRow:
    """Compare the messages that our own prompts make with those of the reference."""
    if name == "report":
        return same(report_messages(), theirs)
    if len(theirs) == 2 and theirs[1].content.startswith(f"{IMAGE_MARK}\n"):
        try:
            return same(question_messages(theirs[1].content[len(IMAGE_MARK) + 1 :]), theirs)
        except InputError:
            note = ": a question that is refused to users, compared as prompt"
    else:
        note = ": a dialogue, compared as prompt"
    return informative(0.0, note, "exact")


def _messages(chat: list[dict]) -> list[Message]:
    return [Message(turn["role"], turn["content"]) for turn in chat]


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().numpy()
