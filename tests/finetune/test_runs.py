"""Runs: what was frozen is bit-identical, what was stopped ends the same, folders are whole."""

import json
import math
import os
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback, get_scheduler

import workbench as wb
from tests.finetune.conftest import tiny_recipe
from tests.helpers import forked, free_port
from workbench.cli import main
from workbench.errors import InputError, TrainingError
from workbench.finetune import session, trainer, writing_stages
from workbench.finetune.adapters import TENSORS
from workbench.finetune.datasets import PlannedBatches, plan_batches
from workbench.finetune.ledger import open_run
from workbench.finetune.running import preview, run


class StopAfter(TrainerCallback):
    """Stop a run in the middle, as Ctrl-C would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_save(self, args, state, control, **_):
        if state.global_step == self.step:
            raise KeyboardInterrupt
        return control


def apart(one, two) -> float:
    first, second = (load_file(path / TENSORS) for path in (one, two))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_the_ledger_proves_what_it_says(tiny_run):
    ledger = tiny_run.ledger
    assert ledger.frozen["equal"] and len(ledger.frozen["before"]) == 64
    assert ledger.cost["steps"] == 4 and ledger.cost["processes"] == 1
    assert ledger.trainable["vision"]["parameters"] == 0
    assert ledger.trainable["projector"]["parameters"] == 64 * 64 + 64
    assert ledger.trainable["language"]["parameters"] == 8 * 2 * (4 * 2 * 64 + 3 * (64 + 172))
    losses = [row["loss"] for row in ledger.curves if "loss" in row]
    assert len(losses) == 4 and all(loss > 0 for loss in losses)
    assert ledger.data["train"] == 6 and ledger.data["validation"] == 2
    assert any("2 images without labels" in note for note in ledger.notes)
    assert ledger.data["unlabelled"] == ledger.data["turns"]["own report"] == 2
    assert ledger.cache == {"computed": 8, "found": 0}
    assert ledger.memory["measured"] > 1e8 and ledger.memory["predicted"] > 1e8


def test_the_log_tells_passes_the_rate_of_the_recipe_and_both_kinds_of_rows(tiny_run):
    training = tiny_run.recipe.training
    assert training.projector_rate != 1, "some part has a rate of its own"
    rows = [row for row in tiny_run.ledger.curves if "loss" in row]
    steps = tiny_run.ledger.cost["steps"]
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], training.learning_rate)
    schedule = get_scheduler(
        training.schedule, optimiser, math.ceil(training.warmup * steps), steps
    )
    expected = []
    for _ in range(steps):
        expected.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    assert [row["learning_rate"] for row in rows] == pytest.approx(expected)
    assert rows[-1]["epoch"] == pytest.approx(training.epochs, rel=0.2)
    assert [row["epoch"] for row in rows] == sorted(row["epoch"] for row in rows)
    for name in ("loss_labelled", "loss_unlabelled"):
        assert any(name in row for row in rows), name
    lines = (tiny_run.folder / "progress.jsonl").read_text().splitlines()
    logged = [row for row in map(json.loads, filter(None, lines)) if "loss" in row]
    assert [row["epoch"] for row in logged] == [row["epoch"] for row in rows]
    assert {"loss_labelled", "loss_unlabelled"} <= set().union(*logged)


def test_the_ledger_survives_the_disk_and_is_shown(tiny_run):
    again = open_run(tiny_run.folder).ledger
    assert again.to_frame().equals(tiny_run.ledger.to_frame())
    assert "bit-identical" in again.summary() and "bit-identical" in again._repr_html_()
    assert len(again.plot().axes) >= 2
    assert open_run(tiny_run.folder).recipe == tiny_run.recipe
    assert [row["step"] for row in again.curves] == [1, 2, 3, 4]
    with pytest.raises(InputError, match="no finished run"):
        open_run(tiny_run.folder / "best")


def test_a_stopped_run_goes_on_to_the_same_weights(tiny, tiny_run, tmp_path):
    recipe = tiny_recipe(tiny)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, out=tmp_path / "run", callbacks=[StopAfter(2)])
    with pytest.raises(TrainingError, match="resume=True"):
        run(recipe, out=tmp_path / "run")
    with pytest.raises(TrainingError, match="another recipe"):
        run(recipe.replace(seed=5), out=tmp_path / "run", resume=True)
    done = run(recipe, out=tmp_path / "run", resume=True)
    assert done.ledger.cost["steps"] == 4
    assert apart(done.adapter, tiny_run.adapter) <= 1e-6


def test_augmented_runs_resume_to_the_same_weights_too(tiny, tmp_path):
    recipe = tiny_recipe(
        tiny, training={"augment": True, "feature_cache": False, "batching": "bucketed"},
        tuning={"dropout": 0.1},
    )  # fmt: skip
    whole = run(recipe, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(recipe, out=tmp_path / "cut", callbacks=[StopAfter(3)])
    done = run(recipe, out=tmp_path / "cut", resume=True)
    assert apart(done.adapter, whole.adapter) <= 1e-6


def test_accumulation_changes_nothing(tiny, tmp_path, monkeypatch):
    """Rows of like length come together, so that the plan is made alike for both first."""

    def halved(lengths, *, micro, batch, **how):
        whole = plan_batches(lengths, micro=batch, batch=batch, **how)
        cut = [keys[at : at + micro] for keys in whole for at in range(0, batch, micro)]
        return PlannedBatches(cut, len(lengths))

    monkeypatch.setattr(trainer, "plan_batches", halved)
    once = {"epochs": 1}
    runs = [
        run(tiny_recipe(tiny, training=once | {"micro_batch": micro}), out=tmp_path / str(micro))
        for micro in (1, 2, 4)
    ]
    first = [done.ledger.curves[0]["loss"] for done in runs]
    assert first == pytest.approx([first[0]] * 3, rel=1e-5)
    assert apart(runs[0].adapter, runs[2].adapter) <= 1e-5
    assert apart(runs[1].adapter, runs[2].adapter) <= 1e-5


def one_of_two(rank: int, port: int, command: list[str]) -> None:
    """What `torchrun --nproc-per-node 2 -m workbench` starts."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    sys.exit(main(command))


def test_two_processes_give_what_one_gives(tiny, tiny_run, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(tiny_recipe(tiny).to_yaml())
    command = ["train", str(path), "--json", "--out", str(tmp_path / "run")]
    port = free_port()
    both = [forked(one_of_two, rank, port, command) for rank in (0, 1)]
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    two = open_run(tmp_path / "run")
    assert two.ledger.cost["processes"] == 2
    assert two.ledger.cost["steps"] == tiny_run.ledger.cost["steps"]
    assert apart(two.adapter, tiny_run.adapter) <= 1e-5


def test_processes_that_cannot_share_a_step_are_told(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(TrainingError, match="3 processes cannot share"):
        trainer.arguments(
            tiny_recipe(tiny), tmp_path, steps=1, device=torch.device("cpu"), show=False
        )


def test_cached_and_uncached_runs_learn_the_same(tiny, tiny_run, tmp_path):
    done = run(tiny_recipe(tiny, training={"feature_cache": False}), out=tmp_path / "run")
    pairs = zip(done.ledger.curves, tiny_run.ledger.curves, strict=True)
    assert all(abs(one["loss"] - two["loss"]) < 1e-4 for one, two in pairs)


def test_the_projector_stage_moves_the_projector_alone(tiny, tmp_path):
    tuning = {"language": "frozen", "embeddings": "frozen", "projector": "full", "vision": "frozen"}
    done = run(tiny_recipe(tiny, stage="projector", tuning=tuning), out=tmp_path / "run")
    learned = {part for part, row in done.ledger.trainable.items() if row["parameters"]}
    assert learned == {"projector"} and done.ledger.frozen["equal"]
    base, tuned = wb.load_model(tiny).loaded.model, done.model().loaded.model
    moved = {n for n, p in base.state_dict().items() if not torch.equal(p, tuned.state_dict()[n])}
    assert moved == {"mm_projector.weight", "mm_projector.bias"}


def test_stage_one_learns_from_labels_and_masks(tiny, tmp_path):
    recipe = tiny_recipe(
        tiny, stage="encoder",
        data={"phantoms": {"count": 12, "unlabelled": 0}, "findings": ["fracture"]},
        tuning={"language": "frozen", "embeddings": "frozen", "vision": "full"},
        training={"feature_cache": False},
    )  # fmt: skip
    done = run(recipe, out=tmp_path / "run")
    ledger = done.ledger
    assert ledger.frozen["equal"] and ledger.best["measure"] == "auroc"
    assert {row.skill for row in ledger.scores} == {"mean AUROC", "AUROC of fracture"}
    assert (done.adapter / "heads.safetensors").is_file()
    assert "refitted projector" in " ".join(ledger.notes)
    assert done.model().report(wb.phantom(3, size=64), max_new_tokens=2).text is not None
    both = wb.finetune.compare(done, done)
    assert both.scores[0].change.value == 0


def test_runs_are_compared_on_the_cases_they_share(tiny, tiny_run, tmp_path):
    other = run(tiny_recipe(tiny, training={"learning_rate": 1e-4}), out=tmp_path / "run")
    found = wb.finetune.compare(tiny_run, other.folder)
    assert found.settings == {"training.learning_rate": (2e-3, 1e-4)}
    assert found.shared == 2
    assert set(found.to_frame()["kind"]) >= {"cost", "score"}
    assert "training.learning_rate" in found._repr_html_()
    assert found.plot().get_title(loc="left") or found.plot().get_title()


def test_runs_that_share_too_few_cases_to_score_are_told_apart_from_a_mistake(tiny_run):
    evidence = tiny_run.evidence
    first = dict(list(evidence["cases"].items())[:1])
    for fewer in ({"cases": first}, {"findings": []}):
        other = replace(tiny_run, evidence=evidence | fewer)
        with pytest.raises(InputError, match=r"that they share \([12]\); train both .* more cases"):
            wb.finetune.compare(tiny_run, other)


def test_the_preview_needs_no_training(tiny):
    shown = preview(tiny_recipe(tiny), rows=2)
    assert {row.turn.task for row in shown.rows} == {"report", "question", "own report"}
    assert shown.turns["report"] == 6 and shown.turns["own report"] == 2


def test_the_best_weights_are_kept_by_the_measure(tiny, tmp_path, monkeypatch):
    measures = iter((0.25, 0.75, 0.5, 0.0))
    monkeypatch.setattr(writing_stages, "macro_f1", lambda *_: next(measures))
    heads = []

    class Heads(TrainerCallback):
        def on_evaluate(self, args, state, control, model, **_):
            heads.append(model.model.lm_head.weight.detach().clone())

    recipe = tiny_recipe(tiny, evaluation={"times": 4})
    done = run(recipe, out=tmp_path / "run", callbacks=[Heads()])
    assert done.ledger.best == {"measure": "macro_f1", "step": 2, "value": 0.75}
    kept = done.model().loaded.model.lm_head.weight
    assert [torch.equal(kept, head) for head in heads] == [False, True, False, False]
    evidence = json.loads((done.folder / "evidence.json").read_text())
    assert set(next(iter(evidence["cases"].values()))) == {"patient", "codes", "before", "after"}


def test_other_processes_wait_for_the_first_to_take_the_folder(tiny, tmp_path, monkeypatch):
    from threading import Timer

    recipe, out = tiny_recipe(tiny), tmp_path / "run"
    monkeypatch.setenv("WORLD_SIZE", "2")
    first = Timer(0.3, lambda: (out.mkdir(), (out / session.RECIPE_FILE).write_text("taken")))
    monkeypatch.setenv("RANK", "1")
    first.start()
    session.claim(out, recipe, resume=False)
    assert (out / session.RECIPE_FILE).read_text() == "taken"
    monkeypatch.setattr(session, "_PATIENCE", 0)
    with pytest.raises(TrainingError, match="has not written"):
        session.claim(tmp_path / "other", recipe, resume=False)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(TrainingError, match="has a run already"):
        session.claim(out, recipe, resume=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").touch()
    with pytest.raises(TrainingError, match="is not empty"):
        session.claim(tmp_path / "full", recipe, resume=False)


def test_parts_learn_at_their_own_rates(tiny, tmp_path):
    still = {"projector_rate": 0.0, "embeddings_rate": 0.5, "keep": 0.5, "taught_weight": 4.0}
    seen = {}

    class Groups(TrainerCallback):
        def on_train_begin(self, args, state, control, model, optimizer, **_):
            names = {id(p): name for name, p in model.named_parameters()}
            for group in optimizer.param_groups:
                seen.update({names[id(p)]: group["initial_lr"] for p in group["params"]})

    recipe = tiny_recipe(tiny, training=still)
    done = run(recipe, out=tmp_path / "run", callbacks=[Groups()])
    rate = recipe.training.learning_rate
    factors = {"mm_projector": 0.0, "embed_tokens": 0.5, "lm_head": 0.5, "lora_B": 1.0}
    for part, factor in factors.items():
        assert {lr for name, lr in seen.items() if part in name} == {factor * rate}
    before = wb.load_model(tiny, device="cpu").loaded.model.state_dict()
    after = done.model(merged=True).loaded.model.state_dict()
    moved = {name: not torch.equal(before[name], after[name]) for name in before}
    assert not moved["mm_projector.weight"]
    assert moved["lm_head.weight"] and moved["llama.layers.0.self_attn.q_proj.weight"]
