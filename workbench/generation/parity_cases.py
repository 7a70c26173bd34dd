"""The recorded fields of a case: prompt, counts, texts, how a text ended.

A dialogue is recorded as a list, one case for each turn with everything that was said before it.

Does not know: files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from workbench.errors import InputError
from workbench.generation.measures import (
    Difference,
    agreement,
    close,
    failed,
    same,
    same_numbers,
    same_sequence,
)
from workbench.generation.parity_arrays import ImageSide, Side
from workbench.model.prompt import (
    IMAGE_MARK,
    Message,
    question_messages,
    render_chat,
    report_messages,
)
from workbench.model.splice import IMAGE_TOKEN_ID

#: What the reference calls a text that reached the limit.
_STOPS = {"length": "limit", "max_length": "limit", "max_new_tokens": "limit"}

#: Fields that are inputs of a case or are compared through others.
_INPUTS = frozenset({"image", "max_new_tokens", "do_sample", "fp32", "bf16"})


def single_cases(recorded: object) -> tuple[dict[str, dict], dict[str, str]]:
    """Return the cases of a cases.json by name, each turn of a dialogue as one, and what is none.

    Returns:
        Cases ("name", or "name/1", "name/2" for the turns of a dialogue), and for every entry that
        is no case the reason.
    """
    if not isinstance(recorded, dict):
        return {}, {"cases.json": f"holds {_kind(recorded)}; expected cases by name"}
    cases, strange = {}, {}
    for name, entry in recorded.items():
        if isinstance(entry, list) and not entry:
            strange[name] = "a dialogue without turns"
        turns = entry if isinstance(entry, list) else [entry]
        for number, case in enumerate(turns, 1):
            shown = f"{name}/{number}" if isinstance(entry, list) else name
            fields = case if isinstance(case, dict) else {}
            if shown in cases or shown in strange:
                strange[shown] = "two cases have this name: cannot be compared"
                cases.pop(shown, None)
                continue
            missing = [field for field in ("chat", "input_ids") if not fields.get(field)]
            if missing:
                held = "" if isinstance(case, dict) else f"holds {_kind(case)}, "
                strange[shown] = f"{held}no {' and no '.join(missing)}: cannot be compared"
            else:
                cases[shown] = case
    return cases, strange


def arrays_of_turns(
    arrays: dict[str, np.ndarray], recorded: dict, cases: dict[str, dict]
) -> dict[str, np.ndarray]:
    """Give the arrays of the turns of a dialogue the names that `single_cases` gives the turns.

    They may be recorded as "name__0__array", "name_1__array", "name_turn1__array" and the like,
    counted from 0 or from 1.
    """
    renamed = dict(arrays)
    for name, turns in recorded.items():
        if not isinstance(turns, list):
            continue
        pattern = re.compile(rf"(bf16__)?{re.escape(name)}\D*?(\d+)__(.+)")
        found = {
            key: match
            for key in arrays
            if (match := pattern.fullmatch(key))
            and key.removeprefix("bf16__").partition("__")[0] not in cases
        }
        first = 0 if any(int(match[2]) == 0 for match in found.values()) else 1
        for key, match in found.items():
            turn = f"{name}/{int(match[2]) - first + 1}"
            renamed[f"{match[1] or ''}{turn}__{match[3]}"] = renamed.pop(key)
    return renamed


def compare_case(
    name: str, case: dict, images: dict[str, ImageSide]
) -> Iterator[tuple[str, Callable[[], Difference]]]:
    """Give a field name and a comparison for every recorded field of a case."""
    if "float32" in images:
        image = images["float32"]
        for field in case:
            if field not in _INPUTS:
                shown = "input_ids of the prompt" if field == "input_ids" else field
                yield shown, lambda field=field: _compare_field(image, name, case, field)
        run = case.get("fp32")
        if not isinstance(run, dict) or not run:
            yield "fp32", lambda: failed("cases.json has no float32 run of this case")
            run = {}
        for field in run:
            yield f"fp32/{field}", lambda field=field: _compare_run(image, name, run, field)
    loose = case.get("bf16", {})
    if "bfloat16" in images and not isinstance(loose, dict):
        yield "bf16", lambda: failed(f"holds {_kind(loose)}; expected the fields of a run")
    elif "bfloat16" in images:
        for field in loose:
            yield (
                f"bf16/{field}",
                lambda field=field: _inform(images["bfloat16"], name, loose, field),
            )


def compare_batch(side: Side, batch: list[tuple]) -> Difference:
    """Decode all cases of all images in one batch and count the tokens that differ.

    Args:
        side: the checkpoint.
        batch: (image, case, recorded tokens or None) each; a case that cannot be asked is left out,
            since its own rows say why.
    """
    usable = []
    for image, name, theirs in batch:
        try:
            usable += [] if theirs is None else [(image.job(name), list(theirs))]
        except Exception:  # of whatever was recorded; the rows of the case say what
            continue
    answers = side.responder.answer_batch([job for job, _ in usable])
    outcomes = [
        same_sequence(answer.token_ids, theirs)
        for answer, (_, theirs) in zip(answers, usable, strict=True)
    ]
    wrong = sum(outcome.value for outcome in outcomes)
    ok = bool(outcomes) and all(outcome.ok for outcome in outcomes)
    note = next((outcome.note for outcome in outcomes if not outcome.ok), "")
    return Difference(wrong, 0.0, ok, "places", note if outcomes else "no case could be asked")


def _compare_field(image: ImageSide, name: str, case: dict, field: str) -> Difference:
    theirs = case[field]
    budget = image.side.responder.budget
    if field == "chat":
        return _compare_messages(name, theirs)
    if field == "prompt":
        return same(render_chat([Message(t["role"], t["content"]) for t in case["chat"]]), theirs)
    if field == "input_ids":
        return same_sequence(image.side.loaded.tokenizer.encode_prompt(case["prompt"]), theirs)
    if field == "image_token_pos":
        ids = image.job(name).request.ids
        return same_sequence([i for i, t in enumerate(ids) if t == IMAGE_TOKEN_ID], theirs)
    if field == "n_image_tokens":
        return same_numbers(len(image.vision["projected"]), theirs)
    if field == "expanded_len":
        return same_numbers(budget.positions(len(image.job(name).request.ids)), theirs)
    if field == "reference_own_max_new_tokens":
        return same_numbers(budget.published_limit(len(image.job(name).request.ids)), theirs)
    return failed(f"nobody knows how to compare {field!r}")


def _compare_messages(name: str, chat: list[dict]) -> Difference:
    """Compare the messages that our own prompts make with those of the reference."""
    theirs = [Message(turn["role"], turn["content"]) for turn in chat]
    if name == "report":
        return same(report_messages(), theirs)
    if len(theirs) == 2 and theirs[1].content.startswith(f"{IMAGE_MARK}\n"):
        try:
            return same(question_messages(theirs[1].content[len(IMAGE_MARK) + 1 :]), theirs)
        except InputError:
            note = "informative: a question that is refused to users, compared as prompt"
            return Difference(0.0, None, True, "exact", note)
    return Difference(0.0, None, True, "exact", "informative: a dialogue, compared as prompt")


def _compare_run(image: ImageSide, name: str, run: dict, field: str) -> Difference:
    """Compare a field of the float32 run."""
    theirs = run[field]
    draft, margins = image.greedy(name)
    responder = image.side.responder
    if field == "gen_ids":
        return same_sequence(draft.tokens, theirs)
    if field == "text":
        return same(responder.finish(image.job(name), draft).text, theirs)
    if field == "text_streamed":
        return same("".join(responder.stream(image.job(name))), theirs)
    if field == "stopped_by":
        return same(draft.stopped_by, _STOPS.get(theirs, theirs))
    if field == "min_margin":
        return close([margins.min()], [theirs], 2e-3, 1e-3)
    return failed(f"nobody knows how to compare {field!r}")


def _inform(image: ImageSide, name: str, run: dict, field: str) -> Difference:
    """Say how far the bfloat16 run agrees; nothing is demanded of it."""
    theirs = run[field]
    draft, _ = image.greedy(name)
    if field == "gen_ids":
        return agreement(draft.tokens, theirs)
    if field in ("text", "text_streamed"):
        return agreement(image.side.loaded.tokenizer.decode(draft.tokens), theirs)
    if field == "stopped_by":
        equal = draft.stopped_by == _STOPS.get(theirs, theirs)
        note = f"informative: {draft.stopped_by}"
        return Difference(float(not equal), None, True, "exact", note)
    if field == "min_margin":
        return Difference(float("nan"), None, True, "max abs", "informative")
    return failed(f"nobody knows how to compare {field!r}")


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
