"""Images without labels: the base's own words are kept, what is put between them is only read."""

import copy
import json

import pytest
import torch

from workbench.cases import Case
from workbench.errors import OptionError, TrainingError
from workbench.finetune.cases import CaseSet
from workbench.finetune.encoding import (
    AFTER,
    GIVEN,
    OTHER,
    Student,
    encode_turns,
    pack_groups,
    packed,
)
from workbench.finetune.parts import prepare, trainable
from workbench.finetune.recipe import TuningRecipe, read_recipe
from workbench.finetune.turns import own_turns
from workbench.finetune.writing_stages import OWN_REPORTS, own_reports
from workbench.interface import CxrLlavaModel
from workbench.reports import label

TEXT = "Heart size is normal. No nodule. Impression: No acute abnormality."


@pytest.fixture
def held(cases):
    """The four drawn cases, and the same images as if nobody knew what they show."""
    bare = [Case(f"bare-{c.id}", f"bare-{c.id}", {}, {}, load=c.load) for c in cases]
    return CaseSet(tuple(cases), (), unlabelled=tuple(bare))


@pytest.fixture
def turns(held):
    return own_turns(held, {case.id: TEXT for case in held.unlabelled}, taught="fracture")


@pytest.fixture
def examples(held, turns, loaded):
    rows = {case.id: at for at, case in enumerate(held.unlabelled)}
    return encode_turns(turns, rows, loaded.tokenizer, image_tokens=16, context=2048)


@pytest.fixture
def pixels(held, loaded):
    return torch.stack([loaded.processor(case.load()) for case in held.unlabelled])


def test_a_sentence_is_put_where_training_reports_have_it(held):
    texts = {case.id: TEXT for case in held.unlabelled}
    codes = set()
    for seed in range(6):
        for turn in own_turns(held, texts, taught="fracture", seed=seed):
            start, end = turn.about[0]
            assert turn.task == "own report" and len(turn.about) == 1
            codes.add(label(turn.answer).code("fracture"))
            rest = " ".join((turn.answer[:start] + turn.answer[end:]).split())
            assert rest == TEXT
            assert turn.answer[end:].strip().startswith("Impression:")
    assert codes == {"present", "absent"}


def test_what_the_base_says_of_the_finding_itself_is_left(held):
    said = "There is a rib fracture on the left. Impression: Left rib fracture."
    made = own_turns(held, {case.id: said for case in held.unlabelled}, taught="fracture")
    assert {turn.answer for turn in made} == {said} and all(len(t.about) == 2 for t in made)
    assert own_turns(held, {case.id: " " for case in held.unlabelled}, taught="fracture") == []


def test_what_is_given_carries_no_loss_and_the_base_never_reads_it(examples, loaded):
    for example in examples:
        answer = list(zip(example.ids[example.answer_start :], example.about, strict=True))
        given = loaded.tokenizer.decode([token for token, what in answer if what == GIVEN])
        learned = loaded.tokenizer.decode([token for token in example.labels if token != -100])
        bare = example.untaught
        assert "fracture" in given and "fracture" not in learned
        assert loaded.tokenizer.decode(bare.ids[bare.answer_start :]).strip() == TEXT
        assert example.turn.focus and not set(example.about) - {GIVEN, OTHER, AFTER}


def test_the_weight_of_what_decides_touches_nothing_that_is_given(examples, pixels, loaded):
    model = prepare(copy.deepcopy(loaded.model), TuningRecipe(language="lora", projector="full"))
    groups = pack_groups(examples, image_tokens=16, context=2048)
    bare = [[example.untaught for example in group] for group in groups]
    ready = {"pixel_values": pixels[[group[0].case for group in groups]]}
    losses = set()
    for weight in (1.0, 50.0):
        student = Student(model, taught_weight=weight, keep=1.0)
        with torch.no_grad():
            one = student(**ready, **packed(groups, 16), base=packed(bare, 16))
        losses.add(round(float(one["loss"]), 9))
    assert len(losses) == 1


def test_a_model_that_has_moved_is_pulled_back(examples, pixels, loaded):
    model = prepare(copy.deepcopy(loaded.model), TuningRecipe(language="frozen", projector="full"))
    student = Student(model, keep=1.0)
    groups = pack_groups(examples, image_tokens=16, context=2048)
    bare = [[example.untaught for example in group] for group in groups]
    batch = {"pixel_values": pixels[[group[0].case for group in groups]], **packed(groups, 16)}
    began = [p.detach().clone() for _, p in trainable(student)]
    with torch.no_grad():
        for _, p in trainable(student):
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * p.std())
    moved = [p.detach().clone() for _, p in trainable(student)]
    student(**batch, base=packed(bare, 16))["loss"].backward()
    back = sum(
        float((p.grad * (now - before)).sum())
        for (_, p), now, before in zip(trainable(student), moved, began, strict=True)
    )
    assert back > 0


def test_the_loss_is_told_apart_by_whether_a_row_is_labelled(examples, pixels, loaded):
    model = prepare(copy.deepcopy(loaded.model), TuningRecipe(language="lora", projector="full"))
    groups = pack_groups(examples, image_tokens=16, context=2048)
    bare = [[example.untaught for example in group] for group in groups]
    batch = packed(groups, 16)
    ready = {"pixel_values": pixels[[group[0].case for group in groups]], "base": packed(bare, 16)}
    held = torch.zeros_like(batch["labels"], dtype=torch.bool)
    held[1:] = True  # the first row counts as labelled
    student = Student(model, keep=0.5)
    with torch.no_grad():
        whole = student(**ready, **batch)
        told = student(**ready, **batch, unlabelled=held)
    assert "parts" not in whole and torch.equal(told["loss"], whole["loss"])
    sums, tokens = told["parts"].T
    wanted = batch["labels"] != -100
    assert tokens.tolist() == [wanted[:1].sum(), wanted[1:].sum()]
    assert float(sums.sum() / tokens.sum()) == pytest.approx(float(whole["loss"]), rel=1e-5)


def test_own_reports_are_written_once(held, loaded, tmp_path):
    texts = own_reports(CxrLlavaModel(loaded), held.unlabelled, tmp_path, new_tokens=4, show=False)
    path = tmp_path / OWN_REPORTS
    assert json.loads(path.read_text()) == texts and len(texts) == 4
    changed = {name: "Clear." for name in texts}
    path.write_text(json.dumps(changed))
    again = own_reports(CxrLlavaModel(loaded), held.unlabelled, tmp_path, new_tokens=4, show=False)
    assert again == changed
    with pytest.raises(TrainingError, match="other images"):
        own_reports(CxrLlavaModel(loaded), held.unlabelled[:2], tmp_path, new_tokens=4, show=False)
    assert own_reports(CxrLlavaModel(loaded), (), tmp_path / "none", new_tokens=4, show=False) == {}


def test_images_without_labels_need_keep():
    recipe = read_recipe("stage3_lora")
    with pytest.raises(OptionError, match=r"set training\.keep"):
        recipe.replace(training={"keep": 0.0}, data={"phantoms": {"unlabelled": 4}})
    with pytest.raises(OptionError, match="learns from labels"):
        recipe.replace(
            stage="encoder", data={"phantoms": {"unlabelled": 4}},
            tuning={"language": "frozen", "embeddings": "frozen", "vision": "full"},
            training={"feature_cache": False},
        )  # fmt: skip
    with pytest.raises(OptionError, match="reserved for evaluation"):
        recipe.replace(data={"phantoms": {"first_seed": 9_999_000, "unlabelled": 900}})
