"""Packed dialogues: no block sees another, and each reads as if it stood alone."""

import numpy as np
import pytest
import torch

from recipes.mini.encoder import vision_config
from recipes.mini.learner import Learner
from recipes.mini.recipe import MiniRecipe
from recipes.mini.texts import DialogueWriter, train_tokenizer
from workbench.finetune.encoding import Block, pack
from workbench.model.prompt import render_chat, report_messages
from workbench.model.vision import VisionTower
from workbench.phantom.case import sample_scene


@pytest.fixture(scope="module")
def recipe():
    return MiniRecipe().smoke()


@pytest.fixture(scope="module")
def tokenizer(recipe):
    return train_tokenizer(recipe)


@pytest.fixture(scope="module")
def learner(recipe, tokenizer):
    return Learner(recipe, tokenizer, VisionTower(vision_config(recipe))).eval()


def _features(learner, count):
    generator = torch.Generator().manual_seed(3)
    model = learner.model
    return torch.randn(
        count, model.config.image_tokens, model.config.llama.hidden_size, generator=generator
    )


def test_packed_loss_equals_blocks_run_alone(recipe, tokenizer, learner):
    writer = DialogueWriter(recipe, tokenizer)
    blocks = writer.blocks(sample_scene(12), 0)
    assert len(blocks) >= 3
    features = _features(learner, 1)
    packed = pack(writer.prefix, features.shape[1], [blocks])
    with torch.no_grad():
        together = learner.loss(packed, features)
        total, count = 0.0, 0
        for block in blocks:
            ids = torch.tensor([[*writer.prefix, -200, *block.ids]])
            logits = learner.model(input_ids=ids, image_features=features).logits[0]
            answer = torch.tensor(block.ids[block.answer_start :])
            rows = logits[len(logits) - len(answer) - 1 : -1]
            total += torch.nn.functional.cross_entropy(rows, answer, reduction="sum")
            count += len(answer)
    assert together == pytest.approx(float(total / count), rel=1e-5)


def test_changing_one_block_changes_no_other(recipe, tokenizer, learner):
    writer = DialogueWriter(recipe, tokenizer)
    first, second = writer.blocks(sample_scene(12), 0)[:2]
    changed = Block(tuple(5 for _ in first.ids), first.answer_start)
    features = _features(learner, 1)
    losses = []
    for leading in (first, changed):
        packed = pack(writer.prefix, features.shape[1], [[leading, second]])
        start = len(writer.prefix) + features.shape[1] + len(first.ids)
        packed["labels"][:, :start] = -100
        with torch.no_grad():
            losses.append(float(learner.loss(packed, features)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_rows_of_different_length_do_not_touch_each_other(recipe, tokenizer, learner):
    writer = DialogueWriter(recipe, tokenizer)
    rows = [writer.blocks(sample_scene(seed), 0) for seed in (3, 4, 12)]
    features = _features(learner, 3)
    with torch.no_grad():
        joint = pack(writer.prefix, features.shape[1], rows)
        together = float(learner.loss(joint, features)) * int((joint["labels"] >= 0).sum())
        alone = 0.0
        for k, row in enumerate(rows):
            packed = pack(writer.prefix, features.shape[1], [row])
            count = int((packed["labels"] >= 0).sum())
            alone += float(learner.loss(packed, features[k : k + 1])) * count
    assert together == pytest.approx(alone, rel=1e-5)


def test_report_block_holds_the_published_prompt_and_ends_with_eos(recipe, tokenizer):
    writer = DialogueWriter(recipe, tokenizer)
    block = writer.blocks(sample_scene(7), 0)[0]
    prompt = tokenizer.encode_prompt(render_chat(report_messages()))
    assert [*writer.prefix, -200, *block.ids[: block.answer_start]] == prompt
    assert block.ids[-1] == tokenizer.eos_id
    assert tokenizer.unk_id not in block.ids


def test_false_premise_turns_can_be_left_out(recipe, tokenizer):
    from dataclasses import replace

    kinds = {}
    for wanted in (True, False):
        writer = DialogueWriter(replace(recipe, false_premise=wanted), tokenizer)
        texts = [
            tokenizer.decode(b.ids[b.answer_start :])
            for s in range(60)
            for b in writer.blocks(sample_scene(s), 0)
        ]
        kinds[wanted] = sum(text.startswith("There is no ") for text in texts)
    assert kinds[True] > kinds[False] + 5


def test_epochs_write_new_words_for_the_same_truth(recipe, tokenizer):
    writer = DialogueWriter(recipe, tokenizer)
    scene = sample_scene(9)
    texts = {writer.blocks(scene, epoch)[0].ids for epoch in range(6)}
    assert len(texts) > 2
    assert writer.blocks(scene, 2)[0] == writer.blocks(scene, 2)[0]
    assert np.all([len(ids) < recipe.context for ids in texts])
