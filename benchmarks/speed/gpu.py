"""The page about GPUs: the full-size model predicted from what it reads and computes, and measured.

The cost of one token is the weights and the keys and values that it reads, over the memory
bandwidth; the cost of an image and a prompt is their operations, over what the tensor cores do.
Both ceilings are the makers' figures, and only a share of them is reached; the share for memory is
the one that `bench.py` asks of the engine on a CPU, the other is a guess on the safe side. Bytes
and operations are counted by `workbench.model.plan` on the model's configuration, nothing is
loaded.

What `benchmarks/gpu.py` measured stands apart from what is predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from workbench.model.costs import Asked
from workbench.model.placement import DTYPES, Placement
from workbench.model.plan import Machine, make_plan
from workbench.model.sizes import Shape, empty_model, full_size_config

#: Shares of the ceilings that are taken to be reached.
BANDWIDTH_SHARE, FLOPS_SHARE = 0.6, 0.4
#: Words of the report prompt, and tokens of a report.
WORDS, NEW_TOKENS = 66, 128


@dataclass(frozen=True)
class Card:
    """A GPU as its maker describes it.

    Attributes:
        name: of the product.
        memory, bandwidth, flops: bytes, bytes a second, 16-bit tensor operations a second.
        dtype: that `load_model` chooses on it.
    """

    name: str
    memory: float
    bandwidth: float
    flops: float
    dtype: str


CARDS = (
    Card("T4 16 GB", 16e9, 320e9, 65e12, "float16"),
    Card("A100 SXM 80 GB", 80e9, 2039e9, 312e12, "bfloat16"),
    Card("H100 SXM 80 GB", 80e9, 3350e9, 989e12, "bfloat16"),
)


@cache
def full_size() -> Shape:
    """Return the sizes of the published model."""
    config = full_size_config()
    return Shape.of(empty_model(config), config.image_tokens)


def predict(card: Card, kind: str, batch: int) -> dict:
    """Predict one card: seconds, tokens a second of all rows together, bytes, and whether it fits.

    Args:
        card: one of `CARDS`.
        kind: "16 bit", "8bit" or "4bit".
        batch: reports of as many images, written together.
    """
    flops, reached = card.flops * FLOPS_SHARE, card.bandwidth * BANDWIDTH_SHARE
    machine = Machine("cuda:0", card.dtype, int(card.memory), flops, flops, reached)
    placed = Placement("cuda:0", DTYPES[card.dtype], None if kind == "16 bit" else kind)
    read, written = (
        make_plan(
            full_size(), placed, name="full size", tasks="batch", machine=machine,
            asked=Asked(batch=batch, text=WORDS, new=new),
        )["batch"]
        for new in (0, NEW_TOKENS)
    )  # fmt: skip
    return {
        "card": card.name,
        "weights": card.dtype if kind == "16 bit" else kind,
        "batch": batch,
        "prompt_seconds": read.seconds,
        "tokens_per_second": batch * NEW_TOKENS / (written.seconds - read.seconds),
        "report_seconds": written.seconds,
        "memory_bytes": written.total,
        "fits": written.fits,
    }


def page(found: Mapping | None = None) -> str:
    """Return the page about GPUs as Markdown.

    Args:
        found: what `benchmarks/gpu.py` measured; None where nothing was.
    """
    rows = [
        predict(card, kind, batch)
        for card in CARDS
        for kind in ("16 bit", "8bit", "4bit")
        for batch in (1, 8)
    ]
    return _HEAD + "\n".join(
        [
            *([_NOTHING] if found is None else _measured(found)),
            _GRADIENTS,
            _PREDICTED,
            *(
                f"| {row['card']} | {row['weights']} | {row['batch']} | "
                f"{row['prompt_seconds']:.2f} s | {row['tokens_per_second']:.0f} | "
                f"{row['report_seconds']:.1f} s | {row['memory_bytes'] / 1e9:.1f} GB | "
                f"{'yes' if row['fits'] else 'no'} |"
                for row in rows
            ),
            "",
        ]
    )


_HEAD = f"""# The full-size model on a GPU

To measure, on a machine with a GPU, under 10 minutes, with random weights of the full size or with
the published ones (their terms are shown before they are fetched):

    make bench-gpu
    python benchmarks/gpu.py --checkpoint ECOFRI/CXR-LLAVA-v2

Loading, reports of 1 to 64 images, questions, a trace, maps, grounding, steps of LoRA and QLoRA, 8
and 4 bit, each with its time and memory; numbers of `mini` and of tiny models of other families are
compared with a CPU's. `out/bench-gpu/gpu.json` has everything; `--page docs/gpu.md` writes it into
this page.

## Plan before you run

    workbench models --plan ECOFRI/CXR-LLAVA-v2 --dtype bfloat16

predicts memory and time of reports, batches, traces, every map, grounding and steps of training on
this machine from the configuration alone; in a notebook `wb.plan(SOURCE)`, of a loaded model
`model.plan("relevancy")`. Beside a task that does not fit stands what would: a smaller batch,
checkpointing, bfloat16, another method. Calls that no memory here can hold are refused before they
begin. `python benchmarks/plan.py` holds the prediction against your machine.

## A report

One image of 1,024 tokens, {WORDS} words of prompt, {NEW_TOKENS} new tokens. Tokens a
second are those of all rows together.

## Measured

"""
_GRADIENTS = """## Maps from gradients

Beside the weights, relevancy of the full size needs what enters each layer (0.34 GB over 1,114
positions in bfloat16), the mean of weighted rows of each layer (0.26 GB in float32) and the inside
of one layer (0.28 GB): 0.9 GB. On a CPU 1.1 GB were measured, and 5.0 GB for grounding with six
ablations. Grad-CAM keeps no rows: 0.6 GB (counted). SmoothGrad reads 8 images at a time, integrated
gradients 4.
"""
_NOTHING = "Nothing yet: no GPU was at hand.\n"
_PREDICTED = f"""## Predicted

No figure of this table was measured. They follow from the bytes that a token reads and the
operations that a prompt takes, counted on the configuration of the full-size model, and from the
makers' figures for each card. Of the memory bandwidth {BANDWIDTH_SHARE:.0%} and of the 16-bit
operations {FLOPS_SHARE:.0%} are taken to be reached. 8bit and 4bit (bitsandbytes) are counted as
if unpacking weights cost nothing; it does, so take these as what is possible at best.

| card | weights | batch | image and prompt | tokens/s | report | memory | fits |
|---|---|---|---|---|---|---|---|"""


def _measured(found: Mapping) -> Iterator[str]:
    """Yield the lines about what was measured."""
    machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items() if value)
    yield f"{found['model']}. {machine}.\n"
    yield "| weights | batch | image and prompt | tokens/s | report | memory | predicted memory |"
    yield "|---|---|---|---|---|---|---|"
    sections = found["sections"]
    each = {"16 bit": sections.get("report", {}), **sections.get("quantised", {})}
    for kind, one in each.items():
        for row in one.get("batches", ()) if isinstance(one, Mapping) else ():
            known = row.get("predicted_bytes")
            yield (
                f"| {kind} | {row['batch']} | {row['prompt_seconds']:.2f} s | "
                f"{row['tokens_per_second']:.0f} | {row['report_seconds']:.1f} s | "
                f"{row['memory_bytes'] / 1e9:.1f} GB | {f'{known / 1e9:.1f} GB' if known else ''} |"
            )
    yield "\n| what | seconds | GB beyond the weights |\n|---|---|---|"
    for name, one in sections.get("inside", {}).items():
        if isinstance(one, Mapping) and "seconds" in one:
            beyond = one.get("beyond_bytes", one.get("own_bytes")) / 1e9
            yield f"| {name} | {one['seconds']:.2f} | {beyond:.1f} |"
    yield ""
