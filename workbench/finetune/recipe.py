"""What a training run is: every choice in one frozen recipe, one sentence for each field.

    recipe = read_recipe("configs/stage3.yaml")        # or the name of a shipped one: "stage3_lora"

Stages (Lee et al., Eur Radiol 2025, section 2): "encoder" learns findings from labels, "projector"
hands its tokens to the language model, "instruct" learns to write and to answer.

Does not know: how a recipe is run (`running`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from workbench._repr import short_repr
from workbench.data.columns import FINDING_COLUMNS
from workbench.errors import OptionError, did_you_mean
from workbench.findings import ON_REQUEST, PHANTOM_FINDINGS
from workbench.finetune.fields import build, check_values, explained, said

STAGES = ("encoder", "projector", "instruct")
PARTS = ("frozen", "lora", "full")

#: Phantom seeds from here up are kept for evaluation.
RESERVED_SEED = 10_000_000


@dataclass(frozen=True)
class PhantomData:
    """Drawn chests to train on."""

    first_seed: int = said(7_000_000, "Seed of the first phantom.", least=0)
    count: int = said(128, "Number of phantoms, validation included.", least=2)
    finding: str | None = said(
        None, "Finding that is taught; None takes phantoms as their seeds decide them."
    )
    share: float = said(0.5, "Share of phantoms that show the taught finding.", least=0, most=1)
    domain: str = said("internal", "Phantom domain.", choices=("internal", "external"))
    unlabelled: int = said(
        0, "Further phantoms, labels unused, on which the base's own reports are to be kept.",
        least=0,
    )  # fmt: skip


@dataclass(frozen=True)
class DataRecipe:
    """Where cases come from and what is made of them."""

    phantoms: PhantomData | None = said(None, "Drawn chests; leave out to train on a manifest.")
    manifest: str | None = said(None, "Manifest file (.parquet or .csv) of studies.")
    root: str | None = said(None, "Folder that the manifest's image paths are relative to.")
    findings: tuple[str, ...] = said((), "Findings that are learned; empty for all with labels.")
    per_finding: int | None = said(
        None, "Images of each finding in a small subset; None takes every row.", least=1
    )
    validation: float = said(
        0.2, "Share of the patients kept out of training, to choose the best checkpoint.",
        least=0.01, most=0.9,
    )  # fmt: skip
    unlisted: str = said(
        "unknown", "What a finding that a row does not mention counts as in stage 1.",
        choices=("unknown", "absent"),
    )  # fmt: skip
    tasks: tuple[str, ...] = said(
        ("report", "question"), "Turns that are made of each case.",
        choices=("report", "findings", "impression", "question", "differential", "rehearsal"),
    )  # fmt: skip
    questions: int = said(2, "Polling questions of each case.", least=0)
    negatives: float = said(
        1.0, "Polling questions answered no for each one answered yes.", least=0
    )
    denials: float = said(
        1.0, "Share of reports without the taught finding that deny it.", least=0, most=1
    )
    clean_priors: bool = said(True, "Take references to earlier studies out of reports.")

    __repr__ = short_repr


@dataclass(frozen=True)
class TuningRecipe:
    """Which parts learn, and how."""

    language: str = said("lora", "How the language model learns.", choices=PARTS)
    words: str = said(
        "frozen", "Whether embedding and output head learn; needed for words never written before.",
        choices=("frozen", "full"),
    )  # fmt: skip
    projector: str = said("full", "How the projector learns.", choices=PARTS)
    vision: str = said("frozen", "How the vision tower learns.", choices=PARTS)
    rank: int = said(8, "Rank of each LoRA update.", least=1)
    alpha: float = said(16.0, "Scale of LoRA updates; their factor is alpha / rank.", least=0)
    dropout: float = said(0.0, "Dropout in front of LoRA updates.", least=0, most=0.9)
    quantize: str | None = said(
        None, "Store frozen linear weights in 4 bit (QLoRA; a GPU in practice).", choices=("4bit",)
    )


@dataclass(frozen=True)
class TrainingRecipe:
    """How long and how fast."""

    epochs: float = said(4.0, "Passes over the training turns.", least=0.01)
    batch_size: int = said(16, "Images of one step over all processes.", least=1)
    micro_batch: int = said(8, "Images that one process takes at once.", least=1)
    learning_rate: float = said(1e-3, "Peak learning rate of AdamW.", least=0)
    vision_rate: float = said(1.0, "Factor on the rate for the vision tower.", least=0)
    projector_rate: float = said(1.0, "Factor on the rate for the projector.", least=0)
    words_rate: float = said(1.0, "Factor on the rate for embedding and output head.", least=0)
    weight_decay: float = said(0.01, "Weight decay of AdamW.", least=0)
    warmup: float = said(0.06, "Share of the steps in which the rate rises.", least=0, most=1)
    schedule: str = said(
        "cosine", "How the rate falls.", choices=("cosine", "linear", "constant_with_warmup")
    )
    clip: float = said(1.0, "Largest norm of a gradient.", least=0)
    precision: str = said(
        "auto", "Arithmetic of the forward pass; auto takes bfloat16 where a GPU has it.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )  # fmt: skip
    checkpointing: bool = said(False, "Compute activations twice instead of keeping them.")
    batching: str = said(
        "packed", "Turns of one image in one row, or rows of like length.",
        choices=("packed", "bucketed"),
    )  # fmt: skip
    augment: bool = said(True, "Change exposure, blur and noise of images, never their sides.")
    feature_cache: bool = said(
        False, "Compute what a frozen encoder sees once; excludes augmentation."
    )
    taught_weight: float = said(
        1.0, "Weight of the loss on words about the taught finding, beside 1 for all others.",
        least=0,
    )  # fmt: skip
    keep: float = said(
        0.0, "Share of the loss on all other words that holds them to what the base would say.",
        least=0, most=1,
    )  # fmt: skip
    class_weights: bool = said(True, "Weigh rare findings more in stage 1.")
    mask_weight: float = said(
        1.0, "Weight of mask supervision in stage 1, where masks or boxes are known.", least=0
    )
    save_every: int = said(50, "Steps between checkpoints to resume from.", least=1)

    __repr__ = short_repr


@dataclass(frozen=True)
class EvaluationRecipe:
    """What is measured, and when to stop."""

    times: int = said(2, "Evaluations in a run; the best checkpoint is kept.", least=1)
    patience: int | None = said(
        None, "Evaluations without a better one before the run stops; None never stops.", least=1
    )
    cases: int = said(24, "Validation cases that reports are written for.", least=1)
    new_tokens: int = said(256, "Longest report that is written to be scored, tokens.", least=1)
    forgetting: int = said(
        0, "Phantoms of the eight known findings that are reported before and after.", least=0
    )
    explained: int = said(
        0, "Cases whose saliency and grounding are compared before and after.", least=0
    )
    seed: int = said(7_900_000, "First phantom of the forgetting probe.", least=0)


@dataclass(frozen=True)
class Recipe:
    """One training run."""

    name: str = said("unnamed", "What the run is called.")
    stage: str = said("instruct", "Which stage is trained.", choices=STAGES)
    base: str = said("mini", "Model to start from: mini, a directory or a hub id.")
    seed: int = said(0, "Decides order, templates, augmentation and fresh weights.", least=0)
    from_scratch: bool = said(False, "Start the vision tower of stage 1 from random weights.")
    data: DataRecipe = said(DataRecipe, "Where cases come from.")
    tuning: TuningRecipe = said(TuningRecipe, "Which parts learn.")
    training: TrainingRecipe = said(TrainingRecipe, "How long and how fast.")
    evaluation: EvaluationRecipe = said(EvaluationRecipe, "What is measured.")

    __repr__ = short_repr

    def __post_init__(self) -> None:
        check_values(self, "")
        for section in ("data", "tuning", "training", "evaluation"):
            check_values(getattr(self, section), section)
        _check_data(self.data)
        _check_training(self)

    @property
    def metric(self) -> str:
        """What the best checkpoint is chosen by."""
        return "auroc" if self.stage == "encoder" else "macro_f1"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)

    def to_yaml(self) -> str:
        """Return the recipe as a YAML text that `read_recipe` reads back."""
        return yaml.safe_dump(_listed(self.to_dict()), sort_keys=False)

    def replace(self, **changes: Any) -> Recipe:
        """Return a changed recipe; a section takes a mapping of its own changes.

        Raises:
            OptionError: a field is unknown, or a value is not allowed.
        """
        return build(Recipe, _merged(self.to_dict(), changes))


def shipped_recipes() -> dict[str, str]:
    """Return name -> text of every recipe in the package."""
    folder = files("workbench.finetune") / "recipes"
    found = sorted(item for item in folder.iterdir() if item.name.endswith(".yaml"))
    return {item.name.removesuffix(".yaml"): item.read_text(encoding="utf-8") for item in found}


def read_recipe(source: str | os.PathLike | Recipe, *, also: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        source: a YAML file, the name of a shipped recipe, or a recipe.
        also: further names that a misspelt one may have meant.

    Raises:
        OptionError: there is no such recipe, it is not YAML, or a field is wrong.
    """
    if isinstance(source, Recipe):
        return source
    shipped, path = shipped_recipes(), Path(source)
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    elif str(source) in shipped:
        text = shipped[str(source)]
    else:
        raise OptionError(
            f"no recipe {str(source)!r}: expected a YAML file or one of {', '.join(shipped)}"
            f"{did_you_mean(source, (*shipped, *also))}"
        )
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise OptionError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from error
    return build(Recipe, values or {})


def explain_recipe() -> list[tuple[str, str, Any]]:
    """Return (field, sentence, default) for every field of a recipe."""
    return list(explained(Recipe))


def _merged(values: dict, changes: dict) -> dict:
    """Return values with changes; sections are merged, at any depth, everything else replaced."""
    merged = dict(values)
    for name, change in changes.items():
        both = isinstance(change, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], change) if both else change
    return merged


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value


def _check_data(data: DataRecipe) -> None:
    if (data.phantoms is None) == (data.manifest is None):
        raise OptionError("data needs exactly one of phantoms and manifest; give one of them")
    if odd := [name for name in data.findings if name not in FINDING_COLUMNS]:
        raise OptionError(
            f"data.findings: {odd[0]!r} is no finding; expected some of: "
            + ", ".join(FINDING_COLUMNS)
        )
    drawn = data.phantoms
    if drawn is None:
        return
    last = drawn.first_seed + 4 * drawn.count + drawn.unlabelled
    if last > RESERVED_SEED:
        raise OptionError(
            f"data.phantoms goes up to seed {last:,}; seeds from {RESERVED_SEED:,} are reserved "
            "for evaluation, start lower"
        )
    drawable = (*PHANTOM_FINDINGS, *ON_REQUEST)
    if drawn.finding is not None and drawn.finding not in drawable:
        raise OptionError(
            f"data.phantoms.finding must be one of {', '.join(drawable)}, got {drawn.finding!r}"
        )


def _check_training(recipe: Recipe) -> None:
    training, tuning = recipe.training, recipe.tuning
    if training.batch_size % training.micro_batch:
        raise OptionError(
            f"training.batch_size {training.batch_size} must be a multiple of micro_batch "
            f"{training.micro_batch}"
        )
    moving = recipe.stage == "encoder" or tuning.vision != "frozen"
    if training.feature_cache and (moving or training.augment):
        raise OptionError(
            "training.feature_cache needs a frozen vision tower and augment: false, since a cached "
            "image cannot change"
        )
    others = {tuning.language, tuning.words, tuning.vision}
    if recipe.stage == "projector" and others != {"frozen"}:
        raise OptionError("stage projector trains the projector alone; set the others to frozen")
    if recipe.stage == "encoder" and tuning.vision != "full":
        raise OptionError("stage encoder trains the vision tower; set tuning.vision to full")
    if recipe.stage == "encoder" and {tuning.language, tuning.words} != {"frozen"}:
        raise OptionError("stage encoder sees no text; set tuning.language and words to frozen")
    if recipe.from_scratch and recipe.stage != "encoder":
        raise OptionError("from_scratch belongs to stage encoder; leave it out")
    if tuning.quantize and "full" in (tuning.language,):
        raise OptionError("4-bit weights cannot be trained; set tuning.language to lora or frozen")
    if training.keep and (recipe.data.phantoms is None or recipe.data.phantoms.finding is None):
        raise OptionError("training.keep spares the words of a taught finding; name the finding")
    if recipe.data.phantoms and recipe.data.phantoms.unlabelled:
        if recipe.stage == "encoder":
            raise OptionError(
                "stage encoder learns from labels; leave out data.phantoms.unlabelled"
            )
        if not training.keep:
            raise OptionError(
                "data.phantoms.unlabelled teaches nothing but to stay as the base was; set "
                "training.keep, or leave it out"
            )
    if others | {tuning.projector} == {"frozen"}:
        raise OptionError("tuning freezes every part; let one learn")


__all__ = [
    "DataRecipe",
    "EvaluationRecipe",
    "PhantomData",
    "Recipe",
    "TrainingRecipe",
    "TuningRecipe",
    "explain_recipe",
    "read_recipe",
    "shipped_recipes",
]
