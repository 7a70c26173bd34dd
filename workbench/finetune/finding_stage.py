"""Stage 1: the vision tower learns findings, and the projector is fitted to it again.

Labels teach, and masks where they are known. Every patch token gives a logit for every finding; the
image's logit pools them with a softmax, so that what the image shows can be read off the tokens
that the projector sees. A label that nobody gave carries no loss.

"Before" is what the tower of the base already knows of these findings, read off by a linear probe
that is fitted to the same training cases; "after" is the trained head. When the tower has moved,
its tokens no longer mean what the language model was told: with `tuning.projector: full` the
projector is set to the ridge solution under which the new tokens say what the old ones said.

Papers: Lee et al., Eur Radiol 2025, section 2 (multi-label findings); pooling by attention, Ilse et
al., ICML 2018, arXiv 1802.04712. Deviations: the paper pools the class token; masks are beyond it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from transformers import TrainerCallback

from workbench.errors import TrainingError
from workbench.finetune.adapters import save_adapter
from workbench.finetune.cases import Case, CaseSet, gather
from workbench.finetune.datasets import Images, LabelRows, plan_batches
from workbench.finetune.ledger import ADAPTER, EVIDENCE_FILE, Run
from workbench.finetune.measuring import facade, forgetting
from workbench.finetune.parts import frozen_sha256, prepare
from workbench.finetune.recipe import Recipe
from workbench.finetune.session import (
    Cost,
    open_base,
    probe_cases,
    process_rank,
    recorded,
    train_to_best,
    world_size,
    write_json,
)
from workbench.finetune.tower_probes import auroc_rows, aurocs, linear_probe, refit_projector
from workbench.finetune.trainer import (
    FinetuneTrainer,
    make_trainer,
)
from workbench.model.load import LoadedCheckpoint
from workbench.model.splice import IGNORE_LABEL
from workbench.model.vision import VisionTower

HEADS_FILE = "heads.safetensors"

#: A rare finding weighs at most this much more than a common one.
MOST_WEIGHT = 8.0


class FindingClassifier(nn.Module):
    """A vision tower with one head of findings.

    Args:
        tower: trained in place.
        findings: columns.
        mask_weight: weight of mask supervision.
    """

    accepts_loss_kwargs = True

    def __init__(
        self, tower: VisionTower, findings: Sequence[str], *, mask_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.tower, self.findings, self.mask_weight = tower, tuple(findings), mask_weight
        width, count = tower.config.width, len(self.findings)
        self.patch_head = nn.Linear(width, count)
        nn.init.normal_(self.patch_head.weight, std=width**-0.5)
        nn.init.constant_(self.patch_head.bias, -2.0)
        self.scale = nn.Parameter(torch.ones(count))
        self.bias = nn.Parameter(torch.full((count,), 1.0))
        self.positive_weight: torch.Tensor
        self.register_buffer("positive_weight", torch.ones(count), persistent=False)

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        cover: torch.Tensor | None = None,
        known: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return logits, and the loss where labels are given.

        Args:
            pixel_values: (B, 1, S, S) normalised.
            labels: (B, F) 1, 0, or -100 for unknown.
            cover: (B, N, F) share of each patch that a finding covers.
            known: (B, F) whether that is known.
            num_items_in_batch: known labels of the whole step, over all processes.

        Returns:
            {"logits": (B, F)} and "loss": summed over known labels, divided by their number.
        """
        patch = self.patch_head(self.tower(pixel_values).tokens)
        weight = torch.softmax(patch * 2, dim=1)
        logits = (weight * patch).sum(1) * self.scale + self.bias
        if labels is None:
            return {"logits": logits}
        stated = labels != IGNORE_LABEL
        each = F.binary_cross_entropy_with_logits(
            logits, labels.clamp_min(0).to(logits.dtype), reduction="none",
            pos_weight=self.positive_weight,
        )  # fmt: skip
        total = (each * stated).sum()
        if cover is not None and known is not None and self.mask_weight:
            total = total + self.mask_weight * self._mask_loss(patch, cover, known)
        count = stated.sum() if num_items_in_batch is None else num_items_in_batch
        return {"loss": total / torch.clamp(torch.as_tensor(count), min=1), "logits": logits}

    def _mask_loss(
        self, patch: torch.Tensor, cover: torch.Tensor, known: torch.Tensor
    ) -> torch.Tensor:
        target = (cover * 3).clamp_max(1)
        heavy = torch.full((patch.shape[-1],), 6.0, device=patch.device)
        each = F.binary_cross_entropy_with_logits(patch, target, reduction="none", pos_weight=heavy)
        return (each.mean(1) * known).sum()


def class_weights(labels: np.ndarray) -> torch.Tensor:
    """Return (F,) weight of a positive: the root of negatives by positives, within bounds.

    Args:
        labels: (n, F) 1, 0 or -100.
    """
    positive, negative = (labels == 1).sum(0), (labels == 0).sum(0)
    ratio = np.sqrt(np.maximum(negative, 1) / np.maximum(positive, 1))
    return torch.from_numpy(ratio.clip(1 / MOST_WEIGHT, MOST_WEIGHT)).float()


@torch.no_grad()
def predict(classifier: FindingClassifier, images: Images) -> np.ndarray:
    """Return (n, F) logits."""
    device = classifier.patch_head.weight.device
    was_training = classifier.training
    classifier.eval()
    found = [classifier(pixels.to(device))["logits"].float().cpu() for pixels in images.batches()]
    classifier.train(was_training)
    return torch.cat(found).numpy()


def train_findings(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool,
    device: str,
    show: bool,
    callbacks: Sequence[TrainerCallback],
) -> Run | None:
    """Run stage 1; None on every process but the first."""
    loaded, cases = open_base(recipe, device=device), gather(recipe)
    findings = learned_findings(recipe, cases)
    rows = {
        part: _label_rows(recipe, loaded, found, findings, augment=part == "train")
        for part, found in (("train", cases.train), ("validation", cases.validation))
    }
    pixels = {part: Images(found.images.cases, loaded.processor) for part, found in rows.items()}
    old = copy.deepcopy(loaded.model.vision)
    before = linear_probe(old, pixels, rows) if process_rank() == 0 else np.empty((0, 0))
    if recipe.from_scratch:
        torch.manual_seed(recipe.seed)
        fresh = VisionTower(old.config).state_dict()
        loaded.model.vision.load_state_dict(fresh)
    prepare(loaded.model, recipe.tuning, seed=recipe.seed)
    sha_before = frozen_sha256(loaded.model)
    trainer = _trainer(recipe, loaded, rows, pixels, findings, out, show, callbacks)
    cost = train_to_best(trainer, out, device=loaded.model.device, resume=resume)
    if cost is None:
        return None
    kept = None
    if recipe.tuning.projector == "full":
        seen = pixels["train"]
        kept = refit_projector(loaded.model, old, len(seen), seen.batch)
    loaded.model.eval()
    facts = (cases, findings, rows, pixels, before, sha_before, cost, kept)
    return _finished(recipe, loaded, trainer, out, *facts)


def learned_findings(recipe: Recipe, cases: CaseSet) -> tuple[str, ...]:
    """Return the findings of stage 1: those asked for, or all with a present case in each part.

    Raises:
        TrainingError: there is none.
    """
    counts = cases.counts()
    found = tuple(
        name
        for name, row in counts.items()
        if (not recipe.data.findings or name in recipe.data.findings)
        and name != "no finding"
        and row["train present"] >= 2
        and row["validation present"] >= 1
    )
    if not found:
        raise TrainingError(
            "no finding is present in training and validation cases alike; give more cases, or "
            "another data.findings"
        )
    return found


def _label_rows(
    recipe: Recipe, loaded: LoadedCheckpoint, cases: Sequence[Case], findings: tuple[str, ...],
    *, augment: bool,
) -> LabelRows:  # fmt: skip
    images = Images(cases, loaded.processor, augment=augment and recipe.training.augment,
                    seed=recipe.seed)  # fmt: skip
    return LabelRows(
        images, findings, unlisted=recipe.data.unlisted,
        regions=augment and recipe.training.mask_weight > 0,
        patch=loaded.model.config.vision.patch_size,
    )  # fmt: skip


def _trainer(
    recipe: Recipe, loaded: LoadedCheckpoint, rows: dict[str, LabelRows], pixels: dict,
    findings: tuple[str, ...], out: Path, show: bool, callbacks: Sequence[TrainerCallback],
) -> FinetuneTrainer:  # fmt: skip
    torch.manual_seed(recipe.seed + 1)
    training, tower = recipe.training, loaded.model.vision
    classifier = FindingClassifier(tower, findings, mask_weight=training.mask_weight)
    classifier.to(loaded.model.device)
    if training.class_weights:
        classifier.positive_weight.copy_(class_weights(rows["train"].labels))

    def measure() -> dict[str, float]:
        scores = predict(classifier, pixels["validation"])
        return {"auroc": float(np.nanmean(aurocs(scores, rows["validation"].labels)))}

    batches = plan_batches(
        [1] * len(rows["train"]), micro=training.micro_batch, batch=training.batch_size,
        epochs=training.epochs, seed=recipe.seed,
    )  # fmt: skip
    return make_trainer(
        recipe, classifier, rows["train"], rows["train"].collate, batches, measure, out,
        device=loaded.model.device, world=world_size(), show=show, callbacks=callbacks,
    )  # fmt: skip


def _finished(
    recipe: Recipe, loaded: LoadedCheckpoint, trainer: FinetuneTrainer, out: Path, cases: CaseSet,
    findings: tuple[str, ...], rows: dict[str, LabelRows], pixels: dict, before: np.ndarray,
    sha_before: str, cost: Cost, kept: float | None,
) -> Run:  # fmt: skip
    """Measure what came out, write adapter, heads, evidence and ledger."""
    adapter = save_adapter(out / ADAPTER, loaded, recipe.tuning, name=recipe.name)
    heads = {n: p.detach().contiguous() for n, p in trainer.model.named_parameters()
             if not n.startswith("tower.")}  # fmt: skip
    save_file(heads, adapter / HEADS_FILE, metadata={"findings": "|".join(findings)})
    classifier = trainer.model
    assert isinstance(classifier, FindingClassifier)
    after = predict(classifier, pixels["validation"])
    labels = rows["validation"].labels
    patients = [case.patient for case in cases.validation]
    evidence = {
        "findings": list(findings),
        "cases": {
            case.id: {"patient": case.patient, "codes": dict(case.codes),
                      "labels": labels[at].tolist(), "before": before[at].tolist(),
                      "after": after[at].tolist()}
            for at, case in enumerate(cases.validation)
        },
    }  # fmt: skip
    write_json(out / EVIDENCE_FILE, evidence)
    base = facade(open_base(recipe, device=str(loaded.model.device)))
    probes = ()
    if recipe.evaluation.forgetting:
        probes = forgetting(base, facade(loaded), probe_cases(recipe))
    return recorded(
        recipe, loaded, trainer, out, sha_before=sha_before, cost=cost,
        predicted=_predicted_memory(loaded, recipe), evidence=evidence,
        data=_data_facts(cases, rows, findings),
        scores=auroc_rows(before, after, labels, patients, findings),
        forgetting=probes,
        notes=_notes(recipe, cases, kept),
    )  # fmt: skip


def _predicted_memory(loaded: LoadedCheckpoint, recipe: Recipe) -> float:
    """Return bytes of weights, moments and the tower's activations, without the language model."""
    vision = loaded.model.config.vision
    learning = sum(p.numel() for p in loaded.model.vision.parameters())
    kept = 4 * 16 * vision.width * vision.image_tokens * vision.layers
    total = 4 * loaded.card.parameters["total"] + 12 * learning
    return total + kept * recipe.training.micro_batch + 0.35e9


def _data_facts(
    cases: CaseSet, rows: dict[str, LabelRows], findings: tuple[str, ...]
) -> dict[str, Any]:
    labels = rows["train"].labels
    return cases.facts() | {
        "learned": list(findings),
        "known labels": int((labels != IGNORE_LABEL).sum()),
        "unknown labels": int((labels == IGNORE_LABEL).sum()),
    }


def _notes(recipe: Recipe, cases: CaseSet, kept: float | None) -> tuple[str, ...]:
    notes = list(cases.notes)
    if recipe.data.unlisted == "absent":
        notes.append("what a row does not mention was taken as absent, as the recipe says")
    if recipe.from_scratch:
        notes.append("the vision tower started from random weights")
    if kept is not None:
        notes.append(f"the refitted projector keeps {kept:.3f} of what the old tokens said")
    return tuple(notes)
