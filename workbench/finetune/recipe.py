"""What a training run is: every choice in one frozen recipe, one sentence for each field.

Stages (Lee et al., Eur Radiol 2025, section 2): "encoder" learns findings from labels, "projector"
hands its tokens to the language model, "instruct" learns to write and to answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from workbench.data.columns import FINDING_COLUMNS
from workbench.errors import OptionError, did_you_mean
from workbench.findings import ON_REQUEST, PHANTOM_FINDINGS
from workbench.finetune.fields import (
    Count,
    Factor,
    Listed,
    Numeric,
    Positive,
    Section,
    Share,
    explained,
    one_of,
    repairing,
)
from workbench.settings import FIRST_HELD_OUT_SEED

#: What stands beside the tensors of an adapter.
NOTE = "adapter.json"

Part = Literal["frozen", "lora", "full"]
Task = Literal["report", "findings", "impression", "question", "differential", "rehearsal"]
Tasks = Annotated[tuple[Task, ...], Listed]
Findings = Annotated[tuple[Annotated[str, one_of(*FINDING_COLUMNS)], ...], Listed]
Drawable = Annotated[str, one_of(*PHANTOM_FINDINGS, *ON_REQUEST)]


class PhantomData(Section):
    """Phantoms to train on."""

    first_seed: Count = 7_000_000
    """Seed of the first phantom."""
    count: Annotated[int, Field(ge=2)] = 128
    """Number of phantoms, validation included."""
    finding: Drawable | None = None
    """Finding that is taught; None takes phantoms as their seeds decide them."""
    share: Share = 0.5
    """Share of phantoms that show the taught finding."""
    domain: Literal["internal", "external"] = "internal"
    """Phantom domain."""
    unlabelled: Count = 0
    """Further phantoms without labels, on which the base's own reports are kept."""


class DataRecipe(Section):
    """Where cases come from and what is made of them."""

    phantoms: PhantomData | None = None
    """Phantoms, where there is no manifest."""
    manifest: str | None = None
    """Manifest file (.parquet or .csv) of studies."""
    root: str | None = None
    """Folder that image paths are relative to."""
    findings: Findings = ()
    """Findings that are learned; empty for all with labels."""
    per_finding: Positive | None = None
    """Images of each finding; None takes every row."""
    validation: Annotated[float, Field(ge=0.01, le=0.9), Numeric] = 0.2
    """Share of patients kept out to choose the best checkpoint."""
    unlisted: Literal["unknown", "absent"] = "unknown"
    """What a finding that a row does not mention counts as in stage 1."""
    tasks: Tasks = ("report", "question")
    """Turns that are made of each case."""
    questions: Count = 2
    """Polling questions of each case."""
    negatives: Factor = 1.0
    """Polling questions answered no for each yes."""
    denials: Share = 1.0
    """Share of reports without the finding that deny it."""
    clean_priors: bool = True
    """Take out references to earlier studies."""


class TuningRecipe(Section):
    """Which parts learn, and how."""

    language: Part = "lora"
    """How the language model learns."""
    embeddings: Literal["frozen", "full"] = "frozen"
    """Whether embeddings and head learn; needed for words never written before."""
    projector: Part = "full"
    """How the projector learns."""
    vision: Part = "frozen"
    """How the vision tower learns."""
    rank: Positive = 8
    """Rank of each LoRA update."""
    alpha: Factor = 16.0
    """Scale of LoRA updates; their factor is alpha / rank."""
    dropout: Annotated[float, Field(ge=0, le=0.9), Numeric] = 0.0
    """Dropout in front of LoRA updates."""
    quantize: Literal["4bit"] | None = None
    """Store frozen linear weights in 4 bit: QLoRA, on a GPU in practice."""


class TrainingRecipe(Section):
    """How long and how fast."""

    epochs: Annotated[float, Field(ge=0.01), Numeric] = 4.0
    """Passes over the training turns."""
    batch_size: Positive = 16
    """Images of one step over all processes."""
    micro_batch: Positive = 8
    """Images that one process takes at once."""
    learning_rate: Factor = 1e-3
    """Peak learning rate of AdamW."""
    vision_rate: Factor = 1.0
    """Factor on the rate for the vision tower."""
    projector_rate: Factor = 1.0
    """Factor on the rate for the projector."""
    embeddings_rate: Factor = 1.0
    """Factor on the rate for embeddings and head."""
    weight_decay: Factor = 0.01
    """Weight decay of AdamW."""
    warmup: Share = 0.06
    """Share of the steps in which the rate rises."""
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    """How the rate falls."""
    clip: Factor = 1.0
    """Largest norm of a gradient."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic of the forward pass; auto takes bfloat16 where a GPU has it."""
    checkpointing: bool = False
    """Compute activations twice to save memory."""
    batching: Literal["packed", "bucketed"] = "packed"
    """Turns of one image in one row, or rows of like length."""
    augment: bool = True
    """Change exposure, blur and noise, never the sides."""
    feature_cache: bool = False
    """Compute what a frozen encoder sees once; excludes augmentation."""
    taught_weight: Factor = 1.0
    """Weight of the loss on tokens about the taught finding; 1 for all others."""
    keep: Share = 0.0
    """Share of the loss on all other tokens that ties them to the base."""
    class_weights: bool = True
    """Weigh rare findings more in stage 1."""
    mask_weight: Factor = 1.0
    """Weight of masks and boxes, where known, in stage 1."""
    save_every: Positive = 50
    """Steps between checkpoints to resume from."""


class EvaluationRecipe(Section):
    """What is measured, and when to stop."""

    times: Positive = 2
    """Evaluations in a run; the best checkpoint is kept."""
    patience: Positive | None = None
    """Evaluations without a gain that stop the run; None never stops."""
    cases: Positive = 24
    """Validation cases that reports are written for."""
    new_tokens: Positive = 256
    """Longest report that is scored, tokens."""
    forgetting: Count = 0
    """Phantoms of the eight known findings that are reported before and after."""
    explained: Count = 0
    """Cases with saliency and grounding before and after."""
    seed: Count = 7_900_000
    """First phantom of the forgetting probe."""


class Recipe(Section):
    """One training run; `OptionError` where a value is not allowed, with the name of the field."""

    name: str = "unnamed"
    """What the run is called."""
    stage: Literal["encoder", "projector", "instruct"] = "instruct"
    """Which stage is trained."""
    base: str = "mini"
    """Model to start from: mini, a directory or a hub id."""
    seed: Count = 0
    """Decides order, templates, augmentation and fresh weights."""
    from_scratch: bool = False
    """Start the tower of stage 1 from random weights."""
    data: DataRecipe = Field(default=DataRecipe(), repr=False)
    """Where cases come from."""
    tuning: TuningRecipe = Field(default=TuningRecipe(), repr=False)
    """Which parts learn."""
    training: TrainingRecipe = Field(default=TrainingRecipe(), repr=False)
    """How long and how fast."""
    evaluation: EvaluationRecipe = Field(default=EvaluationRecipe(), repr=False)
    """What is measured."""

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise repairing(error, Recipe) from None
        if conflicts := list(_conflicts(self)):
            raise OptionError("; and ".join(conflicts))

    @property
    def metric(self) -> str:
        """What the best checkpoint is chosen by."""
        return "auroc" if self.stage == "encoder" else "macro_f1"

    def to_yaml(self) -> str:
        """Return the recipe as a YAML text that `read_recipe` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def replace(self, **changes: object) -> Recipe:
        """Return a changed recipe; a section takes a mapping of its own changes."""
        return Recipe(**_merged(self.model_dump(mode="json"), changes))


def shipped_recipes() -> dict[str, str]:
    """Return name -> text of every recipe in the package.

    >>> "stage3_lora" in wb.finetune.shipped_recipes()
    True
    """
    folder = files("workbench.finetune") / "recipes"
    found = {item.name: item for item in folder.iterdir() if item.name.endswith(".yaml")}
    return {name.removesuffix(".yaml"): found[name].read_text("utf-8") for name in sorted(found)}


def read_recipe(source: str | os.PathLike | Recipe, *, also: Sequence[str] = ()) -> Recipe:
    """Return a recipe from a YAML file, or the shipped one of a name.

    Raises:
        OptionError: there is no such recipe (`also` are further names that it may have meant), it
            is not YAML, or a field is wrong.

    >>> wb.finetune.read_recipe("stage3_lora").replace(seed=7).seed
    7
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
    if not isinstance(values or {}, Mapping):
        raise OptionError(f"a recipe must be a section of named fields, got {values!r}")
    return Recipe(**{str(name): value for name, value in (values or {}).items()})


def explain_recipe() -> list[tuple[str, str, Any]]:
    """Return (field, sentence, default) for every field of a recipe.

    >>> wb.finetune.explain_recipe()[0][0]
    'name'
    """
    return list(explained(Recipe))


def _merged(values: Mapping[str, Any], changes: Mapping[str, object]) -> dict[str, Any]:
    """Return values with changes; sections are merged, at any depth, everything else replaced."""
    merged = dict(values)
    for name, change in changes.items():
        if isinstance(change, Mapping) and isinstance(merged.get(name), Mapping):
            change = _merged(merged[name], {str(key): value for key, value in change.items()})
        merged[name] = change
    return merged


def _conflicts(recipe: Recipe) -> Iterator[str]:
    """Yield what fields say against each other, with the repair."""
    data, drawn = recipe.data, recipe.data.phantoms
    training, tuning = recipe.training, recipe.tuning
    if (drawn is None) == (data.manifest is None):
        yield "data needs exactly one of phantoms and manifest; give one of them"
    last = drawn.first_seed + 4 * drawn.count + drawn.unlabelled if drawn else 0
    if last > FIRST_HELD_OUT_SEED:
        yield (
            f"data.phantoms goes up to seed {last:,}; seeds from {FIRST_HELD_OUT_SEED:,} are "
            "reserved for evaluation, start lower"
        )
    if training.batch_size % training.micro_batch:
        yield (
            f"training.batch_size {training.batch_size} must be a multiple of micro_batch "
            f"{training.micro_batch}"
        )
    moving = recipe.stage == "encoder" or tuning.vision != "frozen"
    if training.feature_cache and (moving or training.augment):
        yield (
            "training.feature_cache needs a frozen vision tower and augment: false, since a cached "
            "image cannot change"
        )
    if tuning.quantize and tuning.language == "full":
        yield "4-bit weights cannot be trained; set tuning.language to lora or frozen"
    if training.keep and (drawn is None or drawn.finding is None):
        yield "training.keep spares the tokens about a taught finding; name the finding"
    if drawn and drawn.unlabelled and recipe.stage != "encoder" and not training.keep:
        yield (
            "data.phantoms.unlabelled teaches nothing but to stay as the base was; set "
            "training.keep, or leave it out"
        )
    text = {tuning.language, tuning.embeddings}
    if recipe.stage == "projector" and text | {tuning.vision} != {"frozen"}:
        yield "stage projector trains the projector alone; set the others to frozen"
    if recipe.stage == "encoder":
        if tuning.vision != "full":
            yield "stage encoder trains the vision tower; set tuning.vision to full"
        if text != {"frozen"}:
            yield "stage encoder sees no text; set tuning.language and embeddings to frozen"
        if drawn and drawn.unlabelled:
            yield "stage encoder learns from labels; leave out data.phantoms.unlabelled"
    elif recipe.from_scratch:
        yield "from_scratch belongs to stage encoder; leave it out"
    if text | {tuning.vision, tuning.projector} == {"frozen"}:
        yield "tuning freezes every part; let one learn"
