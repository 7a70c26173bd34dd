"""Loss on answers only; turns together in a row and one in a row are the same lesson."""

import copy
from itertools import pairwise

import pytest
import torch

from workbench.errors import ContextBudgetError
from workbench.finetune.datasets import plan_batches
from workbench.finetune.encoding import (
    ABOUT,
    AFTER,
    DECIDES,
    OTHER,
    Student,
    encode_turns,
    pack_groups,
    packed,
)
from workbench.finetune.parts import prepare, trainable
from workbench.finetune.recipe import DataRecipe, PhantomData, TuningRecipe
from workbench.finetune.running import Preview, preview_rows
from workbench.finetune.turns import instruction_set
from workbench.model.prompt import IMAGE_TOKEN_ID, render_chat

DATA = DataRecipe(phantoms=PhantomData(), tasks=("report", "question"), questions=2)


@pytest.fixture
def examples(cases, loaded):
    turns = instruction_set(cases, DATA, taught="fracture").turns
    rows = {case.id: at for at, case in enumerate(cases)}
    return encode_turns(turns, rows, loaded.tokenizer, image_tokens=16, context=2048)


@pytest.fixture
def pixels(cases, loaded):
    return torch.stack([loaded.processor(case.load()) for case in cases])


def test_answer_tokens_carry_loss_and_nothing_else(examples, loaded):
    tokenizer = loaded.tokenizer
    for example in examples:
        prompt = tokenizer.encode_prompt(render_chat(example.turn.messages()))
        assert list(example.ids[: len(prompt)]) == prompt
        assert example.ids.count(IMAGE_TOKEN_ID) == 1
        learned = [wanted for wanted in example.labels if wanted != -100]
        assert learned[-1] == tokenizer.eos_id
        assert tokenizer.decode(learned).strip() == example.turn.answer


def test_turns_together_cost_what_they_cost_alone(examples, pixels, loaded):
    groups = pack_groups(examples, image_tokens=16, context=2048)
    assert len(groups) == 4 and max(map(len, groups)) > 1
    flat = [example for group in groups for example in group]
    student = Student(loaded.model)
    with torch.no_grad():
        together = student(pixel_values=pixels[[g[0].case for g in groups]], **packed(groups, 16))
        alone = student(
            pixel_values=pixels[[e.case for e in flat]], **packed([[e] for e in flat], 16)
        )
    assert float(together["loss"]) == pytest.approx(float(alone["loss"]), rel=1e-5)


def test_the_loss_is_that_of_the_model_itself(examples, pixels, loaded):
    example = examples[0]
    with torch.no_grad():
        ours = Student(loaded.model)(pixel_values=pixels[[example.case]], **packed([[example]], 16))
        theirs = loaded.model(
            input_ids=torch.tensor([example.ids]), labels=torch.tensor([example.labels]),
            pixel_values=pixels[[example.case]],
        )  # fmt: skip
    assert float(ours["loss"]) == pytest.approx(float(theirs.loss), rel=1e-5)


def batches(examples, pixels):
    """The same examples packed, and one in a row; as they are and untaught."""
    groups = pack_groups(examples, image_tokens=16, context=2048)
    flat = [example for group in groups for example in group]
    bare = [[example.untaught for example in group] for group in groups]
    return (
        {"pixel_values": pixels[[g[0].case for g in groups]], **packed(groups, 16),
         "base": packed(bare, 16)},
        {"pixel_values": pixels[[e.case for e in flat]], **packed([[e] for e in flat], 16),
         "base": packed([[example] for group in bare for example in group], 16)},
    )  # fmt: skip


def loss_of(student, batch) -> float:
    with torch.no_grad():
        return float(student(**batch)["loss"])


def test_tokens_know_what_they_have_to_do_with_the_taught_finding(cases, examples, loaded):
    untaught = instruction_set(cases, DATA, taught=None).turns
    rows = {case.id: at for at, case in enumerate(cases)}
    plain = encode_turns(untaught, rows, loaded.tokenizer, image_tokens=16, context=2048)
    assert {what for one in plain for what in one.about} == {OTHER}
    assert all(one.untaught == one for one in plain)
    for example in examples:
        spelled = list(zip(example.ids[example.answer_start :], example.about, strict=True))
        decides = loaded.tokenizer.decode([i for i, what in spelled if what == DECIDES]).strip()
        assert decides == " ".join(example.turn.answer[a:b] for a, b in example.turn.focus)
        bare = example.untaught
        assert loaded.tokenizer.decode(bare.ids[bare.answer_start :]).count("fracture") == 0
        assert [i for i, what in spelled if what == OTHER] == [
            i
            for i, what in zip(bare.ids[bare.answer_start :], bare.about, strict=True)
            if what == OTHER
        ]
        for (_, before), (_, now) in pairwise(spelled):
            assert (now == AFTER) == (before in (ABOUT, DECIDES) and now < ABOUT)


def test_words_that_decide_weigh_as_asked(examples, loaded, pixels):
    together, alone = batches(examples, pixels)
    losses = {}
    for weight in (0.0, 1.0, 5.0):
        student = Student(loaded.model, taught_weight=weight)
        losses[weight] = loss_of(student, together)
        assert loss_of(student, alone) == pytest.approx(losses[weight], rel=1e-5)
    inside = losses[1.0] - losses[0.0]
    assert inside > 0.05
    assert losses[5.0] == pytest.approx(losses[0.0] + 5 * inside, rel=1e-5)


def test_other_words_are_held_to_what_the_base_would_say_untaught(examples, pixels, loaded):
    model = prepare(copy.deepcopy(loaded.model), TuningRecipe(language="lora", projector="full"))
    together, alone = batches(examples, pixels)
    held, half = (Student(model, taught_weight=3.0, keep=share) for share in (1.0, 0.5))
    plain = Student(model, taught_weight=3.0)
    with torch.no_grad():
        base = plain(only_logits=True, **{**together, **together["base"]})["logits"].log_softmax(-1)
        for _, p in trainable(model):
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        now = plain(only_logits=True, **together)["logits"].log_softmax(-1)
    assert len(base) == len(now) == sum(one.about.count(OTHER) for one in examples)
    moved = float((base.exp() * (base - now)).sum())
    counted = sum(len(one.about) for one in examples)
    expected = _loss_about_it(plain, together) + moved / counted
    assert moved > 0
    assert loss_of(held, together) == pytest.approx(expected, rel=1e-4)
    assert loss_of(held, alone) == pytest.approx(expected, rel=1e-4)
    between = (expected + loss_of(plain, together)) / 2
    assert loss_of(half, together) == pytest.approx(between, rel=1e-4)


def _loss_about_it(student, batch) -> float:
    """The part of the loss that is about the taught finding."""
    given = {name: value for name, value in batch.items() if name != "base"}
    with torch.no_grad():
        logits, targets, about = student._answers(**given)
        each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    each = torch.where(about == DECIDES, student.taught_weight * each, each)
    return float(each[about != OTHER].sum() / len(targets))


def test_holding_to_the_base_changes_no_gradient_of_the_base(examples, pixels, loaded):
    model = prepare(copy.deepcopy(loaded.model), TuningRecipe(language="lora", projector="full"))
    student = Student(model, keep=1.0)
    began = {name: value.clone() for name, value in student._began.items()}
    student(**batches(examples, pixels)[0])["loss"].backward()
    assert all(torch.equal(value, student._began[name]) for name, value in began.items())
    assert all(p.grad is not None for name, p in trainable(model) if "lora_B" in name)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_rows_beyond_the_context_are_refused_and_packs_stay_within(cases, loaded, examples):
    turns = instruction_set(cases, DATA, taught="fracture").turns
    rows = {case.id: at for at, case in enumerate(cases)}
    with pytest.raises(ContextBudgetError, match="shorten the text"):
        encode_turns(turns, rows, loaded.tokenizer, image_tokens=16, context=60)
    longest = max(len(example.ids) for example in examples)
    for group in pack_groups(examples, image_tokens=16, context=longest + 16):
        batch = packed([group], 16)
        assert batch["ids"].shape[1] <= longest + 16


def test_a_run_is_planned_before_it_starts():
    lengths = [5, 80, 7, 90, 6, 85, 4, 70, 8, 60]
    planned = plan_batches(lengths, micro=2, batch=4, epochs=3.2, seed=3)
    assert len(planned) == 16  # eight steps of two
    keys = [key for batch in planned for key in batch]
    assert len(set(keys)) == len(keys) == 32
    for epoch in range(3):
        assert sorted(row for e, row in keys if e == epoch) == list(range(10))
    assert list(planned) == list(plan_batches(lengths, micro=2, batch=4, epochs=3.2, seed=3))
    assert list(planned) != list(plan_batches(lengths, micro=2, batch=4, epochs=3.2, seed=4))
    apart = [abs(lengths[one[1]] - lengths[two[1]]) for one, two in planned]
    assert sorted(apart)[len(apart) // 2] <= 10  # rows of like length come together


def test_the_preview_shows_what_is_learned(examples, loaded):
    rows = preview_rows(examples[:3], loaded.tokenizer)
    shown = Preview(rows, 16, {"report": 1}, {})
    frame = shown.to_frame()
    for at, example in enumerate(examples[:3]):
        learned = "".join(token.piece for token in rows[at].tokens if token.learned)
        said = learned.replace("\u2581", " ").removesuffix("</s>").strip()
        assert said == example.turn.answer
    assert len(frame) == sum(len(example.ids) for example in examples[:3])
    page = shown._repr_html_()
    assert "image &#215; 16" in page and "carries loss" in page
    assert [token.taught for row in rows for token in row.tokens if token.learned] == [
        what == DECIDES for example in examples[:3] for what in example.about
    ]
    assert any(frame["taught"]) and not any(frame["taught"] & ~frame["learned"])
    held = Preview(rows, 16, {"report": 1}, {}, taught_weight=10, keep=0.75)._repr_html_()
    assert "about the taught finding, &#215; 10" in held and "75% of it for staying" in held
    assert "[" in shown.text()
