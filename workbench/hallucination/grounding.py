"""Grounding: how much of a text the image supports, told by taking the image away.

The text is teacher-forced once with the image and once with each ablation of it. What a token's
log-probability loses is what the image contributed to it: log p(token | image) - log p(token |
ablation), natural log units. Near 0 the model would have written the same without this image, from
habit and from its own text; below 0 the image spoke against it.

It is a measure of use, not of truth: a contribution can be great and the statement false, where the
model misread what is there; and a true "No pneumothorax." may owe nothing to the image. Each
ablation is an input that the model may never have seen, so their mean is shown with all of them.

Paper: contrasting with and without the image, Leng et al., Visual Contrastive Decoding, CVPR 2024,
arXiv 2311.16922, section 3; Favero et al., Multi-Modal Hallucination Control by Visual Information
Grounding, CVPR 2024, arXiv 2403.14003, section 3 (the prompt dependency measure). Deviation: both
decode with the difference, here a finished text is read again, and no distribution is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from workbench._repr import short_repr
from workbench._tables import listed, read_frame
from workbench.errors import InputError, OptionError
from workbench.generation import Generation
from workbench.hallucination.ablations import (
    ABLATIONS,
    ablated_images,
    image_values,
    painted_over,
    without_findings,
)
from workbench.hallucination.grounding_result import Grounding
from workbench.interface import ChestXrayModel, as_radiograph
from workbench.model.prompt import (
    Message,
    differential_messages,
    question_messages,
    report_messages,
)
from workbench.phantom import Phantom
from workbench.radiograph import Radiograph
from workbench.trace import Trace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def ground(
    trace: Trace,
    *,
    ablations: Sequence[str] = ABLATIONS,
    other: object = None,
    phantom: Phantom | None = None,
    masks: Mapping[str, np.ndarray] | None = None,
    images: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch_size: int = 16,
) -> Grounding:
    """Tell how much of a traced text the image supports.

    Args:
        trace: a run with its model.
        ablations: some of `ABLATIONS`.
        other: an image of another patient, or a list of several; None draws a phantom, which is
            another patient only to a model of phantoms.
        phantom: the drawn case behind the trace; every finding that it has and the text states is
            taken away once ("without X").
        masks: name -> boolean (H, W) of the image, painted over in turn ("without X").
        images: further images by a name of your own; they are shown, not averaged.
        seed: of the noise and the drawn phantom.
        batch_size: images read together; fewer take less memory.

    Raises:
        InputError: the trace has no model, an image cannot be read, the phantom is not the one
            behind the trace, or the other patient's image is the image itself.
        OptionError: an ablation is unknown, there is none at all, or a name is taken.
        ContextBudgetError, DeviceError: see `ChestXrayModel.read_with`.
    """
    return _grounding(
        trace.need_model(ChestXrayModel), trace.image, trace.pixel_values,
        _from_generation(trace.generation),
        ablations=ablations, other=other, phantom=phantom, masks=masks, images=images,
        seed=seed, batch_size=batch_size,
    )  # fmt: skip


def ground_text(
    model: ChestXrayModel,
    image: object,
    text: str | Generation,
    *,
    task: str = "report",
    question: str | None = None,
    ablations: Sequence[str] = ABLATIONS,
    other: object = None,
    phantom: Phantom | None = None,
    masks: Mapping[str, np.ndarray] | None = None,
    images: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch_size: int = 16,
) -> Grounding:
    """Tell how much of any text about an image a model finds supported by it.

    The model reads the text as if it had answered with it, so texts of other models and of people
    can be asked about too. They are tokenised as the model would; `Grounding.text` is what their
    tokens spell, which may differ from the original in white space.

    Args:
        model: a `ChestXrayModel`.
        image: what the model accepts as an image.
        text: the text; or a `Generation`, of which prompt and tokens are taken.
        task: "report", "differential" or "question": what the text is the answer to.
        question: the question, where the task is one.
        ablations, other, phantom, masks, images, seed, batch_size: see `ground`.

    Raises:
        InputError: the text is empty; else see `ground`.
        OptionError: an unknown task, or a question without the task; else see `ground`.
    """
    image = as_radiograph(image)
    pixels = image_values(model, image)[0].numpy()
    given = (
        _from_generation(text)
        if isinstance(text, Generation)
        else _from_text(model, text, _messages(task, question), image.contract.source)
    )
    return _grounding(
        model, image, pixels, given,
        ablations=ablations, other=other, phantom=phantom, masks=masks, images=images,
        seed=seed, batch_size=batch_size,
    )  # fmt: skip


def _messages(task: str, question: str | None) -> list[Message]:
    makers = {"report": report_messages, "differential": differential_messages}
    if task not in (*makers, "question") or (task == "question") != (question is not None):
        raise OptionError(
            "task must be 'report', 'differential' or 'question', the last one with question=...; "
            f"got task={task!r} and question={question!r}"
        )
    return question_messages(question) if question is not None else makers[task]()


def _from_generation(generation: Generation) -> dict:
    if not generation.token_ids:
        raise InputError("the generation holds no token; ground one that was written to its end")
    return {
        "text": generation.text,
        "prompt_ids": generation.prompt_ids,
        "ids": generation.token_ids,
        "tokens": generation.tokens,
        "offsets": generation.offsets,
        "source": generation.source,
    }


def _from_text(model: ChestXrayModel, text: str, messages: list[Message], source: str) -> dict:
    words = " ".join(text.split()) if isinstance(text, str) else ""
    if not words:
        raise InputError(f"the text is empty ({text!r}); give a report, or an answer")
    tokenizer = model.tokenizer
    ids = tuple(tokenizer.encode(words, add_bos=False))
    return {
        "text": tokenizer.decode(ids),
        "prompt_ids": model.prompt_ids(messages),
        "ids": ids,
        "tokens": tuple(tokenizer.pieces(ids)),
        "offsets": tuple(tokenizer.offsets(ids)),
        "source": source,
    }


def _other_images(
    model: ChestXrayModel,
    image: Radiograph,
    pixels: np.ndarray,
    text: str,
    *,
    ablations: Sequence[str],
    other: object,
    phantom: Phantom | None,
    masks: Mapping[str, np.ndarray] | None,
    images: Mapping[str, Any] | None,
    seed: int,
) -> dict[str, torch.Tensor]:
    """Return every image that the text is read with besides its own, by name."""
    if isinstance(ablations, str):
        raise OptionError(f"ablations must be a list of names, got one text; use [{ablations!r}]")
    if other is not None and "other patient" not in ablations:
        raise OptionError("other=... was given, but 'other patient' is not among the ablations")
    by_name = ablated_images(model, pixels, ablations=ablations, other=other, seed=seed)
    more: list[Mapping[str, torch.Tensor]] = []
    if phantom is not None:
        more.append(without_findings(model, image, text, phantom))
    if masks:
        more.append(painted_over(model, image, masks))
    if images:
        more.append({name: image_values(model, image) for name, image in images.items()})
    for found in more:
        if taken := set(found) & set(by_name):
            raise OptionError(f"there are two ablations called {min(taken)!r}; rename yours")
        by_name.update(found)
    if not by_name:
        raise OptionError(f"name at least one ablation: {', '.join(ABLATIONS)}, or give images")
    return by_name


def _grounding(
    model: ChestXrayModel,
    image: Radiograph,
    pixels: np.ndarray,
    given: dict,
    *,
    seed: int,
    batch_size: int,
    **choice: Any,
) -> Grounding:
    """Read a text with its own image and all others; `choice` is what `_other_images` takes."""
    by_name = _other_images(model, image, pixels, given["text"], seed=seed, **choice)
    own = torch.from_numpy(np.ascontiguousarray(pixels, np.float32))[None]
    reading = model.read_with(
        [own, *by_name.values()],
        given["prompt_ids"],
        given["ids"],
        batch_size=batch_size,
    )
    return Grounding(
        text=given["text"],
        tokens=given["tokens"],
        offsets=given["offsets"],
        ablations=tuple(by_name),
        logprobs=reading.logprobs[0],
        entropies=reading.entropies[0],
        ablated=reading.logprobs[1:],
        source=given["source"],
        model=model.identity,
        seed=seed,
    )


@dataclass(frozen=True, eq=False)
class GroundingTable:
    """Groundings of several texts.

    Attributes:
        ids: one for each.
        groundings: in the order of the table.
    """

    ids: tuple[str, ...]
    groundings: tuple[Grounding, ...]

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: str) -> Grounding:
        """Return the grounding of an id.

        Raises:
            KeyError: there is no such id.
        """
        return self.groundings[self.ids.index(key)] if key in self.ids else _missing(key, self.ids)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per mention of a finding: id, and the columns of `Grounding.findings`."""
        import pandas as pd

        frames = [found.findings() for found in self.groundings]
        kept = [frame.assign(id=key) for key, frame in zip(self.ids, frames, strict=True)]
        whole = pd.concat(kept, ignore_index=True)
        return whole[["id", *(name for name in whole.columns if name != "id")]]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the contribution to every mention, by code, one row of points for each."""
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(6, 2.4), layout="constrained")
        frame = self.to_frame()
        codes = list(dict.fromkeys(frame.code))
        for at, code in enumerate(codes):
            own = frame[frame.code == code]
            ax.plot(own.contribution, [at] * len(own), "|", ms=14, color="#1f5f8b")
        ax.set_yticks(range(len(codes)), codes)
        ax.set(ylim=(len(codes) - 0.5, -0.5), xlabel="contribution of the image [nats]")
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def _repr_html_(self) -> str:
        from workbench.figures.tables import frame_table

        return frame_table(self.to_frame(), digits=2)


def ground_table(
    model: ChestXrayModel,
    rows: str | Path | Iterable[tuple[str, Any, str]],
    *,
    id_column: str = "id",
    image_column: str = "image",
    text_column: str = "text",
    progress: bool = False,
    **options: Any,
) -> GroundingTable:
    """Ground every text of a table about its image.

    Args:
        model: a `ChestXrayModel`.
        rows: a CSV file with a header, image paths in it being relative to its folder; or triples
            (id, image, text).
        id_column, image_column, text_column: of the file.
        progress: whether to show a progress bar.
        **options: see `ground_text`.

    Raises:
        InputError: the file or a column is missing, there is no row, a text is empty or an image
            cannot be read; the message names the row.
        OptionError: see `ground_text`.
    """
    if isinstance(rows, (str, Path)):
        rows = _read(Path(rows), id_column, image_column, text_column)
    rows = list(rows)
    if not rows:
        raise InputError("there is no text to ground; give a table with at least one row")
    found = []
    for key, image, text in tqdm(rows, desc="texts", disable=not progress):
        try:
            found.append(ground_text(model, image, text, **options))
        except InputError as error:
            raise InputError(f"{key}: {error}") from error
    return GroundingTable(tuple(str(key) for key, *_ in rows), tuple(found))


def _read(path: Path, *columns: str) -> list[tuple[str, Any, str]]:
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected a CSV file with a header")
    frame = read_frame(path)
    if missing := [name for name in columns if name not in frame]:
        raise InputError(
            f"{path.name} has no column {missing[0]!r}; it has: {listed(frame.columns)} (choose "
            "with id_column, image_column and text_column)"
        )
    key, image, text = (frame[name] for name in columns)
    return [(k, path.parent / i, t) for k, i, t in zip(key, image, text, strict=True)]


def _missing(key: str, ids: tuple[str, ...]) -> Grounding:
    raise KeyError(f"no text {key!r}; the first are: {', '.join(ids[:5])}")
