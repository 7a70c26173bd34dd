"""How much memory a training run needs, part by part, before anything is loaded.

Parameters are counted on a model without storage (the meta device); the rest is arithmetic:

    weights       frozen parameters in the storage type, learning ones in float32, twice where
                  `training.keep` ties the model to its base
    gradients     4 bytes for each learning parameter
    optimiser     8 bytes for each learning parameter (AdamW: two moments in float32)
    activations   what `workbench.model.costs` counts as the graph of LoRA
    logits        per position of text V (b + 8) bytes: the head's output, its float32 copy and its
                  gradient; as much again for the base with `training.keep`
    vision        per token b (12 W) bytes and layer where the tower learns, of one layer where not
    overhead      0.75 GB of CUDA context and 6 % of everything for fragments

b bytes a number, W vision width, V vocabulary. Every number is predicted, none was measured on such
a GPU by this project; the ledger of a run sets the prediction beside what was measured. Attention
is taken as fused (its T x T rows are not kept); where only the projector learns, some of the
activations are not needed, and the prediction is too high.

Sources: those of `workbench.model.costs`. What else a model takes is said by `wb.plan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from transformers import PreTrainedConfig, PreTrainedModel

from workbench._repr import result
from workbench.backends.vlm_reader import is_vlm, open_empty
from workbench.errors import TrainingError, check_one_of
from workbench.figures.tables import frame_table
from workbench.figures.training import plot_memory
from workbench.finetune.parts import frozen, prepare, trainable
from workbench.finetune.recipe import TuningRecipe
from workbench.model.card import read_config
from workbench.model.config import CxrLlavaConfig
from workbench.model.costs import CONTEXT, GRADIENT, MOMENTS, RUNTIME, text_graph
from workbench.model.sizes import BYTES, empty_model, full_size_config, linear_layers, tower

if TYPE_CHECKING:
    import pandas as pd

GB = 1e9
GPUS = (16, 24, 40, 80)
FRAGMENTS = 0.06
#: Tokens of prompt and answer beside the image.
TEXT_TOKENS = 384
PARTS = ("weights", "gradients", "optimiser", "activations", "logits", "vision")

STRATEGIES = {
    "full": TuningRecipe(language="full", embeddings="full", projector="full"),
    "lora": TuningRecipe(language="lora", projector="full", rank=16, alpha=32),
    "lora + vision": TuningRecipe(language="lora", projector="full", vision="lora", rank=16,
                                  alpha=32),
    "qlora": TuningRecipe(language="lora", projector="lora", rank=16, alpha=32, quantize="4bit"),
    "projector": TuningRecipe(language="frozen", projector="full"),
}  # fmt: skip


@result(eq=True)
class MemoryNeed:
    """Predicted bytes of one strategy with one image at a time.

    Attributes:
        parameters, learning: of the whole model, and those that learn.
        weights, gradients, optimiser: bytes that do not grow with the batch.
        activations, logits, vision: bytes of one image with its text.
        context: bytes of the runtime.
    """

    strategy: str
    checkpointing: bool
    parameters: int
    learning: int
    weights: float
    gradients: float
    optimiser: float
    activations: float
    logits: float
    vision: float
    context: float

    def total(self, micro_batch: int = 1) -> float:
        """Return bytes with `micro_batch` images at a time."""
        fixed = self.weights + self.gradients + self.optimiser
        moving = self.activations + self.logits + self.vision
        return (fixed + micro_batch * moving) * (1 + FRAGMENTS) + self.context

    def largest_batch(self, gigabytes: float) -> int:
        """Return the most images at a time that fit; 0 for none."""
        one, two = self.total(1), self.total(2)
        room = gigabytes * GB - one
        return 0 if room < 0 else int(room // (two - one)) + 1


@result(eq=True)
class MemoryPlan:
    """What strategies need, with and without checkpointing, to train a model; all predicted."""

    model: str
    needs: tuple[MemoryNeed, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per strategy: predicted GB by part, total, largest micro-batch by GPU."""
        import pandas as pd

        rows = [
            {
                "strategy": need.strategy,
                "checkpointing": "yes" if need.checkpointing else "no",
                "learning, millions": need.learning / 1e6,
                **{f"{part}, GB": getattr(need, part) / GB for part in PARTS},
                "total, GB (predicted)": need.total() / GB,
                **{f"images at a time, {gpu} GB": need.largest_batch(gpu) for gpu in GPUS},
            }
            for need in self.needs
        ]
        return pd.DataFrame(rows)

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        needs = [
            {
                **vars(need),
                "total": need.total(),
                "largest_batch": {str(size): need.largest_batch(size) for size in GPUS},
            }
            for need in self.needs
        ]
        about = {"model": self.model, "predicted": True, "text_tokens": TEXT_TOKENS}
        return about | {"needs": needs}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw what each strategy needs, part by part, beside the sizes of the GPUs."""
        names = [f"{n.strategy}{', checkpointing' if n.checkpointing else ''}" for n in self.needs]
        parts = {part: [getattr(need, part) / GB for need in self.needs] for part in PARTS}
        parts["overhead"] = [
            need.total() / GB - sum(known)
            for need, *known in zip(self.needs, *parts.values(), strict=True)
        ]
        return plot_memory(names, parts, GPUS, ax, title=f"Training {self.model}")

    def _repr_html_(self) -> str:
        return (
            f"<p><b>{escape(self.model)}</b>: memory of training, <b>predicted</b>, one image and "
            f"{TEXT_TOKENS} tokens of text; 0 images: does not fit</p>"
            + frame_table(self.to_frame(), digits=1)
        )


def plan(
    config: PreTrainedConfig | None = None,
    *,
    image_tokens: int = 0,
    name: str = "ECOFRI/CXR-LLAVA-v2",
    strategies: Sequence[str] | None = None,
    tuning: TuningRecipe | None = None,
    keep: bool = False,
) -> MemoryPlan:
    """Predict what training needs, before anything is loaded.

    `OptionError` where a strategy is unknown.

    Args:
        config: sizes of the model; the published full-size one when None.
        image_tokens: of an image, for models other than CXR-LLaVA.
        strategies: names of `STRATEGIES`; all that the model can be trained by when None.
        tuning: a recipe's own, added as "this recipe".
        keep: whether that recipe ties the model to its base (`training.keep`).

    >>> wb.finetune.plan(strategies=["lora"]).to_frame().columns.tolist()[:2]
    ['strategy', 'checkpointing']
    """
    config = full_size_config() if config is None else config
    for one in strategies or ():
        check_one_of("strategy", one, STRATEGIES)
    chosen = {} if tuning is None else {"this recipe": tuning}
    chosen |= {one: STRATEGIES[one] for one in (STRATEGIES if strategies is None else strategies)}
    needs = []
    for title, how in chosen.items():
        with suppress(*([TrainingError] if strategies is None and how is not tuning else [])):
            network = prepare(empty_model(config), how)
            needs += [
                need(
                    config, how, strategy=title, checkpointing=checkpointing, network=network,
                    keep=keep and how is tuning, image_tokens=image_tokens,
                )
                for checkpointing in (False, True)
            ]  # fmt: skip
    return MemoryPlan(name, tuple(needs))


def sizes_of(directory: Path) -> tuple[PreTrainedConfig, int]:
    """Return the configuration of a checkpoint, and the tokens of an image where it takes any size.

    `CheckpointError` where it has no configuration or no processor.
    """
    if not is_vlm(directory):
        return read_config(directory), 0
    vlm, _ = open_empty(directory)
    return vlm.network.config, vlm.tokens_of()


def need(
    config: PreTrainedConfig,
    tuning: TuningRecipe,
    *,
    strategy: str = "",
    checkpointing: bool = False,
    keep: bool = False,
    image_tokens: int = 0,
    text_tokens: int = TEXT_TOKENS,
    cpu: bool = False,
    network: PreTrainedModel | None = None,
) -> MemoryNeed:
    """Predict one strategy, as `plan` does, by the formulas of the module.

    Frozen weights and activations are float32 on a CPU, bfloat16 on a GPU. `network` is one
    prepared for this recipe already. `TrainingError` where the model cannot be trained so.
    """
    model = prepare(empty_model(config), tuning) if network is None else network
    small = {id(one.weight) for one in linear_layers(model)} if tuning.quantize else set()
    learning = sum(p.numel() for _, p in trainable(model))
    size, text = BYTES["float32" if cpu else "bfloat16"], config.get_text_config()
    if isinstance(config, CxrLlavaConfig):
        image_tokens = config.image_tokens
    _, width, _, layers, _ = tower(config, image_tokens)
    kept = [(p.numel(), BYTES["4bit"] if id(p) in small else size) for _, p in frozen(model)]
    tokens = image_tokens + text_tokens
    seen = 12 * size * width * image_tokens
    return MemoryNeed(
        strategy=strategy,
        checkpointing=checkpointing,
        parameters=learning + sum(count for count, _ in kept),
        learning=learning,
        weights=sum(count * each for count, each in kept) + 4 * learning * (1 + keep),
        gradients=GRADIENT * learning,
        optimiser=MOMENTS * learning,
        activations=tokens * text_graph(text, size, lora=size, checkpointing=checkpointing),
        logits=text_tokens * text.vocab_size * (size + 8) * (1 + keep),
        vision=seen * (layers if tuning.vision != "frozen" else 1),
        context=RUNTIME if cpu else CONTEXT,
    )
