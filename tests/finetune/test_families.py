"""Fine-tuning other families: the loss of transformers, adapters of peft, runs that resume."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel

import workbench as wb
from tests.backends.families import FAMILIES, kept
from tests.finetune.test_runs import StopAfter, apart
from workbench.backends.reader import picture_of
from workbench.backends.vlm_processor import render
from workbench.cases import phantom_case
from workbench.errors import ContextBudgetError, OptionError, TrainingError
from workbench.finetune.adapters import export, load_adapter, save_adapter
from workbench.finetune.datasets import Images
from workbench.finetune.encoding import GIVEN
from workbench.finetune.ledger import open_run
from workbench.finetune.parts import merge, prepare, trainable
from workbench.finetune.planner import plan
from workbench.finetune.recipe import TrainingRecipe, TuningRecipe, read_recipe
from workbench.finetune.running import preview, run
from workbench.finetune.turns import Turn
from workbench.finetune.writing_stages import SingleRows, base_of
from workbench.model.parts import part_modules

SOME = ("llava", "gemma3", "qwen2_5_vl", "paligemma")
LORA = TuningRecipe(language="lora", projector="full", rank=3, alpha=7)
PROJECTOR = TuningRecipe(language="frozen", projector="full")
TEXT = "The heart is enlarged. No pneumothorax."


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    made = kept(tmp_path_factory.mktemp("families"))
    return lambda name: str(made(name))


@pytest.fixture
def opened(directory):
    """A new model of a family: tests train it in place."""
    return lambda name: wb.load_model(directory(name), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def case():
    return phantom_case(7_100_300)


def lesson(model, case, *, tuning=LORA, about=None):
    """The student of a prepared model and one row about a case."""
    prepare(model.network, tuning)
    base = base_of(model)
    (example,) = base.examples([Turn(case.id, "report", None, TEXT)], [case])
    if about is not None:
        example = replace(example, about=about(example.about))
    rows = SingleRows([[example]], Images([case], model.processor), None, 1)
    return base.student(TrainingRecipe()), example, rows.collate([(0, 0)])


def said(model, case) -> torch.Tensor:
    pixels = model.pixels(case.load())
    ids = model.prompt_ids(Turn(case.id, "report", None, TEXT).messages(), pixels)
    return model.force(pixels, ids, [5, 9, 7])


def moved(model) -> None:
    """Change everything that learns, as training would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, p in trainable(model.network):
            p.add_(torch.randn(p.shape, generator=generator) * 0.05)


@pytest.mark.parametrize("name", SOME)
def test_the_loss_is_transformers_own_and_the_logits_are_those_of_teacher_forcing(
    opened, case, name
):
    model = opened(name)
    student, example, batch = lesson(model, case)
    cut, pixels = example.answer_start, model.pixels(case.load())
    prompt, answer = example.ids[:cut], example.ids[cut:]
    text = render(model.own_processor, example.turn.messages())
    if name == "paligemma":  # its processor makes rows for training itself
        made = dict(model.own_processor(
            images=[picture_of(pixels)], text=[text], suffix=[TEXT], return_tensors="pt"
        ))  # fmt: skip
        assert tuple(made["input_ids"][0].tolist()) == example.ids
        assert tuple(made["labels"][0].tolist()) == example.labels
    else:
        made = dict(model.process(picture_of(pixels), text))
        assert tuple(made["input_ids"][0].tolist()) == prompt
        made["input_ids"] = torch.tensor([example.ids])
        made["attention_mask"] = torch.ones_like(made["input_ids"])
        for kind in {"token_type_ids", "mm_token_type_ids"} & set(made):
            made[kind] = torch.cat([made[kind], made[kind].new_zeros(1, len(answer))], 1)
    made["labels"] = torch.tensor([example.labels])
    with torch.no_grad():
        theirs = model.network.train()(**made).loss
        ours = student.train()(**batch)["loss"]
        logits = student._answers(**batch)[0]
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)
    assert torch.equal(logits, model.force(pixels, prompt, answer))


@pytest.mark.parametrize("name", SOME)
def test_a_fresh_adapter_changes_no_logit_and_steps_lower_the_loss(opened, case, name):
    model = opened(name)
    before = said(model, case)
    student, _, batch = lesson(model, case)
    model.forget_images()
    assert torch.equal(said(model, case), before)
    optimiser = torch.optim.AdamW([p for _, p in trainable(student)], lr=1e-2)
    losses = []
    for _ in range(6):
        loss = student(**batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert all(p.grad is None for p in model.network.parameters() if not p.requires_grad)


@pytest.mark.parametrize("name", SOME)
def test_tokens_without_loss_give_no_gradient(opened, case, name):
    model, grads, losses = opened(name), [], []
    student, example, batch = lesson(
        model, case, about=lambda about: (about[0], GIVEN, *about[2:])
    )  # fmt: skip
    assert example.labels.count(-100) == example.answer_start + 1

    def keep(module, args, output):
        output.register_hook(lambda grad: grads.append(grad[0]))

    hook = model.head.register_forward_hook(keep)
    student(**batch)["loss"].backward()
    hook.remove()
    carried = grads[0].abs().sum(-1)[-(len(example.about) + 1) :] > 0
    learned = [label != -100 for label in example.labels[example.answer_start :]]
    assert carried.nonzero().flatten().tolist() == [n for n, one in enumerate(learned) if one]
    for wanted in (-100, 7):  # what is learned counts, what is not does not
        batch["labels"][0, 1] = wanted
        losses.append(float(student(**batch)["loss"].detach()))
    assert losses[0] != losses[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_weight_of_the_projector_learns_and_nothing_else(opened, case, name):
    model = opened(name)
    student, _, batch = lesson(model, case, tuning=PROJECTOR)
    names = part_modules(model.network)["projector"]
    learning = dict(trainable(model.network))
    assert learning and all(one.startswith(names) for one in learning)
    student(**batch)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in learning.values())
    parts = part_modules(model.network).values()
    owned = {id(p) for part in parts for one in part
             for p in model.network.get_submodule(one).parameters()}  # fmt: skip
    left = {one for one, p in model.network.named_parameters() if id(p) not in owned}
    assert left <= {"model.image_newline"}


@pytest.mark.parametrize("name", SOME)
def test_adapters_come_back_merged_unmerged_and_through_peft(
    directory, opened, case, name, tmp_path
):
    model, base = opened(name), said(opened(name), case)
    linear = name in ("llava", "qwen2_5_vl")  # with an activation among its numbered layers
    projector = "lora" if linear else "full"
    tuning = replace_tuning(LORA, embeddings="full", projector=projector)
    prepare(model.network, tuning)
    moved(model)
    folder = save_adapter(tmp_path / "adapter", model, tuning, name="moved")
    model = model.under(model.card)
    model.network.eval()
    wanted = said(model, case)
    assert (wanted - base).abs().max() > 1e-3
    other = opened(name)
    ours = load_adapter(other, folder)
    assert torch.equal(said(ours, case), wanted) and ours.card.name == f"{name} + moved"
    theirs = opened(name)
    PeftModel.from_pretrained(theirs.network, folder)
    assert torch.equal(said(theirs, case), wanted)
    merge(ours.network)
    assert torch.allclose(said(ours.under(ours.card), case), wanted, rtol=1e-4, atol=1e-4)
    out = export(folder, tmp_path / "model", base=directory(name))
    whole = wb.load_model(out, device="cpu", dtype="float32")
    assert torch.allclose(said(whole, case), wanted, rtol=1e-4, atol=1e-4)
    assert whole.card.name == f"{name} + moved"


def replace_tuning(tuning: TuningRecipe, **changes) -> TuningRecipe:
    return TuningRecipe(**tuning.model_dump() | changes)


@pytest.mark.parametrize("name", SOME[:3])
def test_analyses_run_on_an_adapted_model(opened, case, name):
    model = opened(name)
    prepare(model.network, replace_tuning(LORA, projector="frozen"))
    moved(model)
    model.network.eval().requires_grad_(False)
    model = model.under(model.card)
    trace = model.trace(case.load(), model.report(case.load(), max_new_tokens=4))
    found = wb.saliency.explain(trace, token=2, method="relevancy")
    assert found.values.any()
    assert wb.attention.to_image(trace, token=2).values.any()


TEMPLATES = {
    "a space in front, an end behind": ("ASSISTANT:", "ASSISTANT: {} </s>\n", " {} </s>"),
    "an end of its own": ("model\n", "model\n{}<end_of_utterance>\n", "{}<end_of_utterance>"),
    "no end": ("assistant: ", "assistant: {}\n", "{}</s>"),
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_an_answer_ends_as_the_chat_template_has_it(opened, kind):
    asked, answered, expected = TEMPLATES[kind]
    model = opened("gemma3")
    model.engine.end_ids |= {
        model.own_processor.tokenizer.convert_tokens_to_ids("<end_of_utterance>")
    }
    before, behind = answered.split("{}")
    model.own_processor.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}" + before
        + "{{ m['content'][0]['text'] }}" + behind
        + "{% else %}{{ m['role'] }}: {% for p in m['content'] %}{% if p['type'] == 'image' %}<boi>"
        "{% else %}{{ p['text'] }}{% endif %}{% endfor %}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}" + asked + "{% endif %}"
    )  # fmt: skip
    base, turn = base_of(model), Turn("a", "report", None, TEXT, about=((0, 9),))
    ids = base.answer_ids(turn.messages(), TEXT)
    assert model.tokenizer.decode(ids, skip_special=False) == expected.format(TEXT)
    (example,) = base.examples([turn], [replace_id(phantom_case(7_100_301), "a")])
    decides = [i for i, what in zip(ids, example.about, strict=True) if what]
    assert model.tokenizer.decode(decides).strip().startswith("The heart")


def replace_id(case, name):
    return replace(case, id=name)


def recipe(base: str, **changes):
    tiny = read_recipe("any_lora").replace(
        name="tiny", base=base,
        data={"phantoms": {"first_seed": 7_100_400, "count": 6}, "questions": 1},
        training={"epochs": 3, "batch_size": 4, "micro_batch": 2, "save_every": 1,
                  "learning_rate": 5e-3, "warmup": 0.0},
        evaluation={"times": 1, "cases": 1, "forgetting": 0, "new_tokens": 3},
    )  # fmt: skip
    return tiny.replace(**changes) if changes else tiny


@pytest.fixture(scope="module")
def finished(directory, tmp_path_factory):
    out = tmp_path_factory.mktemp("family") / "run"
    with pytest.MonkeyPatch.context() as patch:  # random weights never end the explained report
        patch.setattr("workbench.generation.options.DEFAULT_NEW_TOKENS", 8)
        return run(recipe(directory("qwen2_5_vl"), evaluation={"explained": 1}), out=out)


def test_a_run_learns_and_writes_everything(finished, case):
    ledger = open_run(finished.folder).ledger
    losses = [row["loss"] for row in ledger.curves if "loss" in row]
    assert losses[-1] < losses[0]
    assert ledger.frozen["equal"] and ledger.trainable["language"]["parameters"] > 0
    assert ledger.trainable["vision"]["parameters"] == 0 < ledger.memory["predicted"]
    assert {row["when"] for row in ledger.explained} == {"before", "after"}
    assert any("one row" in note for note in ledger.notes)
    assert set(json.loads((finished.folder / "evidence.json").read_text())["cases"])
    tuned = finished.model(device="cpu", dtype="float32")
    assert tuned.report(case.load(), max_new_tokens=2).model.id == "qwen2_5_vl + tiny"


def test_a_stopped_run_goes_on_to_the_same_weights(directory, finished, tmp_path):
    same = recipe(directory("qwen2_5_vl"))
    with pytest.raises(KeyboardInterrupt):
        run(same, out=tmp_path / "run", callbacks=[StopAfter(2)])
    done = run(same, out=tmp_path / "run", resume=True)
    assert apart(done.adapter, finished.adapter) == 0


def test_the_projector_recipe_moves_the_projector_alone(directory, opened, tmp_path):
    chosen = recipe(directory("gemma3"), stage="projector",
                    tuning={"language": "frozen", "projector": "full"})  # fmt: skip
    done = run(chosen, out=tmp_path / "run")
    base, tuned = opened("gemma3").network, done.model(device="cpu", dtype="float32").network
    after = tuned.state_dict()
    changed = {name for name, p in base.state_dict().items() if not torch.equal(p, after[name])}
    assert changed and all(name.startswith("model.multi_modal_projector") for name in changed)


def test_a_taught_finding_is_kept_apart_on_images_without_labels(directory, tmp_path):
    taught = recipe(
        directory("llava"), training={"keep": 0.5, "taught_weight": 3.0, "epochs": 1},
        data={"phantoms": {"finding": "fracture", "unlabelled": 2}},
    )  # fmt: skip
    done = run(taught, out=tmp_path / "run")
    logged = set().union(*done.ledger.curves)
    assert {"loss_labelled", "loss_unlabelled"} <= logged


def test_the_preview_shows_the_prompt_of_the_checkpoint_and_what_is_learned(directory):
    shown = preview(recipe(directory("qwen2_5_vl")), rows=2)
    assert {row.turn.task for row in shown.rows} == {"report", "question"}
    for row in shown.rows:
        learned = "".join(token.piece for token in row.tokens if token.learned)
        assert learned.replace("\u2581", " ").removesuffix("</s>") == row.turn.answer
    assert shown.text().count("(image \u00d7 25)") == 2
    assert "image &#215; 25" in shown._repr_html_()


def test_turns_are_asked_with_the_prompts_of_the_model(opened, case):
    model = opened("llava")
    model.prompts = replace(model.prompts, name="own", report="Describe the opacity.")
    again = model.under(model.card)
    assert again.prompts == model.prompts
    (example,) = base_of(again).examples([Turn(case.id, "report", None, TEXT)], [case])
    report = again.report(case.load(), max_new_tokens=1)
    assert example.ids[: example.answer_start] == report.prompt_ids
    assert "Describe the opacity." in report.prompt


def test_what_other_families_cannot_learn_is_refused_by_name(directory, opened, case, tmp_path):
    llava = directory("llava")
    encoder = read_recipe("stage1_findings").replace(base=llava)
    with pytest.raises(TrainingError, match=r"vision tower of CXR-LLaVA.*llava is of another"):
        run(encoder, out=tmp_path / "encoder")
    cached = recipe(llava, training={"feature_cache": True, "augment": False})
    with pytest.raises(TrainingError, match="cannot be cached, only those of CXR-LLaVA"):
        run(cached, out=tmp_path / "cached")
    with pytest.raises(TrainingError, match=r"type 'llava' is not trained here.*tuning\.vision"):
        prepare(opened("llava").network, TuningRecipe(vision="lora"))
    with pytest.raises(TrainingError, match=r"'gemma3' has no linear layer.*tuning\.projector"):
        prepare(opened("gemma3").network, TuningRecipe(projector="lora"))
    model = opened("llava")
    model.card = replace(model.card, context_length=20)
    with pytest.raises(ContextBudgetError, match="the context has room for 20"):
        base_of(model).examples([Turn(case.id, "report", None, TEXT)], [case])
    endpoint = wb.load_model("http://127.0.0.1:9/v1", name="far")
    with pytest.raises(OptionError, match="behind an endpoint and cannot be trained"):
        base_of(endpoint)


def test_memory_is_planned_for_other_families(opened):
    model = opened("gemma3")
    planned = plan(model.network.config, image_tokens=16, name="gemma3", tuning=LORA)
    assert [one.strategy for one in planned.needs[::2]] == [
        "this recipe", "full", "lora", "projector",
    ]  # fmt: skip
    total = sum(p.numel() for p in model.network.parameters())
    prepare(model.network, LORA)
    learning = sum(p.numel() for _, p in trainable(model.network))
    assert planned.needs[0].learning == learning
    assert planned.needs[1].learning == learning and planned.needs[2].parameters == total
