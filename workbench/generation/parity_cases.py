"""The recorded fields of a case: prompt, counts, texts, how a text ended.

Does not know: files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
_STOPS = {"length": "limit"}

#: Fields that are inputs of a case or are compared through others.
_INPUTS = frozenset({"image", "max_new_tokens", "do_sample", "fp32", "bf16"})


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
        for field in case.get("fp32", {}):
            yield (
                f"fp32/{field}",
                lambda field=field: _compare_run(image, name, case["fp32"], field),
            )
        if "fp32" not in case:
            yield "fp32", lambda: failed("cases.json has no float32 run of this case")
    if "bfloat16" in images:
        for field in case.get("bf16", {}):
            yield (
                f"bf16/{field}",
                lambda field=field: _inform(images["bfloat16"], name, case["bf16"], field),
            )


def compare_batch(side: Side, batch: list[tuple]) -> Difference:
    """Decode all cases of all images in one batch and count the tokens that differ."""
    usable = [(image, name, theirs) for image, name, theirs in batch if theirs is not None]
    jobs = [image.job(name) for image, name, _ in usable]
    answers = side.responder.answer_batch(jobs)
    outcomes = [
        same_sequence(answer.token_ids, theirs.tolist())
        for answer, (_, _, theirs) in zip(answers, usable, strict=True)
    ]
    wrong = sum(outcome.value for outcome in outcomes)
    ok = bool(outcomes) and all(outcome.ok for outcome in outcomes)
    note = next((outcome.note for outcome in outcomes if not outcome.ok), "")
    return Difference(wrong, 0.0, ok, "places", note)


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
        return same(question_messages(theirs[1].content[len(IMAGE_MARK) + 1 :]), theirs)
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
