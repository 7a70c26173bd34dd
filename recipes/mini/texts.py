"""What `mini` is taught to say: dialogues about a phantom, as token ids with the answers marked.

All turns of one image share one prefix (system prompt and image). Each block after it is a thread
of its own (`workbench.finetune.encoding`); otherwise the report would leak into the answers.
"""

from __future__ import annotations

import io
import re

import numpy as np
import sentencepiece

from recipes.mini.recipe import MiniRecipe
from workbench.finetune.encoding import Block
from workbench.model.prompt import (
    IMAGE_TOKEN_ID,
    Message,
    differential_messages,
    question_messages,
    render_chat,
    report_messages,
)
from workbench.model.tokenizer import CxrTokenizer
from workbench.phantom.case import sample_scene
from workbench.phantom.scene import Lesion, Scene
from workbench.phantom.wording import questions, write_differential, write_report
from workbench.reports import sentences


def train_tokenizer(recipe: MiniRecipe) -> CxrTokenizer:
    """Train the word pieces of `mini` on its own wording.

    Returns:
        a tokenizer in Llama-2's form: BPE, byte fallback, non-legacy.
    """
    lines = []
    for seed in range(recipe.train_first_seed, recipe.train_first_seed + recipe.tokenizer_phantoms):
        lesions = sample_scene(seed, domain=recipe.domain).lesions
        rng = np.random.default_rng([recipe.seed, 21, seed])
        lines += [write_report(lesions, rng, recipe.domain), write_differential(lesions, rng)]
        for question in questions(lesions, rng):
            lines += [question.text, question.answer]
    asked = [render_chat(report_messages()), render_chat(differential_messages())]
    lines += [re.sub(r"</?s>|<image>", "", text) for text in asked] * 100
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=recipe.vocabulary,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        hard_vocab_limit=False,
        character_coverage=1.0,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
        allow_whitespace_only_pieces=True,
    )
    return CxrTokenizer(model.getvalue(), {"legacy": False})


def unnamed(report: str, finding: str | None) -> str:
    """Return a report without the sentences that name a finding, also to deny it."""
    if finding is None:
        return report
    kept = [s.text for s in sentences(report) if finding not in s.text.lower()]
    return " ".join(kept)


class DialogueWriter:
    """Writes the blocks of a phantom; the same recipe, seed and epoch give the same blocks."""

    def __init__(self, recipe: MiniRecipe, tokenizer: CxrTokenizer) -> None:
        self.recipe = recipe
        self.tokenizer = tokenizer
        ids = tokenizer.encode_prompt(render_chat(report_messages()))
        self.prefix = ids[: ids.index(IMAGE_TOKEN_ID)]

    def blocks(self, scene: Scene, epoch: int) -> list[Block]:
        """Return the blocks of one phantom: always a report, and a few other turns."""
        held_out = self.recipe.held_out
        lesions = tuple(lesion for lesion in scene.lesions if lesion.finding != held_out)
        rng = np.random.default_rng([self.recipe.seed, 22, epoch, scene.seed])
        report = unnamed(write_report(lesions, rng, scene.domain), held_out)
        found = [self._block(report_messages(), report)]
        if rng.random() < 0.4:
            found.append(self._block(differential_messages(), write_differential(lesions, rng)))
        asked = list(questions(lesions, rng, n=3, false_premise=self.recipe.false_premise))
        asked = [question for question in asked if held_out is None or question.finding != held_out]
        found += [self._block(question_messages(q.text), q.answer) for q in asked[:2]]
        if rng.random() < 0.3 and asked:
            found.append(self._thread(lesions, report, asked, rng))
        return found

    def _block(self, messages: list[Message], answer: str) -> Block:
        prompt = self.tokenizer.encode_prompt(render_chat(messages))
        behind = prompt[prompt.index(IMAGE_TOKEN_ID) + 1 :]
        ids = [*behind, *self.tokenizer.encode(answer, add_bos=False), self.tokenizer.eos_id]
        return Block(tuple(ids), len(behind))

    def _thread(self, lesions: tuple[Lesion, ...], report: str, asked: list, rng) -> Block:
        """A second turn; the first one is context only."""
        last = asked[-1]
        if rng.random() < 0.35:
            first = [*report_messages(), Message("assistant", report)]
        else:
            first = [*question_messages(asked[0].text), Message("assistant", asked[0].answer)]
        return self._block([*first, Message("user", last.text)], last.answer)
