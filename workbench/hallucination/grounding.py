"""Grounding: how much of a text the image supports, told by taking the image away.

The text is teacher-forced once with the image and once with each ablation of it. What a token's
log-probability loses is what the image contributed to it: log p(token | image) - log p(token |
ablation), natural log units. Near 0 the model would have written the same without this image;
below 0 the image spoke against it.

It is a measure of use, not of truth: a contribution can be great and the statement false, where the
model misread what is there; and a true "No pneumothorax." may owe nothing to the image.

Paper: contrasting with and without the image, Leng et al., Visual Contrastive Decoding, CVPR 2024,
arXiv 2311.16922, section 3; Favero et al., Multi-Modal Hallucination Control by Visual Information
Grounding, CVPR 2024, arXiv 2403.14003, section 3 (the prompt dependency measure). Deviation: both
decode with the difference, here a finished text is read again, and no distribution is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from tqdm.auto import tqdm

from workbench._repr import result
from workbench._tables import listed, read_frame
from workbench.backends.levels import LOGPROBS, READER, WRITER, needs
from workbench.errors import InputError, OptionError, unknown_name
from workbench.figures.style import new_axes
from workbench.figures.tables import frame_table
from workbench.findings import PAPER_FINDINGS, standard_name
from workbench.generation import Generation
from workbench.hallucination.ablations import ABLATIONS, ablated_images, without_findings
from workbench.hallucination.grounding_result import AnswerGrounding, Grounding
from workbench.hallucination.polling import named, question_about, yes_odds
from workbench.imaging.load import as_radiograph
from workbench.interface import ChestXrayModel
from workbench.phantom import Phantom
from workbench.radiograph import Radiograph
from workbench.trace import Trace


class GroundingOptions(TypedDict, total=False):
    """What else the text is read with.

    Attributes:
        ablations: some of `ABLATIONS`, the default.
        other: an image of another patient; None draws a phantom, which is another patient only to
            a model of phantoms.
        phantom: the drawn case behind the image; every finding that it has and the text states is
            taken away once ("without X").
        images: further images by a name of your own; they are shown, not averaged.
        seed: of the noise and the drawn phantom.
        batch_size: images read together (16); fewer take less memory.
    """

    ablations: Sequence[str]
    other: object
    phantom: Phantom | None
    images: Mapping[str, object] | None
    seed: int
    batch_size: int


@needs(READER)
def ground(trace: Trace, **options: Unpack[GroundingOptions]) -> Grounding:
    """Tell how much of a traced text the image supports; see `GroundingOptions`.

    Raises:
        InputError: the trace has no model, an image cannot be read, the phantom is not the one
            behind the trace, or the other patient's image is the image itself.
        OptionError: an ablation is unknown, there is none at all, or a name is taken.
        ContextBudgetError, DeviceError: see `ChestXrayModel.read_with`.

    >>> wb.hallucination.ground(trace, ablations=["blank"]).ablations
    ('blank',)
    """
    model = trace.need_model(ChestXrayModel)
    return ground_text(model, trace.image, trace.generation, **options)


@needs(READER)
def ground_text(
    model: ChestXrayModel,
    image: object,
    text: str | Generation,
    **options: Unpack[GroundingOptions],
) -> Grounding:
    """Tell how much of any text about an image a model finds supported by it.

    The model reads the text as if it had reported so, and texts of other models and of people can
    be asked about too. They are tokenised as the model would; `Grounding.text` is what their tokens
    spell, which may differ from the original in white space. Of a `Generation`, such as an answer
    to a question, prompt and tokens are taken.

    Raises:
        InputError: the text is empty; else see `ground`.

    >>> text = "Left pleural effusion."
    >>> wb.hallucination.ground_text(model, image, text, ablations=["blank"]).text
    'Left pleural effusion.'
    """
    known = GroundingOptions.__optional_keys__
    if unknown := set(options) - known:
        raise OptionError(unknown_name("option", min(unknown), sorted(known)))
    image = as_radiograph(image)
    own = model.pixels(image)
    prompt_ids, ids, given = _forced(model, own, text)
    by_name = _other_images(model, image, own[0].numpy(), given["text"], options)
    batch_size = options.get("batch_size", 16)
    reading = model.read_with([own, *by_name.values()], prompt_ids, ids, batch_size=batch_size)
    return Grounding(
        **given,
        ablations=tuple(by_name),
        logprobs=reading.logprobs[0],
        entropies=reading.entropies[0],
        ablated=reading.logprobs[1:],
        source=text.source if isinstance(text, Generation) else image.contract.source,
        model=model.identity,
        seed=options.get("seed", 0),
    )


@needs(WRITER, LOGPROBS)
def ground_answers(
    model: ChestXrayModel,
    image: object,
    *,
    findings: Sequence[str] = PAPER_FINDINGS,
    **options: Unpack[GroundingOptions],
) -> AnswerGrounding:
    """Tell how much the answer to "Is there ...?" depends on the image, finding by finding.

    It takes the odds of "Yes" against "No" with the image and with its ablations in its place; see
    `GroundingOptions`. No inside of the model is needed, so an endpoint does.

    Raises:
        InputError: an image cannot be read, or an answer starts with neither yes nor no.
        OptionError: an unknown finding, an option that is not allowed, or an endpoint that gives no
            log-probabilities.

    >>> asked = {"findings": ["pleural effusion"], "ablations": ["blank"]}
    >>> wb.hallucination.ground_answers(model, image, **asked).to_frame().columns.tolist()
    ['finding', 'odds', 'contribution', 'blank']
    """
    image, own = as_radiograph(image), model.pixels(image)
    names = tuple(dict.fromkeys(standard_name(name) for name in findings))
    stated = " ".join(f"There is {named(name)}." for name in names)
    by_name = _other_images(model, image, own[0].numpy(), stated, options)
    images = [own, *by_name.values()]
    odds = np.array([yes_odds(model, images, question_about(name)) for name in names])
    return AnswerGrounding(
        names, tuple(by_name), odds[:, 0], odds[:, 1:], image.contract.source, model.identity,
        options.get("seed", 0),
    )  # fmt: skip


def _forced(
    model: ChestXrayModel, pixels: torch.Tensor, text: str | Generation
) -> tuple[Sequence, Sequence, dict]:
    """Return ids of the prompt and of the text; and text, tokens and offsets for a `Grounding`."""
    if isinstance(text, Generation):
        if not text.token_ids:
            raise InputError("the generation holds no token; ground one that was finished")
        given = {name: getattr(text, name) for name in ("text", "tokens", "offsets")}
        return text.prompt_ids, text.token_ids, given
    words = " ".join(text.split()) if isinstance(text, str) else ""
    if not words:
        raise InputError(f"the text is empty ({text!r}); give a report, or an answer")
    tokenizer = model.tokenizer
    ids = tuple(tokenizer.encode(words, add_bos=False))
    tokens, offsets = tuple(tokenizer.pieces(ids)), tuple(tokenizer.offsets(ids))
    given = {"text": tokenizer.decode(ids), "tokens": tokens, "offsets": offsets}
    return model.prompt_ids(model.prompts.report_messages(), pixels), ids, given


def _other_images(
    model: ChestXrayModel,
    image: Radiograph,
    pixels: np.ndarray,
    text: str,
    options: GroundingOptions,
) -> dict[str, torch.Tensor]:
    """Return every image that the text is read with besides its own, by name."""
    ablations, other = options.get("ablations", ABLATIONS), options.get("other")
    if isinstance(ablations, str):
        raise OptionError(f"ablations must be a list of names, got one text; use [{ablations!r}]")
    if other is not None and "other patient" not in ablations:
        raise OptionError("other=... was given, but 'other patient' is not among the ablations")
    seed = options.get("seed", 0)
    by_name = ablated_images(model, pixels, ablations=ablations, other=other, seed=seed)
    if phantom := options.get("phantom"):
        by_name |= without_findings(model, image, text, phantom)
    images = options.get("images") or {}
    if taken := set(images) & set(by_name):
        raise OptionError(f"there are two ablations called {min(taken)!r}; rename yours")
    by_name |= {name: model.pixels(further) for name, further in images.items()}
    if not by_name:
        raise OptionError(f"name at least one ablation: {', '.join(ABLATIONS)}, or give images")
    return by_name


@result()
class GroundingTable:
    """Groundings of several texts, in the order of the table."""

    ids: tuple[str, ...]
    groundings: tuple[Grounding, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per mention of a finding: id, and the columns of `Grounding.findings`."""
        frames = [found.findings() for found in self.groundings]
        for key, frame in zip(self.ids, frames, strict=True):
            frame.insert(0, "id", key)
        return pd.concat(frames, ignore_index=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the contribution to every mention, by code, one row of points for each."""
        ax = ax or new_axes(6, 2.4)
        frame = self.to_frame()
        rows, codes = pd.factorize(frame.code)
        ax.plot(frame.contribution, rows, "|", ms=14, color="#1f5f8b")
        ax.set_yticks(range(len(codes)), codes)
        ax.set(ylim=(len(codes) - 0.5, -0.5), xlabel="contribution of the image [nats]")
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def _repr_html_(self) -> str:
        return frame_table(self.to_frame(), digits=2)


@needs(READER)
def ground_table(
    model: ChestXrayModel,
    rows: str | Path | Iterable[tuple[str, Any, str]],
    *,
    id_column: str = "id",
    image_column: str = "image",
    text_column: str = "text",
    progress: bool = False,
    **options: Unpack[GroundingOptions],
) -> GroundingTable:
    """Ground every text of a table about its image.

    `rows` are a CSV file with a header, image paths in it being relative to its folder; or triples
    (id, image, text).

    Raises:
        InputError: the file or a column is missing, there is no row, a text is empty or an image
            cannot be read; the message names the row.
        OptionError: see `ground`.

    >>> rows = [("a", image, report.text)]
    >>> len(wb.hallucination.ground_table(model, rows, ablations=["blank"]).groundings)
    1
    """
    if isinstance(rows, (str, Path)):
        rows = _read(Path(rows), id_column, image_column, text_column)
    if not (rows := list(rows)):
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
